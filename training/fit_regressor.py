"""Trains the dual Transformer on chunk embeddings: every prefix of a clip is an example, because a score is due after every chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError
from ..models.dual_transformer import DualTransformer, FusionOutput, modality_dropout
from .compute import Compute
from .labelled import EmbeddedClip, FusionInputs, LabelledClips, Prefixes, collate, prefixes, scored_rows
from .linear_start import start_at_ridge
from .losses import Loss, pinball
from .memory import MemoryPlan, peak_bytes, plan_memory, weights_of
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

STAGE = "regressor"


@dataclass(frozen=True, slots=True)
class RegressorOptions:
    """How the dual Transformer is trained."""

    epochs: int = 80
    """At most; fewer where the validation loss stops falling."""
    patience: int = 15
    """Epochs without a better validation loss before training stops. The best epoch's weights are kept."""
    batch: int = 32
    """Clips in one update."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    gradient_clip: float = 1.0
    modality_dropout: float = 0.3
    """Chance that a clip loses its pictures or its sound for one update, so that the model can do without either."""
    late_start: float = 0.5
    """Chance that a clip begins at a later chunk for one update: more clips, made of few."""
    input_noise: float = 0.5
    """Gaussian noise on every embedding, in deviations of each feature over the training clips."""
    score_loss: str = "huber"
    """`huber` (delta 1 in standardised units: an outlier pulls no harder than that), another of `training.losses`, or one with its
    parameter, such as `student-t:4`."""
    head_weight: float = 0.3
    """Weight of the three heads' own losses beside the ensemble's."""
    quantile_weight: float = 0.5
    class_weight: float = 0.1
    accumulate: int = 1
    """Micro-batches whose gradients make one update: less memory, more time. Dropout draws for each of them."""
    compute: Compute = field(default_factory=Compute)

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch) < 1:
            raise DataError("regressor options: epochs, patience and batch are at least 1")
        if not 1 <= self.accumulate <= self.batch:
            raise DataError(f"regressor options: accumulate is 1 to the batch's {self.batch}, got {self.accumulate}")
        Loss.parse(self.score_loss)  # refuses what is unknown

    @property
    def micro_batch(self) -> int:
        """Clips whose activations are held at once."""
        return -(-self.batch // self.accumulate)


@dataclass(frozen=True, slots=True)
class RegressorEpoch:
    """One line of the loss curve; losses are in standardised units, over every prefix of every clip."""

    epoch: int
    """1-based."""
    train_loss: float
    """The whole objective, with dropout."""
    validation_loss: float
    """The whole objective."""
    validation_mse: float
    """Mean squared error of the score after the whole clip."""
    validation_spearman: float | None


@dataclass(frozen=True, slots=True)
class RegressorReport:
    """The loss curve and the epoch whose weights were kept."""

    history: tuple[RegressorEpoch, ...]
    best_epoch: int

    def to_json(self) -> dict[str, Any]:
        return {"history": [asdict(epoch) for epoch in self.history], "best_epoch": self.best_epoch}


def fit_regressor(
    model: DualTransformer,
    train: LabelledClips,
    validation: LabelledClips,
    *,
    options: RegressorOptions,
    seed: int,
    run: RunDirectory,
    progress: Progress = silent,
) -> RegressorReport:
    """Trains the model in place, going on from the state in `run` where there is one; ends with the best epoch's weights.

    Args:
        model: freshly initialised, on the CPU.
        train: clips to learn from.
        validation: clips by whose loss the epoch is chosen.
        options: schedule, losses and regularisation.
        seed: decides the order of clips and every dropout.
        run: where state is saved after every epoch.
        progress: called after every epoch.

    Returns:
        The report of all epochs, those before a resumption included.
    """
    with options.compute.hosting(model):
        return _fit(model, train, validation, options=options, seed=seed, run=run, progress=progress)


def _fit(
    model: DualTransformer,
    train: LabelledClips,
    validation: LabelledClips,
    *,
    options: RegressorOptions,
    seed: int,
    run: RunDirectory,
    progress: Progress,
) -> RegressorReport:
    trainer = _Trainer(model, train, options, seed)
    trainer.restore(run.load_state(STAGE))
    progress(ProgressEvent(STAGE, len(trainer.history), options.epochs))
    while not trainer.finished:
        epoch = len(trainer.history) + 1
        train_loss = trainer.run_epoch(epoch)
        trainer.record(_validate(model, validation, options, epoch, train_loss))
        run.save_state(STAGE, trainer.state())
        run.log({"stage": STAGE, **asdict(trainer.history[-1])})
        progress(ProgressEvent(STAGE, epoch, options.epochs, f"validation MSE {trainer.history[-1].validation_mse:.3f}"))
    progress(ProgressEvent(STAGE, options.epochs, options.epochs, f"best of {len(trainer.history)} epochs: {trainer.best_epoch}"))
    restore_module(model, trainer.best, "best")
    model.eval()
    return RegressorReport(tuple(trainer.history), trainer.best_epoch)


def plan_regressor(model: DualTransformer, options: RegressorOptions, budget_bytes: int, *, chunks: int) -> MemoryPlan:
    """Measures updates of a copy of the model, and picks `accumulate` so that training keeps within a budget.

    Args:
        model: on the CPU; it stays as it is.
        options: those of the training.
        budget_bytes: see `training.memory` for what is counted.
        chunks: chunks of the longest clip.

    Raises:
        DataError: nothing fits.
    """

    def trainer_of(clips: int, accumulate: int) -> _Trainer:
        config, there = model.config, np.ones(chunks, dtype=bool)
        visual, audio = (np.zeros((chunks, size), dtype=np.float32) for size in (config.visual_dim, config.audio_dim))
        longest = EmbeddedClip(visual, there, audio, there, np.arange(1.0, chunks + 1))
        labelled = LabelledClips([longest] * clips, np.zeros(clips), np.zeros(clips, dtype=np.int64))
        always_whole = replace(options, batch=clips, accumulate=accumulate, late_start=0.0)
        return _Trainer(deepcopy(model), labelled, always_whole, 0)

    rows = np.arange(options.batch)
    inputs = collate(trainer_of(options.batch, 1).clips.clips)
    whole = peak_bytes(lambda: trainer_of(options.batch, 1).vary(rows), held=inputs)

    def peak_of(size: int, _checkpointing: int) -> int:
        trainer = trainer_of(2 * size, 2)
        with options.compute.hosting(trainer.model):
            return whole + peak_bytes(lambda: [trainer.update(np.arange(2 * size), n) for n in range(2)], held=weights_of(trainer.model))

    return plan_memory(budget_bytes, batch=options.batch, checkpointing=(0,), peak_of=peak_of)


def prefix_losses(output: FusionOutput, z: Tensor, classes: Tensor, *, levels: Sequence[float], options: RegressorOptions) -> Tensor:
    """The objective of every row of B clips of up to N chunks, float32 (B, N).

    Args:
        output: what the model said.
        z: float32 (B,), the clips' targets in standardised units.
        classes: int64 (B,), the clips' classes.
        levels: the Q quantile levels of the output.
        options: the kind of loss and the weights.
    """
    loss_of = Loss.parse(options.score_loss)
    score = loss_of.each(output.score, z[:, None])
    heads = loss_of.each(output.head_scores, z[:, None, None]).mean(dim=-1)
    quantiles = pinball(output.quantiles, z[:, None, None], levels).mean(dim=-1)
    every_prefix = classes[:, None].expand_as(score)
    named = F.cross_entropy(output.class_logits.transpose(1, 2), every_prefix, reduction="none")
    return score + options.head_weight * heads + options.quantile_weight * quantiles + options.class_weight * named


def regressor_loss(
    output: FusionOutput, scored: Tensor, z: Tensor, classes: Tensor, *, levels: Sequence[float], options: RegressorOptions
) -> Tensor:
    """The objective: every prefix of a clip counts the same, and every clip counts the same however long it is.

    Args:
        output: what the model said.
        scored: float32 (B, N), 1 at the rows that score a prefix.
        z: float32 (B,), the clips' targets in standardised units.
        classes: int64 (B,), the clips' classes.
        levels: the Q quantile levels of the output.
        options: the kind of loss and the weights.

    Returns:
        float32 (), mean over clips of the mean over prefixes.
    """
    each = prefix_losses(output, z, classes, levels=levels, options=options)
    return ((each * scored).sum(dim=1) / scored.sum(dim=1)).mean()


class _Trainer:
    """Model, optimiser, the best weights so far, and the history that says where training stands."""

    def __init__(self, model: DualTransformer, clips: LabelledClips, options: RegressorOptions, seed: int) -> None:
        self.model = model
        self.clips = clips
        self.options = options
        self.seed = seed
        self._updates = Updates(model, options, total=options.epochs * self._updates_per_epoch)
        self.deviations = [_deviations(features) for features in clips.present()]
        self.history: list[RegressorEpoch] = []
        self.best: dict[str, Tensor] = {}

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, 1-based; the first of equals."""
        return min(self.history, key=lambda line: line.validation_loss).epoch

    @property
    def finished(self) -> bool:
        done = len(self.history)
        return done > 0 and (done >= self.options.epochs or done - self.best_epoch >= self.options.patience)

    def run_epoch(self, epoch: int) -> float:
        """One pass over the clips; returns the mean loss."""
        self.model.train()
        losses = []
        draw = np.random.default_rng([self.seed, epoch])
        with self.options.compute.seeded(int(draw.integers(2**31))):  # dropout of this epoch, whether resumed or not
            for number, rows in enumerate(_shuffled(len(self.clips.clips), self.options.batch, draw)):
                losses.append(self.update(rows, (epoch - 1) * self._updates_per_epoch + number) * len(rows))
        return sum(losses) / len(self.clips.clips)

    def record(self, line: RegressorEpoch) -> None:
        """Adds an epoch to the history, and keeps its weights if it is the best."""
        self.history.append(line)
        if self.best_epoch == line.epoch:
            self.best = module_tensors(self.model, "best")

    def state(self) -> State:
        tensors = module_tensors(self.model, "model") | self._updates.tensors() | self.best
        return State(tensors, {"history": [asdict(line) for line in self.history]})

    def restore(self, state: State | None) -> None:
        """Takes up a saved state; where there is none, starts at the ridge regressions of the training clips."""
        if state is None:
            start_at_ridge(self.model, self.clips)
            return
        restore_module(self.model, state.tensors, "model")
        self._updates.restore(state.tensors)
        self.best = {name: tensor for name, tensor in state.tensors.items() if name.startswith("best.")}
        self.history = [RegressorEpoch(**plain) for plain in state.meta["history"]]

    @property
    def _updates_per_epoch(self) -> int:
        return -(-len(self.clips.clips) // self.options.batch)

    def vary(self, rows: NDArray[np.int64]) -> tuple[FusionInputs, Tensor]:
        """Clips as they are and yet never the same twice: some begin late, some lack a modality, and all are noisy.

        Returns:
            The inputs, and float32 (B, N): 1 at the rows that score a prefix.
        """
        shown = [self._shown(self._maybe_late(self.clips.clips[row])) for row in rows]
        batch = collate([one.clip for one in shown])
        seen, heard = modality_dropout(batch.visual_mask, batch.audio_mask, self.options.modality_dropout)
        visual, audio = (
            clean + self.options.input_noise * deviation * torch.randn_like(clean)
            for clean, deviation in zip((batch.visual, batch.audio), self.deviations, strict=True)
        )
        return FusionInputs(visual, audio, seen, heard, batch.chunk_mask), scored_rows(shown)

    def _shown(self, clip: EmbeddedClip) -> Prefixes:
        """One of the ways in which a model with a window meets a clip, as likely as the prefixes it scores; the whole clip if it fits."""
        window = self.model.config.window
        if window is None or len(clip.end_s) <= window:
            return Prefixes(clip, len(clip.end_s))
        end = int(torch.randint(1, len(clip.end_s) + 1, ()))
        return Prefixes(clip.until(window), window) if end <= window else Prefixes(clip.until(end).seen_through(window), 1)

    def _maybe_late(self, clip: EmbeddedClip) -> EmbeddedClip:
        late = bool(torch.rand(()) < self.options.late_start)
        return clip.starting_at(int(torch.randint(len(clip.end_s), ()))) if late else clip

    def update(self, rows: NDArray[np.int64], number: int) -> float:
        size = self.options.micro_batch
        self._updates.begin(number)
        loss = 0.0
        inputs, scored = self.vary(rows)
        for first, part in zip(range(0, len(rows), size), inputs.split(size), strict=True):
            there = slice(first, first + size)
            loss += self._gradients(part, scored[there], rows[there], of=len(rows))
        self._updates.step()
        return loss

    def _gradients(self, batch: FusionInputs, scored: Tensor, rows: NDArray[np.int64], *, of: int) -> float:
        """Adds a micro-batch's gradients to those of the batch of `of` clips; gives its share of the loss."""
        compute, levels = self.options.compute, self.model.config.quantile_levels
        batch = FusionInputs(*compute.move(*batch))
        scored, z, classes = compute.move(scored, *self.clips.labels(rows))
        with compute.autocast():
            output = self.model(*batch)
        output = FusionOutput(*(tensor.float() for tensor in output))
        loss = regressor_loss(output, scored, z, classes, levels=levels, options=self.options) * (len(rows) / of)
        self._updates.backward(loss)
        return loss.item()


def _deviations(features: Tensor) -> Tensor:
    """Standard deviation of every feature, float32 (chunks, D) -> (D,); 0 where no chunk has any."""
    return features.std(dim=0, correction=0) if len(features) else torch.zeros(features.shape[1])


def _validate(model: DualTransformer, clips: LabelledClips, options: RegressorOptions, epoch: int, train_loss: float) -> RegressorEpoch:
    model.eval()
    move, levels, size = options.compute.move, model.config.quantile_levels, options.micro_batch
    shown = [(number, one) for number, clip in enumerate(clips.clips) for one in prefixes(clip, model.config.window)]
    total, final = np.zeros(len(clips.clips)), np.zeros(len(clips.clips))
    with torch.inference_mode():
        for part in (shown[first : first + size] for first in range(0, len(shown), size)):
            rows = np.array([number for number, _ in part])
            inputs, scored = collate([one.clip for _, one in part]), scored_rows([one for _, one in part])
            z, classes = move(*clips.labels(rows))
            output = model(*move(*inputs))
            each = prefix_losses(output, z, classes, levels=levels, options=options).cpu() * scored
            np.add.at(total, rows, each.sum(dim=1).double().numpy())
            last = inputs.chunk_mask.sum(dim=1).long() - 1
            final[rows] = output.score.cpu()[torch.arange(len(rows)), last].double().numpy()  # a clip's later prefixes come later
    loss = float((total / [len(clip.end_s) for clip in clips.clips]).mean())
    return RegressorEpoch(epoch, train_loss, loss, float(((final - clips.z) ** 2).mean()), spearman(clips.z, final))


def _shuffled(count: int, batch: int, draw: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    order = draw.permutation(count)
    for first in range(0, count, batch):
        yield order[first : first + batch]
