"""How far engines are from what the machine could do at best: a roofline, and each engine's time over its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .charts import Bar, Drawn, Mark, Part, Plot, Style, Styles, bars, figure
from .report_parts import case_name, data_table, details, digits, times_as
from .results import Ceiling, GraphCost, Limits, Results, Row
from .statistics import percentile, pooled
from .summary import shown_rows


@dataclass(frozen=True, slots=True)
class EngineFloor:
    """One graph on one backend: what it took, and the least it could have taken."""

    row: Row
    cost: GraphCost
    median_ms: float
    compute_ms: float
    """FLOPs over the product ceiling."""
    move_ms: float
    """Weights, inputs and outputs over the copy ceiling: what must be moved even were every node fused."""

    @property
    def floor_ms(self) -> float:
        """The larger of both."""
        return max(self.compute_ms, self.move_ms)


def engine_floors(results: Results) -> tuple[EngineFloor, ...]:
    """Of every engine that was timed alone and whose graph was counted."""
    limits = results.limits
    if limits is None:
        return ()
    rows = [row for row in shown_rows(results) if row.case.scope == "engine"]
    found = (_floor(row, cost, limits) for row in rows for cost in limits.costs if _is_of(cost, row, limits))
    return tuple(floor for floor in found if floor is not None)


def limits(results: Results, styles: Styles) -> str:
    """The section of the page."""
    if results.limits is None:
        return "<p>Graphs were not counted and ceilings not measured.</p>"
    floors = engine_floors(results)
    told = (
        "<p>FLOPs and bytes are counted from the ONNX files, for one chunk; multiply and add count as two. Ceilings were measured on this "
        "machine in the same session. The floor is the larger of FLOPs over the product ceiling and of weights, inputs and outputs over "
        "the copy ceiling. Weights that stay in a cache, and int8 arithmetic where the ceiling is of float32, can beat it.</p>"
    )
    ceilings = [(one.name, str(one.threads), f"{one.value / 1e9:.4g}", f"G{one.unit}") for one in results.limits.ceilings]
    heads = ("ceiling", "threads", "measured", "unit")
    tables = _floor_table(results, floors), data_table(heads, ceilings, "Ceilings"), _costs(results.limits)
    return f"{told}{_charts(results, floors, styles)}{''.join(tables)}"


_SERIES_OF = {"sound": "audio"}
"""Series of graphs that are timed under another name."""


def _is_of(cost: GraphCost, row: Row, limits: Limits) -> bool:
    """A graph in the row's own precision; the float32 graph where that precision is made at run time and has no file of its own."""
    own = {one.precision for one in limits.costs if one.graph == cost.graph}
    asked = row.case.precision if cost.graph != "sound" else "int8" if "int8" in row.case.whisper else "fp32"
    return cost.precision == (asked if asked in own else "fp32")


def _floor(row: Row, cost: GraphCost, limits: Limits) -> EngineFloor | None:
    samples = pooled(row.runs, _SERIES_OF.get(cost.graph, cost.graph))
    product, copy = _product(limits, cost.precision, row.case.threads), _copy(limits, row.case.threads)
    middle = percentile(samples, 50.0).plain
    if middle is None or product is None or copy is None:
        return None
    return EngineFloor(row, cost, middle, 1e3 * cost.flops / product.value, 1e3 * (cost.weight_bytes + cost.io_bytes) / copy.value)


def _product(limits: Limits, precision: str, threads: int) -> Ceiling | None:
    """The highest product of the graph's own arithmetic; of float32 where that was not measured."""
    of_unit = [one for one in limits.ceilings if one.unit == "FLOP/s"]
    own = [one for one in of_unit if one.name.startswith(precision)] or [one for one in of_unit if one.name.startswith("float32")]
    return _highest(own, threads)


def _copy(limits: Limits, threads: int) -> Ceiling | None:
    """The highest copy beyond the caches: what fits into one is moved faster, and may beat its floor."""
    return _highest([one for one in limits.ceilings if one.unit == "B/s" and "within" not in one.name], threads)


def _highest(ceilings: Sequence[Ceiling], threads: int) -> Ceiling | None:
    """With as many threads, else with any."""
    fitting = [one for one in ceilings if one.threads == threads] or ceilings
    return max(fitting, key=lambda one: one.value, default=None)


def _charts(results: Results, floors: tuple[EngineFloor, ...], styles: Styles) -> str:
    if not floors or results.limits is None:
        return "<p>No engine was timed alone, so there is no roofline.</p>"
    over = [_over_bar(floor, results) for floor in floors if floor.floor_ms > 0]
    colours = {floor.row.case.contender: styles[case_name(floor.row.case, results)].colour for floor in floors}
    return f'<div class="charts">{_roofline(results, floors, styles)}{bars("Time over its floor", "times", over, colours)}</div>'


def _over_bar(floor: EngineFloor, results: Results) -> Bar:
    over = floor.median_ms / floor.floor_ms
    return Bar(f"{floor.cost.graph}: {case_name(floor.row.case, results)}", (Part(floor.row.case.contender, over),), times_as(over))


def _roofline(results: Results, floors: tuple[EngineFloor, ...], styles: Styles) -> str:
    points = [_point(floor, styles[case_name(floor.row.case, results)]) for floor in floors]
    places = {f"{floor.cost.graph} {floor.cost.precision}": point.x[0] for floor, point in zip(floors, points, strict=True)}
    ends = sorted(places.values())
    roofs = _roofs(results.limits, floors, ends[0] / 4, ends[-1] * 2) if results.limits else []
    note = "Fewer FLOPs per byte on the left (bound by memory), more on the right (bound by arithmetic); nearer to the line is better."
    marks = tuple(Mark(at, name) for name, at in places.items())
    axes = "FLOP per byte that must move", "FLOP/s"
    return figure(Plot("Roofline of one chunk", *axes, (*roofs, *points), x_log=True, y_log=True, marks=marks), note)


def _roofs(limits: Limits, floors: tuple[EngineFloor, ...], low: float, high: float) -> list[Drawn]:
    """One for each arithmetic that has a ceiling of its own."""
    threads = floors[0].row.case.threads
    found = dict.fromkeys(_product(limits, floor.cost.precision, threads) for floor in floors)
    copy, reach, roofs = _copy(limits, threads), np.geomspace(low, high, 80), []
    for place, product in enumerate(found):
        if product is not None and copy is not None:
            heights = np.minimum(product.value, copy.value * reach)
            roofs.append(Drawn(Style(f"ceiling: {product.name}, {copy.name}", 4, place), reach.tolist(), heights.tolist()))
    return roofs


def _point(floor: EngineFloor, style: Style) -> Drawn:
    cost = floor.cost
    intensity = cost.flops / max(1, cost.weight_bytes + cost.io_bytes)
    return Drawn(style, [intensity], [cost.flops / (floor.median_ms / 1e3)], "points")


def _floor_table(results: Results, floors: tuple[EngineFloor, ...]) -> str:
    lines = [
        (
            case_name(floor.row.case, results),
            floor.cost.graph,
            digits(floor.median_ms),
            digits(floor.compute_ms),
            digits(floor.move_ms),
            times_as(floor.median_ms / floor.floor_ms),
        )
        for floor in floors
        if floor.floor_ms > 0
    ]
    heads = ("case", "graph", "median, ms", "arithmetic, ms", "memory, ms", "over its floor")
    return details("Each engine's time over its floor", data_table(heads, lines, "Each engine's time over its floor")) if lines else ""


def _costs(limits: Limits) -> str:
    lines = [
        (
            f"{cost.graph} {cost.precision}",
            f"{cost.flops / 1e6:,.4g}",
            *(digits(size / 1e6) for size in (cost.weight_bytes, cost.activation_bytes, cost.io_bytes)),
        )
        for cost in limits.costs
    ]
    heads = ("graph", "MFLOP", "weights, MB", "activations unfused, MB", "inputs and outputs, MB")
    return data_table(heads, lines, "What each graph must do for one chunk")
