"""The command line: parse, call, print. stdout is data, stderr is progress and messages.

Exit codes: 0 ok; 1 an input or a run failed; 2 usage; 3 parity or a check outside its tolerance; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__
from .errors import ShortcastError
from .terminal import console, say

_INTERRUPTED = 128
"""And the number of the signal, as shells have it: 130 for SIGINT, which is Ctrl-C, 143 for SIGTERM."""
_COMPLETING = "_SHORTCAST_COMPLETE"
"""Set by a shell that wants to know how a line could go on."""


def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False) -> None:
    if version:
        typer.echo(f"shortcast {__version__}")
        raise typer.Exit


def doctor() -> None:
    """Print versions, engines, devices and weights on this machine; exit code 1 where something stands in the way."""
    from .display import doctor_table
    from .runtime.doctor import examine

    findings = list(examine())
    console().print(doctor_table(findings))
    raise typer.Exit(1 if any(finding.problem for finding in findings) else 0)


def _every_command() -> typer.Typer:
    from .cli_bench import bench_app
    from .cli_data import data_app
    from .cli_export import export_app
    from .cli_score import score_app
    from .cli_train import train_app

    app = typer.Typer(
        name="shortcast",
        help="Predict how well a short video will do, from its pictures and sound, while it streams.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
        rich_markup_mode="rich",
        epilog="Exit codes: 0 ok · 1 an input or a run failed · 2 usage · 3 parity outside tolerance · 130 interrupted",
    )
    app.callback(invoke_without_command=True)(_root)
    app.add_typer(score_app)
    app.add_typer(train_app)
    app.add_typer(export_app)
    app.add_typer(data_app, name="data")
    app.add_typer(bench_app, name="bench")
    app.command()(doctor)
    return app


def _run(arguments: Sequence[str]) -> None:
    """Runs a command. `score` is built alone, without the group and the commands around it, which would delay its first score."""
    if list(arguments[:1]) != ["score"] or "--help" in arguments or _COMPLETING in os.environ:
        _every_command()()
        return
    # Scoring needs no BLAS; left alone, the threads that OpenBLAS starts when numpy is imported spin for 0.1 core-seconds.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from .cli_score import score_app

    started_as = Path(sys.argv[0])
    program = "python -m shortcast" if started_as.name == "__main__.py" else started_as.name
    typer.main.get_command(score_app)(args=list(arguments[1:]), prog_name=f"{program} score")


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _every_command()


def main() -> None:
    """Runs the command line; a shortcast error is one sentence and its exit code, never a traceback."""
    interrupts: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        interrupts.append(number)
        say("interrupted")
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        _run(sys.argv[1:])
    except ShortcastError as error:
        # A library may turn the interrupt into an error of its own: what the user did counts, not what came of it.
        if interrupts:
            sys.exit(_INTERRUPTED + interrupts[0])
        say(str(error))
        sys.exit(error.exit_code)
    except SystemExit as ending:
        # typer ends an interrupted command itself, as if every interrupt were a Ctrl-C
        sys.exit(_INTERRUPTED + interrupts[0] if interrupts and ending.code == _INTERRUPTED + signal.SIGINT else ending.code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED + (interrupts[0] if interrupts else signal.SIGINT))
