"""An evaluation report on disk: `report.json` with every number, and `index.html`, one page that needs no network and no script."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import __version__
from ..errors import DataError
from .bootstrap import ConfidenceInterval
from .evaluate import EvaluationReport, Reconstruction
from .evaluation import COMPARED, MODEL, TRAIN_MEAN, OutlierFigures
from .metrics import REGRESSION_METRICS
from .plots import Chart, Series, figure

JSON_FILE = "report.json"
PAGE_FILE = "index.html"
_MOST_ROWS = 500
"""Clips listed on the page; the JSON has all."""
_NAMES = {"mse": "MSE", "mae": "MAE", "nmse": "nMSE", "r2": "R²", "spearman": "Spearman", "pearson": "Pearson", "kendall": "Kendall τ-b"}
_REFERENCE = 4
"""Colour of reference lines."""


def write_report(report: EvaluationReport, folder: Path, *, force: bool = False) -> Path:
    """Writes a report beside its target and renames it whole.

    Args:
        report: what `evaluate_checkpoint` found.
        folder: the directory to make.
        force: replace a report that is there; anything else is never replaced.

    Returns:
        The page.

    Raises:
        DataError: the folder exists and is not to be replaced, or cannot be written.
    """
    if folder.exists() and not (force and (folder / JSON_FILE).is_file()):
        raise DataError(f"{folder} exists; {'it holds no report, so choose another name' if force else 'give --force to replace it'}")
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.absolute().parent) as aside:
            whole = Path(aside, "report")
            whole.mkdir()
            (whole / JSON_FILE).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
            (whole / PAGE_FILE).write_text(page(report), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(aside, "old"))
            whole.rename(folder)
    except OSError as error:
        raise DataError(f"report {folder} cannot be written: {error}") from error
    return folder / PAGE_FILE


def page(report: EvaluationReport) -> str:
    """The whole report as one HTML page: style, charts and pictures are inside."""
    sections = (
        ("about", "What was measured", _about(report)),
        ("figures", "Figures of the whole clip", _figures(report)),
        ("seconds", "Error against seconds seen", _seconds(report)),
        ("predictions", "Predicted and true", _predictions(report)),
        ("calibration", "Calibration of the quantiles", _calibration(report)),
        ("quartiles", "Quartiles", _quartiles(report)),
        ("outliers", "What outliers do to the error", _outliers(report)),
        ("training", "Loss over epochs", _training(report.card)),
        ("pictures", "What the autoencoder redraws", _pictures(report)),
        ("method", "How it was measured", _method(report)),
    )
    contents = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "".join(f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>' for name, title, content in sections)
    title = f"{report.checkpoint}: {report.target} of {len(report.clips)} clips"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><header>'
        f"<h1>{escape(title)}</h1><nav>{contents}</nav></header><main>{body}</main></body></html>\n"
    )


def _about(report: EvaluationReport) -> str:
    overlap = report.overlap
    if overlap.learned_from is None:
        shared = overlap.known_from
    else:
        shared = (
            f"{overlap.learned_from} of these clips were trained on, {overlap.chosen_by} chose the epoch (known from: {overlap.known_from})"
        )
    rows = {
        "Clips": f"{len(report.clips)} ({report.part}), by {report.authors} authors; {len(report.failed)} could not be read",
        "Split of these clips": report.split,
        "Target": f"{report.target}; errors are given in {report.target} and in {report.space} units",
        "Model": f"{report.checkpoint}, SHA-256 {report.checkpoint_sha256}",
        "Trained on": report.trained_on,
        "Split at training": report.trained_split,
        "Seen in training": shared,
        "Manifest": f"{report.manifest}, SHA-256 {report.manifest_sha256}",
        "Made by": f"shortcast {__version__}",
    }
    warned = '<p class="warn">Some of these clips were trained on: the figures are too good.</p>' if overlap.learned_from else ""
    failed = _details("Clips that could not be read", _table(("clip", "why"), [(clip.id, clip.reason) for clip in report.failed]))
    return warned + _pairs(rows) + (failed if report.failed else "")


def _figures(report: EvaluationReport) -> str:
    parts = [
        f"<p>Estimate, and below it the {report.level:.0%} interval. MSE and MAE: less is better; R² and correlations: more is. "
        "k, M and G are thousands, millions and thousands of millions.</p>"
    ]
    for space in (report.space, report.target):
        rows = [
            (figures.predictor, *(_estimate(figures.metrics[name]) for name in REGRESSION_METRICS))
            for figures in report.predictors
            if figures.space == space
        ]
        unit = "standard deviations of the training split" if space == report.space else report.target
        caption = f"In {space}; MAE in {unit}, MSE in its square"
        parts.append(_table(("predictor", *(_NAMES[name] for name in REGRESSION_METRICS)), rows, caption))
    compared = [
        (figures.predictor, figures.space, *(_estimate(figures.less_model[name]) for name in COMPARED))
        for figures in report.predictors
        if figures.less_model
    ]
    caption = "Less pictures and sound, paired: a difference whose interval holds 0 is not established"
    parts.append(_table(("predictor", "space", *(f"{_NAMES[name]} difference" for name in COMPARED)), compared, caption))
    return "".join(parts)


def _seconds(report: EvaluationReport) -> str:
    rows = report.by_seconds
    seconds = [row.seconds for row in rows]
    baseline = next(one for one in report.predictors if (one.predictor, one.space) == (TRAIN_MEAN, report.space)).metrics["mse"].estimate
    reference = Series(TRAIN_MEAN, [seconds[0], seconds[-1]], [baseline, baseline], "dashed", colour=_REFERENCE)
    charts = (
        Chart(
            "Error",
            "seconds seen (s)",
            f"MSE, {report.space}",
            (_banded("MSE", seconds, [row.mse for row in rows], 0), reference),
            from_zero=True,
        ),
        Chart("Rank correlation", "seconds seen (s)", "Spearman", (_banded("Spearman", seconds, [row.spearman for row in rows], 1),)),
    )
    cells = [
        (f"{row.seconds:.3g}", str(row.clips_still_running), _estimate(row.mse), _estimate(row.mae), _estimate(row.spearman))
        for row in rows
    ]
    note = "<p>A clip that is over gives its last score, so late rows are mostly those of whole clips.</p>"
    caption = f"In {report.space} units"
    return note + _charts(charts) + _table(("seconds seen (s)", "clips that run longer", "MSE", "MAE", "Spearman"), cells, caption)


def _predictions(report: EvaluationReport) -> str:
    truth, predicted = [clip.truth_z for clip in report.clips], [clip.predicted_z for clip in report.clips]
    ends = [min(truth + predicted), max(truth + predicted)]
    span = [min(predicted), max(predicted)]
    residuals = [was - said for was, said in zip(truth, predicted, strict=True)]
    said_label, true_label = f"predicted, {report.space}", f"true, {report.space}"
    charts = (
        Chart(
            "Predicted against true",
            said_label,
            true_label,
            (Series("equal", ends, ends, "dashed", colour=_REFERENCE), Series("a clip", predicted, truth, "points")),
            square=True,
        ),
        Chart(
            "Residuals",
            said_label,
            f"true − predicted, {report.space}",  # noqa: RUF001
            (Series("no error", span, [0.0, 0.0], "dashed", colour=_REFERENCE), Series("a clip", predicted, residuals, "points", colour=1)),
        ),
    )
    shown = sorted(report.clips, key=lambda clip: -abs(clip.truth_z - clip.predicted_z))[:_MOST_ROWS]
    rows = [
        (
            clip.id,
            f"{clip.duration_s:.1f}",
            _number(clip.truth),
            _number(clip.predicted),
            f"{_number(clip.low)} to {_number(clip.high)}",
            f"{clip.predicted_z - clip.truth_z:+.2f}",
            f"Q{clip.quartile + 1}",
            f"Q{clip.predicted_quartile + 1}",
        )
        for clip in shown
    ]
    nominal = f"{report.figures.interval.nominal:.0%} interval"
    heads = ("clip", "length (s)", "true", "predicted", nominal, f"error ({report.space})", "quartile", "predicted")
    listed = _details(f"Clips, worst first ({len(shown)} of {len(report.clips)})", _table(heads, rows, f"In {report.target}, unless said"))
    return _charts(charts) + listed


def _calibration(report: EvaluationReport) -> str:
    nominal = [row.nominal for row in report.calibration]
    measured = [row.measured for row in report.calibration]
    series = (
        Series("as it should be", [0.0, 1.0], [0.0, 1.0], "dashed", colour=_REFERENCE),
        _banded("measured, with interval", nominal, measured, 0, kind="points"),
    )
    chart = Chart("Quantile levels", "nominal level", "share of clips at or below", series, square=True)
    rows = [(f"{row.nominal:.0%}", _estimate(row.measured, percent=True)) for row in report.calibration]
    interval = report.figures.interval
    told = (
        f"<p>The interval from the lowest to the highest quantile holds {interval.coverage:.1%} of the clips; {interval.nominal:.0%} is "
        f"nominal. Its mean width is {interval.mean_width:.2f} ({escape(interval.space)}).</p>"
    )
    return told + _charts((chart,), _table(("nominal level", "clips at or below the predicted quantile"), rows))


def _quartiles(report: EvaluationReport) -> str:
    found = report.figures.classes
    kappa = "-" if found.quadratic_kappa is None else f"{found.quadratic_kappa:.2f}"
    told = (
        f"<p>Right for {found.accuracy:.1%}; always naming the most frequent quartile: {report.figures.majority_class_accuracy:.1%}. "
        f"Macro F1 {found.macro_f1:.2f}, quadratic weighted kappa {kappa} (0 is chance, 1 is perfect). Quartiles are those of the "
        "training split, so these clips need not be spread evenly over them.</p>"
    )
    most = max(max(row) for row in found.confusion)
    rows = "".join(
        f'<tr><th scope="row">true Q{index}</th>{"".join(_shaded(count, most) for count in row)}<td>{sum(row)}</td></tr>'
        for index, row in enumerate(found.confusion, start=1)
    )
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("", *(f"predicted Q{index}" for index in range(1, len(found.confusion) + 1)), "all")
    )
    return f'{told}<div class="wide"><table class="confusion"><caption>Clips</caption><tr>{heads}</tr>{rows}</table></div>'


def _shaded(count: int, most: int) -> str:
    return f'<td style="background:color-mix(in srgb, var(--c0) {55 * count / max(most, 1):.0f}%, transparent)">{count}</td>'


def _outliers(report: EvaluationReport) -> str:
    spaces = {space: [row for row in report.outliers if row.space == space] for space in (report.space, report.target)}
    series = tuple(
        _share(name, space, rows, 2 * place + column)
        for place, (space, rows) in enumerate(spaces.items())
        for column, name in enumerate(("mse", "mae"))
    )
    chart = Chart("Error that is left", "clips left out (%)", "share of the error over all clips", series, from_zero=True)
    heads = ("space", "left out", "clips", "MSE", "MAE", f"MSE of {TRAIN_MEAN}", f"MAE of {TRAIN_MEAN}")
    rows = [
        (
            row.space,
            f"{row.percent:g} %",
            str(row.left_out),
            *(_number(value) for value in (row.mse, row.mae, row.train_mean_mse, row.train_mean_mae)),
        )
        for row in report.outliers
    ]
    told = "<p>Left out are the clips whose truth is farthest from the training mean, in each space; the predictions stay as they are.</p>"
    return told + _charts((chart,), _table(heads, rows))


def _share(name: str, space: str, rows: Sequence[OutlierFigures], colour: int) -> Series:
    errors = [getattr(row, name) for row in rows]
    shares = [error / errors[0] if errors[0] > 0 else None for error in errors]
    return Series(f"{_NAMES[name]}, {space}", [row.percent for row in rows], shares, colour=colour)


def _training(card: Mapping[str, Any]) -> str:
    """Loss curves from the model's card, which is free JSON: what is not there is not drawn."""
    charts = [*_autoencoder_charts(card.get("autoencoder", {})), *_regressor_charts(card.get("regressor", {}))]
    return _charts(charts) if charts else "<p>The model's card has no loss curve.</p>"


def _autoencoder_charts(told: Mapping[str, Any]) -> Iterator[Chart]:
    history, baselines = told.get("history", ()), told.get("baselines", {})
    epochs = [line["epoch"] for line in history]
    pairs = (("reconstruct", "mean_frame", "the training clips' mean frame"), ("predict", "copy_last", "a copy of the last frame"))
    for name, key, baseline in pairs if history else ():
        series = [
            Series(part, epochs, [line[part][name] for line in history], colour=place) for place, part in enumerate(("train", "validation"))
        ]
        if key in baselines:
            series.append(Series(baseline, [epochs[0], epochs[-1]], [baselines[key]] * 2, "dashed", colour=_REFERENCE))
        title = "Autoencoder: this chunk" if name == "reconstruct" else "Autoencoder: the next chunk"
        yield Chart(title, "epoch", "MSE, pixels in 0 to 1", tuple(series), from_zero=True)


def _regressor_charts(told: Mapping[str, Any]) -> Iterator[Chart]:
    history = told.get("history", ())
    epochs = [line["epoch"] for line in history]
    if history:
        names = (("train_loss", "train, with dropout"), ("validation_loss", "validation"))
        series = tuple(Series(label, epochs, [line[name] for line in history], colour=place) for place, (name, label) in enumerate(names))
        yield Chart("Dual Transformer", "epoch", "objective, standardised units", series, from_zero=True)


def _pictures(report: EvaluationReport) -> str:
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


def _method(report: EvaluationReport) -> str:
    told = (
        f"Every figure is of all {len(report.clips)} clips at once, never a mean over batches, and in the space it names.",
        f"Intervals are {report.level:.0%} percentile bootstrap intervals of {report.resamples} resamples with seed {report.seed}. Authors "
        f"are drawn whole ({report.authors} here; a clip whose author is not known counts as one), for clips of one author are alike. "
        "They say how much other clips would move a figure, not how much another training run would.",
        "nMSE is the MSE over the variance of the truth of these clips: 1 is what their own mean would get.",
        f"{MODEL.capitalize()} is the model as it is; the other two mask one modality of the same model; {TRAIN_MEAN} is 0 in standardised "
        "units.",
        f"All numbers are in {JSON_FILE} beside this page.",
    )
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in told)}</ul>"


def _banded(
    label: str, x: Sequence[float], found: Sequence[ConfidenceInterval], colour: int, kind: Literal["line", "points"] = "line"
) -> Series:
    y, low, high = ([getattr(one, name) for one in found] for name in ("estimate", "low", "high"))
    return Series(label, x, y, kind, low=low, high=high, colour=colour)


def _charts(charts: Iterable[Chart], beside: str = "") -> str:
    return f'<div class="charts">{"".join(map(figure, charts))}{beside}</div>'


class _Cell(str):
    """HTML that is safe as it is."""


def _estimate(found: ConfidenceInterval, *, percent: bool = False) -> _Cell:
    if found.estimate is None:
        return _Cell("-")
    form = "{:.1%}".format if percent else _number
    around = "" if found.low is None or found.high is None else f"<small>{form(found.low)} to {form(found.high)}</small>"
    return _Cell(f"{form(found.estimate)}{around}")


def _number(value: float) -> str:
    """Three digits for what is small; thousands and above with k, M and so on."""
    for limit, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit if unit != ' k' else value / 1e3:.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value + 0.0:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{named}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _safe(cell: str) -> str:
    return cell if isinstance(cell, _Cell) else escape(cell)


def _pairs(rows: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in rows.items())}</dl>"


def _details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --faint: #687078; --rule: #d8dce0; --soft: #f4f6f8;
  --c0: #2563b8; --c1: #c2570c; --c2: #0f7b5f; --c3: #8b3fa8; --c4: #7a828a; --warn: #a33; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191c; --ink: #e4e7ea; --faint: #98a0a8; --rule: #363c42; --soft: #1f2428;
  --c0: #6ea8f0; --c1: #f0975a; --c2: #4cc3a0; --c3: #c98be0; --c4: #8a939b; --warn: #f88; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
a { color: var(--c0); }
p, li { max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0; font-size: .95rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.warn { color: var(--warn); font-weight: 600; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; vertical-align: bottom; }
td small { display: block; color: var(--faint); white-space: nowrap; }
.confusion td, .confusion th { padding: .5rem .9rem; text-align: center; }
.charts { display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; align-items: flex-start; }
figure { margin: 0; width: 30rem; max-width: 100%; }
figcaption { font-weight: 600; font-size: .92rem; margin-bottom: .2rem; }
figure img { display: block; width: 100%; height: auto; margin-bottom: 3px; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--faint); } svg .name { fill: var(--ink); }
.frame { fill: none; stroke: var(--faint); } .grid { stroke: var(--rule); stroke-width: .6; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
polyline { fill: none; stroke: var(--c); stroke-width: 2; } polyline.dashed { stroke-dasharray: 5 4; stroke-width: 1.4; }
polygon.band { fill: var(--c); opacity: .16; } circle { fill: var(--c); fill-opacity: .65; }
.whisker { stroke: var(--c); stroke-width: 1.4; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .82rem; color: var(--faint); padding-left: 3.6rem; }
.key::before { content: ""; display: inline-block; width: 1.3em; margin-right: .4em; vertical-align: .25em;
  border-top: 2px solid var(--c); }
.key.dashed::before { border-top-style: dashed; }
.key.points::before { width: .55em; height: .55em; border: 0; border-radius: 50%; background: var(--c); vertical-align: 0; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--c0); }
"""
