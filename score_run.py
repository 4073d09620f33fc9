"""What `shortcast score` does with many clips: scores them, shows them on stdout, and counts failures.

Nothing here imports a library that decodes or computes: `Plan.open_scorer` does, when Whisper has begun to load beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .runtime.clip_list import Clip
from .runtime.cpu import available_cpus
from .runtime.pace import PaceTally
from .runtime.read_options import ReadOptions
from .terminal import console, say

if TYPE_CHECKING:
    from .runtime.many import Event
    from .runtime.score import Score
    from .runtime.score_files import RowsKey
    from .runtime.scorer import Scorer
    from .score_until import EarlyExit


@dataclass(frozen=True, slots=True)
class Plan:
    """How clips are scored, whatever becomes of the scores."""

    open_scorer: Callable[..., Scorer]
    """Takes `threads`."""
    options: ReadOptions
    jobs: int | None
    threads: int | None
    every_chunk: bool
    ordered: bool
    until: EarlyExit | None = None
    """Leaves clips early; None scores them whole."""

    def events(self, clips: Sequence[Clip]) -> Generator[Event, None, None]:
        """Opens the engines and scores clips. Of a single one every score comes, for its last is wanted if it is interrupted."""
        cpus = available_cpus()
        jobs = self.jobs or _default_jobs(clips, cpus)
        with self.open_scorer(threads=self.threads or max(1, cpus // jobs)) as scorer:
            from .runtime.many import score_many

            sources = (clip.source for clip in clips)
            each_chunk = self.every_chunk or len(clips) == 1
            settling = self.until.watch(scorer) if self.until else None
            try:
                yield from score_many(
                    settling or scorer, sources, jobs=jobs, options=self.options, each_chunk=each_chunk, ordered=self.ordered
                )
            finally:
                if self.until and settling:
                    self.until.report(settling.savings)

    def wants(self, score: Score) -> bool:
        """Whether a score is among those asked for."""
        return self.every_chunk or score.final


def _default_jobs(clips: Sequence[Clip], cpus: int) -> int:
    """As many as there are CPUs, which was the fastest; one where standard input is a clip, which may be live."""
    return 1 if any(clip.source == "-" for clip in clips) else max(1, min(cpus, len(clips)))


def table_printer() -> Callable[[Clip, Score], None]:
    """What shows one score on stdout as a row of a table."""
    from .display import ScoreTable

    table = ScoreTable(console())
    return lambda _, score: table.show(score)


def json_printer() -> Callable[[Clip, Score], None]:
    """What prints one score on stdout as a JSON line."""
    return lambda _, score: print(json.dumps(score.to_json()), flush=True)


def csv_printer(key: RowsKey) -> Callable[[Clip, Score], None]:
    """What prints one score on stdout as CSV, after the heading."""
    from .runtime.score_files import FileFormat, RowEncoder
    from .runtime.score_rows import rows_of

    encoder = RowEncoder(FileFormat.csv, key.classes)
    _emit(encoder.heading())
    return lambda clip, score: _emit(encoder.encode(rows_of(clip, [score], None, key.scored_with)))


def _emit(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def print_scores(clips: Sequence[Clip], plan: Plan, show: Callable[[Clip, Score], None]) -> int:
    """Scores clips onto stdout; what is wrong with one goes to stderr and the others are still scored. Returns how many failed."""
    failures = 0
    seen = len(clips) > 1 and sys.stderr.isatty() and not sys.stdout.isatty()
    with (
        keeping(clips, plan, lambda index, score: show(clips[index], score)) as take,
        closing(plan.events(clips)) as events,
        clip_bar(len(clips), show=seen) as advance,
    ):
        for event in events:
            if event.score:
                take(event.index, event.score)
            failures += note_end(event, advance)
    return failures


@contextmanager
def keeping(clips: Sequence[Clip], plan: Plan, keep: Callable[[int, Score], None]) -> Iterator[Callable[[int, Score], None]]:
    """What is to be told of every score: it keeps those that are wanted, and says what each live source came to.

    Of a single source that is interrupted the last score is kept; if the source is live, that is how its run ends, and the interrupt goes
    no further.
    """
    tallies: dict[int, PaceTally] = {}

    def take(index: int, score: Score) -> None:
        tally = tallies.setdefault(index, PaceTally())
        tally.add(score)
        if plan.wants(score):
            keep(index, score)
        if score.final:
            _say_pace(tallies.pop(index))

    try:
        yield take
    except KeyboardInterrupt:
        last = tallies[0].latest if len(clips) == 1 and 0 in tallies else None
        if last is None:
            raise
        if not plan.every_chunk:
            keep(0, replace(last, notes=(*last.notes, "interrupted")))
        _say_pace(tallies[0])
        if not last.pace.live:
            raise


def _say_pace(tally: PaceTally) -> None:
    if tally.latest is not None and tally.latest.pace.live:
        say(f"{tally.latest.clip}: {tally.summary()}")


@contextmanager
def clip_bar(clips: int, *, show: bool) -> Iterator[Callable[[bool], None]]:
    """What is to be told of every clip that is done, whether it failed; where nobody looks, rich is not even imported."""
    if not show:
        yield lambda failed: None
        return
    from .display_score import ClipBar

    with ClipBar(clips) as bar:
        yield bar.advance


def note_end(event: Event, advance: Callable[[bool], None]) -> bool:
    """Moves the bar, and says why a clip failed if it did."""
    if event.error:
        say(str(event.error))
    if event.done:
        advance(event.error is not None)
    return event.error is not None
