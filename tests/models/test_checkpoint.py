import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shortcast.errors import CheckpointError
from shortcast.models.autoencoder import ConvLSTMAutoencoder, DecoderConfig
from shortcast.models.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint, save_checkpoint
from shortcast.models.convlstm import EncoderConfig
from shortcast.models.dual_transformer import DualTransformer, FusionConfig
from shortcast.runtime.contract import Contract, PictureContract
from shortcast.runtime.intervals import ConformalIntervals, IntervalMargin
from shortcast.runtime.settling import Settling, SettlingRow, SettlingRule
from shortcast.runtime.target import Target

ENCODER = EncoderConfig(
    frames_per_chunk=4, height=32, width=24, stem_channels=(8, 12), hidden_channels=(6, 5), pool_grid=(4, 3), embedding_dim=10
)
CONTRACT = Contract(picture=PictureContract(fps=Fraction(2), height=32, width=24))


TARGET = Target("views", "log1p", 6.5, 2.0, (10.0, 100.0, 1000.0))
INTERVALS = ConformalIntervals(0.9, (IntervalMargin(1, 0.25, 40), IntervalMargin(2, -0.125, 30), IntervalMargin(None, 0.1, 40)))


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    autoencoder = ConvLSTMAutoencoder.from_configs(ENCODER, DecoderConfig(hidden_channels=4, head_channels=4, coarse_windows=2))
    fusion = DualTransformer(FusionConfig(visual_dim=10, width=16, feedforward=16))
    card = {"clips": 12, "held_out": {"spearman": 0.31}, "notes": ["a", None]}
    return Checkpoint(autoencoder, fusion, CONTRACT, TARGET, card, INTERVALS)


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(checkpoint, tmp_path / "model")
    return tmp_path / "model"


def edit(path: Path, change: dict[str, Any]) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **change}))


@torch.no_grad()
def test_a_loaded_checkpoint_is_the_one_saved(checkpoint: Checkpoint, saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.intervals == checkpoint.intervals
    assert (loaded.contract, loaded.target, loaded.card) == (checkpoint.contract, checkpoint.target, checkpoint.card)
    assert loaded.autoencoder.encoder.config == ENCODER
    assert loaded.autoencoder.decoder.config == checkpoint.autoencoder.decoder.config
    assert loaded.fusion.config == checkpoint.fusion.config
    frames, mask = torch.randint(0, 256, (1, 4, 32, 24, 3), dtype=torch.uint8), torch.ones(1, 4)
    for a, b in zip(
        checkpoint.autoencoder.eval()(frames, mask, checkpoint.autoencoder.encoder.initial_state()).decoded,
        loaded.autoencoder(frames, mask, loaded.autoencoder.encoder.initial_state()).decoded,
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_a_loaded_checkpoint_is_in_evaluation_mode(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert not loaded.fusion.training
    assert not loaded.autoencoder.training


def test_the_directory_holds_json_and_safetensors_with_the_three_prefixes(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert {name.split(".")[0] for name in load_file(saved / "model.safetensors")} == {"encoder", "decoder", "fusion"}
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


def test_saving_over_a_checkpoint_needs_force(checkpoint: Checkpoint, saved: Path) -> None:
    before = checkpoint_sha256(saved)
    with torch.no_grad():
        checkpoint.fusion.gate.bias += 1
    with pytest.raises(CheckpointError, match="--force"):
        save_checkpoint(checkpoint, saved)
    assert checkpoint_sha256(saved) == before
    save_checkpoint(checkpoint, saved, force=True)
    assert checkpoint_sha256(saved) != before
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


def test_a_card_that_is_not_json_leaves_what_was_there(checkpoint: Checkpoint, saved: Path) -> None:
    before = checkpoint_sha256(saved)
    broken = replace(checkpoint, card={"mse": float("nan")})
    with pytest.raises(CheckpointError, match="card"):
        save_checkpoint(broken, saved, force=True)
    assert checkpoint_sha256(saved) == before
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


def test_the_digest_covers_both_files(saved: Path) -> None:
    first = checkpoint_sha256(saved)
    edit(saved, {"card": {}})
    assert checkpoint_sha256(saved) != first


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not a checkpoint directory"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint_sha256(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "format 1; this version reads format 3: train it again"),
        ({"extra": 1}, "extra"),
        ({"encoder": {"height": 32}}, "missing keys"),
        ({"fusion": 3}, "does not describe a model"),
        ({"contract": {}}, "does not describe a model"),
        ({"target": {}}, "does not describe a model"),
        ({"intervals": {"coverage": 0.9}}, "does not describe a model"),
        ({"intervals": {"coverage": 0.9, "margins": [], "more": 1}}, "does not describe a model"),
        ({"card": 5}, "does not describe a model"),
    ],
)
def test_a_config_that_is_not_understood_is_refused(saved: Path, change: dict[str, Any], message: str) -> None:
    edit(saved, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("fusion", "width", "16"),
        ("fusion", "width", 20),
        ("encoder", "stem_channels", []),
        ("fusion", "surprise", 1),
        ("encoder", "height", 0),
    ],
)
def test_a_dimension_that_was_altered_is_refused(saved: Path, part: str, field: str, value: object) -> None:
    config = json.loads((saved / "config.json").read_text())
    edit(saved, {part: {**config[part], field: value}})
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


def test_a_target_with_other_classes_than_the_model_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="4 classes apart, and the target has 3"):
        replace(checkpoint, target=Target("views", "log1p", 6.5, 2.0, (10.0, 100.0)))


def test_models_that_do_not_fit_the_contract_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="contract"):
        replace(checkpoint, contract=Contract())


def test_intervals_of_another_coverage_than_the_quantiles_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="intervals of 80%"):
        replace(checkpoint, intervals=ConformalIntervals(0.8, ()))


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04\x95pickle"])
def test_weights_that_are_not_safetensors_are_refused(saved: Path, content: bytes) -> None:
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(saved)


def test_a_config_that_is_not_json_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(saved)


def alter_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["fusion.gate.bias"] = torch.zeros(4)


def alter_type(tensors: dict[str, torch.Tensor]) -> None:
    tensors["fusion.gate.bias"] = tensors["fusion.gate.bias"].half()


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["fusion.gate.bias"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["other.weight"] = torch.zeros(1)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors["fusion.gate.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (alter_shape, r"fusion.gate.bias: expected .*\(3,\), got .*\(4,\)"),
        (alter_type, "float16"),
        (drop, "gate"),
        (add, "other"),
        (poison, "NaN"),
    ],
)
def test_altered_tensors_are_refused(saved: Path, alter: Any, message: str) -> None:
    tensors = load_file(saved / "model.safetensors")
    alter(tensors)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


SETTLING = Settling(50, 0.95, (SettlingRule("class", 2, (SettlingRow(1.5, 40, 39, 0.2, 0.3),)),), {"source": "validation"})


def test_a_settling_table_is_kept_where_there_is_one_and_nothing_is_written_where_there_is_none(
    checkpoint: Checkpoint, saved: Path, tmp_path: Path
) -> None:
    assert "settling" not in json.loads((saved / "config.json").read_text())
    assert load_checkpoint(saved).settling is None
    save_checkpoint(replace(checkpoint, settling=SETTLING), tmp_path / "settled")
    assert load_checkpoint(tmp_path / "settled").settling == SETTLING
    assert checkpoint_sha256(saved) != checkpoint_sha256(tmp_path / "settled")


@pytest.mark.parametrize("settling", [None, {}, {**SETTLING.to_json(), "clips": 1}])
def test_a_settling_table_that_is_none_is_refused(saved: Path, settling: object) -> None:
    edit(saved, {"settling": settling})
    with pytest.raises(CheckpointError, match="settling"):
        load_checkpoint(saved)
