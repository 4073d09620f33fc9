"""What a benchmark measured: every raw sample, how it was taken, and on what. The one currency between measuring, reporting and comparing.

    Results
    ├── Environment            the machine, versions and settings, once
    ├── Limits                 what each graph must compute and move, and what this machine can at best
    └── Row (one a case)       backend x precision x Whisper x scope x scenario
        ├── Parity             how far its scores are from PyTorch's; without it a row has no runs
        └── Run (one a repeat, each in a process of its own)
            ├── Series         named raw samples
            └── MemoryTrace    resident memory and VRAM over time, and a ledger that adds up

Figures that can be derived are not stored: `statistics` makes them from the samples, and the report and `compare` ask it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import DataError

SCHEMA = "1.0"

Scope: TypeAlias = Literal["engine", "stage", "file"]
"""What is timed: one engine's call; one stage of the pipeline; everything from a file to its score."""
Scenario: TypeAlias = Literal["single-stream", "offline", "server", "live"]
Label: TypeAlias = Literal["UNSTABLE", "THROTTLED", "SHARED", "QUICK"]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured: what computes the graphs and the sound, and how it is asked."""

    backend: str
    """Of the graphs: `onnxruntime`, `torch-eager`, `torch-compile`, `openvino`, `tensorrt` of either flavour."""
    precision: str
    """Of the graphs: `fp32`, `bf16`, `fp16`, `int8`."""
    whisper: str
    """Library and type of computation of the sound encoder, such as `ctranslate2 int8`."""
    device: str
    threads: int
    scope: Scope
    scenario: Scenario

    @property
    def contender(self) -> str:
        """What is compared, whatever scope and scenario: `onnxruntime fp32 + ctranslate2 float32`."""
        return f"{self.backend} {self.precision} + {self.whisper}"

    @property
    def key(self) -> str:
        """Finds the same case in another report."""
        return f"{self.contender}, {self.device}, {self.threads} threads, {self.scope}, {self.scenario}"


@dataclass(frozen=True, slots=True)
class Series:
    """Raw samples of one quantity, in the order they were taken; none is ever left out."""

    name: str
    """`clip`, `chunk`, `visual`, `fusion`, `sound`, `decode`, `features`, `answer`, `age`, ..."""
    unit: str
    values: tuple[float, ...]
    measured_from: str = "call"
    """`call`: from the call to its return. `schedule`: from the moment it was due, so that waiting counts (open loop)."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What comes before a steady state, in milliseconds; each part is its own result and in no series."""

    import_ms: float
    load_ms: float
    """Engines, sound encoder and weights."""
    first_ms: float
    """The first call, clip or chunk after loading."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Calls thrown away, and whether they ended because times had settled or because patience had."""

    calls: int
    seconds: float
    settled: bool


@dataclass(frozen=True, slots=True)
class MemorySample:
    """One look at a process and its children."""

    at_s: float
    """Since the run began."""
    rss_bytes: int
    vram_bytes: int | None
    """None where it cannot be told."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A part of the memory, and who says so."""

    what: str
    bytes: int
    source: str
    """`engine`, `nvml`, `difference`, `rest`, ..."""


@dataclass(frozen=True, slots=True)
class MemoryTrace:
    """Memory of one run."""

    peak_rss_bytes: int
    """The kernel's own high-water mark (VmHWM) where there is one, else the largest sample."""
    rss_method: str
    peak_vram_bytes: int | None
    vram_method: str
    """How VRAM was told, with its resolution; or why it was not."""
    resolution_s: float
    """Between samples."""
    samples: tuple[MemorySample, ...]
    marks: tuple[tuple[str, float], ...] = ()
    """Names of phases and when each began, seconds since the run began: `import`, `load`, `warm-up`, `timed`."""
    ledger: tuple[LedgerEntry, ...] = ()
    """Adds up to the VRAM of the process (or its RSS on a CPU); what nobody answers for is `rest`."""


@dataclass(frozen=True, slots=True)
class MachineState:
    """What may spoil a run, looked at before and after it."""

    load_1m: float | None
    busy_share: float | None
    """Share of the CPUs' time that others used since the look before, 0 to 1; None at the first look."""
    cpu_mhz: float | None
    cpu_throttled: int | None
    """The control group's count of throttled periods."""
    gpu: dict[str, Any] = field(default_factory=dict)
    """Clocks, throttle reasons, temperature, power, other processes: what NVML answers; empty without a GPU."""


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat of a case, in a process of its own."""

    repeat: int
    order: int
    """Its place among all runs of the benchmark, which are shuffled."""
    cold: ColdStart
    warm_up: WarmUp
    wall_s: float
    """Of the timed part, by the wall."""
    cpu_s: float
    """Of the timed part: user and system, all threads."""
    clips: int
    chunks: int
    media_s: float
    series: tuple[Series, ...]
    memory: MemoryTrace
    before: MachineState
    after: MachineState
    outcome: dict[str, float]
    """What the scenario alone knows: `rate_per_s`, `deadline_misses`, `skipped_chunks`, `streams`, `period_s`, ..."""

    def samples(self, name: str) -> tuple[float, ...]:
        """Of the series with this name; empty where there is none."""
        return next((series.values for series in self.series if series.name == name), ())


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a case's results are from the PyTorch reference's."""

    bundle: str
    """The bundle's id: figures of another bundle prove nothing."""
    clips: int
    max_error: float
    """Largest |difference| of a standardised score (or, of an engine alone, of its outputs)."""
    tolerance: float
    class_changes: int
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A case and all that was measured of it."""

    case: Case
    parity: Parity | None
    runs: tuple[Run, ...]
    """Empty where it was refused: nothing is printed that was not proved."""
    labels: dict[Label, str] = field(default_factory=dict)
    """What to be wary of, each with its reason in a sentence."""
    refusal: str = ""
    """One sentence if there are no runs: not installed, no GPU, wrong values, out of time."""


@dataclass(frozen=True, slots=True)
class GraphCost:
    """What one graph must do for one chunk, counted from its ONNX file."""

    graph: str
    precision: str
    flops: int
    """Multiply and add count as two."""
    weight_bytes: int
    activation_bytes: int
    """Read and written by nodes, were nothing fused."""
    io_bytes: int


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What this machine can at best, measured in the same session."""

    name: str
    """`float32 matrix product`, `copy`, ..."""
    threads: int
    value: float
    unit: str
    """`FLOP/s` or `B/s`."""
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Floors of the engines' times: the larger of FLOPs over the product ceiling and bytes over the copy ceiling."""

    costs: tuple[GraphCost, ...]
    ceilings: tuple[Ceiling, ...]


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """A clip of the workload."""

    name: str
    sha256: str
    seconds: float
    width: int
    height: int
    codecs: str


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and what runs on it; strings are for reading, and none is left out because it could not be told."""

    facts: dict[str, str]
    """CPU, quota, governor, clocks, memory, kernel, container, Python, versions of every library, thread settings, GPU, driver."""
    warnings: tuple[str, ...] = ()
    """What makes figures doubtful, in sentences."""


@dataclass(frozen=True, slots=True)
class Results:
    """One call of `shortcast bench`."""

    schema: str
    created_utc: str
    command: str
    seed: int
    quick: bool
    bundle: dict[str, str]
    """`id`, `name`, and `source`: what it was trained on, said wherever its figures are shown."""
    clips: tuple[ClipFacts, ...]
    environment: Environment
    limits: Limits | None
    rows: tuple[Row, ...]

    def row(self, key: str) -> Row | None:
        """The row of the case with this key."""
        return next((row for row in self.rows if row.case.key == key), None)


def write_results(results: Results, path: Path) -> None:
    """Writes JSON aside and renames it.

    Raises:
        DataError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        aside.write_text(json.dumps(_converter().unstructure(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def read_results(path: Path) -> Results:
    """Reads what `write_results` wrote.

    Args:
        path: the JSON file, or the folder of a report that holds `bench.json`.

    Raises:
        DataError: it is not such a file, or of another schema.
    """
    file = path / "bench.json" if path.is_dir() else path
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as a benchmark's results: {error}") from error
    found = plain.get("schema") if isinstance(plain, dict) else None
    if found != SCHEMA:
        raise DataError(f"{file}: schema is {found!r}, this version reads {SCHEMA!r}; measure again with `shortcast bench`")
    try:
        results: Results = _converter().structure(plain, Results)
    except Exception as error:  # cattrs raises groups of whatever its hooks raised
        raise DataError(f"{file} holds no results this version knows: {_first_cause(error)}") from error
    return results


def _first_cause(error: BaseException) -> str:
    while getattr(error, "exceptions", ()):
        error = error.exceptions[0]  # type: ignore[attr-defined]
    return f"{type(error).__name__} {error}".splitlines()[0]


def _converter() -> Any:
    """Strict about keys: a report of another version is refused, not half read."""
    from cattrs.preconf.json import make_converter

    return make_converter(forbid_extra_keys=True)
