"""How far engines are from what the machine could do at best: a roofline, and each engine's time over its floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .charts import Bar, Drawn, Mark, Part, Plot, Style, Styles, bars, figure
from .limits import Floor, floor_of
from .report_parts import case_name, data_table, details, digits, times_as
from .results import GraphCost, Limits, Results, Row
from .statistics import percentile, pooled
from .summary import shown_rows


@dataclass(frozen=True, slots=True)
class EngineFloor:
    """One graph on one backend: what it took, and the least it could have taken."""

    row: Row
    cost: GraphCost
    median_ms: float
    floor: Floor


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
        "the copy ceiling (within L2 where they fit into it). Weights that stay in a larger cache can beat it.</p>"
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
    middle = percentile(pooled(row.runs, _SERIES_OF.get(cost.graph, cost.graph)), 50.0).plain
    floor = floor_of(cost, row.case.threads, limits)
    return None if middle is None or floor is None or floor.ms <= 0 else EngineFloor(row, cost, middle, floor)


def _charts(results: Results, floors: tuple[EngineFloor, ...], styles: Styles) -> str:
    if not floors or results.limits is None:
        return "<p>No engine was timed alone, so there is no roofline.</p>"
    over = [_over_bar(floor, results) for floor in floors]
    colours = {floor.row.case.contender: styles[case_name(floor.row.case, results)].colour for floor in floors}
    return f'<div class="charts">{_roofline(results, floors, styles)}{bars("Time over its floor", "times", over, colours)}</div>'


def _over_bar(floor: EngineFloor, results: Results) -> Bar:
    over = floor.floor.times(floor.median_ms)
    return Bar(f"{floor.cost.graph}: {case_name(floor.row.case, results)}", (Part(floor.row.case.contender, over),), times_as(over))


def _roofline(results: Results, floors: tuple[EngineFloor, ...], styles: Styles) -> str:
    points = [_point(floor, styles[case_name(floor.row.case, results)]) for floor in floors]
    places = {f"{floor.cost.graph} {floor.cost.precision}": point.x[0] for floor, point in zip(floors, points, strict=True)}
    ends = sorted(places.values())
    roofs = _roofs(floors, ends[0] / 4, ends[-1] * 2)
    note = "Fewer FLOPs per byte on the left (bound by memory), more on the right (bound by arithmetic); nearer to the line is better."
    marks = tuple(Mark(at, name) for name, at in places.items())
    axes = "FLOP per byte that must move", "FLOP/s"
    return figure(Plot("Roofline of one chunk", *axes, (*roofs, *points), x_log=True, y_log=True, marks=marks), note)


def _roofs(floors: tuple[EngineFloor, ...], low: float, high: float) -> list[Drawn]:
    """One for each pair of ceilings that a floor comes from."""
    pairs = dict.fromkeys((one.floor.product, one.floor.copy) for one in floors)
    reach, roofs = np.geomspace(low, high, 80), []
    for place, (product, copy) in enumerate(pairs):
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
            digits(floor.floor.compute_ms),
            digits(floor.floor.move_ms),
            f"{times_as(floor.floor.times(floor.median_ms))} ({floor.floor.bound})",
        )
        for floor in floors
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
