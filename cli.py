"""The command line: parse, call, print. stdout is data, stderr is progress and messages.

Exit codes: 0 ok; 1 an input or a run failed; 2 usage; 3 parity or a check outside its tolerance; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from . import __version__
from .cli_bench import bench_app
from .cli_data import data_app
from .cli_export import export_app
from .cli_score import score_app
from .cli_train import train_app
from .errors import ShortcastError
from .terminal import console, say

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

app = typer.Typer(
    name="shortcast",
    help="Predict how well a short video will do, from its pictures and sound, while it streams.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 ok · 1 an input or a run failed · 2 usage · 3 parity outside tolerance · 130 interrupted",
)
app.add_typer(score_app)
app.add_typer(train_app)
app.add_typer(export_app)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False) -> None:
    if version:
        typer.echo(f"shortcast {__version__}")
        raise typer.Exit


@app.command()
def doctor() -> None:
    """Print versions, engines, devices and weights on this machine; exit code 1 where something stands in the way."""
    from .display import doctor_table
    from .runtime.doctor import examine

    findings = list(examine())
    console().print(doctor_table(findings))
    raise typer.Exit(1 if any(finding.problem for finding in findings) else 0)


def main() -> None:
    """Runs the command line; a shortcast error is one sentence and its exit code, never a traceback."""
    interrupts: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        interrupts.append(number)
        say("interrupted")
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        app()
    except ShortcastError as error:
        # A library may turn the interrupt into an error of its own: what the user did counts, not what came of it.
        if interrupts:
            sys.exit(_INTERRUPTED)
        say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
