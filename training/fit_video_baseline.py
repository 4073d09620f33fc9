"""Trains a video baseline on the same clips, split and cached frames as the rest, one score for each whole clip.

A clip's frames stay on disk: only the few that the network is shown are read. They are the middle ones of equal spans of the clip;
while training, they lie elsewhere in their spans for every update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import DataError
from ..models.video_baselines import VideoConfig, VideoRegressor, evenly
from .compute import Compute
from .dataset import ClipFeatures, Clips
from .metrics import spearman
from .run import (
    Progress,
    ProgressEvent,
    RunDirectory,
    State,
    module_tensors,
    restore_module,
    silent,
)
from .updates import Updates

_HUBER_DELTA = 1.0
"""In standardised units; that of the dual Transformer's loss."""


@dataclass(frozen=True, slots=True)
class VideoBaselineOptions:
    """How a video baseline is trained."""

    epochs: int = 30
    """At most; fewer where the validation loss stops falling."""
    patience: int = 6
    """Epochs without a better validation loss before training stops. The best epoch's weights are kept."""
    batch: int = 8
    """Clips in one update."""
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    """Share of all updates during which the learning rate rises."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    accumulate: int = 1
    """Micro-batches whose gradients make one update: less memory, more time. Dropout and stochastic depth draw for each of them."""
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch) < 1:
            raise DataError("video baseline options: epochs, patience and batch are at least 1")
        if not 1 <= self.accumulate <= self.batch:
            raise DataError(f"video baseline options: accumulate is 1 to the batch's {self.batch}, got {self.accumulate}")

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> VideoBaselineOptions:
        """From what `compute.decisive` made of them."""
        return cls(**{**plain, "compute": Compute(**plain["compute"])})

    @property
    def micro_batch(self) -> int:
        """Clips whose activations are held at once."""
        return -(-self.batch // self.accumulate)


@dataclass(frozen=True, slots=True)
class LabelledVideos:
    """Clips and their targets."""

    clips: Clips
    """A list in memory, or `dataset.StoredClips`."""
    z: NDArray[np.float64]
    """float64 (clips,): targets in standardised units."""

    def __post_init__(self) -> None:
        if not len(self.clips) or self.z.shape != (len(self.clips),):
            raise DataError(f"video baseline: {len(self.clips)} clips and targets of shape {self.z.shape}; expected one each, and some")


@dataclass(frozen=True, slots=True)
class VideoBaselineEpoch:
    """One line of the loss curve; losses are Huber's, in standardised units."""

    epoch: int
    """1-based."""
    train_loss: float
    validation_loss: float
    validation_mse: float
    validation_spearman: float | None


@dataclass(frozen=True, slots=True)
class VideoBaselineReport:
    """The loss curve and the epoch whose weights were kept."""

    history: tuple[VideoBaselineEpoch, ...]
    best_epoch: int

    def to_json(self) -> dict[str, Any]:
        return {"history": [asdict(epoch) for epoch in self.history], "best_epoch": self.best_epoch}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> VideoBaselineReport:
        """The exact inverse of `to_json`."""
        return cls(tuple(VideoBaselineEpoch(**line) for line in plain["history"]), int(plain["best_epoch"]))


def stage_of(config: VideoConfig) -> str:
    """The stage under which a run directory keeps this network's state; several networks may share a run."""
    return f"video-{config.network}"


def fit_video_baseline(
    model: VideoRegressor,
    train: LabelledVideos,
    validation: LabelledVideos,
    *,
    options: VideoBaselineOptions,
    seed: int,
    run: RunDirectory,
    progress: Progress = silent,
) -> VideoBaselineReport:
    """Trains the model in place, going on from the state in `run` where there is one; ends with the best epoch's weights.

    Args:
        model: freshly initialised, on the CPU.
        train: clips to learn from.
        validation: clips by whose loss the epoch is chosen.
        options: schedule and sizes.
        seed: decides the order of clips, the frames drawn from them, and dropout.
        run: where state is saved after every epoch.
        progress: called after every update.

    Returns:
        The report of all epochs, those before a resumption included.

    Raises:
        DataError: micro-batches were asked for and the network normalises over the batch.
    """
    if options.accumulate > 1 and any(isinstance(layer, nn.BatchNorm3d) for layer in model.modules()):
        raise DataError(f"{model.config.network} normalises over the batch, so micro-batches would change it; use accumulate 1")
    with options.compute.hosting(model):
        return _fit(model, train, validation, options=options, seed=seed, run=run, progress=progress)


def _fit(
    model: VideoRegressor,
    train: LabelledVideos,
    validation: LabelledVideos,
    *,
    options: VideoBaselineOptions,
    seed: int,
    run: RunDirectory,
    progress: Progress,
) -> VideoBaselineReport:
    stage = stage_of(model.config)
    trainer = _Trainer(model, train, options, seed)
    trainer.restore(run.load_state(stage))
    total = options.epochs * trainer.updates_per_epoch
    progress(ProgressEvent(stage, len(trainer.history) * trainer.updates_per_epoch, total))
    while not trainer.finished:
        epoch = len(trainer.history) + 1
        losses: list[float] = []
        for done, loss in enumerate(trainer.losses(epoch), start=(epoch - 1) * trainer.updates_per_epoch + 1):
            losses.append(loss)
            progress(ProgressEvent(stage, done, total, f"epoch {epoch}/{options.epochs}, loss {np.mean(losses):.3f}"))
        trainer.record(_validate(model, validation, options, epoch, trainer.mean_of(losses)))
        run.save_state(stage, trainer.state())
        run.log({"stage": stage, **asdict(trainer.history[-1])})
    progress(ProgressEvent(stage, total, total, f"best of {len(trainer.history)} epochs: {trainer.best_epoch}"))
    restore_module(model, trainer.best, "best")
    model.eval()
    return VideoBaselineReport(tuple(trainer.history), trainer.best_epoch)


def predict_videos(model: VideoRegressor, clips: Clips, *, batch: int = 8) -> NDArray[np.float64]:
    """Scores clips in standardised units, float64 (clips,); leaves the model in evaluation mode.

    Args:
        model: on any device; it computes in float32.
        clips: opened one at a time.
        batch: clips scored together.
    """
    model.eval()
    scores = np.zeros(len(clips))
    with torch.inference_mode():
        for first in range(0, len(clips), batch):
            rows = np.arange(first, min(first + batch, len(clips)))
            shown = _shown(clips, rows, model.config.frames)
            scores[rows] = model(*(tensor.to(model.mean.device) for tensor in shown)).double().cpu().numpy()
    return scores


def shown_frames(clip: ClipFeatures, count: int, *, at: float = 0.5) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The frames of a clip that a network is shown; no others are read from disk.

    Args:
        clip: N chunks.
        count: how many frames, spread evenly over the clip's real ones.
        at: where in its span of the clip each is taken, in [0, 1).

    Returns:
        uint8 (count, H, W, 3), and bool (count,): all True, or all False where the clip has no picture at all.
    """
    index = evenly(clip.frame_mask.ravel(), count, at=at)
    frames = clip.frames[np.divmod(index, clip.frame_mask.shape[1])]
    return np.asarray(frames), np.full(count, bool(clip.frame_mask.any()))


class _Trainer:
    """Model, optimiser, the best weights so far, and the history that says where training stands."""

    def __init__(self, model: VideoRegressor, videos: LabelledVideos, options: VideoBaselineOptions, seed: int) -> None:
        self.model = model
        self.videos = videos
        self.options = options
        self.seed = seed
        self.updates_per_epoch = -(-len(videos.clips) // options.batch)
        self._updates = Updates(model, options, total=options.epochs * self.updates_per_epoch)
        self.history: list[VideoBaselineEpoch] = []
        self.best: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, 1-based; the first of equals."""
        return min(self.history, key=lambda line: line.validation_loss).epoch

    @property
    def finished(self) -> bool:
        done = len(self.history)
        return done > 0 and (done >= self.options.epochs or done - self.best_epoch >= self.options.patience)

    def losses(self, epoch: int) -> Iterator[float]:
        """Makes every update of one epoch (1-based), and gives each one's loss."""
        self.model.train()
        draw = np.random.default_rng([self.seed, epoch])  # the same whether resumed or not
        order = draw.permutation(len(self.videos.clips))
        number = (epoch - 1) * self.updates_per_epoch
        for rows in np.array_split(order, self.updates_per_epoch):
            yield self._update(rows, number, draw)
            number += 1

    def mean_of(self, losses: list[float]) -> float:
        """The mean over an epoch's clips of what `losses` gave."""
        sizes = [len(rows) for rows in np.array_split(np.arange(len(self.videos.clips)), self.updates_per_epoch)]
        return float(np.average(losses, weights=sizes))

    def record(self, line: VideoBaselineEpoch) -> None:
        """Adds an epoch to the history, and keeps its weights if it is the best."""
        self.history.append(line)
        if self.best_epoch == line.epoch:
            self.best = module_tensors(self.model, "best")

    def state(self) -> State:
        tensors = module_tensors(self.model, "model") | self._updates.tensors() | self.best
        return State(tensors, {"history": [asdict(line) for line in self.history]})

    def restore(self, state: State | None) -> None:
        if state is None:
            return
        restore_module(self.model, state.tensors, "model")
        self._updates.restore(state.tensors)
        self.best = {name: tensor for name, tensor in state.tensors.items() if name.startswith("best.")}
        self.history = [VideoBaselineEpoch(**plain) for plain in state.meta["history"]]

    def _update(self, rows: NDArray[np.int64], number: int, draw: np.random.Generator) -> float:
        self._updates.begin(number)
        with self.options.compute.seeded(int(draw.integers(2**31))):  # dropout and stochastic depth
            frames, mask = _shown(self.videos.clips, rows, self.model.config.frames, draw)
            z = torch.from_numpy(self.videos.z[rows].astype(np.float32))
            loss = self._gradients(*self.options.compute.move(frames, mask, z))
        self._updates.step()
        return loss

    def _gradients(self, frames: Tensor, mask: Tensor, z: Tensor) -> float:
        """Adds up the gradients of micro-batches; gives the whole batch's loss."""
        total, size = 0.0, self.options.micro_batch
        for first in range(0, len(z), size):
            there = slice(first, first + size)
            with self.options.compute.autocast():
                scores = self.model(frames[there], mask[there])
            loss = F.huber_loss(scores.float(), z[there], delta=_HUBER_DELTA) * (len(z[there]) / len(z))
            self._updates.backward(loss)
            total += loss.item()
        return total


def _shown(clips: Clips, rows: NDArray[np.int64], count: int, draw: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
    """What the network is shown of some clips: frames uint8 (B, count, H, W, 3), mask float32 (B, count)."""
    pairs = [shown_frames(clips[int(row)], count, at=0.5 if draw is None else float(draw.random())) for row in rows]
    frames, masks = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(masks).astype(np.float32))


def _validate(
    model: VideoRegressor, videos: LabelledVideos, options: VideoBaselineOptions, epoch: int, train_loss: float
) -> VideoBaselineEpoch:
    scores = predict_videos(model, videos.clips, batch=options.batch)
    loss = float(F.huber_loss(torch.from_numpy(scores), torch.from_numpy(videos.z), delta=_HUBER_DELTA))
    return VideoBaselineEpoch(epoch, train_loss, loss, float(((scores - videos.z) ** 2).mean()), spearman(videos.z, scores))
