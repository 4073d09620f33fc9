"""Section of the report on outliers: the error that is left without them, each loss with and without them, influence curves."""

from __future__ import annotations

from collections.abc import Sequence

from .evaluation_report import EvaluationReport
from .outlier_errors import LossesWithoutTop, OutlierErrors, OutlierFigures
from .outliers import InfluenceCurve
from .plots import Chart, Series
from .report_html import METRIC_NAMES, chart_row, data_table, details, figure_with_note, short_number
from .studies import MODEL, TRAIN_MEAN

_COLOURS = (0, 1, 2, 3, 5, 6, 7)
"""Of the losses; 4 is that of reference lines."""
_TALLEST = 3.0
"""Influence curves are cut off here: that of the squared error goes on and would flatten the others."""


def outliers(report: EvaluationReport) -> str:
    """Every figure on outliers."""
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
            *(short_number(value) for value in (row.mse, row.mae, row.train_mean_mse, row.train_mean_mae)),
        )
        for row in report.outliers
    ]
    told = "<p>Left out are the clips whose truth is farthest from the training mean, in each space; the predictions stay as they are.</p>"
    return told + chart_row((chart,), data_table(heads, rows)) + (_losses(report.outlier_errors) if report.outlier_errors else "")


def _share(name: str, space: str, rows: Sequence[OutlierFigures], colour: int) -> Series:
    errors = [getattr(row, name) for row in rows]
    shares = [error / errors[0] if errors[0] > 0 else None for error in errors]
    return Series(f"{METRIC_NAMES[name]}, {space}", [row.percent for row in rows], shares, colour=colour)


def _losses(study: OutlierErrors) -> str:
    told = (
        "<p>Each loss of each predictor over all clips, and below it without the clips farthest out; small, the share of the loss "
        "over all clips that those few carry. The losses are those that training can be told to use, each with its own parameter.</p>"
    )
    names = list(dict.fromkeys(row.predictor for row in study.rows))
    shown = [name for name in (MODEL, TRAIN_MEAN) if name in names]
    main = _loss_tables([row for row in study.rows if row.predictor in shown])
    rest = _loss_tables([row for row in study.rows if row.predictor not in shown])
    return told + _influence(study.curves) + main + (details("Every other predictor", rest) if rest else "")


def _loss_tables(rows: Sequence[LossesWithoutTop]) -> str:
    spaces = dict.fromkeys((row.space, row.unit) for row in rows)
    return "".join(_loss_table([row for row in rows if row.space == space], f"{space}; errors in {unit}") for space, unit in spaces)


def _loss_table(rows: Sequence[LossesWithoutTop], caption: str) -> str:
    heads = ("predictor", "left out", "clips", *(figure.loss for figure in rows[0].losses))
    cells = []
    for predictor in dict.fromkeys(row.predictor for row in rows):
        own = [row for row in rows if row.predictor == predictor]
        cells.append((predictor, "none", "0", *(f"{figure.whole:.3g}" for figure in own[0].losses)))
        for row in own:
            each = (figure_with_note(f"{figure.without_top:.3g}", f"{figure.top_share:.0%}") for figure in row.losses)
            cells.append(("", f"top {row.percent:g} %", str(row.left_out), *each))
    return data_table(heads, cells, caption)


def _influence(curves: Sequence[InfluenceCurve]) -> str:
    charts = (
        Chart("Influence of an error on the fit", "error (standard deviations)", "slope of the loss", _curves(curves, "influence")),
        Chart("Value of the loss", "error (standard deviations)", "loss", _curves(curves, "value"), from_zero=True),
    )
    return chart_row(charts)


def _curves(curves: Sequence[InfluenceCurve], of: str) -> tuple[Series, ...]:
    return tuple(
        Series(curve.loss, curve.error, [value if abs(value) <= _TALLEST else None for value in getattr(curve, of)], colour=colour)
        for curve, colour in zip(curves, _COLOURS, strict=True)
    )
