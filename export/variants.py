"""Reduced precisions: each graph again in float16 or 8-bit integers, from its float32 file, with what was measured while making it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from ..errors import GateError
from ..runtime.bundle import GRAPHS, Bundle, graph_file
from ..runtime.chunks import Chunk
from ..runtime.engines import Tensors, open_engine
from .calibration import Calibration
from .drift import drift
from .float16 import to_float16
from .half_rounding import emulate_float16
from .int8 import to_int8
from .lint import require_sound_graph
from .manifest import write_manifest
from .ranges import measure_ranges
from .speed import measure_speed, require_worthwhile

DRIFT_CHUNKS = 200
"""Nearly seven minutes of video: an error that adds up has shown by then."""

SPEED_RUNS, SPEED_ROUNDS = 8, 20
"""Of each graph on calibration data, in turns."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What one precision is made of."""

    precision: str
    graphs: dict[str, str]
    """By graph, the precision of its file: a graph that gains nothing stays float32."""
    reports: dict[str, dict[str, Any]]
    """By graph that was made anew: what was measured."""


def make_variant(root: Path, precision: str, calibration: Calibration, chunks: Sequence[Chunk], *, say: Callable[[str], None]) -> Variant:
    """Makes the graphs of one reduced precision beside their float32 files.

    Args:
        root: the bundle's directory; it holds the float32 graphs.
        precision: `fp16` or `int8`.
        calibration: what the graphs are fed by real clips.
        chunks: chunks of real clips, over and over, for the drift of the recurrent state.
        say: called with a sentence where a graph is left as it is.

    Raises:
        GateError: a graph is not sound, or int8 is faster for no graph.
    """
    feeds = {"visual": calibration.visual, "fusion": calibration.fusion}
    if precision == "fp16":
        reports = {graph: _float16(root, graph, feeds[graph]) for graph in GRAPHS}
    else:
        reports = _int8_where_it_pays(root, feeds, say)
    if "visual" in reports:
        reports["visual"]["drift"] = _drift(root, precision, chunks)
    return Variant(precision, {graph: precision if graph in reports else "fp32" for graph in GRAPHS}, reports)


def _float16(root: Path, graph: str, feeds: Sequence[Tensors]) -> dict[str, Any]:
    source, made = root / graph_file(graph), root / graph_file(graph, "fp16")
    ranges = measure_ranges(source, feeds)
    model, report = to_float16(onnx.load(source), ranges=ranges)
    made.write_bytes(model.SerializeToString(deterministic=True))
    require_sound_graph(made, precision="fp16")
    return {"conversion": report.to_json(), "largest_number": max(ranges.values()), "calibration_runs": len(feeds)}


def _int8_where_it_pays(root: Path, feeds: dict[str, tuple[Tensors, ...]], say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    reports, refusals = {}, []
    for graph in GRAPHS:
        try:
            reports[graph] = _int8(root, graph, feeds[graph])
        except GateError as error:
            (root / graph_file(graph, "int8")).unlink(missing_ok=True)
            refusals.append(f"{graph}: {error}")
    if not reports:
        raise GateError(f"int8 pays for neither graph on this machine; {'; '.join(refusals)}")
    for refusal in refusals:
        say(f"int8 leaves a graph in float32: {refusal}")
    return reports


def _int8(root: Path, graph: str, feeds: Sequence[Tensors]) -> dict[str, Any]:
    source, made = root / graph_file(graph), root / graph_file(graph, "int8")
    report = to_int8(source, made, feeds)
    require_sound_graph(made, precision="int8")
    speed = measure_speed(source, made, feeds[:SPEED_RUNS], rounds=SPEED_ROUNDS)
    require_worthwhile(speed, what=f"the int8 {graph} graph")
    return {"conversion": report.to_json(), "speed": speed.to_json(), "calibration_runs": len(feeds)}


def _drift(root: Path, precision: str, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    with (
        measurable(root / graph_file("visual", precision)) as file,
        open_engine(file) as candidate,
        open_engine(root / graph_file("visual")) as reference,
    ):
        return [found.to_json() for found in drift(reference, candidate, chunks, steps=DRIFT_CHUNKS)]


@contextmanager
def measurable(graph: Path) -> Iterator[Path]:
    """The graph as ONNX Runtime must run it on a CPU to show its errors: a float16 one with its rounding spelt out, any other as it is."""
    with TemporaryDirectory() as folder:
        if not graph.name.endswith(".fp16.onnx"):
            yield graph
            return
        spelt_out = Path(folder) / graph.name
        onnx.save(emulate_float16(onnx.load(graph)), spelt_out)
        yield spelt_out


@contextmanager
def measurable_bundle(root: Path, precision: str) -> Iterator[Path]:
    """The bundle with every graph of a precision as `measurable` has it: a copy, where that differs."""
    if precision != "fp16":
        yield root
        return
    with TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(root, Path(folder) / root.name.lstrip(".")))
        for graph in GRAPHS:
            with measurable(root / graph_file(graph, precision)) as file:
                shutil.copyfile(file, copy / graph_file(graph, precision))
        write_manifest(Bundle.open(root).manifest, copy)
        yield copy
