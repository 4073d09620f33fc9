"""`shortcast bench`: contenders side by side on this machine, and `shortcast bench compare` of two reports."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .cli_bench_compare import compare
from .cli_options import Device, DeviceOption, ForceOption, WhisperOption
from .errors import DataError
from .terminal import console, say

if TYPE_CHECKING:
    from .runtime.bundle import Bundle

_NEEDED = ("psutil", "pynvml", "cattrs", "onnx")
"""What the extra `bench` brings."""


class Scope(str, Enum):
    """What is timed."""

    engine = "engine"
    stage = "stage"
    file = "file"


class Scenario(str, Enum):
    """How it is asked."""

    single_stream = "single-stream"
    offline = "offline"
    server = "server"
    live = "live"


class _OwnCommandFirst(TyperGroup):
    """`bench BUNDLE ...` measures; only `bench compare ...` is another command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] == ["compare"] else ["run", *args])


bench_app = typer.Typer(cls=_OwnCommandFirst, help="Measure backends side by side, or compare two reports.", add_completion=False)
bench_app.command(
    "compare",
    epilog="Examples:\n\n  shortcast bench compare before after\n\n  shortcast bench compare before after --fail-if 'p99>+5%'",
)(compare)


@bench_app.command(
    "run",
    epilog="Examples:\n\n  shortcast bench --quick\n\n  shortcast bench my.shortcast clips -o report\n\n"
    "  shortcast bench --backend onnxruntime --backend torch-eager --scenario server --bound 300 -o report\n\n"
    "  shortcast bench --scenario live --period 2 --backend onnxruntime\n\n  shortcast bench compare before after --fail-if 'p99>+5%'",
)
def run(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[BUNDLE] [CLIP...]", help="A bundle, clips, folders.", show_default="the demo bundle and sample"),
    ] = None,
    scope: Annotated[list[Scope] | None, typer.Option("--scope", help="What is timed. Repeatable.", show_default="a plan")] = None,
    scenario: Annotated[
        list[Scenario] | None, typer.Option("--scenario", help="How it is asked. Repeatable.", show_default="a plan")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            help="onnxruntime, torch-eager, torch-compile, openvino, tensorrt, or module:function of your own. Repeatable.",
            show_default="all",
        ),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option("--precision", help="fp32, bf16, fp16, int8. Repeatable.", show_default="each backend's")
    ] = None,
    whisper_backend: Annotated[
        list[str] | None,
        typer.Option(
            "--whisper-backend",
            help="'ctranslate2 int8', 'ctranslate2 float32', 'transformers float32', 'transformers float32 padded to 30 s', whisper.cpp.",
            show_default="all",
        ),
    ] = None,
    device: DeviceOption = Device.cpu,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPUs to use.", show_default="the CPU quota")] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help="Processes for each case.", show_default="3")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the order of runs, the draw of clips and the arrivals.")] = 0,
    bound: Annotated[float, typer.Option("--bound", min=1, help="server: what p99 must not exceed, in ms.")] = 500.0,
    period: Annotated[
        float | None, typer.Option("--period", min=0.01, help="live: seconds from chunk to chunk.", show_default="the chunk's length")
    ] = None,
    budget: Annotated[float | None, typer.Option("--budget", min=0.2, help="Minutes for all of it.", show_default="60")] = None,
    vram_budget: Annotated[
        str | None, typer.Option("--vram-budget", metavar="SIZE", help="On a GPU: the fastest configuration that fits, such as 1.5GiB.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Within a minute: fewer contenders, one run each, labelled QUICK.")] = False,
    whisper: WhisperOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="REPORT-DIR", help="Write a report: page, Markdown, JSON.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Measure latency, throughput and memory of every backend on this machine, each proved equal to the reference first."""
    _require_extra()
    from .benchmarks.plan import Wishes
    from .benchmarks.report import check_folder, write_report
    from .benchmarks.runner import Benchmark
    from .benchmarks.workload import find_clips
    from .display_bench import BenchBar, print_results
    from .runtime.cpu import available_cpus

    if force and output is None:
        raise typer.BadParameter("--force needs --output")
    if scope and scenario and Scope.file not in scope and Scenario.single_stream not in scenario:
        raise typer.BadParameter(
            f"only the scope 'file' has the scenario {scenario[0].value!r}; engines and stages are timed single-stream"
        )
    if output is not None:
        check_folder(output, force=force)
    bundle, given = _bundle_and_clips(sources or [])
    wishes = Wishes(
        backends=tuple(backend or ()),
        precisions=_known(precision),
        whispers=tuple(whisper_backend or ()),
        scopes=tuple(one.value for one in scope or ()),
        scenarios=tuple(one.value for one in scenario or ()),
        device=device.value if device else "cpu",
        threads=threads or available_cpus(),
        repeats=repeats,
        seed=seed,
        quick=quick,
        budget_s=None if budget is None else 60 * budget,
        bound_ms=bound,
        period_s=period,
        vram_budget_bytes=_bytes(vram_budget),
    )
    benchmark = Benchmark(bundle, find_clips(given), wishes, whisper=whisper)
    for line in benchmark.fit.lines if benchmark.fit else ():
        say(line)
    if quick:
        say(f"--quick measures {', '.join(what.name for what in benchmark.contenders)}; without it there are more")
    with BenchBar() as bar:
        command = shlex.join(["shortcast", *sys.argv[1:]])
        results = benchmark.run(command=command, step=lambda step: bar.advance("runs", step.done, step.total, step.note))
    print_results(console(), results)
    if output is not None:
        say(f"the report is {write_report(results, output, force=force)}")
    raise typer.Exit(0 if any(row.runs for row in results.rows) else 1)


def _require_extra() -> None:
    missing = [module for module in _NEEDED if find_spec(module) is None]
    if missing:
        raise DataError(f"shortcast bench needs {', '.join(missing)}: pip install 'shortcast[bench]'")


def _known(precisions: list[str] | None) -> tuple[str, ...]:
    from .benchmarks.contenders import PRECISIONS

    odd = [name for name in precisions or () if name not in PRECISIONS]
    if odd:
        raise typer.BadParameter(f"--precision is one of {', '.join(PRECISIONS)}, got {odd[0]}")
    return tuple(precisions or ())


def _bytes(text: str | None) -> int | None:
    from .benchmarks.budget import parse_bytes

    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _bundle_and_clips(sources: list[Path]) -> tuple[Bundle, list[Path]]:
    """The first source where it is a bundle, else the demo bundle, which is said to be one."""
    from .runtime.bundle import Bundle, demo_bundle
    from .runtime.signature import MANIFEST

    first = sources[0] if sources else None
    if first is not None and ((first / MANIFEST).is_file() or first.suffix == ".shortcast"):
        return Bundle.open(first), sources[1:]
    bundle = Bundle.open(demo_bundle())
    say(f"no bundle given: this is the demo bundle, trained on {bundle.manifest.card['source']}")
    return bundle, sources
