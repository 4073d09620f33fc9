"""What is measured, in which order, and for how long: every contender, every scope and scenario that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random

from ..errors import EngineError
from ..runtime.bundle import Bundle
from .budget import Fit, fit_budget, gpu_options
from .contenders import BACKENDS, Contender, contender
from .hearing import WHISPERS, whisper_weights
from .recording import RunRule
from .results import Case, Scenario, Scope
from .statistics import needed_samples
from .task import Load
from .warmup import WarmUpRule

SCOPES: tuple[Scope, ...] = ("engine", "stage", "file")
SCENARIOS: tuple[Scenario, ...] = ("single-stream", "offline", "server", "live")
REFERENCE = ("torch-eager", "fp32", "transformers float32")
"""All of it in PyTorch."""
_QUICK_BACKENDS = {"onnxruntime": ("fp32", "int8"), "torch-eager": ("fp32",)}
_EVERYWHERE: tuple[tuple[Scope, Scenario], ...] = (("engine", "single-stream"), ("file", "single-stream"))
_FOR_THE_FIRST: tuple[tuple[Scope, Scenario], ...] = (("stage", "single-stream"), ("file", "offline"), ("file", "server"), ("file", "live"))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; empty tuples leave the choice here."""

    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    whispers: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    device: str = "cpu"
    threads: int = 1
    repeats: int | None = None
    seed: int = 0
    quick: bool = False
    budget_s: float | None = None
    bound_ms: float = 500.0
    period_s: float | None = None
    vram_budget_bytes: int | None = None
    """What contenders on a GPU may need there."""

    @property
    def runs_each(self) -> int:
        """Repeats of every case."""
        return self.repeats or (1 if self.quick else 3)

    @property
    def total_s(self) -> float:
        """Seconds after which no other run begins."""
        return self.budget_s or (50.0 if self.quick else 3600.0)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the parts of a run may take."""

    warm_up: WarmUpRule
    rule: RunRule
    load: Load
    timeout_s: float
    """For a whole process."""


@dataclass(frozen=True, slots=True)
class _Tempo:
    """How thorough a run is."""

    percentile: float
    """The one for which there are to be samples enough."""
    least_timed_s: float
    longer: float
    """How many times as long a run may last to get there."""
    warm_up: float
    """At most, as a share of the time that is timed."""
    least_search_s: float
    search_of_all: float
    """How long a search for a rate may take, as a share of all the time there is, and below of a run's."""
    search_of_run: float


_QUICK = _Tempo(90.0, least_timed_s=1.5, longer=1.5, warm_up=0.5, least_search_s=10.0, search_of_all=0.0, search_of_run=0.0)
_WHOLE = _Tempo(99.0, least_timed_s=3.0, longer=4.0, warm_up=1.0, least_search_s=30.0, search_of_all=0.05, search_of_run=0.6)
_MOST_TIMED_S = 6.0
_MOST_SEARCH_S = 120.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One run to be made."""

    contender: Contender
    case: Case
    repeat: int


def contenders_of(wishes: Wishes, bundle: Bundle) -> list[Contender]:
    """Every contender, the lean default first: each backend with the bundle's own Whisper, then other Whispers, then all PyTorch."""
    own = f"ctranslate2 {bundle.manifest.whisper.compute_type}"
    graphs = _QUICK_BACKENDS if wishes.quick else BACKENDS
    chosen = {name: BACKENDS.get(name, ("fp32",)) for name in wishes.backends} or graphs
    pairs = [(name, form) for name, forms in chosen.items() for form in (wishes.precisions or forms)]
    if wishes.whispers:
        triples = [(*pair, whisper) for pair, whisper in product(pairs, wishes.whispers)]
    else:
        triples = [(*pair, own) for pair in pairs]
        if not wishes.backends and not wishes.precisions and not wishes.quick:
            triples += [("onnxruntime", "fp32", whisper) for whisper in WHISPERS if whisper != own]
            triples.append(REFERENCE)
    return [contender(*triple, wishes.device) for triple in dict.fromkeys(triples)]


def fit_of(wishes: Wishes, contenders: Sequence[Contender], bundle: Bundle, whisper: Path | None) -> Fit | None:
    """The first configuration within the budget of GPU memory, among those a benchmark runs: one stream, each graph with its own scratch.

    Raises:
        EngineError: no contender runs on a GPU, or nothing fits.
    """
    if wishes.vram_budget_bytes is None:
        return None
    precisions = [what.precision for what in contenders if what.device == "cuda" and what.precision in bundle.manifest.variants]
    if not precisions:
        raise EngineError("--vram-budget is for contenders on a GPU, and none is asked for that the bundle has graphs for")
    options = gpu_options(bundle, list(dict.fromkeys(precisions)), whisper=whisper_weights(bundle, whisper).path)
    able = [option for option in options if option.batch == 1 and not option.shared_scratch and option.fusion_device == "cuda"]
    return fit_budget(wishes.vram_budget_bytes, able)


def within(fit: Fit | None, contenders: Sequence[Contender]) -> list[Contender]:
    """The contenders, those on a GPU as the configuration that fits has them."""
    if fit is None:
        return list(contenders)
    chosen, whisper = fit.option, f"ctranslate2 {fit.option.whisper_type}"
    fitted = [
        replace(what, precision=chosen.precision, whisper=whisper, sound_device=chosen.whisper_device) if what.device == "cuda" else what
        for what in contenders
    ]
    return list(dict.fromkeys(fitted))


def cases_of(wishes: Wishes, contenders: Sequence[Contender]) -> list[tuple[Contender, Case]]:
    """Every case. Where scopes or scenarios are named, each contender gets them all; else only the first gets the long ones."""
    named = bool(wishes.scopes or wishes.scenarios)
    pairs = tuple(_valid(wishes.scopes or SCOPES, wishes.scenarios or SCENARIOS)) if named else _EVERYWHERE
    cases = [(what, case_of(what, wishes, *pair)) for what in contenders for pair in pairs]
    if not named and not wishes.quick:
        first = contenders[0]
        cases += [(first, case_of(first, wishes, *pair)) for pair in _FOR_THE_FIRST]
        cases += [(what, case_of(what, wishes, "file", "offline")) for what in contenders if _is_reference(what)]
    return cases


def case_of(what: Contender, wishes: Wishes, scope: Scope, scenario: Scenario) -> Case:
    """One contender in one scope and scenario."""
    return Case(what.backend, what.precision, what.whisper, what.device, wishes.threads, scope, scenario)


def order_of(cases: Sequence[tuple[Contender, Case]], *, repeats: int, seed: int, lean_first: bool = False) -> list[Planned]:
    """All runs: every case once in a shuffled order, then all again in another, so that no case is measured only early or only late.

    Args:
        cases: what is run.
        repeats: how often.
        seed: of the order.
        lean_first: in each block, what loads fast comes first, and then whole files: where time may run out, most is known by then.
    """
    random, runs = Random(seed), []
    for repeat in range(repeats):
        block = [Planned(what, case, repeat) for what, case in cases]
        random.shuffle(block)
        runs += sorted(block, key=_by_use) if lean_first else block
    return runs


def pace_of(wishes: Wishes, runs: int, *, chunk_s: float) -> Pace:
    """Splits the time there is among the runs; each needs some seconds to start, to load, to be proved and to warm up."""
    tempo = _QUICK if wishes.quick else _WHOLE
    share_s = wishes.total_s / max(1, runs)
    timed_s = min(_MOST_TIMED_S, max(tempo.least_timed_s, 0.2 * share_s))
    search_s = max(tempo.least_search_s, min(_MOST_SEARCH_S, tempo.search_of_all * wishes.total_s), tempo.search_of_run * share_s)
    return Pace(
        WarmUpRule(most_s=tempo.warm_up * timed_s),
        RunRule(
            least_s=timed_s,
            least_samples=-(-needed_samples(tempo.percentile) // wishes.runs_each),
            most_s=tempo.longer * timed_s,
        ),
        Load(wishes.bound_ms, wishes.period_s or chunk_s, search_s),
        timeout_s=60.0 + 20 * timed_s + 2 * search_s,
    )


def _by_use(planned: Planned) -> tuple[bool, bool]:
    """Sorts what loads fast before the rest, and of the rest whole files before engines."""
    heavy = not planned.contender.lean
    return heavy, heavy and planned.case.scope != "file"


def _valid(scopes: Sequence[Scope], scenarios: Sequence[Scenario]) -> Iterator[tuple[Scope, Scenario]]:
    """Engines and stages are timed one call after the other; scenarios of load take whole files."""
    for scope, scenario in product(scopes, scenarios):
        if scope == "file" or scenario == "single-stream":
            yield scope, scenario


def _is_reference(what: Contender) -> bool:
    return (what.backend, what.precision, what.whisper) == REFERENCE
