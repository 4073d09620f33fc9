"""How values are shown on a terminal: tables on stdout, progress and messages on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .display_proof import proof_tables, summary_table
from .runtime.bundle import CLIPS, Bundle
from .runtime.doctor import Finding
from .runtime.engines import TensorSpec
from .runtime.intervals import ConformalIntervals
from .runtime.score import Score
from .runtime.target import QUARTILES

if TYPE_CHECKING:
    from .training.audit import AuditReport
    from .training.bootstrap import ConfidenceInterval
    from .training.duplicate_report import DuplicateReport
    from .training.evaluation_report import EvaluationReport

_BLOCKS = "▁▂▃▄▅▆▇█"
_PREDICTORS = {
    "pictures and sound": "whole_clip",
    "pictures alone": "pictures_alone",
    "sound alone": "sound_alone",
    "the training mean": "train_mean_baseline",
}


_SEVERITY_STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}


class Step(Protocol):
    """What training reports as it goes on."""

    @property
    def stage(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def note(self) -> str: ...


def human(value: float) -> str:
    """1234567 -> `1.23 M`; three significant digits."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def bars(probabilities: Iterable[float]) -> str:
    """One block for each probability, its height the probability."""
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(p * len(_BLOCKS)))] for p in probabilities)


class ScoreTable:
    """Scores as rows of fixed width, each printed the moment it is known."""

    _HEAD = "{:>11}  {:>9}  {:>21}  {:<12}  {:>7}  {:>6} {:>6} {:>6} {:>6}"

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clip: str | None = None

    def show(self, score: Score) -> None:
        """Prints one row, after a heading where a new clip begins."""
        if score.clip != self._clip:
            self._heading(score)
        low, high = score.interval
        latency = score.latency
        row = self._HEAD.format(
            f"0-{score.end_s:.1f} s",
            human(score.value),
            f"{human(low)} .. {human(high)}",
            f"{bars(score.class_probabilities)} {_class_name(score)} {max(score.class_probabilities):.0%}",
            "".join(name for name, present in (("V", score.has_pictures), ("A", score.has_sound)) if present) or "-",
            *(f"{ms:.0f}" for ms in (latency.decode_ms, latency.sound_ms, latency.visual_ms, latency.fusion_ms)),
        )
        self._console.print(row, style="bold" if score.final else None, highlight=False, soft_wrap=True)
        if score.final:
            for note in score.notes:
                self._console.print(f"  note: {note}", style="yellow", highlight=False, soft_wrap=True)

    def _heading(self, score: Score) -> None:
        self._clip = score.clip
        interval, kind = f"{score.interval_coverage:.0%} interval", _kind_of(len(score.class_probabilities))
        head = self._HEAD.format("seen", score.target, interval, kind, "streams", "decode", "sound", "visual", "fusion")
        self._console.print(f"\n{score.clip}", style="bold cyan", highlight=False, markup=False, soft_wrap=True)
        self._console.print(f"{head} ms", style="dim", highlight=False, soft_wrap=True)


class StageBars:
    """A progress bar on stderr for each stage of long work, with what the stage last had to say."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Moves the bar of a stage, which appears when it is first named."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, note="")
        self._progress.update(self._tasks[stage], completed=done, total=total, note=note)

    def show(self, event: Step) -> None:
        """Moves a bar by what training reports."""
        self.advance(event.stage, event.done, event.total, event.note)

    def __enter__(self) -> StageBars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()


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
        return _figure(found.estimate, ".3g")
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


def bundle_tables(bundle: Bundle) -> list[Table]:
    """What is in a bundle, what it predicts and what it was trained on."""
    manifest = bundle.manifest
    target = manifest.target
    about = _pairs(
        f"bundle {manifest.name}",
        {
            "id": manifest.id[:16] + "…",
            "predicts": f"{target.name} ({target.transform}, mean {target.mean:.3f}, std {target.std:.3f})",
            f"{_kind_of(target.classes)} edges": ", ".join(human(edge) for edge in target.class_edges),
            "interval": f"{manifest.interval_coverage:.0%}, quantiles {manifest.quantile_levels[0]} and {manifest.quantile_levels[-1]}, "
            + _margins(manifest.intervals),
            **{f"provenance: {name}": value for name, value in _flat(manifest.provenance)},
        },
    )
    files = Table(title="files", show_edge=False)
    for column in ("path", "role", "bytes", "sha256"):
        files.add_column(column, justify="right" if column == "bytes" else "left")
    clips = [file for file in manifest.files if file.path.startswith(CLIPS)]
    for file in manifest.files:
        if file not in clips:
            files.add_row(file.path, file.role, f"{file.bytes:,}", file.sha256[:16] + "…")
    files.add_row(f"{CLIPS} ({len(clips)} clips)", "golden", f"{sum(file.bytes for file in clips):,}", "")
    graphs = Table(title="graphs", show_edge=False)
    for column in ("graph", "declared", "measured bytes of weights", "inputs", "outputs"):
        graphs.add_column(column)
    for name, precisions in manifest.graphs.items():
        for graph in precisions.values():
            graphs.add_row(name, graph.declared, _join(graph.weight_bytes), _specs(graph.inputs), _specs(graph.outputs))
    proofs = bundle.parity_report().values()
    shown = [table for proof in proofs for table in proof_tables(proof)]
    return [about, files, graphs, summary_table(proofs), *shown, *card_tables(manifest.card)]


def card_tables(card: Mapping[str, Any]) -> list[Table]:
    """What a model was trained on and how it did on clips it had not seen; a card that training did not write is shown as it is."""
    if "held_out" not in card:
        return [_pairs("card", dict(_flat(card)))]
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
    return [_pairs("trained on", trained), *folds, figures, _by_seconds(held_out), classes, coverage]


def class_table(trained: Mapping[str, Any], held_out: Mapping[str, Any]) -> Table:
    """The classes of the training split, and how often they were named right on held-out clips.

    Args:
        trained: `TargetClasses` as JSON.
        held_out: an `Evaluation` as JSON.
    """
    found = held_out["classes"]
    kind, count = _kind_of(len(trained["sizes"])), len(trained["sizes"])
    fewer = "" if trained["asked_for"] == count else f"; {trained['asked_for']} were asked for, and ties allow {count}"
    kappa = "-" if found["quadratic_kappa"] is None else f"{found['quadratic_kappa']:.2f}"
    rows = {
        "classes of the training split": f"{_sizes(trained['sizes'])} clips{fewer}",
        "of these clips": f"{_sizes(found['class_sizes'])} clips",
        f"{kind} accuracy": f"{found['accuracy']:.0%}; always the most frequent one: {held_out['majority_class_accuracy']:.0%}",
        f"{kind} macro-F1": f"{found['macro_f1']:.2f}; quadratic weighted kappa {kappa}",
        **{f"  true {index}, predicted 1 to {count}": _sizes(row) for index, row in enumerate(found["confusion"], start=1)},
    }
    return _pairs("held out, classes", rows)


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


def audit_tables(report: AuditReport) -> list[Table]:
    """What an audit measured, then what it found, faults first."""
    measures = report.measures
    tails = Table(title=f"{measures.source}: {measures.rows:,} rows")
    for column in (
        "column",
        "known",
        "zeros",
        "skew",
        "after log1p",
        "squared error in the top 1 %",
        "after log1p",
        "largest z",
        "tail index",
    ):
        tails.add_column(column, justify="left" if column == "column" else "right")
    for tail in measures.tails:
        skews = (_figure(tail.skew, ".2f"), _figure(tail.skew_log1p, ".2f"))
        shares = (_figure(tail.top_share, ".0%"), _figure(tail.top_share_log1p, ".0%"))
        tails.add_row(tail.name, f"{tail.known:,}", f"{tail.zeros:.0%}", *skews, *shares, f"{tail.max_z:.1f}", _figure(tail.hill, ".2f"))
    findings = Table(title="findings", show_lines=True)
    for column in ("", "check", "found", "to do"):
        findings.add_column(column, overflow="fold")
    for finding in report.findings:
        findings.add_row(finding.severity, finding.check, finding.says, finding.do, style=_SEVERITY_STYLES[finding.severity])
    return [tails, findings]


def duplicates_table(report: DuplicateReport) -> Table:
    """One row for each cluster of near-duplicates, the largest first."""
    table = Table(show_lines=True)
    table.add_column("clips", justify="right")
    table.add_column("same pictures", justify="right")
    table.add_column("ids", overflow="fold")
    for cluster in report.clusters:
        table.add_row(str(len(cluster.clips)), f"{cluster.similarity:.0%}", " ".join(cluster.clips))
    return table


def doctor_table(findings: Iterable[Finding]) -> Table:
    """One row for each finding; problems carry their cure."""
    table = Table(show_edge=False)
    for column in ("", "found", "to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.topic, finding.state, finding.problem, style="bold red" if finding.problem else None)
    return table


def _pairs(title: str, values: Mapping[str, Any]) -> Table:
    table = Table(title=title, show_header=False, show_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _figure(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def _kind_of(classes: int) -> str:
    return "quartile" if classes == QUARTILES else "class"


def _class_name(score: Score) -> str:
    """`Q3` of quartiles, `2/3` of three classes."""
    classes = len(score.class_probabilities)
    return f"Q{score.predicted_class}" if classes == QUARTILES else f"{score.predicted_class}/{classes}"


def _margins(intervals: ConformalIntervals) -> str:
    """In standardised units, at both ends."""
    if not intervals.margins:
        return "as predicted: too few clips to calibrate on"
    named = (f"{row.margin_z:+.2f} {f'from {row.chunks} chunks' if row.chunks else 'for whole clips'}" for row in intervals.margins)
    return f"each moved outwards by {', '.join(named)} (standardised units)"


def _sizes(counts: Iterable[int]) -> str:
    return ", ".join(f"{count:,}" for count in counts)


def _join(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in values.items())


def _specs(specs: Iterable[TensorSpec]) -> str:
    return "\n".join(f"{spec.name} {spec.dtype} ({', '.join(map(str, spec.shape))})" for spec in specs)
