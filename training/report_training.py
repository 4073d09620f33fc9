"""Sections of the report on training: the loss over epochs, and what the autoencoder redraws."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .evaluation_report import EvaluationReport
from .plots import Chart, Series
from .reconstruction import Reconstruction
from .report_html import REFERENCE, chart_row


def training(card: Mapping[str, Any]) -> str:
    """Loss curves from the model's card, which is free JSON: what is not there is not drawn."""
    charts = [*_autoencoder_charts(card.get("autoencoder", {})), *_regressor_charts(card.get("regressor", {}))]
    return chart_row(charts) if charts else "<p>The model's card has no loss curve.</p>"


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
