"""Which configuration fits into so much GPU memory: the first of a list that goes from the fastest to the smallest, or none.

Needs are planned from the bundle: weights as stored, scratch from how long values live in a graph, Whisper's weights in each type of
computation. Figures that were measured on this GPU (a ledger of an earlier run) take the place of planned ones, and each says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from ..errors import EngineError
from ..export.ctranslate2_file import CTranslate2File, read_ctranslate2
from ..runtime.bundle import GRAPHS, Bundle
from ..runtime.whisper import MODEL_FILE
from .graph_cost import count_graph, live_bytes
from .results import GraphCost, LedgerEntry

CONTEXT_BYTES = 450 << 20
"""Planned for the CUDA context with the kernels of TensorRT and CTranslate2, where it was not measured: it differs by GPU and driver."""
BATCHES = (8, 4, 2, 1)
WHISPER_TYPES = ("float32", "float16", "int8_float16")
_BASES = (("iB", 1024), ("B", 1000))
_UNITS = {"": 1, "B": 1} | {f"{letter}{end}": base**power for power, letter in enumerate("KMGT", 1) for end, base in _BASES}
_WINDOW_CHUNKS = 32
"""Planned for the fusion graph where the bundle shows it all chunks: a minute of 2 s chunks."""


@dataclass(frozen=True, slots=True)
class Option:
    """One configuration of a run on a GPU, and what it needs there."""

    precision: str
    """Of the graphs."""
    batch: int
    """Streams that the visual graph takes at once."""
    shared_scratch: bool
    """Whether the graphs, which never run at once, use one block of scratch."""
    fusion_device: str
    whisper_device: str
    whisper_type: str
    """CTranslate2's type of computation; on the CPU the bundle's own."""
    parts: tuple[LedgerEntry, ...]

    @property
    def need_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def __str__(self) -> str:
        scratch = "one block of scratch" if self.shared_scratch else "scratch for each graph"
        fusion = f"fusion on {self.fusion_device}"
        return f"{self.precision} graphs, batch {self.batch}, {scratch}, {fusion}, Whisper {self.whisper_type} on {self.whisper_device}"


@dataclass(frozen=True, slots=True)
class Fit:
    """What fits, and why the better ones do not."""

    option: Option
    budget_bytes: int
    passed_over: tuple[Option, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """For reading: the choice, where its bytes go, and how many options were too large."""
        need = f"{as_mib(self.option.need_bytes)} of {as_mib(self.budget_bytes)}"
        parts = (f"{part.what}: {as_mib(part.bytes)} ({part.source})" for part in self.option.parts)
        return (f"{self.option}: {need}", *parts, f"{len(self.passed_over)} faster configurations need more")


def parse_bytes(text: str) -> int:
    """Reads `1.5GiB`, `800 MB`, `1000000`: with a unit of 1024 (KiB) or 1000 (KB).

    Raises:
        ValueError: it is no amount of memory above zero; says what is.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = next((size for name, size in _UNITS.items() if match and name.lower() == match[2].lower()), None)
    amount = int(float(match[1]) * unit) if match and unit else 0
    if amount < 1:
        raise ValueError(f"{text!r} is no amount of memory: expected a number with a unit, such as 1.5GiB or 800MB")
    return amount


def as_mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def gpu_options(
    bundle: Bundle, precisions: Sequence[str], *, whisper: Path | None, measured: Mapping[str, int] | None = None
) -> tuple[Option, ...]:
    """Every configuration of a run on a GPU, the fastest and closest to the reference first.

    What is given up, in this order: streams at once, scratch for each graph, the fusion graph on the GPU, float32 and float16 in
    Whisper, Whisper on the GPU, and last the precision asked for first.

    Args:
        bundle: whose graphs run.
        precisions: of the graphs, the preferred first.
        whisper: the directory of the Whisper weights; None where a run hears nothing.
        measured: bytes by the names that parts have here, from an earlier run on this GPU; they take the place of planned ones.

    Raises:
        BundleError: the bundle has no graphs in a precision.
        EngineError: a graph cannot be counted.
        WeightsError: the Whisper weights cannot be read.
    """
    sound = _whisper_places(bundle, whisper)
    found: list[Option] = []
    for precision in precisions:
        graphs = _GraphPlan.of(bundle, precision)
        # One graph alone has nothing to share its scratch with.
        places = [("cuda", False), ("cuda", True), ("cpu", False)]
        for (device, kind, size), (fusion, shared), batch in product(sound, places, BATCHES):
            parts = [("CUDA context", CONTEXT_BYTES), *graphs.parts(fusion, shared, batch)]
            parts += [("Whisper weights", size)] if size else []
            entries = tuple(_entry(what, planned, measured or {}) for what, planned in parts)
            found.append(Option(precision, batch, shared, fusion, device, kind, entries))
    return tuple(found)


def fit_budget(budget_bytes: int, options: Sequence[Option]) -> Fit:
    """The first option that needs no more than the budget.

    Raises:
        EngineError: none does; names the smallest and what it needs.
    """
    if not options:
        raise EngineError("there is no configuration to choose from for a GPU memory budget")
    for at, option in enumerate(options):
        if option.need_bytes <= budget_bytes:
            return Fit(option, budget_bytes, tuple(options[:at]))
    least = min(options, key=lambda option: option.need_bytes)
    raise EngineError(
        f"nothing fits into {as_mib(budget_bytes)} of GPU memory: the smallest configuration ({least}) needs {as_mib(least.need_bytes)}; "
        "allow more with --vram-budget, or use --device cpu"
    )


def whisper_bytes(stored: CTranslate2File, compute_type: str) -> int:
    """Bytes of a model's weights once loaded: matrices in the type's integers or floats, all else in its floats, int8 with row scales."""
    weights = [(name, values) for name, values in stored.variables.items() if values.ndim and not name.endswith("_scale")]
    floats = 2 if compute_type.endswith("float16") else 4
    matrix = 1 if compute_type.startswith("int8") else floats
    total = 0
    for name, values in weights:
        is_matrix = name.endswith("/weight") and values.ndim == 2
        total += prod(values.shape) * (matrix if is_matrix else floats) + (4 * values.shape[0] if is_matrix and matrix == 1 else 0)
    return total


def _whisper_places(bundle: Bundle, whisper: Path | None) -> list[tuple[str, str, int]]:
    """Device, type of computation and planned bytes on the GPU; the bundle's own type comes first, and none above it is offered."""
    own = bundle.manifest.whisper.compute_type
    if whisper is None:
        return [("no device", own, 0)]
    stored = read_ctranslate2(whisper / MODEL_FILE)
    kinds = WHISPER_TYPES[WHISPER_TYPES.index(own) :] if own in WHISPER_TYPES else (own,)
    return [*(("cuda", kind, whisper_bytes(stored, kind)) for kind in kinds), ("cpu", own, 0)]


@dataclass(frozen=True, slots=True)
class _GraphPlan:
    """Costs and scratch of a precision's graphs: the visual one for each batch, the fusion one for a whole window."""

    visual: dict[int, tuple[GraphCost, int]]
    fusion: tuple[GraphCost, int]

    @classmethod
    def of(cls, bundle: Bundle, precision: str) -> _GraphPlan:
        chunks = bundle.manifest.window_chunks or _WINDOW_CHUNKS
        visual, fusion = (bundle.graph(name, precision=precision) for name in GRAPHS)
        return cls({batch: _planned(visual, "visual", batch, 1) for batch in BATCHES}, _planned(fusion, "fusion", 1, chunks))

    def parts(self, fusion_device: str, shared: bool, batch: int) -> Iterator[tuple[str, int]]:
        """Weights, inputs and outputs (recurrent state among them, for each stream) and scratch of the graphs on the GPU."""
        there = [self.visual[batch], *([self.fusion] if fusion_device == "cuda" else [])]
        for cost, _ in there:
            yield f"{cost.graph} weights", cost.weight_bytes
            yield f"{cost.graph} inputs, outputs and state", cost.io_bytes
        if shared:
            yield "scratch of the graphs, shared", max(scratch for _, scratch in there)
        else:
            yield from ((f"{cost.graph} scratch", scratch) for cost, scratch in there)


def _planned(file: Path, name: str, batch: int, chunks: int) -> tuple[GraphCost, int]:
    cost = count_graph(file, graph=name, precision="", batch=batch, chunks=chunks)
    return cost, live_bytes(file, batch=batch, chunks=chunks)


def _entry(what: str, planned: int, measured: Mapping[str, int]) -> LedgerEntry:
    return LedgerEntry(what, measured[what], "measured") if what in measured else LedgerEntry(what, planned, "planned")
