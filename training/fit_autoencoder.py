"""Trains the ConvLSTM autoencoder without labels, and embeds clips with what it learned.

Windows of consecutive chunks are drawn from the training clips. The encoder's state is carried from chunk to chunk, as it is when
a clip streams, but detached between them (truncated backpropagation through time) and reset where the epoch of a clip changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..models.autoencoder import (
    AutoencoderLoss,
    ConvLSTMAutoencoder,
    LossWeights,
    autoencoder_loss,
    copy_last_mse,
    mean_frame,
    mean_frame_mse,
)
from ..models.convlstm import ConvLSTMEncoder, State
from .dataset import ClipFeatures, Clips
from .run import (
    Progress,
    ProgressEvent,
    RunDirectory,
    cosine_with_warmup,
    module_tensors,
    optimiser_tensors,
    restore_module,
    restore_optimiser,
    silent,
)
from .run import State as RunState

STAGE = "autoencoder"


@dataclass(frozen=True, slots=True)
class AutoencoderOptions:
    """How the autoencoder is trained. Cost is `epochs * chunks_per_epoch` chunks, whatever the number of clips."""

    epochs: int = 6
    chunks_per_epoch: int = 320
    window_chunks: int = 2
    """Consecutive chunks over which state is carried."""
    batch: int = 4
    """Windows in one update."""
    validation_chunks: int = 64
    """Chunks of validation clips, the same ones after every epoch."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    """Share of all updates during which the learning rate rises."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        if min(self.epochs, self.window_chunks, self.batch) < 1 or min(self.chunks_per_epoch, self.validation_chunks) < self.window_chunks:
            raise DataError("autoencoder options: at least one epoch, one window a batch, and one window of chunks an epoch")


@dataclass(frozen=True, slots=True)
class PixelLosses:
    """Mean squared errors in [0, 1] pixel units, over the real frames of everything that was looked at."""

    reconstruct: float
    predict: float
    coarse: float


@dataclass(frozen=True, slots=True)
class AutoencoderEpoch:
    """One line of the loss curve."""

    epoch: int
    """1-based."""
    train: PixelLosses
    validation: PixelLosses


@dataclass(frozen=True, slots=True)
class PixelBaselines:
    """What a model that learned nothing gets on the validation frames."""

    mean_frame: float
    """Reconstruction by the training clips' mean picture."""
    copy_last: float
    """Prediction of the next chunk by the last picture of this one."""


@dataclass(frozen=True, slots=True)
class AutoencoderReport:
    """The loss curve, and the two figures it has to beat."""

    history: tuple[AutoencoderEpoch, ...]
    baselines: PixelBaselines

    def to_json(self) -> dict[str, Any]:
        return {"history": [asdict(epoch) for epoch in self.history], "baselines": asdict(self.baselines)}


def fit_autoencoder(
    model: ConvLSTMAutoencoder,
    train: Clips,
    validation: Clips,
    *,
    options: AutoencoderOptions,
    seed: int,
    run: RunDirectory,
    progress: Progress = silent,
) -> AutoencoderReport:
    """Trains the model in place, going on from the state in `run` where there is one.

    Args:
        model: freshly initialised, on the CPU.
        train: clips whose windows are learned from.
        validation: clips whose losses are only reported; nothing is chosen by them.
        options: schedule and sizes.
        seed: decides the windows of every epoch.
        run: where state is saved after every epoch.
        progress: called after every update.

    Returns:
        The report of all epochs, those before a resumption included.
    """
    trainer = _Trainer(model, train, options, seed)
    history = trainer.restore(run.load_state(STAGE))
    watched = _batches(validation, _windows(validation, options.validation_chunks, options.window_chunks, seed), options)
    held_out = list(watched)
    baselines = _baselines(model, trainer.mean_picture(), held_out)
    total = options.epochs * trainer.updates_per_epoch
    progress(ProgressEvent(STAGE, len(history) * trainer.updates_per_epoch, total))
    for epoch in range(len(history) + 1, options.epochs + 1):
        losses = _Tally()
        for done, loss in enumerate(trainer.updates(epoch), start=(epoch - 1) * trainer.updates_per_epoch + 1):
            losses.add(loss)
            progress(ProgressEvent(STAGE, done, total, f"epoch {epoch}/{options.epochs}, reconstruct {losses.mean().reconstruct:.4f}"))
        history.append(AutoencoderEpoch(epoch, losses.mean(), _validate(model, held_out)))
        run.save_state(STAGE, trainer.state(history))
        run.log({"stage": STAGE, **asdict(history[-1])})
    return AutoencoderReport(tuple(history), baselines)


def embed_clip(encoder: ConvLSTMEncoder, clip: ClipFeatures) -> NDArray[np.float32]:
    """Embeds the pictures of a whole clip exactly as scoring does: chunk by chunk, the state carried, and reset with the epoch.

    Args:
        encoder: in evaluation mode.
        clip: N chunks.

    Returns:
        float32 (N, D). A chunk without pictures is not encoded: its row is 0 and the state passes it by.
    """
    embeddings = np.zeros((len(clip.epochs), encoder.config.embedding_dim), dtype=np.float32)
    state, epoch = encoder.initial_state(), clip.epochs[0]
    with torch.inference_mode():
        for index, seen in enumerate(clip.picture_mask):
            if clip.epochs[index] != epoch:
                state, epoch = encoder.initial_state(), clip.epochs[index]
            if seen:
                frames = torch.from_numpy(np.array(clip.frames[index]))[None]
                mask = torch.from_numpy(clip.frame_mask[index].astype(np.float32))[None]
                embedding, state = encoder(frames, mask, state)
                embeddings[index] = embedding[0].numpy()
    return embeddings


class _Window(NamedTuple):
    clip: int
    start: int


class _Batch(NamedTuple):
    """Windows of L chunks and the chunk after each; L + 1 in all. What a clip does not have is masked."""

    frames: Tensor
    """uint8 (B, L + 1, T, H, W, 3)."""
    mask: Tensor
    """float32 (B, L + 1, T)."""
    same_epoch: Tensor
    """float32 (B, L + 1): 1 where a chunk continues the one before it, without a timestamp jump."""


class _Step(NamedTuple):
    """A chunk of every window of a batch, and the chunk to be predicted from it."""

    frames: Tensor
    mask: Tensor
    next_frames: Tensor
    next_mask: Tensor


class _Tally:
    """Means over everything seen, not means of batch means: each term weighs by the real frames behind it."""

    def __init__(self) -> None:
        self._sums = np.zeros(3)
        self._frames = np.zeros(3)

    def add(self, part: tuple[AutoencoderLoss, _Step]) -> None:
        loss, step = part
        here, after = float(step.mask.sum()), float(step.next_mask.sum())
        frames = np.array([here, after, here])
        self._sums += frames * [term.item() for term in (loss.reconstruct, loss.predict, loss.coarse)]
        self._frames += frames

    def mean(self) -> PixelLosses:
        return PixelLosses(*(self._sums / np.maximum(self._frames, 1.0)).tolist())


class _Trainer:
    """Model, optimiser and where the schedule stands."""

    def __init__(self, model: ConvLSTMAutoencoder, clips: Clips, options: AutoencoderOptions, seed: int) -> None:
        self.model = model
        self.clips = clips
        self.options = options
        self.seed = seed
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        windows = options.chunks_per_epoch // options.window_chunks
        self.updates_per_epoch = -(-windows // options.batch) * options.window_chunks

    def updates(self, epoch: int) -> Iterator[tuple[AutoencoderLoss, _Step]]:
        """Makes every update of one epoch (1-based), and gives each one's loss."""
        windows = _windows(self.clips, self.options.chunks_per_epoch, self.options.window_chunks, self.seed, epoch)
        self.model.train()
        number = (epoch - 1) * self.updates_per_epoch
        for batch in _batches(self.clips, windows, self.options):
            state = self.model.encoder.initial_state(len(batch.frames))
            for index, step in enumerate(_steps(batch)):
                loss, state = _forward(self.model, step, _continue(state, batch.same_epoch[:, index]), self.options.weights)
                self._update(loss.total, number)
                number += 1
                yield loss, step

    def mean_picture(self) -> Tensor:
        """The mean picture of a sample of the training clips as large as an epoch."""
        windows = _windows(self.clips, self.options.chunks_per_epoch, self.options.window_chunks, self.seed)
        return mean_frame((step.frames, step.mask) for batch in _batches(self.clips, windows, self.options) for step in _steps(batch))

    def state(self, history: Sequence[AutoencoderEpoch]) -> RunState:
        tensors = module_tensors(self.model, "model") | optimiser_tensors(self.optimiser)
        return RunState(tensors, {"history": [asdict(epoch) for epoch in history]})

    def restore(self, state: RunState | None) -> list[AutoencoderEpoch]:
        """Takes up a saved state; returns the epochs done."""
        if state is None:
            return []
        restore_module(self.model, state.tensors, "model")
        restore_optimiser(self.optimiser, state.tensors)
        return [_epoch_from_json(plain) for plain in state.meta["history"]]

    def _update(self, loss: Tensor, number: int) -> None:
        total = self.options.epochs * self.updates_per_epoch
        for group in self.optimiser.param_groups:
            group["lr"] = cosine_with_warmup(number, total, peak=self.options.learning_rate, warmup=self.options.warmup)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.gradient_clip)
        self.optimiser.step()


def _epoch_from_json(plain: Mapping[str, Any]) -> AutoencoderEpoch:
    return AutoencoderEpoch(plain["epoch"], PixelLosses(**plain["train"]), PixelLosses(**plain["validation"]))


def _windows(clips: Clips, chunks: int, length: int, seed: int, epoch: int = 0) -> list[_Window]:
    """Draws windows: every clip once before any clip twice, each at a random place where it fits."""
    draw = np.random.default_rng([seed, epoch])
    count = chunks // length
    order = np.concatenate([draw.permutation(len(clips)) for _ in range(-(-count // len(clips)))])[:count]
    return [_Window(int(clip), int(draw.integers(0, max(1, len(clips[clip].epochs) - length + 1)))) for clip in order]


def _batches(clips: Clips, windows: Sequence[_Window], options: AutoencoderOptions) -> Iterator[_Batch]:
    for first in range(0, len(windows), options.batch):
        rows = [_read(clips[window.clip], window.start, options.window_chunks) for window in windows[first : first + options.batch]]
        yield _Batch(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def _read(clip: ClipFeatures, start: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """One row of a batch; zeros and mask 0 past the end of the clip."""
    there = slice(start, start + length + 1)
    found = len(clip.epochs[there])
    frames = np.zeros((length + 1, *clip.frames.shape[1:]), dtype=np.uint8)
    mask = np.zeros((length + 1, *clip.frame_mask.shape[1:]), dtype=np.float32)
    same = np.ones(length + 1, dtype=np.float32)
    frames[:found] = clip.frames[there]
    mask[:found] = clip.frame_mask[there]
    same[1:found] = clip.epochs[there][1:] == clip.epochs[there][:-1]
    return torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(same)


def _steps(batch: _Batch) -> Iterator[_Step]:
    for index in range(batch.frames.shape[1] - 1):
        next_mask = batch.mask[:, index + 1] * batch.same_epoch[:, index + 1, None]
        yield _Step(batch.frames[:, index], batch.mask[:, index], batch.frames[:, index + 1], next_mask)


def _continue(state: State, same_epoch: Tensor) -> State:
    """Detaches the state, and resets it in the rows whose epoch changed."""
    return tuple(tensor.detach() * same_epoch[:, None, None, None] for tensor in state)


def _forward(model: ConvLSTMAutoencoder, step: _Step, state: State, weights: LossWeights) -> tuple[AutoencoderLoss, State]:
    output = model(step.frames, step.mask, state)
    next_chunk = {"next_frames": step.next_frames, "next_mask": step.next_mask}
    return autoencoder_loss(output.decoded, step.frames, step.mask, **next_chunk, weights=weights), output.state


def _validate(model: ConvLSTMAutoencoder, batches: Sequence[_Batch]) -> PixelLosses:
    model.eval()
    tally = _Tally()
    with torch.inference_mode():
        for batch in batches:
            state = model.encoder.initial_state(len(batch.frames))
            for index, step in enumerate(_steps(batch)):
                loss, state = _forward(model, step, _continue(state, batch.same_epoch[:, index]), LossWeights())
                tally.add((loss, step))
    return tally.mean()


def _baselines(model: ConvLSTMAutoencoder, mean: Tensor, batches: Sequence[_Batch]) -> PixelBaselines:
    stride = model.decoder.config.frame_stride
    tally = _Tally()
    for step in (step for batch in batches for step in _steps(batch)):
        reconstruct = mean_frame_mse(mean, step.frames, step.mask, stride=stride)
        predict = copy_last_mse(*step, stride=stride)
        tally.add((AutoencoderLoss(reconstruct, predict, torch.zeros(()), torch.zeros(())), step))
    found = tally.mean()
    return PixelBaselines(mean_frame=found.reconstruct, copy_last=found.predict)
