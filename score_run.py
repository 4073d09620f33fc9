"""What `shortcast score` does with many clips: scores them, shows them on stdout or appends them to a file, and counts failures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ShortcastError
from .runtime.clip_list import Clip
from .runtime.cpu import available_cpus
from .runtime.many import Event, score_many
from .runtime.media import ReadOptions
from .runtime.pace import PaceTally
from .runtime.score import Score
from .runtime.score_files import FileFormat, RowEncoder, RowsKey, ScoreFile, new_score_file, resume_score_file
from .runtime.score_rows import rows_of
from .runtime.scorer import Scorer
from .terminal import console, say


@dataclass(frozen=True, slots=True)
class Target:
    """The file that scores go to."""

    path: Path
    form: FileFormat
    resume: bool
    retry_failed: bool
    force: bool


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

    def events(self, clips: Sequence[Clip]) -> Generator[Event, None, None]:
        """Opens the engines and scores clips. Of a single one every score comes, for its last is wanted if it is interrupted."""
        cpus = available_cpus()
        jobs = self.jobs or _default_jobs(clips, cpus)
        with self.open_scorer(threads=self.threads or max(1, cpus // jobs)) as scorer:
            sources = (clip.source for clip in clips)
            each_chunk = self.every_chunk or len(clips) == 1
            yield from score_many(scorer, sources, jobs=jobs, options=self.options, each_chunk=each_chunk, ordered=self.ordered)

    def wants(self, score: Score) -> bool:
        """Whether a score is among those asked for."""
        return self.every_chunk or score.final


def _default_jobs(clips: Sequence[Clip], cpus: int) -> int:
    """As many as there are CPUs, which was the fastest; one where standard input is a clip, which may be live."""
    return 1 if any(clip.source == "-" for clip in clips) else max(1, min(cpus, len(clips)))


def printer(key: RowsKey, *, as_table: bool, as_csv: bool) -> Callable[[Clip, Score], None]:
    """What shows one score on stdout."""
    if as_table:
        from .display import ScoreTable

        table = ScoreTable(console())
        return lambda _, score: table.show(score)
    if not as_csv:
        return lambda _, score: print(json.dumps(score.to_json()), flush=True)
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
        _kept(clips, plan, lambda index, score: show(clips[index], score)) as take,
        closing(plan.events(clips)) as events,
        _bar(len(clips), show=seen) as advance,
    ):
        for event in events:
            if event.score:
                take(event.index, event.score)
            failures += _count(event, advance)
    return failures


@contextmanager
def _kept(clips: Sequence[Clip], plan: Plan, keep: Callable[[int, Score], None]) -> Iterator[Callable[[int, Score], None]]:
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
def _bar(clips: int, *, show: bool) -> Iterator[Callable[[bool], None]]:
    """What is to be told of every clip that is done, whether it failed; where nobody looks, rich is not even imported."""
    if not show:
        yield lambda failed: None
        return
    from .display_score import ClipBar

    with ClipBar(clips) as bar:
        yield bar.advance


def _count(event: Event, advance: Callable[[bool], None]) -> bool:
    """Moves the bar, and says why a clip failed if it did."""
    if event.error:
        say(str(event.error))
    if event.done:
        advance(event.error is not None)
    return event.error is not None


def score_into(target: Target, key: RowsKey, clips: Sequence[Clip], plan: Plan) -> int:
    """Scores clips into a file, all of them or those that are not in it. Returns how many have failed, then or now."""
    if target.resume:
        opened = resume_score_file(target.path, target.form, key, clips, retry_failed=target.retry_failed)
    else:
        opened = new_score_file(target.path, target.form, key, force=target.force)
    with opened as file:
        todo = [clip for clip in clips if clip.key not in file.done]
        before = [file.done[clip.key] for clip in clips if clip.key in file.done]
        tally = _Tally(len(before), sum(clip.failed for clip in before))
        if before:
            say(f"{target.path} has {tally.of(len(clips))}" + ("; --retry-failed tries those again" if tally.failed else ""))
        try:
            _append_scores(file, todo, plan, tally)
        except (KeyboardInterrupt, ShortcastError):
            say(f"{target.path} has {tally.of(len(clips))}; to go on, give the same command with --resume {target.path}")
            raise
    if todo:
        say(f"{target.path} has {tally.of(len(clips))}")
    return tally.failed


@dataclass(slots=True)
class _Tally:
    """Clips that are in the file."""

    done: int
    failed: int

    def of(self, clips: int) -> str:
        """`12 of 40 clips, 2 of them failed`."""
        return f"{self.done} of {clips} clips" + (f", {self.failed} of them failed" if self.failed else "")


def _append_scores(file: ScoreFile, clips: Sequence[Clip], plan: Plan, tally: _Tally) -> None:
    """Scores clips and appends the rows of each when it is done."""
    if not clips:
        return
    rows: dict[int, list[Score]] = {}

    def keep(index: int, score: Score) -> None:
        if len(clips) == 1:  # nothing can mix with the rows of a single clip, and it may go on for ever
            file.add(clips[index], [score])
        else:
            rows.setdefault(index, []).append(score)

    with (
        _kept(clips, plan, keep) as take,
        closing(plan.events(clips)) as events,
        _bar(len(clips), show=sys.stderr.isatty()) as advance,
    ):
        for event in events:
            if event.score:
                take(event.index, event.score)
            if event.done:
                file.add(clips[event.index], rows.pop(event.index, []), str(event.error) if event.error else None)
                tally.done += 1
                tally.failed += _count(event, advance)
