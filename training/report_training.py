"""Sections of the report on training: the loss over epochs, and what the autoencoder redraws."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .evaluation_report import EvaluationReport
from .networks import NetworkFigures
from .plots import Chart, Series
from .reconstruction import Reconstruction
from .report_html import REFERENCE, chart_row, data_table
from .studies import VIDEO


def training(report: EvaluationReport) -> str:
    """Loss curves of every network. The model's are in its card, which is free JSON: what is not there is not drawn."""
    card = report.card
    charts = [*_autoencoder_charts(card.get("autoencoder", {})), *_regressor_charts(card.get("regressor", {}))]
    drawn = chart_row(charts) if charts else "<p>The model's card has no loss curve.</p>"
    beside = report.networks[1:]
    return drawn + chart_row(map(_loss_chart, beside)) + _networks(report.networks) if beside else drawn


def _loss_chart(network: NetworkFigures) -> Chart:
    epochs = [line.epoch for line in network.history]
    series = (
        Series("train", epochs, [line.train for line in network.history]),
        Series("validation", epochs, [line.validation for line in network.history], colour=1),
    )
    label = "Huber loss, standardised units" if network.kind == VIDEO else "objective, standardised units"
    return Chart(network.predictor, "epoch", label, series, from_zero=True)


def _networks(networks: Sequence[NetworkFigures]) -> str:
    rows = [
        (
            one.predictor,
            one.shown,
            f"{one.parameters:,}",
            str(len(one.history) or "-"),
            "-" if one.best_epoch is None else str(one.best_epoch),
            "-" if one.seconds is None else f"{one.seconds:,.0f}",
        )
        for one in networks
    ]
    told = (
        "<p>Each network starts from random weights, but for the linear paths of a dual Transformer, which start at ridge regressions. It "
        "ends with the weights of the epoch whose validation loss was lowest. Seconds are those "
        "of the process that ended a training: one that was stopped and taken up again took longer. Parameters of the encoders that make "
        "embeddings are not counted.</p>"
    )
    heads = ("network", "what it is shown of a clip", "parameters", "epochs", "kept", "seconds (s)")
    return told + data_table(heads, rows, "Networks that were trained", words=True)


def _autoencoder_charts(told: Mapping[str, Any]) -> Iterator[Chart]:
    history, baselines = told.get("history", ()), told.get("baselines", {})
    epochs = [line["epoch"] for line in history]
    pairs = (("reconstruct", "mean_frame", "the training clips' mean frame"), ("predict", "copy_last", "a copy of the last frame"))
    for name, key, baseline in pairs if history else ():
        series = [
            Series(part, epochs, [line[part][name] for line in history], colour=place) for place, part in enumerate(("train", "validation"))
        ]
        if key in baselines:
            series.append(Series(baseline, [epochs[0], epochs[-1]], [baselines[key]] * 2, "dashed", colour=REFERENCE))
        title = "Autoencoder: this chunk" if name == "reconstruct" else "Autoencoder: the next chunk"
        yield Chart(title, "epoch", "MSE, pixels in 0 to 1", tuple(series), from_zero=True)


def _regressor_charts(told: Mapping[str, Any]) -> Iterator[Chart]:
    history = told.get("history", ())
    epochs = [line["epoch"] for line in history]
    if history:
        names = (("train_loss", "train, with dropout"), ("validation_loss", "validation"))
        series = tuple(Series(label, epochs, [line[name] for line in history], colour=place) for place, (name, label) in enumerate(names))
        yield Chart("Dual Transformer", "epoch", "objective, standardised units", series, from_zero=True)


def pictures(report: EvaluationReport) -> str:
    if not report.reconstructions:
        return "<p>None of the clips looked at has pictures.</p>"
    told = "<p>Pictures of the first chunk that has any, and below them the same ones as redrawn from the encoder's state.</p>"
    return told + f'<div class="charts">{"".join(map(_strips, report.reconstructions))}</div>'


def _strips(shown: Reconstruction) -> str:
    caption = f"{shown.clip}, {shown.start_s:.3g} to {shown.end_s:.3g} s, MSE {shown.mse:.4f} (pixels in 0 to 1)"
    images = "".join(
        f'<img alt="{label}" src="{_data_uri(pictures)}">' for label, pictures in (("original", shown.original), ("redrawn", shown.redrawn))
    )
    return f"<figure><figcaption>{escape(caption)}</figcaption>{images}</figure>"


def _data_uri(pictures: NDArray[np.uint8]) -> str:
    """uint8 (K, H, W, 3) -> one PNG with the pictures side by side, a grey line after each."""
    content = io.BytesIO()
    lined = np.pad(pictures, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=128)
    Image.fromarray(np.concatenate(list(lined), axis=1)).save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
