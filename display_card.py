"""How a model's figures are shown: what it was trained on, and how it did on clips it had not seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .display import figure, flat, kind_of, pairs_table

if TYPE_CHECKING:
    from .training.bootstrap import ConfidenceInterval
    from .training.evaluation_report import EvaluationReport

_PREDICTORS = {
    "pictures and sound": "whole_clip",
    "pictures alone": "pictures_alone",
    "sound alone": "sound_alone",
    "the training mean": "train_mean_baseline",
}


def card_tables(card: Mapping[str, Any]) -> list[Table]:
    """What a model was trained on and how it did on clips it had not seen; a card that training did not write is shown as it is."""
    if "held_out" not in card:
        return [pairs_table("card", dict(flat(card)))]
    split, encoder, held_out = card["split"], card["autoencoder"], card["held_out"]
    last = encoder["history"][-1]["validation"]
    trained = {
        "source": card["source"],
        "clips": f"{split['train']} to train, {split['val']} to validate, {split['test']} held out ({card['hours']:.2f} h in all)",
        "split": split["kind"],
        "left out": f"{card['clips_left_out']} clips that could not be read",
        "autoencoder": f"{len(encoder['history'])} epochs; validation MSE in [0, 1] pixel units:",
        "  reconstruct": f"{last['reconstruct']:.4f}, where the mean frame gives {encoder['baselines']['mean_frame']:.4f}",
        "  predict": f"{last['predict']:.4f}, where a copy of the last frame gives {encoder['baselines']['copy_last']:.4f}",
        "regressor": f"best epoch {card['regressor']['best_epoch']} of {len(card['regressor']['history'])}",
    }
    figures = training_table(held_out, card.get("baselines", ()))
    folds = [folds_table(found)] if (found := card.get("cross_validation")) else []
    classes, coverage = class_table(card["classes"], held_out), coverage_table(held_out)
    return [pairs_table("trained on", trained), *folds, figures, _by_seconds(held_out), classes, coverage]


def class_table(trained: Mapping[str, Any], held_out: Mapping[str, Any]) -> Table:
    """The classes of the training split, and how often they were named right on held-out clips.

    Args:
        trained: `TargetClasses` as JSON.
        held_out: an `Evaluation` as JSON.
    """
    found = held_out["classes"]
    kind, count = kind_of(len(trained["sizes"])), len(trained["sizes"])
    fewer = "" if trained["asked_for"] == count else f"; {trained['asked_for']} were asked for, and ties allow {count}"
    kappa = "-" if found["quadratic_kappa"] is None else f"{found['quadratic_kappa']:.2f}"
    rows = {
        "classes of the training split": f"{_sizes(trained['sizes'])} clips{fewer}",
        "of these clips": f"{_sizes(found['class_sizes'])} clips",
        f"{kind} accuracy": f"{found['accuracy']:.0%}; always the most frequent one: {held_out['majority_class_accuracy']:.0%}",
        f"{kind} macro-F1": f"{found['macro_f1']:.2f}; quadratic weighted kappa {kappa}",
        **{f"  true {index}, predicted 1 to {count}": _sizes(row) for index, row in enumerate(found["confusion"], start=1)},
    }
    return pairs_table("held out, classes", rows)


def coverage_table(held_out: Mapping[str, Any]) -> Table:
    """How often the interval held after so many chunks, between the predicted quantiles and with the conformal margin."""
    table = Table(title=f"held out, coverage of the {held_out['interval']['nominal']:.0%} interval", show_edge=False)
    for column in ("chunks seen", "clips", "margin", "quantiles alone", "with the margin"):
        table.add_column(column, justify="right")
    for row in held_out["coverage"]:
        shares = (f"{row[kind]['coverage']:.0%}" for kind in ("predicted", "conformal"))
        table.add_row(str(row["chunks"] or "all"), str(row["conformal"]["clips"]), f"{row['margin_z']:+.2f}", *shares)
    if not held_out["coverage"]:
        table.add_row("all", str(held_out["interval"]["clips"]), "-", f"{held_out['interval']['coverage']:.0%}", "-")
    return table


def _by_seconds(held_out: Mapping[str, Any]) -> Table:
    table = Table(title="held out, by seconds seen", show_edge=False)
    for column in ("seen", "clips that run longer", "MSE", "Spearman"):
        table.add_column(column, justify="right")
    for row in held_out["by_seconds"]:
        metrics = row["metrics"]
        spearman = "-" if metrics["spearman"] is None else f"{metrics['spearman']:.3f}"
        table.add_row(f"{row['seconds']:g} s", str(row["clips_still_running"]), f"{metrics['mse']:.3f}", spearman)
    return table


def training_table(held_out: Mapping[str, Any], baselines: Iterable[Mapping[str, Any]] = (), *, title: str = "") -> Table:
    """Figures of a split, beside the train-mean baseline and others, in every space they were measured in.

    Args:
        held_out: an `Evaluation` as JSON, also found in a bundle's card.
        baselines: `BaselineFigures` of the same clips as JSON, also found there.
        title: what the clips are, where they are not the held-out ones.
    """
    table = Table(title=title or f"on {held_out['clips']} held-out clips")
    for column in ("predictor", "space", "MSE", "MAE", "R2", "Spearman"):
        table.add_column(column, justify="left" if column in ("predictor", "space") else "right")
    rows = {label: held_out[key] for label, key in _PREDICTORS.items()}
    rows |= {one["predictor"]: one["metrics"] for one in baselines if one["predictor"] not in rows}
    for label, spaces in rows.items():
        for metrics in spaces:
            numbers = (metrics[name] for name in ("mse", "mae", "r2", "spearman"))
            table.add_row(label, metrics["space"], *("-" if number is None else f"{number:.3g}" for number in numbers))
    return table


def evaluation_table(report: EvaluationReport) -> Table:
    """An evaluation's figures in standardised units, with intervals, and whether the model beats each of the others in MSE."""
    table = Table(title=f"{report.part}: {len(report.clips)} clips, {report.space}, {report.level:.0%} intervals by author")
    for column in ("predictor", "MSE", "MAE", "R2", "Spearman", "MSE of the model less this"):
        table.add_column(column, justify="left" if column == "predictor" else "right")
    for figures in report.predictors:
        if figures.space == report.space:
            cells = [_with_interval(figures.metrics[name]) for name in ("mse", "mae", "r2", "spearman")]
            table.add_row(figures.predictor, *cells, _with_interval(figures.model_less["mse"]) if figures.model_less else "")
    return table


def _with_interval(found: ConfidenceInterval) -> str:
    if found.estimate is None or found.low is None or found.high is None:
        return figure(found.estimate, ".3g")
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def folds_table(found: Mapping[str, Any]) -> Table:
    """Pooled out-of-fold figures with their intervals, and the whole model's spread over the folds.

    Args:
        found: a `CrossValidation` as JSON, also found in a bundle's card.
    """
    metrics = {"mse": "MSE", "mae": "MAE", "nmse": "nMSE", "spearman": "Spearman"}
    folds = len(found["folds"])
    table = Table(title=f"{found['clips']} clips, each predicted by models that did not see it: {folds} folds, {found['kind']}")
    for column in ("predictor", "space", *metrics.values()):
        table.add_column(column, justify="left" if column in ("predictor", "space") else "right")
    for row in found["predictors"]:
        table.add_row(row["predictor"], row["space"], *(_interval(row["metrics"][name]) for name in metrics))
    spread = {(row["space"], row["metric"]): row for row in found["spread"]}
    for space in dict.fromkeys(row["space"] for row in found["spread"]):
        rows = (spread.get((space, name)) for name in metrics)
        table.add_row("each fold, mean ± deviation", space, *(f"{row['mean']:.3g} ± {row['std']:.2g}" if row else "-" for row in rows))
    return table


def _interval(figure: Mapping[str, Any]) -> str:
    if figure["estimate"] is None:
        return "-"
    within = "" if figure["low"] is None else f" [{figure['low']:.3g}, {figure['high']:.3g}]"
    return f"{figure['estimate']:.3g}{within}"


def _sizes(counts: Iterable[int]) -> str:
    return ", ".join(f"{count:,}" for count in counts)
