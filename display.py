"""How values are shown on a terminal: tables on stdout, progress and messages on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .runtime.finding import Finding
from .runtime.score import Score
from .runtime.target import QUARTILES

if TYPE_CHECKING:
    from .training.audit import AuditReport
    from .training.duplicate_report import DuplicateReport

_BLOCKS = "▁▂▃▄▅▆▇█"
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
        interval, kind = f"{score.interval_coverage:.0%} interval", kind_of(len(score.class_probabilities))
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
        skews = (figure(tail.skew, ".2f"), figure(tail.skew_log1p, ".2f"))
        shares = (figure(tail.top_share, ".0%"), figure(tail.top_share_log1p, ".0%"))
        tails.add_row(tail.name, f"{tail.known:,}", f"{tail.zeros:.0%}", *skews, *shares, f"{tail.max_z:.1f}", figure(tail.hill, ".2f"))
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


def pairs_table(title: str, values: Mapping[str, Any]) -> Table:
    table = Table(title=title, show_header=False, show_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def flat(plain: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def figure(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def kind_of(classes: int) -> str:
    return "quartile" if classes == QUARTILES else "class"


def _class_name(score: Score) -> str:
    """`Q3` of quartiles, `2/3` of three classes."""
    classes = len(score.class_probabilities)
    return f"Q{score.predicted_class}" if classes == QUARTILES else f"{score.predicted_class}/{classes}"
