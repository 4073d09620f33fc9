"""Scores for asyncio: a clip is read and scored in a thread of its own, and the event loop never waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TypeAlias

from .cpu import available_cpus
from .many import Streams, streaming
from .media import ReadOptions, Source
from .score import Score

_AHEAD = 2
"""Scores that may wait to be taken before a thread does."""
_STOP_S = 10.0
"""How long an abandoned stream is waited for: as long as a network may send nothing."""

_Item: TypeAlias = "Score | BaseException | None"
"""A score, what went wrong, or None at the end."""


class AsyncScorer:
    """A `Scorer` for coroutines, which keep using it at once: every stream has a thread of its own.

    The scorer stays its owner's, to be closed after the last stream.
    """

    def __init__(self, scorer: Streams, *, jobs: int | None = None) -> None:
        """Wraps a scorer.

        Args:
            scorer: what scores.
            jobs: clips that `score` works on at once; None takes the CPU quota. `stream` has no such limit: live sources may be many.
        """
        self._scorer = scorer
        self._turn = asyncio.Semaphore(jobs or available_cpus())

    async def score(self, source: Source, *, options: ReadOptions | None = None) -> Score:
        """Scores a whole clip; see `Scorer.score`. Give many to `asyncio.gather`: `jobs` of them are worked on at once."""
        async with self._turn, aclosing(self.stream(source, options=options)) as scores:
            return [score async for score in scores][-1]

    async def stream(self, source: Source, *, options: ReadOptions | None = None) -> AsyncGenerator[Score, None]:
        """Scores a clip while it is read; see `Scorer.stream`.

        A slow reader makes the thread wait: it is never more than two scores ahead. When the task is cancelled, or the generator
        closed (`contextlib.aclosing` does so after a `break`), the source is closed after the chunk that is being scored.

        Raises:
            MediaError: the source cannot be opened, or nothing in it decodes.
            WeightsError: it has sound and the Whisper weights are not found.
        """
        feed = _Feed(self._scorer, source, options)
        try:
            while (item := await feed.take()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            await feed.stop()


class _Feed:
    """A thread that scores one clip and hands its scores to the event loop, never more than `_AHEAD` before they are taken."""

    def __init__(self, scorer: Streams, source: Source, options: ReadOptions | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[_Item] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._stopped = threading.Event()
        self._ended = asyncio.Event()
        threading.Thread(target=self._work, args=(scorer, source, options), name="shortcast-stream", daemon=True).start()

    async def take(self) -> _Item:
        """The next item; there is none after None or an exception."""
        item = await self._items.get()
        self._room.release()
        return item

    async def stop(self) -> None:
        """Tells the thread to stop, and waits until it has closed the source; not for ever, for a read may never return."""
        self._stopped.set()
        self._room.release()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _STOP_S)

    def _work(self, scorer: Streams, source: Source, options: ReadOptions | None) -> None:
        end: BaseException | None = None
        try:
            with streaming(scorer, source, options) as scores:
                for score in scores:
                    self._room.acquire()
                    if self._stopped.is_set():
                        break
                    self._tell(self._items.put_nowait, score)
        except BaseException as error:  # raised again in the coroutine
            end = error
        self._tell(self._items.put_nowait, end)
        self._tell(self._ended.set)

    def _tell(self, function: Callable[..., None], *arguments: _Item) -> None:
        """Has the event loop call a function; one that was closed has nobody left to tell."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
