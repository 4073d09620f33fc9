"""Many clips through one scorer: a clip is scored by one thread, and what becomes known of it is handed over as events.

Threads are enough: PyAV, ONNX Runtime and CTranslate2 let go of the interpreter while they compute, and the streams of a scorer share
nothing but its engines, which are made for concurrent calls.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Full, Queue
from threading import Event as Flag
from threading import Thread
from time import monotonic
from types import TracebackType
from typing import Protocol, TypeAlias

from ..errors import MediaError
from .media import ReadOptions, Source
from .score import Score

LOOKAHEAD = 64
"""Clips, counted from the oldest one that is not scored yet, that may be begun when scores are wanted in order."""
_EVENTS_HELD = 256
"""Events that wait for a slow reader before the threads do."""
_STOP_S = 2.0
"""How long to wait for threads that were told to stop. They look after every chunk; one may be waiting for a network."""


class Streams(Protocol):
    """What a `Scorer` offers here."""

    def stream(self, source: Source, *, options: ReadOptions | None = None) -> Iterator[Score]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something became known of a clip: a score, or why it has none."""

    index: int
    """Which of the sources it is, from 0."""
    source: Source
    score: Score | None
    error: MediaError | None = None

    @property
    def done(self) -> bool:
        """Whether this is the last event of its clip."""
        return self.error is not None or (self.score is not None and self.score.final)


@contextmanager
def streaming(scorer: Streams, source: Source, options: ReadOptions | None) -> Iterator[Iterator[Score]]:
    """A stream of a clip that is closed, and its source with it, when the block is left."""
    scores = scorer.stream(source, options=options)
    try:
        yield scores
    finally:
        if isinstance(scores, Generator):
            scores.close()


_Follow: TypeAlias = "Callable[[int, Source, Callable[[], bool]], Iterator[Event]]"


def score_many(
    scorer: Streams,
    sources: Iterable[Source],
    *,
    jobs: int = 1,
    options: ReadOptions | None = None,
    each_chunk: bool = False,
    ordered: bool = False,
) -> Generator[Event, None, None]:
    """Scores clips, several at once. Every source gets exactly one event that is `done`, unless the generator is closed before.

    With `jobs=1` everything happens in the calling thread. Closing the generator, or an exception in it, stops the threads after the
    chunk they are at.

    Args:
        scorer: what scores; give it about `CPUs / jobs` threads.
        sources: paths, URLs or objects with `read`; taken as they are needed.
        jobs: clips that are scored at once.
        options: how to read them.
        each_chunk: an event after every chunk, not only after the last.
        ordered: events in the order of the sources; at most `LOOKAHEAD` clips are held back. Otherwise as they become known: the
            chunks of one clip stay in order, those of several mix.

    Yields:
        Events. A clip that cannot be scored is one with a `MediaError`.

    Raises:
        ShortcastError: anything else stops the whole: weights that are missing, an engine that fails.
    """
    follow: _Follow = partial(_follow, scorer, options or ReadOptions(), each_chunk)
    numbered = enumerate(sources)
    if jobs == 1:
        for index, source in numbered:
            yield from follow(index, source, lambda: False)
        return
    events = _concurrently(follow, numbered, jobs=jobs, lookahead=LOOKAHEAD if ordered else None)
    yield from _in_order(events) if ordered else events


def _follow(
    scorer: Streams, options: ReadOptions, each_chunk: bool, index: int, source: Source, stopped: Callable[[], bool]
) -> Iterator[Event]:
    """The events of one clip."""
    try:
        with streaming(scorer, source, options) as scores:
            for score in scores:
                if stopped():
                    return
                if each_chunk or score.final:
                    yield Event(index, source, score)
                if score.final:
                    return
    except MediaError as error:
        yield Event(index, source, None, error)


def _concurrently(
    follow: _Follow, numbered: Iterator[tuple[int, Source]], *, jobs: int, lookahead: int | None
) -> Generator[Event, None, None]:
    """Events as they become known. Twice as many clips as threads are handed out, so that none waits for work."""
    with _Workers(follow, jobs) as workers:
        unfinished: set[int] = set()
        upcoming = next(numbered, None)
        while upcoming or unfinished:
            while upcoming and _may_begin(upcoming[0], unfinished, most=2 * jobs, lookahead=lookahead):
                unfinished.add(upcoming[0])
                workers.give(*upcoming)
                upcoming = next(numbered, None)
            event = workers.take()
            if event.done:
                unfinished.discard(event.index)
            yield event


def _may_begin(index: int, unfinished: set[int], *, most: int, lookahead: int | None) -> bool:
    near = lookahead is None or not unfinished or index - min(unfinished) < lookahead
    return near and len(unfinished) < most


def _in_order(events: Generator[Event, None, None]) -> Generator[Event, None, None]:
    """Holds back events of clips whose turn has not come."""
    turn = 0
    held: dict[int, list[Event]] = {}
    try:
        for event in events:
            held.setdefault(event.index, []).append(event)
            while ready := held.pop(turn, []):
                yield from ready
                if not ready[-1].done:
                    break
                turn += 1
    finally:
        events.close()


class _Workers:
    """Threads that take clips and give events. They end with the `with` block."""

    def __init__(self, follow: _Follow, jobs: int) -> None:
        self._follow = follow
        self._stop = Flag()
        self._tasks: Queue[tuple[int, Source] | None] = Queue()
        self._events: Queue[Event | BaseException] = Queue(_EVENTS_HELD)
        self._threads = [Thread(target=self._work, name=f"shortcast-{number}", daemon=True) for number in range(jobs)]

    def give(self, index: int, source: Source) -> None:
        """Puts a clip where the next free thread takes it."""
        self._tasks.put((index, source))

    def take(self) -> Event:
        """The next event, or raises what stopped a thread."""
        event = self._events.get()
        if isinstance(event, BaseException):
            raise event
        return event

    def __enter__(self) -> _Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = monotonic() + _STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))

    def _work(self) -> None:
        try:
            while (task := self._tasks.get()) is not None and not self._stop.is_set():
                for event in self._follow(*task, self._stop.is_set):
                    self._hand_over(event)
        except BaseException as error:  # raised again by take()
            self._hand_over(error)

    def _hand_over(self, event: Event | BaseException) -> None:
        waiting = True
        while waiting and not self._stop.is_set():
            with suppress(Full):
                self._events.put(event, timeout=0.1)
                waiting = False
