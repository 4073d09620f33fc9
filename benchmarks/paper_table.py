"""Turns an evaluation of made clips into the table of docs/results.md, and into numbers with their conditions.

    python -m shortcast.benchmarks.paper_table build/paper/report build/paper/clips/manifest.jsonl

The clips are those of `shortcast data synth`, so the most that anybody can predict of the very test clips is known: it stands in the table.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..runtime.cpu import available_cpus
from ..training.clips import read_manifest
from ..training.report import JSON_FILE
from ..training.success import Ceiling, Given, ceiling

BEGIN, END = "<!-- figures: written by benchmarks/paper_table.py -->", "<!-- end of figures -->"
_METRICS = ("mse", "r2", "spearman")
_COMPARED = ("mse", "spearman")
_OPEN = "≈"
"""Marks a difference whose interval holds 0."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its interval; None where the metric or the interval does not exist."""

    estimate: float | None
    low: float | None
    high: float | None

    @property
    def holds_zero(self) -> bool:
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high

    def __str__(self) -> str:
        if self.estimate is None:
            return "-"
        return f"{self.estimate:.3f}" if self.low is None else f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Row:
    """One predictor, in standardised units."""

    predictor: str
    kind: str
    metrics: Mapping[str, Interval]
    """`mse`, `r2` and `spearman`."""
    model_less: Mapping[str, Interval]
    """The model's figure less this one's, paired: `mse` and `spearman`; empty for the model itself."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the model is below the ceiling."""

    r2: float
    spearman: float


@dataclass(frozen=True, slots=True)
class Results:
    """Figures and the conditions they were taken under."""

    machine: str
    cpu: str
    cpus: int
    versions: Mapping[str, str]
    seed: int
    clips: Mapping[str, Any]
    """Clips in each part, and how they were split."""
    authors: int
    """Of the test clips."""
    intervals: Mapping[str, Any]
    """Level, resamples and seed of the bootstrap."""
    seconds: Mapping[str, float]
    """Wall time of each stage of training, of what the process that ended it did."""
    rows: tuple[Row, ...]
    ceilings: Mapping[Given, Ceiling]
    """Of the generating rule, for the very test clips: by what of a clip is known."""
    gap: Gap
    networks: tuple[Mapping[str, Any], ...]
    """As in the report."""
    lengths: tuple[Mapping[str, Any], ...]
    """As in the report."""


def read_results(report: Path, manifest: Path) -> Results:
    """Reads an evaluation, and works out the ceiling of its clips.

    Args:
        report: the folder that `shortcast evaluate -o` wrote.
        manifest: the made clips that were evaluated.

    Raises:
        DataError: there is no report, it is not of the views of made clips, or the manifest lacks a clip of it.
    """
    try:
        told = json.loads((report / JSON_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{report / JSON_FILE} cannot be read ({error}); run `shortcast evaluate ... -o {report}` first") from error
    if told["space"] != "standardised log1p(views)":
        raise DataError(f"{report}: expected figures in standardised log1p(views), for which the ceiling is known, got {told['space']}")
    card = told["card"]
    rows = tuple(_row(one) for one in told["predictors"] if one["space"] == told["space"])
    ceilings = _ceilings([clip["id"] for clip in told["clips"]], manifest)
    return Results(
        machine=platform.platform(),
        cpu=_cpu(),
        cpus=available_cpus(),
        versions=card["versions"],
        seed=card["seed"],
        clips=card["split"],
        authors=told["authors"],
        intervals=told["bootstrap"],
        seconds=card["seconds"],
        rows=rows,
        ceilings=ceilings,
        gap=Gap(ceilings["both"].r2 - _known(rows[0].metrics["r2"]), ceilings["both"].spearman - _known(rows[0].metrics["spearman"])),
        networks=tuple({name: value for name, value in one.items() if name != "history"} | _epochs(one) for one in told["networks"]),
        lengths=tuple(told["lengths"]),
    )


def markdown(results: Results) -> str:
    """The tables of docs/results.md."""
    parts = ("\n".join(lines) for lines in (_figures(results), _below(results), _lengths(results), _networks(results)))
    return "\n\n".join(part for part in parts if part)


def write_between(document: Path, text: str) -> None:
    """Replaces what stands between the two markers of a document.

    Raises:
        DataError: the document has not one of each, in order.
    """
    whole = document.read_text(encoding="utf-8")
    head, begun, rest = whole.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not begun or not ended:
        raise DataError(f"{document}: expected the lines {BEGIN!r} and {END!r}, between which the tables go")
    document.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", encoding="utf-8")


def _row(one: Mapping[str, Any]) -> Row:
    less = {name: _interval(one["model_less"][name]) for name in _COMPARED} if one["model_less"] else {}
    return Row(one["predictor"], one["kind"], {name: _interval(one["metrics"][name]) for name in _METRICS}, less)


def _interval(found: Mapping[str, Any]) -> Interval:
    return Interval(found["estimate"], found["low"], found["high"])


def _known(found: Interval) -> float:
    if found.estimate is None:
        raise DataError("the model's R2 or Spearman does not exist for these clips, so there is no gap to the ceiling; evaluate more clips")
    return found.estimate


def _ceilings(ids: Sequence[str], manifest: Path) -> dict[Given, Ceiling]:
    rows = {row.id: row for row in read_manifest(manifest)}
    missing = [clip for clip in ids if clip not in rows]
    if missing:
        raise DataError(
            f"{manifest} lacks {len(missing)} of the evaluated clips, such as {missing[0]!r}; give the manifest of the evaluation"
        )
    kinds: tuple[Given, ...] = ("both", "seen", "heard")
    return {given: ceiling([rows[clip] for clip in ids], given) for given in kinds}


def _epochs(network: Mapping[str, Any]) -> dict[str, int]:
    return {"epochs": len(network["history"])}


def _figures(results: Results) -> Iterator[str]:
    yield "| predictor | what it is | MSE | R² | Spearman | MSE: the model less this | Spearman: the model less this |"
    yield "|---|---|---|---|---|---|---|"
    for row in results.rows:
        less = [_marked(row.model_less[name]) if row.model_less else "" for name in _COMPARED]
        yield _line(row.predictor, row.kind, *(str(row.metrics[name]) for name in _METRICS), *less)
    for given, what in (("both", "pictures and sound"), ("seen", "pictures alone"), ("heard", "sound alone")):
        best = results.ceilings[given]  # type: ignore[index]
        yield _line(
            f"ceiling, {what}",
            "the generating rule without author, noise and outliers",
            "",
            f"{best.r2:.3f}",
            f"{best.spearman:.3f}",
            "",
            "",
        )


def _below(results: Results) -> Iterator[str]:
    parts = results.clips
    yield (
        f"In standardised log1p(views), on {parts['test']} test clips by {results.authors} authors; {results.intervals['level']:.0%} "
        f"intervals of {results.intervals['resamples']} resamples by author. {_OPEN}: the interval of the difference holds 0, so none is "
        f"established. The ceiling is what is expected over fresh draws of author and noise. The model is {results.gap.r2:.3f} below it in "
        f"R² and {results.gap.spearman:.3f} in Spearman."
    )


def _lengths(results: Results) -> Iterator[str]:
    if results.lengths:
        yield f"| length strategy | predictor | parameters | MSE after {results.lengths[0]['early_s']:.3g} s | MSE after whole clips |"
        yield "|---|---|---|---|---|"
    for one in results.lengths:
        yield _line(one["strategy"], one["predictor"], f"{one['parameters']:,}", str(_interval(one["early"])), str(_interval(one["whole"])))


def _networks(results: Results) -> Iterator[str]:
    parts = results.clips
    yield f"Trained on {parts['train']} clips, the epoch chosen on {parts['val']}, with {results.cpus} CPUs ({results.cpu}):"
    yield ""
    yield "| network | what it is shown of a clip | parameters | epochs | kept | seconds |"
    yield "|---|---|---|---|---|---|"
    for one in results.networks:
        numbers = (f"{one['parameters']:,}", str(one["epochs"]), _or_dash(one["best_epoch"]), _or_dash(one["seconds"]))
        yield _line(one["predictor"], one["shown"], *numbers)
    yield ""
    yield f"Seconds of the stages of training: {', '.join(f'{name} {seconds:,.0f}' for name, seconds in results.seconds.items())}."


def _marked(found: Interval) -> str:
    return f"{found} {_OPEN}" if found.holds_zero else str(found)


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cpu() -> str:
    """The processor's own name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the tables into the document and the numbers into a JSON file."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description="Tables of docs/results.md from an evaluation of made clips.")
    parser.add_argument("report", type=Path, help="the folder that `shortcast evaluate -o` wrote")
    parser.add_argument("manifest", type=Path, help="the manifest of the made clips")
    parser.add_argument("--document", type=Path, default=root / "docs" / "results.md")
    parser.add_argument("--json", type=Path, default=root / "benchmarks" / "results" / "paper.json")
    parsed = parser.parse_args(arguments)
    results = read_results(parsed.report, parsed.manifest)
    write_between(parsed.document, markdown(results))
    parsed.json.write_text(json.dumps(asdict(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"wrote {parsed.document} and {parsed.json}")


if __name__ == "__main__":
    main()
