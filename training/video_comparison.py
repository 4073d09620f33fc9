"""Video networks trained on a run's own clips and split, each in `RUN/video-NAME/` (see `side_run`), to be set beside its model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import CheckpointError, DataError
from ..models.video_baselines import VIDEO_NETWORKS, VideoConfig, VideoRegressor
from .compute import Compute, decisive
from .dataset import FeatureStore, ReadyClip, StoredClips
from .fit_video_baseline import LabelledVideos, VideoBaselineOptions, VideoBaselineReport, fit_video_baseline, predict_videos, stage_of
from .run import Progress, silent
from .side_run import SideRun

_INPUT = {"frames": 16, "height": 112, "width": 64}
"""What every network is shown unless another size is asked for: a 9:16 picture with hardly a bar around it."""
_EPOCHS = {"small3d": 20, "r3d_18": 3, "swin3d_t": 4}
"""At most, unless others are asked for: what 1,600 clips take on two cores in a few hours (see `models.video_baselines` for the cost)."""
_BATCH = 8


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """A network and how it is trained."""

    config: VideoConfig = field(default_factory=VideoConfig)
    options: VideoBaselineOptions = field(default_factory=VideoBaselineOptions)

    def to_json(self) -> dict[str, Any]:
        return {"config": asdict(self.config), "options": decisive(self.options)}

    @classmethod
    def default(cls, network: str, *, compute: Compute) -> VideoPlan:
        """How a network is trained where nothing else is asked for.

        Raises:
            CheckpointError: the network is not known.
        """
        config = VideoConfig(network, **_INPUT)
        return cls(config, VideoBaselineOptions(epochs=_EPOCHS[network], batch=_BATCH, compute=compute))


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


def plan_videos(
    networks: Sequence[str], *, sizes: Sequence[str] = (), epochs: Sequence[str] = (), compute: Compute
) -> tuple[VideoPlan, ...]:
    """Plans for networks, from what a user typed where that differs from `VideoPlan.default`.

    Args:
        networks: keys of `VIDEO_NETWORKS`; one that is named twice is trained once.
        sizes: `FRAMESxHEIGHTxWIDTH`, such as `16x112x64`, for every network; or `NETWORK=...` for one.
        epochs: a number, for every network; or `NETWORK=...` for one.
        compute: device and precision of all.

    Raises:
        DataError: a text cannot be read, or names a network that is not trained.
    """
    names = tuple(dict.fromkeys(networks))
    size_of, epochs_of = _by_network("video size", sizes, names), _by_network("video epochs", epochs, names)
    return tuple(_plan(VideoPlan.default(name, compute=compute), size_of.get(name), epochs_of.get(name)) for name in names)


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
    side = _side_run(run_dir, plan.config.network)
    config = {**plan.to_json(), "seed": seed, "train_sha256": train.digest(), "validation_sha256": validation.digest()}
    run = side.open(config, resume=resume)
    if side.finished:
        return load_video(run_dir, plan.config.network)
    started = perf_counter()
    model = _new_model(plan.config, seed)
    report = fit_video_baseline(model, train.labelled(), validation.labelled(), options=plan.options, seed=seed, run=run, progress=progress)
    trained = TrainedVideo(plan, model, report, round(perf_counter() - started, 1))
    side.save(model, {**plan.to_json(), "report": report.to_json(), "seconds": trained.seconds})
    return trained


def trained_videos(run_dir: Path) -> tuple[TrainedVideo, ...]:
    """Every network of a run whose training has ended.

    Raises:
        DataError: what is there cannot be read.
    """
    return tuple(load_video(run_dir, name) for name in VIDEO_NETWORKS if _side_run(run_dir, name).finished)


def video_identity(run_dir: Path, network: str) -> str | None:
    """SHA-256 of the configuration of a network whose training has ended; None where it has not, or never began."""
    return _side_run(run_dir, network).identity


def load_video(run_dir: Path, network: str) -> TrainedVideo:
    """Reads what `train_video` wrote.

    Raises:
        DataError: it is not there, or is damaged.
    """
    side = _side_run(run_dir, network)
    plain, weights = side.result(), side.weights()
    try:
        plan = VideoPlan(VideoConfig(**plain["config"]), VideoBaselineOptions.from_json(plain["options"]))
        model = VideoRegressor(plan.config)
        model.load_state_dict(weights)
        report = VideoBaselineReport.from_json(plain["report"])
        seconds = float(plain["seconds"])
    except (ValueError, LookupError, TypeError, RuntimeError, CheckpointError, DataError) as error:
        raise side.damaged(error) from error
    model.eval()
    return TrainedVideo(plan, model, report, seconds)


def _side_run(run_dir: Path, network: str) -> SideRun:
    return SideRun(run_dir / f"video-{network}", "video baseline", stage_of(VideoConfig(network)))


def _new_model(config: VideoConfig, seed: int) -> VideoRegressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoRegressor(config)


def _by_network(what: str, texts: Sequence[str], networks: Sequence[str]) -> dict[str, str]:
    """What was typed for each network: what names it wins over what is for all."""
    for_all: dict[str, str] = {}
    named: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if equals and name not in networks:
            raise DataError(f"{what} {text!r}: {name!r} is not among the video networks to train ({', '.join(networks) or 'none'})")
        if not networks:
            raise DataError(f"{what} {text!r}: no video network is to be trained; add --video-baseline")
        (named if equals else for_all).update(dict.fromkeys([name] if equals else networks, value))
    return for_all | named


def _plan(plan: VideoPlan, size: str | None, epochs: str | None) -> VideoPlan:
    config, options = plan.config, plan.options
    try:
        if size is not None:
            frames, height, width = map(int, size.split("x"))
            config = replace(config, frames=frames, height=height, width=width)
        if epochs is not None:
            options = replace(options, epochs=int(epochs))
    except ValueError as error:
        raise DataError(f"{config.network}: expected a size such as 16x112x64 and a number of epochs, got {size!r}, {epochs!r}") from error
    return VideoPlan(config, options)
