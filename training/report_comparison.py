"""Sections of the report that set the model beside other predictors, and parts of the clips beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .evaluation_report import EvaluationReport
from .forest import ForestRow, dots, forest
from .metrics import REGRESSION_METRICS
from .report_html import METRIC_NAMES, chart_row, data_table, with_interval
from .studies import ABLATION, COMPARED, TRAIN_MEAN, PredictorFigures
from .subsets import FEWEST, SubsetFigures


def figures(report: EvaluationReport) -> str:
    """Every metric of every predictor in every space."""
    parts = [
        f"<p>Estimate, and below it the {report.level:.0%} interval. MSE and MAE: less is better; R² and correlations: more is. "
        "k, M and G are thousands, millions and thousands of millions.</p>"
    ]
    for space in (report.space, report.target):
        shown = [one for one in report.predictors if one.space == space]
        rows = [(one.predictor, *(with_interval(one.metrics[name]) for name in REGRESSION_METRICS)) for one in shown]
        unit = "standard deviations of the training split" if space == report.space else report.target
        caption = f"In {space}; MAE in {unit}, MSE in its square; {_clips(report)}"
        parts.append(data_table(("predictor", *(METRIC_NAMES[name] for name in REGRESSION_METRICS)), rows, caption))
    return "".join((*parts, _kinds(report)))


def compared(report: EvaluationReport) -> str:
    """The model less every other predictor, as a table and as forest plots."""
    others = [one for one in report.predictors if one.model_less]
    told = (
        "<p>The model's figure less that of each other predictor, on the same clips and the same resamples. MSE and MAE below 0, R² and "
        "Spearman above 0 speak for the model; a difference whose interval holds 0 is not established. Of comparisons where nothing "
        f"differs, about one in {round(1 / (1 - report.level))} will look established all the same.</p>"
    )
    plots = [
        forest(title, f"difference, {report.space}", _forest_rows(others, name, report.space), less_is_better=less)
        for name, title, less in (("mse", "MSE: the model less this", True), ("spearman", "Spearman: the model less this", False))
    ]
    tables = (_compared_table(report, others, space) for space in (report.space, report.target))
    return told + chart_row((), "".join(plots)) + "".join(tables) + _absent(report)


def _compared_table(report: EvaluationReport, others: Sequence[PredictorFigures], space: str) -> str:
    rows = [(one.predictor, *(with_interval(one.model_less[name]) for name in COMPARED)) for one in others if one.space == space]
    return data_table(("model less this", *(METRIC_NAMES[name] for name in COMPARED)), rows, f"In {space}; {_clips(report)}")


def _clips(report: EvaluationReport) -> str:
    return f"{len(report.clips)} clips ({report.part})"


def ablation(report: EvaluationReport) -> str:
    """Both modalities, and either alone, beside a predictor that looks at neither."""
    shown = [one for one in report.predictors if one.space == report.space and (one.kind in ABLATION or one.predictor == TRAIN_MEAN)]
    told = (
        f"<p>The same clips ({len(report.clips)}, {escape(report.part)}) seen by pictures and sound, by either alone, and by neither "
        f"({TRAIN_MEAN}). &ldquo;Alone&rdquo; masks the other modality of the model itself, which was trained to do without it now and "
        "then (modality dropout); &ldquo;trained on ... alone&rdquo; is a network of the same make that never had the other.</p>"
    )
    plots = (
        dots(METRIC_NAMES[name], f"{METRIC_NAMES[name]}, {report.space}", [ForestRow(one.predictor, one.metrics[name]) for one in shown])
        for name in ("mse", "spearman")
    )
    return told + chart_row((), "".join(plots)) + (_lengths(report) if report.lengths else "")


def _lengths(report: EvaluationReport) -> str:
    early_s = report.lengths[0].early_s
    told = (
        "<p>The same network trained with other ways to treat clips of unequal length. pad: it is shown every chunk so far, padded in a "
        "batch to the longest clip. pool: it is shown their mean alone. sequential: it is shown a window of the last chunks, the first of "
        "which stands for all before it, so clips that fit into the window are seen as with pad.</p>"
    )
    rows = [
        (one.predictor, one.strategy, f"{one.parameters:,}", with_interval(one.early), with_interval(one.whole)) for one in report.lengths
    ]
    heads = ("predictor", "length strategy", "parameters", f"MSE after {early_s:.3g} s", "MSE after whole clips")
    return told + data_table(heads, rows, f"MSE in {report.space}; {_clips(report)}")


def subsets(report: EvaluationReport) -> str:
    """The model on parts of the clips."""
    told = (
        f"<p>The same model, in {escape(report.space)} units, on parts of the {len(report.clips)} clips ({report.part}). Parts differ in "
        f"more than what names them. Fewer than {FEWEST} clips are not scored. nMSE is not given: each part has its own variance; R² is "
        "against the part's own mean.</p>"
    )
    heads = ("part", "of", "clips", "authors", *(METRIC_NAMES[name] for name in COMPARED), "MSE less the training mean's")
    return told + data_table(heads, [_subset_row(row) for row in report.subsets])


def _subset_row(row: SubsetFigures) -> tuple[str, ...]:
    scored = row.model_less_mean is not None
    cells = [with_interval(row.metrics[name]) for name in COMPARED] if scored else ["not scored", *["-"] * (len(COMPARED) - 1)]
    last = with_interval(row.model_less_mean) if row.model_less_mean is not None else "-"
    return row.name, row.by, str(row.clips), str(row.authors), *cells, last


def _forest_rows(others: Sequence[PredictorFigures], metric: str, space: str) -> list[ForestRow]:
    return [ForestRow(one.predictor, one.model_less[metric]) for one in others if one.space == space]


def _kinds(report: EvaluationReport) -> str:
    rows = [(one.predictor, one.kind) for one in report.predictors if one.space == report.space]
    return data_table(("predictor", "what it is"), rows, f"Trained on: {report.trained_on}", words=True)


def _absent(report: EvaluationReport) -> str:
    lines = "".join(f"<li>{escape(f'{one.predictor}: {one.why}')}</li>" for one in report.absent)
    return f"<p>Not compared:</p><ul>{lines}</ul>" if lines else ""
