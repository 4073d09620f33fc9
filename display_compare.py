"""How a comparison of two benchmarks is shown: what differs in the conditions first, then a table for each case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .benchmarks.report_parts import digits, series_name

if TYPE_CHECKING:
    from .benchmarks.compare import Compared, Comparison
    from .benchmarks.rules import Judgement

_STYLES = dict.fromkeys(("faster", "smaller", "more"), "green") | dict.fromkeys(("slower", "larger", "fewer"), "bold red")
_SIGNS = dict.fromkeys(("faster", "larger", "more"), "▲") | dict.fromkeys(("slower", "smaller", "fewer"), "▼")


def print_compared(console: Console, compared: Compared) -> None:
    """Everything, for reading."""
    for warning in compared.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    if compared.differences:
        console.print(_differences(compared))
    for name, keys in (("A", compared.only_in_a), ("B", compared.only_in_b)):
        for key in keys:
            console.print(Text(f"only in {name}: {key}", style="dim"))
    for case, comparisons in groupby(compared.comparisons, key=lambda one: one.case):
        console.print(_case(case, list(comparisons)))
    found = sum(one.verdict in _SIGNS for one in compared.comparisons)
    console.print(
        f"{found} of {compared.judged} comparisons show a difference. Intervals are at 95 % each; verdicts allow for their number: of "
        "those that name one, one in twenty is expected to be chance."
    )


def print_json(compared: Compared, judgements: Sequence[Judgement]) -> None:
    """Everything, for programs."""
    plain: dict[str, Any] = asdict(compared)
    plain["comparisons"] = [_plain(one) for one in compared.comparisons]
    plain["judged"] = compared.judged
    plain["rules"] = [asdict(one) for one in judgements]
    print(json.dumps(plain, indent=1, allow_nan=False))


def _plain(one: Comparison) -> dict[str, Any]:
    ends = one.ratio.interval() if one.ratio else None
    ratio = (
        None if one.ratio is None else {"estimate": one.ratio.estimate, "low": ends[0] if ends else None, "high": ends[1] if ends else None}
    )
    return {**asdict(one), "figures": {"a": one.figures[0], "b": one.figures[1]}, "ratio": ratio}


def _differences(compared: Compared) -> Table:
    table = Table(title="Conditions that differ, and may explain the rest", title_justify="left", box=None, pad_edge=False)
    for head in ("", "A", "B"):
        table.add_column(head, overflow="fold")
    for name, ours, theirs in compared.differences:
        table.add_row(Text(name), Text(ours), Text(theirs))
    return table


def _case(case: str, comparisons: Sequence[Comparison]) -> Table:
    table = Table(title=Text(case), title_justify="left", box=None, pad_edge=False)
    for head, side in (("", "left"), ("A", "right"), ("B", "right"), ("B / A", "right"), ("95 % interval", "left"), ("", "left")):
        table.add_column(head, justify=side)  # type: ignore[arg-type]
    for one in comparisons:
        table.add_row(*_line(one))
    return table


def _line(one: Comparison) -> tuple[Text, ...]:
    name = f"{one.quantity}, {series_name(one.series)}" if one.series else one.quantity
    figures = (Text(_figure(value, one.unit)) for value in one.figures)
    ends = one.ratio.interval() if one.ratio else None
    ratio = Text(f"{one.ratio.estimate:.3f}" if one.ratio else "-")
    within = Text(f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "-")
    verdict = Text(f"{_SIGNS.get(one.verdict, ' ')} {one.verdict}", style=_STYLES.get(one.verdict, ""))
    return (Text(name), *figures, ratio, within, verdict.append(f" ({one.note})" if one.note else "", style="dim"))


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{digits(value / (1 << 20))} MiB" if unit == "B" else f"{digits(value)} {unit}"
