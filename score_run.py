"""What `shortcast score` does with many clips: scores them, shows them on stdout or appends them to a file, and counts failures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import ShortcastError
from .runtime.bundle import Bundle
from .runtime.clip_list import Clip
from .runtime.cpu import available_cpus
from .runtime.early import Savings, Until, UntilSettled, stop_of
from .runtime.many import Event, score_many
from .runtime.media import ReadOptions
from .runtime.pace import PaceTally
from .runtime.score import Score
from .runtime.score_files import FileFormat, RowEncoder, RowsKey, ScoreFile, new_score_file, resume_score_file
from .runtime.score_rows import class_key, rows_of
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
class EarlyExit:
    """That clips are left once they are settled."""

    until: Until
    watts_per_core: float | None

    def __str__(self) -> str:
        return f"until the {self.until.kind} is settled at {self.until.confidence:g}"

    def check(self, bundle: Bundle, *, both: bool) -> None:
        """Says what the bundle promises.

        Args:
            bundle: what clips are scored with.
            both: pictures and sound are used.

        Raises:
            DataError: it has no settling table, or cannot promise so much.
        """
        stop = stop_of(bundle, self.until)
        moved = "" if stop.row.moved_z is None else f", and 9 in 10 of them moved by at most {stop.row.moved_z:.2f} standardised units"
        settling = bundle.manifest.settling
        say(
            f"of clips that stop early at least {100 * stop.at_least:.1f} % keep their {_name(self.until, bundle)}: {stop.row.kept} of "
            f"{stop.row.stopped} did when the bundle was calibrated{moved}"
            + (f" ({settling.provenance['source']})" if settling and settling.provenance.get("source") else "")
        )
        if not both:
            say("that was measured with pictures and sound; with one of them left out it is not known to hold")

    def report(self, savings: Savings) -> None:
        """Says what stopping early saved."""
        if savings.clips:
            say(" ".join(part for part in (*_saved(savings), *_energy(savings, self.watts_per_core)) if part))


def _name(until: Until, bundle: Bundle) -> str:
    return "interval" if until.kind == "interval" else class_key(bundle.manifest.target.classes)


def _saved(savings: Savings) -> Iterator[str]:
    whole_s = savings.seen_s + savings.unread_s
    yield f"settled early: {savings.settled} of {savings.clips} clips; {savings.unread_s:.1f} s of {whole_s:.1f} s not read"
    yield f"({savings.unread_s / whole_s:.0%})" if whole_s else ""
    if savings.undeclared:
        yield f"and what is left of {savings.undeclared} whose length nobody declares"
    if savings.unread_s and savings.core_s is not None and savings.core_s_per_s is not None:
        yield f"- about {savings.core_s:.1f} core-seconds, at the {savings.core_s_per_s:.3f} for a second of media that this run took"


def _energy(savings: Savings, watts_per_core: float | None) -> Iterator[str]:
    """Joules where the machine counts them or the user says what a core takes; never a guess."""
    if not savings.unread_s:
        return
    if watts_per_core is not None and savings.core_s is not None:
        yield f"- about {savings.core_s * watts_per_core:.0f} J, at {watts_per_core:g} W for a busy core as given"
    elif watts_per_core is None and savings.joules is not None and savings.joules_per_s is not None:
        yield f"- about {savings.joules:.0f} J, at the {savings.joules_per_s:.2f} J that the processor counted for each (whole machine)"


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
            sources = (clip.source for clip in clips)
            each_chunk = self.every_chunk or len(clips) == 1
            settling = UntilSettled(scorer, self.until.until) if self.until else None
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
