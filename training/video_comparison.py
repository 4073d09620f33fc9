"""Video networks trained on a run's own clips and split, so that its model can be set beside them.

RUN/video-small3d/
  config.json    the network, how it is trained, and on what
  result.json    the loss curve; there once training has ended
  model.safetensors     weights of the best epoch
  log.jsonl, video-small3d.safetensors    while training goes on
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ..errors import CheckpointError, DataError
from ..models.video_baselines import VIDEO_NETWORKS, VideoConfig, VideoRegressor
from .compute import decisive
from .dataset import FeatureStore, ReadyClip, StoredClips
from .fit_video_baseline import LabelledVideos, VideoBaselineOptions, VideoBaselineReport, fit_video_baseline, predict_videos, stage_of
from .run import Progress, RunDirectory, read_run_config, replace_file, run_identity, silent

_RESULT, _WEIGHTS = "result.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """A network and how it is trained."""

    config: VideoConfig = field(default_factory=VideoConfig)
    options: VideoBaselineOptions = field(default_factory=VideoBaselineOptions)

    def to_json(self) -> dict[str, Any]:
        return {"config": asdict(self.config), "options": decisive(self.options)}


@dataclass(frozen=True, slots=True)
class VideoClips:
    """Clips whose features are in a store, and their targets."""

    store: FeatureStore
    clips: Sequence[ReadyClip]
    z: NDArray[np.float64]
    """float64 (clips,), standardised units."""

    def labelled(self) -> LabelledVideos:
        return LabelledVideos(StoredClips(self.store, self.clips), self.z)

    def digest(self) -> str:
        """SHA-256 over the clips' content and targets, in order."""
        lines = (f"{clip.sha256}\t{z!r}\n" for clip, z in zip(self.clips, self.z.tolist(), strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TrainedVideo:
    """A video network at its best epoch."""

    plan: VideoPlan
    model: VideoRegressor
    """In evaluation mode, on the CPU."""
    report: VideoBaselineReport
    seconds: float
    """Wall time of training in the process that ended it."""

    @property
    def name(self) -> str:
        return self.plan.config.network

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.model.parameters())

    def predict(self, store: FeatureStore, clips: Sequence[ReadyClip]) -> NDArray[np.float64]:
        """Scores in standardised units, float64 (clips,)."""
        return predict_videos(self.model, StoredClips(store, clips), batch=self.plan.options.batch)


def train_video(
    run_dir: Path,
    plan: VideoPlan,
    train: VideoClips,
    validation: VideoClips,
    *,
    seed: int,
    resume: bool = True,
    progress: Progress = silent,
) -> TrainedVideo:
    """Trains a network in its folder of the run, or takes up where that stopped; one that is trained already is only loaded.

    Args:
        run_dir: the model's own run directory.
        plan: which network, and how.
        train: clips to learn from.
        validation: clips by whose loss the epoch is chosen.
        seed: decides the initial weights and the order of clips.
        resume: False forgets what is there.
        progress: called after every update.

    Raises:
        DataError: the folder holds another training, or cannot be written.
    """
    folder = _folder(run_dir, plan.config.network)
    if not resume:
        (folder / _RESULT).unlink(missing_ok=True)
    config = {**plan.to_json(), "seed": seed, "train_sha256": train.digest(), "validation_sha256": validation.digest()}
    run = RunDirectory.open(folder, config, resume=resume)
    if (folder / _RESULT).exists():
        return load_video(run_dir, plan.config.network)
    run.rewrite_log(stage_of(plan.config))
    started = perf_counter()
    model = _new_model(plan.config, seed)
    report = fit_video_baseline(model, train.labelled(), validation.labelled(), options=plan.options, seed=seed, run=run, progress=progress)
    trained = TrainedVideo(plan, model, report, round(perf_counter() - started, 1))
    _save(trained, folder)
    return trained


def trained_videos(run_dir: Path) -> tuple[TrainedVideo, ...]:
    """Every network of a run whose training has ended.

    Raises:
        DataError: what is there cannot be read.
    """
    return tuple(load_video(run_dir, name) for name in VIDEO_NETWORKS if (_folder(run_dir, name) / _RESULT).exists())


def video_identity(run_dir: Path, network: str) -> str | None:
    """SHA-256 of the configuration of a network whose training has ended; None where it has not, or never began."""
    folder = _folder(run_dir, network)
    config = read_run_config(folder) if (folder / _RESULT).exists() else None
    return None if config is None else run_identity(config)


def load_video(run_dir: Path, network: str) -> TrainedVideo:
    """Reads what `train_video` wrote.

    Raises:
        DataError: it is not there, or is damaged.
    """
    folder = _folder(run_dir, network)
    try:
        plain = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        plan = VideoPlan(VideoConfig(**plain["config"]), VideoBaselineOptions.from_json(plain["options"]))
        model = VideoRegressor(plan.config)
        model.load_state_dict(load_file(folder / _WEIGHTS))
        report = VideoBaselineReport.from_json(plain["report"])
        seconds = float(plain["seconds"])
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError, CheckpointError) as error:
        raise DataError(f"video baseline {folder} cannot be read ({error}); delete that folder and train it again") from error
    model.eval()
    return TrainedVideo(plan, model, report, seconds)


def _folder(run_dir: Path, network: str) -> Path:
    return run_dir / f"video-{network}"


def _new_model(config: VideoConfig, seed: int) -> VideoRegressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoRegressor(config)


def _save(trained: TrainedVideo, folder: Path) -> None:
    """Weights first, then the result that says they are whole; the resumable state, four times their size, goes."""
    told = {**trained.plan.to_json(), "report": trained.report.to_json(), "seconds": trained.seconds}
    try:
        replace_file(folder / _WEIGHTS, save({name: tensor.contiguous() for name, tensor in trained.model.state_dict().items()}))
        replace_file(folder / _RESULT, (json.dumps(told, indent=2, allow_nan=False) + "\n").encode())
        (folder / f"{stage_of(trained.plan.config)}.safetensors").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"video baseline {folder} cannot be written: {error}") from error
