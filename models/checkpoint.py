"""A checkpoint on disk: weights as safetensors and everything else as JSON. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import CheckpointError, ShortcastError
from ..runtime.contract import Contract
from ..runtime.intervals import ConformalIntervals
from ..runtime.settling import Settling
from ..runtime.target import Target
from .autoencoder import ConvLSTMAutoencoder, DecoderConfig
from .convlstm import EncoderConfig
from .dual_transformer import DualTransformer, FusionConfig

FORMAT = 3
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_KEYS = {"format", "encoder", "decoder", "fusion", "contract", "target", "intervals", "card"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model and everything needed to use it."""

    autoencoder: ConvLSTMAutoencoder
    fusion: DualTransformer
    contract: Contract
    target: Target
    card: dict[str, Any]
    """Free JSON: what it was trained on, held-out numbers."""
    intervals: ConformalIntervals
    settling: Settling | None = None
    """When a score is settled; None where too few clips could tell."""

    def __post_init__(self) -> None:
        encoder, fusion, contract = self.autoencoder.encoder.config, self.fusion.config, self.contract
        model = (encoder.frames_per_chunk, encoder.height, encoder.width, fusion.visual_dim, fusion.audio_dim)
        data = (
            contract.frames_per_chunk,
            contract.picture.height,
            contract.picture.width,
            encoder.embedding_dim,
            contract.sound.embedding_dim,
        )
        if model != data:
            raise CheckpointError(f"checkpoint: the models take (T, H, W, visual, audio) = {model}, and the contract gives {data}")
        levels = fusion.quantile_levels
        if abs(self.intervals.coverage - (levels[-1] - levels[0])) > 1e-6:
            raise CheckpointError(f"checkpoint: intervals of {self.intervals.coverage:.0%} do not fit the quantile levels {levels}")
        if fusion.classes != self.target.classes:
            raise CheckpointError(f"checkpoint: the model tells {fusion.classes} classes apart, and the target has {self.target.classes}")


def save_checkpoint(checkpoint: Checkpoint, path: Path, *, force: bool = False, beside: Mapping[str, bytes] | None = None) -> None:
    """Writes the checkpoint directory aside and renames it whole.

    Args:
        checkpoint: what to write; it may be on any device.
        path: the directory to make.
        force: replace what is there.
        beside: further files of the directory by name; loading does not need them.

    Raises:
        CheckpointError: `path` exists and `force` is not given, or it cannot be written.
    """
    if path.exists() and not force:
        raise CheckpointError(f"{path} exists; give --force to replace it")
    aside = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        save_file(_tensors(checkpoint), aside / WEIGHTS_FILE)
        (aside / CONFIG_FILE).write_text(_config_text(checkpoint), encoding="utf-8")
        for name, content in (beside or {}).items():
            (aside / name).write_bytes(content)
        _replace(path, aside)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote, onto the CPU and in evaluation mode.

    Raises:
        CheckpointError: the directory is missing or altered, or of a format this version does not know.
    """
    config = _read_config(path)
    try:
        checkpoint = Checkpoint(
            ConvLSTMAutoencoder.from_configs(_strict(EncoderConfig, config["encoder"]), _strict(DecoderConfig, config["decoder"])),
            DualTransformer(_strict(FusionConfig, config["fusion"])),
            Contract.from_json(config["contract"]),
            Target.from_json(config["target"]),
            dict(config["card"]),
            ConformalIntervals.from_json(config["intervals"]),
            Settling.from_json(config["settling"]) if "settling" in config else None,
        )
    except (ShortcastError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / CONFIG_FILE} does not describe a model: {error}") from error
    _load_weights(checkpoint, path)
    checkpoint.autoencoder.eval()
    checkpoint.fusion.eval()
    return checkpoint


def checkpoint_sha256(path: Path) -> str:
    """SHA-256 over both files of a checkpoint directory.

    Raises:
        CheckpointError: a file is missing.
    """
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            digest.update(hashlib.sha256((path / name).read_bytes()).digest())
        except OSError as error:
            raise CheckpointError(f"{path} is not a checkpoint: {name} cannot be read") from error
    return digest.hexdigest()


def _parts(checkpoint: Checkpoint) -> dict[str, nn.Module]:
    return {"encoder": checkpoint.autoencoder.encoder, "decoder": checkpoint.autoencoder.decoder, "fusion": checkpoint.fusion}


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    named = {f"{prefix}.{name}": tensor for prefix, part in _parts(checkpoint).items() for name, tensor in part.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}


def _config_text(checkpoint: Checkpoint) -> str:
    plain = {
        "format": FORMAT,
        "encoder": asdict(checkpoint.autoencoder.encoder.config),
        "decoder": asdict(checkpoint.autoencoder.decoder.config),
        "fusion": asdict(checkpoint.fusion.config),
        "contract": checkpoint.contract.to_json(),
        "target": checkpoint.target.to_json(),
        "intervals": checkpoint.intervals.to_json(),
        "card": checkpoint.card,
        **({} if checkpoint.settling is None else {"settling": checkpoint.settling.to_json()}),
    }
    try:
        return json.dumps(plain, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint's card is not plain JSON: {error}") from error


def _replace(path: Path, aside: Path) -> None:
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    if path.exists():
        path.rename(old)
    aside.rename(path)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a checkpoint directory; `shortcast train ... -o {path}` makes one")
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {CONFIG_FILE} cannot be read ({error})") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise CheckpointError(f"{path} is of checkpoint format {found!r}; this version reads format {FORMAT}: train it again")
    if set(config) - {"settling"} != _KEYS:  # a checkpoint may do without
        raise CheckpointError(f"{path / CONFIG_FILE} has unknown or missing keys {sorted((set(config) ^ _KEYS) - {'settling'})}")
    return config


def _load_weights(checkpoint: Checkpoint, path: Path) -> None:
    try:
        tensors = load_file(path / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path / WEIGHTS_FILE} is not a safetensors file: {error}") from error
    expected = _tensors(checkpoint)
    if set(tensors) != set(expected):
        raise CheckpointError(f"{path / WEIGHTS_FILE} has unknown or missing tensors {sorted(set(tensors) ^ set(expected))[:4]}")
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, expected[name])
    for prefix, part in _parts(checkpoint).items():
        part.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in part.state_dict()})


def _check_tensor(name: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
        want, got = (f"{t.dtype} {tuple(t.shape)}" for t in (expected, tensor))
        raise CheckpointError(f"tensor {name}: expected {want}, got {got}")
    if not torch.isfinite(tensor).all():
        raise CheckpointError(f"tensor {name} holds NaN or infinite values")


T = TypeVar("T")


def _strict(kind: type[T], plain: Mapping[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if set(plain) != names:
        raise CheckpointError(f"{kind.__name__} has unknown or missing keys {sorted(set(plain) ^ names)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()})
