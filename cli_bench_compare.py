"""`shortcast bench compare`: two benchmarks side by side, with an exit code for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import console, say

if TYPE_CHECKING:
    from .benchmarks.rules import Judgement, Rule


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="What to compare against: a report's folder or its bench.json.", show_default=False)
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="What to compare.", show_default=False)],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if", metavar="RULE", help="Exit code 3 if there is evidence for it: 'p99>+5%', 'throughput<-10%'. Repeatable."
        ),
    ] = None,
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="Pass where runs differ too much to tell; else the exit code is then 1.")
    ] = False,
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="Compare cases that have this in their name.", show_default="all")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what became faster, slower, smaller or larger from A to B, and what there is no evidence for.

    A rule is METRIC>+N% or METRIC<-N%; metrics are median, p90, p99, throughput, rate, streams, rss, vram and cold. It is met where the
    95 % interval lies beyond the bound, not met where it lies within, and undecided otherwise.
    """
    from .benchmarks.compare import compare as compare_results
    from .benchmarks.results import read_results
    from .benchmarks.rules import judge
    from .display_compare import print_compared, print_json

    rules = _rules(fail_if or [])
    compared = compare_results(read_results(a), read_results(b), only=only)
    judgements = judge(rules, compared)
    if as_json:
        print_json(compared, judgements)
    else:
        print_compared(console(), compared)
    raise typer.Exit(_told(judgements, allow_undecided=allow_undecided))


def _rules(texts: list[str]) -> list[Rule]:
    from .benchmarks.rules import parse_rule

    try:
        return [parse_rule(text) for text in texts]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-if") from error


def _told(judgements: list[Judgement], *, allow_undecided: bool) -> int:
    """Says what failed or cannot be told, a line each, and returns the exit code."""
    for state in ("met", "undecided"):
        for one in judgements:
            if one.state == state:
                say(f"{one.rule} {'is met' if state == 'met' else 'cannot be told'}: {one.where}: {one.why}")
    states = {one.state for one in judgements}
    if "met" in states:
        return 3
    if "undecided" in states and not allow_undecided:
        say("measure with more repeats, or give --allow-undecided to pass where it cannot be told")
        return 1
    return 0
