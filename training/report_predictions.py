"""Sections of the report on single predictions: against seconds seen, against the truth, their quantiles and classes."""

from __future__ import annotations

from html import escape

from ..runtime.target import QUARTILES
from .evaluation_report import EvaluationReport
from .plots import Chart, Series
from .report_html import REFERENCE, banded, chart_row, data_table, details, short_number, with_interval
from .studies import TRAIN_MEAN

_MOST_ROWS = 500
"""Clips listed on the page; the JSON has all."""


def seconds(report: EvaluationReport) -> str:
    rows = report.by_seconds
    seconds = [row.seconds for row in rows]
    baseline = next(one for one in report.predictors if (one.predictor, one.space) == (TRAIN_MEAN, report.space)).metrics["mse"].estimate
    reference = Series(TRAIN_MEAN, [seconds[0], seconds[-1]], [baseline, baseline], "dashed", colour=REFERENCE)
    charts = (
        Chart(
            "Error",
            "seconds seen (s)",
            f"MSE, {report.space}",
            (banded("MSE", seconds, [row.mse for row in rows], 0), reference),
            from_zero=True,
        ),
        Chart("Rank correlation", "seconds seen (s)", "Spearman", (banded("Spearman", seconds, [row.spearman for row in rows], 1),)),
    )
    cells = [
        (f"{row.seconds:.3g}", str(row.clips_still_running), with_interval(row.mse), with_interval(row.mae), with_interval(row.spearman))
        for row in rows
    ]
    note = "<p>A clip that is over gives its last score, so late rows are mostly those of whole clips.</p>"
    caption = f"In {report.space} units"
    return note + chart_row(charts) + data_table(("seconds seen (s)", "clips that run longer", "MSE", "MAE", "Spearman"), cells, caption)


def predictions(report: EvaluationReport) -> str:
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
            (Series("equal", ends, ends, "dashed", colour=REFERENCE), Series("a clip", predicted, truth, "points")),
            square=True,
        ),
        Chart(
            "Residuals",
            said_label,
            f"true − predicted, {report.space}",  # noqa: RUF001
            (Series("no error", span, [0.0, 0.0], "dashed", colour=REFERENCE), Series("a clip", predicted, residuals, "points", colour=1)),
        ),
    )
    shown = sorted(report.clips, key=lambda clip: -abs(clip.truth_z - clip.predicted_z))[:_MOST_ROWS]
    rows = [
        (
            clip.id,
            f"{clip.duration_s:.1f}",
            short_number(clip.truth),
            short_number(clip.predicted),
            f"{short_number(clip.low)} to {short_number(clip.high)}",
            f"{clip.predicted_z - clip.truth_z:+.2f}",
            _class_name(clip.true_class, report),
            _class_name(clip.predicted_class, report),
        )
        for clip in shown
    ]
    nominal = f"{report.figures.interval.nominal:.0%} interval"
    heads = ("clip", "length (s)", "true", "predicted", nominal, f"error ({report.space})", "class", "predicted")
    listed = details(
        f"Clips, worst first ({len(shown)} of {len(report.clips)})", data_table(heads, rows, f"In {report.target}, unless said")
    )
    return chart_row(charts) + listed


def calibration(report: EvaluationReport) -> str:
    nominal = [row.nominal for row in report.calibration]
    measured = [row.measured for row in report.calibration]
    series = (
        Series("as it should be", [0.0, 1.0], [0.0, 1.0], "dashed", colour=REFERENCE),
        banded("measured, with interval", nominal, measured, 0, kind="points"),
    )
    chart = Chart("Quantile levels", "nominal level", "share of clips at or below", series, square=True)
    rows = [(f"{row.nominal:.0%}", with_interval(row.measured, percent=True)) for row in report.calibration]
    told = (
        f"<p>After the whole clip, on {len(report.clips)} clips ({escape(report.part)}). Where the share at or below each level is as it "
        "should be, the quantiles are calibrated over all clips together; that says nothing of any one part of them.</p>"
    )
    return told + chart_row((chart,), data_table(("nominal level", "clips at or below the predicted quantile"), rows)) + _coverage(report)


def _coverage(report: EvaluationReport) -> str:
    kinds = list(dict.fromkeys(row.intervals for row in report.coverage))
    first, last = report.coverage[0], max(row.seconds for row in report.coverage)
    series = [Series(f"nominal, {first.nominal:.0%}", [first.seconds, last], [first.nominal] * 2, "dashed", colour=REFERENCE)]
    for colour, kind in enumerate(kinds):
        own = [row for row in report.coverage if row.intervals == kind]
        series.append(banded(kind, [row.seconds for row in own], [row.measured for row in own], colour))
    chart = Chart("Coverage against seconds seen", "seconds seen (s)", "share of clips inside the interval", tuple(series))
    heads = ("seconds seen (s)", "intervals", "clips that run longer", "coverage", f"mean width ({report.space})")
    rows = [
        (
            f"{row.seconds:.3g}",
            row.intervals,
            str(row.clips_still_running),
            with_interval(row.measured, percent=True),
            short_number(row.mean_width),
        )
        for row in report.coverage
    ]
    return chart_row((chart,), data_table(heads, rows, f"From the lowest to the highest quantile; {first.nominal:.0%} is nominal"))


def classes(report: EvaluationReport) -> str:
    """The classes that were named, against the true ones."""
    found = report.figures.classes
    kappa = "-" if found.quadratic_kappa is None else f"{found.quadratic_kappa:.2f}"
    told = (
        f"<p>Right for {found.accuracy:.1%}; always naming the most frequent class: {report.figures.majority_class_accuracy:.1%}. "
        f"Macro F1 {found.macro_f1:.2f}, quadratic weighted kappa {kappa} (0 is chance, 1 is perfect). Classes are those of the "
        "training split, lowest first, so these clips need not be spread evenly over them.</p>"
    )
    most = max(max(row) for row in found.confusion)
    names = [_class_name(index, report) for index in range(len(found.confusion))]
    rows = "".join(
        f'<tr><th scope="row">true {name}</th>{"".join(_shaded(count, most) for count in row)}<td>{sum(row)}</td></tr>'
        for name, row in zip(names, found.confusion, strict=True)
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("", *(f"predicted {name}" for name in names), "all"))
    return f'{told}<div class="wide"><table class="confusion"><caption>Clips</caption><tr>{heads}</tr>{rows}</table></div>'


def _class_name(index: int, report: EvaluationReport) -> str:
    """Q1 to Q4 where there are four, which are quartiles; else 1 to K."""
    return f"{'Q' if len(report.figures.classes.confusion) == QUARTILES else ''}{index + 1}"


def _shaded(count: int, most: int) -> str:
    return f'<td style="background:color-mix(in srgb, var(--c0) {55 * count / max(most, 1):.0f}%, transparent)">{count}</td>'
