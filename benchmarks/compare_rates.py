"""How often `shortcast bench compare` is wrong, and how often it finds what is there.

    python -m shortcast.benchmarks.compare_rates -o compare-rates.json

(1) Simulated: pairs of benchmarks that do not differ (A/A). Times of a run have neighbours that are alike (autocorrelation 0.5), 3 % of
them are late by 1.2 to 2.5 times, and runs differ from one another by a factor of their own, whose standard deviation is the world's.
Of each pair and percentile: the ratio, its standard error and its degrees of freedom, as `ratio_of` gives them, and beside them the
plain percentile interval of a hierarchical bootstrap of the same samples, which is what was not taken. Scaling B by 1.1 scales the ratio
and changes no error, so the same pairs give the power against a slowdown of 10 %.
(2) Measured: the visual graph of the demo bundle, in so many processes one after another; every drawn split of them into two sets is an
A/A comparison of real samples. Splits share runs, so their rate says what these runs give, not what all would.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.cpu import available_cpus
from ..runtime.engines import open_engine
from .compare import established
from .ratio import LEVEL, Ratio, Samples, percentile_of, ratio_of

PERCENTS = (50.0, 90.0, 99.0)
_REPORT = 24
"""Comparisons in a report whose chance of any false verdict is looked at."""


@dataclass(frozen=True, slots=True)
class World:
    """How samples come about."""

    name: str
    between: float
    """Standard deviation of the logarithm of a run's own factor."""
    samples: int = 250
    """Of each run."""


WORLDS = (World("runs alike", 0.0), World("runs differ by 2 %", 0.02), World("runs differ by 5 %", 0.05))


@dataclass(frozen=True, slots=True)
class Pair:
    """What was found of one pair of benchmarks and one percentile."""

    world: str
    repeats: int
    percent: float
    log_ratio: float
    log_error: float
    freedom: float
    naive_low: float
    """Of the percentile interval, as a logarithm."""
    naive_high: float

    @property
    def ratio(self) -> Ratio:
        """As `compare` has it."""
        return Ratio(math.exp(self.log_ratio), self.log_error, self.freedom)

    def excludes(self, truth: float = 1.0) -> bool:
        """Whether the interval leaves 1 out, were B slower by `truth` throughout."""
        low, high = self.ratio.interval() or (0.0, math.inf)
        return not low * truth <= 1.0 <= high * truth

    @property
    def naive_excludes(self) -> bool:
        """Whether the percentile interval leaves 1 out."""
        return not self.naive_low <= 0.0 <= self.naive_high


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the pairs of one world, one number of repeats and one percentile."""

    world: str
    repeats: int
    percent: float
    pairs: int
    false_alarms: float
    """A/A pairs whose own interval leaves 1 out; 5 % is promised."""
    naive_false_alarms: float
    """The same for the plain hierarchical bootstrap."""
    found_10: float
    """Pairs whose interval leaves 1 out where B is slower by 10 %."""
    median_reach: float
    """Upper end of the interval over the ratio, less 1: what a difference must exceed to be seen."""


def run_of(world: World, random: np.random.Generator) -> Samples:
    """Milliseconds of one run, float64 (samples,)."""
    steps = random.normal(size=world.samples).tolist()
    for place in range(1, world.samples):
        steps[place] = 0.5 * steps[place - 1] + 0.866 * steps[place]
    late = np.where(random.random(world.samples) < 0.03, random.uniform(1.2, 2.5, world.samples), 1.0)
    times: Samples = 30.0 * np.exp(0.04 * np.array(steps) + world.between * random.normal()) * late
    return times


def pairs_of(world: World, repeats: int, count: int, seed: int, percents: Sequence[float] = PERCENTS) -> Iterator[Pair]:
    """A/A pairs."""
    random = np.random.default_rng([seed, repeats, round(1e4 * world.between)])
    for place in range(count):
        a, b = ([run_of(world, random) for _ in range(repeats)] for _ in "ab")
        yield from (_pair(world.name, a, b, percent, place) for percent in percents)


def rates_of(pairs: Sequence[Pair]) -> Iterator[Rates]:
    """Shares for every world, number of repeats and percentile."""
    for world, repeats, percent in dict.fromkeys((pair.world, pair.repeats, pair.percent) for pair in pairs):
        some = [pair for pair in pairs if (pair.world, pair.repeats, pair.percent) == (world, repeats, percent)]
        reaches = [(pair.ratio.interval() or (0.0, math.inf))[1] / pair.ratio.estimate - 1 for pair in some]
        yield Rates(
            world,
            repeats,
            percent,
            len(some),
            _share(pair.excludes() for pair in some),
            _share(pair.naive_excludes for pair in some),
            _share(pair.excludes(1.1) and pair.log_ratio + math.log(1.1) > 0 for pair in some),
            float(np.median(reaches)),
        )


def report_rates(pairs: Sequence[Pair], seed: int = 0, reports: int = 1000) -> dict[str, float]:
    """Of reports with `_REPORT` comparisons drawn from these: how many have any false verdict, with and without care for their number."""
    random = np.random.default_rng(seed)
    chances = np.array([min(1.0, 2 * min(pair.ratio.chance_above(1.0), pair.ratio.chance_below(1.0))) for pair in pairs])
    drawn = chances[random.integers(len(chances), size=(reports, _REPORT))]
    return {
        "any_false_verdict": _share(any(established(list(row), 1 - LEVEL)) for row in drawn),
        "any_interval_without_1": _share(bool(np.any(row <= 1 - LEVEL)) for row in drawn),
    }


def split_pairs(runs: Sequence[Samples], repeats: int, count: int, seed: int) -> Iterator[Pair]:
    """A/A pairs of measured runs: two sets that share none."""
    random = np.random.default_rng([seed, repeats])
    for place in range(count):
        order = random.permutation(len(runs))
        a, b = ([runs[index] for index in order[start : start + repeats]] for start in (0, repeats))
        yield from (_pair("measured", a, b, percent, place) for percent in PERCENTS)


def measure_runs(runs: int, calls: int) -> list[list[float]]:
    """Milliseconds of the visual graph's calls, each run in a process of its own."""
    command = [sys.executable, "-m", "shortcast.benchmarks.compare_rates", "--worker", str(calls)]
    return [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs)]


def _worker(calls: int) -> list[float]:
    """Calls after 15 that are thrown away."""
    random = np.random.default_rng(0)
    with open_engine(Bundle.open(demo_bundle()).graph("visual", precision="fp32"), threads=available_cpus()) as engine:
        feeds = {spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], spec.dtype) for spec in engine.inputs}
        feeds["frames"] = random.integers(0, 256, feeds["frames"].shape).astype(feeds["frames"].dtype)
        feeds["frame_mask"] = np.ones_like(feeds["frame_mask"])
        times = []
        for _ in range(calls + 15):
            begin = perf_counter()
            engine.run(feeds)
            times.append(round(1e3 * (perf_counter() - begin), 4))
    return times[15:]


def _pair(world: str, a: Sequence[Samples], b: Sequence[Samples], percent: float, seed: int) -> Pair:
    ratio = ratio_of(percentile_of(percent), a, b, seed=seed)
    if ratio is None or ratio.log_error is None:
        raise ValueError("expected positive times of two runs or more on each side")
    low, high = _naive(a, b, percent, seed)
    numbers = (math.log(ratio.estimate), ratio.log_error, ratio.freedom, low, high)
    return Pair(world, len(a), percent, *(float(f"{number:.5g}") for number in numbers))


def _naive(a: Sequence[Samples], b: Sequence[Samples], percent: float, seed: int, draws: int = 100) -> tuple[float, float]:
    """The percentile interval of a bootstrap that draws runs and then samples of each."""
    random, statistic = np.random.default_rng(seed), percentile_of(percent)
    figures = [statistic(_redrawn_plainly(np.array(runs), draws, random)) for runs in (a, b)]
    low, high = np.quantile(np.log(figures[1] / figures[0]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _redrawn_plainly(runs: Samples, draws: int, random: np.random.Generator) -> Samples:
    """float64 (runs, samples) to (draws, runs x samples): runs, then samples of each."""
    count, length = runs.shape
    picked = random.integers(count, size=(draws, count, 1))
    redrawn: Samples = runs[picked, random.integers(length, size=(draws, count, length))].reshape(draws, -1)
    return redrawn


def _share(found: Iterator[bool]) -> float:
    values = list(found)
    return sum(values) / len(values)


def measure(*, count: int, splits: int, repeats: Sequence[int], runs: int, calls: int, seed: int) -> dict[str, object]:
    """Everything, as what is written."""
    simulated = [pair for world in WORLDS for some in repeats for pair in pairs_of(world, some, count, seed)]
    measured = [np.array(times) for times in measure_runs(runs, calls)] if runs else []
    sizes = [some for some in repeats if 2 * some <= len(measured)]
    split = [pair for some in sizes for pair in split_pairs(measured, some, splits, seed)]
    return {
        "machine": platform.processor() or platform.machine(),
        "cpus": available_cpus(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "seed": seed,
        "worlds": [asdict(world) for world in WORLDS],
        "rates": [asdict(one) for one in (*rates_of(simulated), *rates_of(split))],
        "reports": {
            f"{some} repeats": report_rates(of) for some in repeats if (of := [pair for pair in simulated if pair.repeats == some])
        },
        "measured_ms": [times.tolist() for times in measured],
        "columns": list(Pair.__dataclass_fields__),
        "pairs": [list(asdict(pair).values()) for pair in (*simulated, *split)],
    }


def main() -> None:
    """Measures, prints a table and writes every pair."""
    parser = argparse.ArgumentParser(description="False alarms and power of `shortcast bench compare`.")
    parser.add_argument("-o", "--output", type=Path, help="where everything goes, as JSON")
    parser.add_argument("--pairs", type=int, default=300, help="of each world, number of repeats and percentile; 0 leaves them out")
    parser.add_argument("--splits", type=int, default=200, help="of the measured runs, for each number of repeats and percentile")
    parser.add_argument("--repeats", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--runs", type=int, default=12, help="measured processes; 0 leaves that part out")
    parser.add_argument("--calls", type=int, default=250, help="of each measured process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_worker(arguments.worker)))
        return
    found = measure(
        count=arguments.pairs,
        splits=arguments.splits,
        repeats=arguments.repeats,
        runs=arguments.runs,
        calls=arguments.calls,
        seed=arguments.seed,
    )
    for one in found["rates"]:  # type: ignore[attr-defined]
        print(
            f"{one['world']:20} {one['repeats']:2} repeats, p{one['percent']:g}: false alarms {one['false_alarms']:.1%} "
            f"(plain bootstrap {one['naive_false_alarms']:.1%}), 10 % found {one['found_10']:.1%}, reach {one['median_reach']:.1%}"
        )
    print(json.dumps(found["reports"], indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
