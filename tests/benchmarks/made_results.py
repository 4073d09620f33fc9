"""Results that look real and were never measured: for tests of the report, and to see it without a benchmark.

python tests/benchmarks/made_results.py FOLDER      (writes a report of them)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from shortcast.benchmarks.results import (
    SCHEMA,
    Case,
    Ceiling,
    ClipFacts,
    ColdStart,
    Environment,
    GraphCost,
    LedgerEntry,
    Limits,
    MachineState,
    MemorySample,
    MemoryTrace,
    Parity,
    Results,
    Row,
    Run,
    Scenario,
    Scope,
    Series,
    WarmUp,
)

BUNDLE = "b" * 64
MIB = 1 << 20


@dataclass(frozen=True)
class Contender:
    """How fast and how large a made thing is."""

    backend: str
    precision: str
    whisper: str
    clip_ms: float
    rss_mib: float
    error: float
    load_ms: float


CONTENDERS = (
    Contender("torch-eager", "fp32", "transformers float32", 2900.0, 1510.0, 0.0, 3900.0),
    Contender("torch-compile", "fp32", "transformers float32", 2300.0, 1720.0, 2e-6, 21000.0),
    Contender("torch-eager", "bf16", "transformers float32", 3300.0, 1480.0, 2.1e-2, 3800.0),
    Contender("onnxruntime", "fp32", "ctranslate2 float32", 610.0, 402.0, 4e-6, 640.0),
    Contender("onnxruntime", "int8", "ctranslate2 int8", 505.0, 371.0, 1.3e-2, 510.0),
    Contender("openvino", "fp32", "ctranslate2 float32", 560.0, 455.0, 6e-6, 980.0),
)


def noisy(random: np.random.Generator, count: int, middle: float) -> tuple[float, ...]:
    """Neighbours are alike, some are late."""
    steps = random.normal(size=count)
    for place in range(1, count):
        steps[place] = 0.5 * steps[place - 1] + 0.87 * steps[place]
    late = np.where(random.random(count) < 0.03, random.uniform(1.2, 2.4, count), 1.0)
    return tuple(float(value) for value in np.round(middle * np.exp(0.04 * steps) * late, 4))


def a_trace(random: np.random.Generator, contender: Contender, seconds: float) -> MemoryTrace:
    phases = (("import", 0.0), ("load", 0.6), ("warm-up", 0.6 + contender.load_ms / 1e3), ("timed", 1.4 + contender.load_ms / 1e3))
    end = phases[-1][1] + seconds
    times = np.arange(0.0, end, max(0.01, end / 400))
    level = np.interp(times, [0, 0.6, phases[2][1], phases[3][1], end], np.array([0.05, 0.3, 0.8, 0.97, 1.0]) * contender.rss_mib * MIB)
    rss = (level * (1 + 0.006 * random.normal(size=len(times)))).astype(int)
    peak = int(rss.max())
    shares = (("visual weights", 0.06, "engine"), ("fusion weights", 0.04, "engine"), ("Whisper weights", 0.2, "engine"))
    parts = tuple(LedgerEntry(what, int(share * peak), source) for what, share, source in shares)
    parts += (LedgerEntry("interpreter and libraries", int(0.4 * peak), "difference"),)
    rest = LedgerEntry("rest", peak - sum(part.bytes for part in parts), "rest")
    samples = tuple(MemorySample(round(float(at), 3), int(size), None) for at, size in zip(times, rss, strict=True))
    return MemoryTrace(peak, "VmHWM", None, "no GPU", 0.01, samples, phases, (*parts, rest))


def a_run(
    random: np.random.Generator, contender: Contender, repeat: int, scope: Scope, scenario: Scenario, *, count: int, slower: float = 1.0
) -> Run:
    shift = slower * float(np.exp(0.02 * random.normal()))
    state = MachineState(1.1, 0.04, 2600.0, 0)
    outcome: dict[str, float] = {}
    clips, media_s = count, 13.4 * count
    clip = noisy(random, count, contender.clip_ms * shift)
    if scope == "file":
        name, clips = {"server": "answer", "live": "answer"}.get(scenario, "clip"), count
        origin = "schedule" if scenario in ("server", "live") else "call"
        values = tuple(value * {"server": 1.6, "live": 0.15}.get(scenario, 1.0) for value in clip)
        series = [Series(name, "ms", values, origin)]
        if name == "clip":
            lengths = tuple(13.4 if place % 3 else 21.0 for place in range(count))
            clips_ms = tuple(value * length / 13.4 for value, length in zip(values, lengths, strict=True))
            answers = noisy(random, 7 * count, contender.clip_ms / 7.5 * shift)
            series = [Series("answer", "ms", answers), Series("clip", "ms", clips_ms), Series("media", "s", lengths)]
    else:
        clips, media_s = 0, 0.0
        shares = {"visual": 0.3, "audio": 0.25, "fusion": 0.02}
        shares |= {"decode": 0.34, "features": 0.03} if scope == "stage" else {}
        series = [Series(name, "ms", noisy(random, 7 * count, contender.clip_ms * share / 7 * shift)) for name, share in shares.items()]
        if scope == "engine":
            pairs = [(f"audit {which} {name}", share) for name, share in shares.items() for which in ("unique", "same")]
            series += [Series(name, "ms", noisy(random, 20, contender.clip_ms * share / 7 * shift)) for name, share in pairs]
    best = 1000 / contender.clip_ms * 0.7 / shift
    if scenario == "server":
        rates = [best * share for share in (0.25, 0.5, 0.75, 0.9, 1.0, 1.08, 1.2)]
        waits = [contender.clip_ms * (1.3 + 0.35 / max(0.06, 1.25 - rate / best)) for rate in rates]
        series += [Series("tried_rate", "1/s", tuple(rates)), Series("tried_p99", "ms", tuple(waits))]
        outcome = {"rate_per_s": best, "bound_ms": contender.clip_ms * 2.9}
    if scenario == "live":
        most = max(1, int(2000 / (contender.clip_ms / 7)) - 2)
        tried = tuple(float(streams) for streams in sorted({1, 2, most // 2 or 1, most, most + 1, most + 3}))
        missed = tuple(0.0 if streams <= most else min(1.0, 0.12 * (streams - most)) for streams in tried)
        series += [Series("tried_streams", "1", tried), Series("tried_misses", "1", missed), Series("age", "ms", noisy(random, count, 900))]
        outcome = {"streams": float(most), "period_s": 2.0, "deadline_misses": 0.0, "skipped_chunks": 0.0}
    wall_s = sum(series[0].values) / 1e3
    return Run(
        repeat=repeat,
        order=repeat,
        cold=ColdStart(
            contender.load_ms * 0.5 * shift + 150,
            contender.load_ms * shift,
            contender.clip_ms * 1.4 * float(np.exp(0.05 * random.normal())),
        ),
        warm_up=WarmUp(14, 1.2, True),
        wall_s=wall_s,
        cpu_s=wall_s * 1.7,
        clips=clips,
        chunks=7 * count,
        media_s=media_s,
        series=tuple(series),
        memory=a_trace(random, contender, 12.0),
        before=state,
        after=state,
        outcome=outcome,
    )


def a_row(
    random: np.random.Generator,
    contender: Contender,
    scope: Scope = "file",
    scenario: Scenario = "single-stream",
    *,
    repeats: int = 3,
    count: int = 40,
    slower: float = 1.0,
) -> Row:
    case = Case(contender.backend, contender.precision, contender.whisper, "cpu", 2, scope, scenario)
    tolerance = 5e-2 if contender.precision in ("int8", "bf16") else 1e-4
    parity = Parity(BUNDLE, 25, contender.error, tolerance, 1 if contender.precision == "bf16" else 0, True)
    runs = tuple(a_run(random, contender, repeat, scope, scenario, count=count, slower=slower) for repeat in range(repeats))
    return Row(
        case,
        parity,
        runs,
        {"UNSTABLE": "Run 1: times of clip differ by 12%."} if contender.backend == "torch-compile" and scope == "file" else {},
    )


def made_results(
    seed: int = 0, *, slower: float = 1.0, repeats: int = 3, count: int = 40, contenders: tuple[Contender, ...] = CONTENDERS
) -> Results:
    """A benchmark of six contenders in five scopes and scenarios, of which two others were refused."""
    random = np.random.default_rng(seed)
    asked: tuple[tuple[Scope, Scenario], ...] = (
        ("file", "single-stream"),
        ("file", "offline"),
        ("file", "server"),
        ("file", "live"),
        ("stage", "single-stream"),
        ("engine", "single-stream"),
    )
    rows = [
        a_row(random, contender, scope, scenario, repeats=repeats, count=count, slower=slower)
        for scope, scenario in asked
        for contender in contenders
        if scenario in ("single-stream", "offline") or contender.backend in ("torch-eager", "onnxruntime")
    ]
    no_gpu = Case("tensorrt", "fp16", "ctranslate2 float16", "cuda", 2, "file", "single-stream")
    wrong = Case("onnxruntime", "fp16", "ctranslate2 int8", "cpu", 2, "file", "single-stream")
    refused = (
        Row(no_gpu, None, (), {}, "no CUDA device is visible"),
        Row(wrong, Parity(BUNDLE, 25, 777.25, 1e-3, 9, False), (), {}, "its scores differ from PyTorch's by more than is tolerated"),
    )
    return Results(
        schema=SCHEMA,
        created_utc="2026-01-05T10:20:30Z",
        command="shortcast bench --all -o report",
        seed=7,
        quick=False,
        bundle={"id": BUNDLE, "name": "demo", "source": "1,600 synthetic clips made by 'shortcast data synth --seed 7'"},
        clips=(
            ClipFacts("a-day-at-sea.mp4", "a" * 64, 13.4, 576, 1024, "h264 and aac"),
            ClipFacts("two-cats.webm", "c" * 64, 21.0, 1080, 1920, "vp9 and opus"),
        ),
        environment=Environment(
            {
                "CPU": "AMD EPYC 9354, 2 CPUs",
                "CPU quota": "2.0 CPUs (cgroup)",
                "Governor": "unknown: the kernel does not say",
                "Memory": "8.0 GiB",
                "Kernel": "Linux 6.1",
                "Container": "yes",
                "Python": "3.11.2",
                "version of numpy": "2.4.6",
                "version of onnxruntime": "1.32.0",
                "version of ctranslate2": "4.8.5",
                "version of torch": "2.14.1",
                "OMP_NUM_THREADS": "not set",
                "GPU": "none",
            },
            ("Other processes used 9 % of the CPUs while this was measured.",),
        ),
        limits=Limits(
            (
                GraphCost("visual", "fp32", 3_040_000_000, 3_600_000, 96_000_000, 900_000),
                GraphCost("fusion", "fp32", 12_000_000, 1_900_000, 800_000, 40_000),
                GraphCost("sound", "fp32", 1_100_000_000, 31_000_000, 20_000_000, 400_000),
                GraphCost("sound", "int8", 1_100_000_000, 8_000_000, 20_000_000, 400_000),
                GraphCost("visual", "int8", 3_040_000_000, 950_000, 70_000_000, 900_000),
                GraphCost("fusion", "int8", 12_000_000, 500_000, 800_000, 40_000),
            ),
            (
                Ceiling("float32 product (numpy)", 2, 1.32e11, "FLOP/s", (1.31e11, 1.32e11, 1.29e11)),
                Ceiling("float32 product (onnxruntime)", 2, 1.36e11, "FLOP/s", (1.36e11, 1.32e11, 1.33e11)),
                Ceiling("int8 product (onnxruntime)", 2, 3.1e11, "FLOP/s", (3.1e11, 3.0e11, 3.1e11)),
                Ceiling("copy beyond L3", 2, 1.7e10, "B/s", (1.7e10, 1.66e10, 1.69e10)),
                Ceiling("copy within L2", 2, 9.0e10, "B/s", (9.0e10, 8.8e10, 8.9e10)),
            ),
        ),
        rows=(*rows, *refused),
    )


def with_labels(results: Results, **labels: str) -> Results:
    return replace(results, rows=tuple(replace(row, labels=labels) for row in results.rows))  # type: ignore[arg-type]


if __name__ == "__main__":
    from shortcast.benchmarks.report import write_report

    print(write_report(made_results(), Path(sys.argv[1]), force=True))
