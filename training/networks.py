"""What a report tells of the networks that were trained: how large they are, what they are shown, how long they learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..models.checkpoint import Checkpoint
from ..models.dual_transformer import FusionConfig
from .bootstrap import Bootstrap, ConfidenceInterval
from .companions import Companions, VariantPredictions
from .evaluation import Prediction, final_scores
from .fit_regressor import RegressorEpoch
from .fit_video_baseline import VideoBaselineEpoch
from .metrics import mse
from .studies import LENGTH, MODEL, VIDEO, WHOLE
from .video_comparison import TrainedVideo


@dataclass(frozen=True, slots=True)
class LossEpoch:
    """One point of a loss curve; both in the network's own objective."""

    epoch: int
    """1-based."""
    train: float
    validation: float


@dataclass(frozen=True, slots=True)
class NetworkFigures:
    """A trained network: the model, or one that it is compared with."""

    predictor: str
    kind: str
    shown: str
    """What it is shown of a clip, in words."""
    parameters: int
    """Numbers that its training sets; those of encoders before it are not among them."""
    seconds: float | None
    """Wall time of its training, of what the process that ended it did; None where that is not known."""
    best_epoch: int | None
    """The epoch whose weights were kept, 1-based; None where that is not known."""
    history: tuple[LossEpoch, ...]


@dataclass(frozen=True, slots=True)
class LengthFigures:
    """How good the model, or a variant with another length strategy, is early and late; MSE in standardised units."""

    predictor: str
    strategy: str
    parameters: int
    early_s: float
    """Seconds seen early on: one chunk."""
    early: ConfidenceInterval
    """After so many seconds."""
    whole: ConfidenceInterval
    """After whole clips."""


def network_figures(loaded: Checkpoint, companions: Companions) -> tuple[NetworkFigures, ...]:
    """The model, its variants, and the video networks."""
    return (_model(loaded), *map(_variant, companions.variants), *map(_video, companions.videos))


def length_figures(
    loaded: Checkpoint, whole: Sequence[Prediction], companions: Companions, z: NDArray[np.float64], bootstrap: Bootstrap
) -> tuple[LengthFigures, ...]:
    """The model, then its variants with other length strategies; empty where there are none.

    Args:
        loaded: the model.
        whole: what it says of the clips.
        companions: its variants, with what they say of the same clips.
        z: float64 (clips,), the truth in standardised units.
        bootstrap: of the same clips.
    """
    chunk_s = loaded.contract.chunk_s
    others = [one for one in companions.variants if one.trained.variant.kind == LENGTH]
    said = [
        (MODEL, loaded.fusion.config.shown_of_a_clip, _count(loaded.fusion), whole),
        *(
            (one.trained.variant.predictor, one.trained.variant.fusion.shown_of_a_clip, one.trained.parameters, one.predictions)
            for one in others
        ),
    ]
    return tuple(
        LengthFigures(
            name,
            strategy,
            parameters,
            chunk_s,
            bootstrap.interval(mse, z, [prediction.score[prediction.index_at(chunk_s)] for prediction in predictions]),
            bootstrap.interval(mse, z, final_scores(predictions)),
        )
        for name, strategy, parameters, predictions in (said if others else ())
    )


def _model(loaded: Checkpoint) -> NetworkFigures:
    """The dual Transformer, as far as the card tells of it."""
    told: Mapping[str, Any] = loaded.card.get("regressor", {})
    history = tuple(LossEpoch(line["epoch"], line["train_loss"], line["validation_loss"]) for line in told.get("history", ()))
    encoder = f"an encoder of {_count(loaded.autoencoder.encoder):,} parameters"
    shown = f"{_window(loaded.fusion.config)}: embeddings of pictures ({encoder}) and sound (Whisper)"
    return NetworkFigures(
        MODEL,
        WHOLE,
        shown,
        _count(loaded.fusion),
        loaded.card.get("seconds", {}).get("regressor"),
        told.get("best_epoch"),
        history,
    )


def _variant(one: VariantPredictions) -> NetworkFigures:
    variant = one.trained.variant
    parts = [name for name, there in (("pictures", variant.pictures), ("sound", variant.sound)) if there]
    return NetworkFigures(
        variant.predictor,
        variant.kind,
        f"{_window(variant.fusion)}: the same embeddings of {' and '.join(parts)}",
        one.trained.parameters,
        one.trained.seconds,
        one.trained.report.best_epoch,
        _curve(one.trained.report.history),
    )


def _window(config: FusionConfig) -> str:
    return {None: "every chunk", 1: "the mean of all chunks"}.get(config.window, f"a window of {config.window} chunks")


def _video(trained: TrainedVideo) -> NetworkFigures:
    config, report = trained.plan.config, trained.report
    shown = f"{config.frames} frames of {config.height}x{config.width} pixels"
    return NetworkFigures(trained.name, VIDEO, shown, trained.parameters, trained.seconds, report.best_epoch, _curve(report.history))


def _curve(history: Sequence[RegressorEpoch | VideoBaselineEpoch]) -> tuple[LossEpoch, ...]:
    return tuple(LossEpoch(line.epoch, line.train_loss, line.validation_loss) for line in history)


def _count(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())
