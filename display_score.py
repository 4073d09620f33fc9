"""How a run over many clips is shown while it goes on: one bar on stderr, with clips per second, what is left, and what failed."""

from __future__ import annotations

from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ClipBar:
    """A progress bar over clips."""

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            TextColumn("clips"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failures]}", style="bold red"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("clips", total=total, rate="", failures="")
        self._done = self._failures = 0
        self._started = monotonic()

    def advance(self, failed: bool) -> None:
        """Counts one more clip."""
        self._done += 1
        self._failures += failed
        rate = f"{self._done / max(1e-9, monotonic() - self._started):.2f} clips/s"
        failures = f"{self._failures} failed" if self._failures else ""
        self._progress.update(self._task, completed=self._done, rate=rate, failures=failures)

    def __enter__(self) -> ClipBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
