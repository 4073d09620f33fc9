"""Working ahead: an iterator runs in a thread of its own, a bounded number of items before whoever asks for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Generic, Literal, Protocol, TypeVar

T = TypeVar("T")

WhenFull = Literal["wait", "drop-oldest"]
"""What happens to an item for which there is no room: it waits (a file), or the oldest one makes room (a live source)."""

_JOIN_S = 2.0
"""A thread that sits in a read nobody answers is left behind after this; it is a daemon and holds nothing that others need."""


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """An item, and what is known of how it came."""

    item: T
    ready_s: float
    """When it was ready, by `perf_counter`."""
    dropped: tuple[T, ...]
    """Items before it that made room since the last one was taken."""


class Ahead(Generic[T]):
    """Items of an iterator, made in a thread of its own. A context manager; leaving it stops the thread.

    What the iterator raises is raised by `__next__`, after the items that came before it. A generator is closed in its own thread, which
    may be later than `close` where it sits in a read that nobody answers.
    """

    def __init__(
        self,
        items: Iterator[T],
        most: int,
        *,
        when_full: WhenFull = "wait",
        lighten: Callable[[T], T] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        """Starts at once.

        Args:
            items: what to run; only the new thread touches it from now on.
            most: items that may wait to be taken, at least 1.
            when_full: see `WhenFull`.
            lighten: what is kept of an item that makes room until somebody hears of it; who is too slow may be so for hours.
            on_close: called by `close` before it waits for the thread: what makes `items` come out of a read that nobody answers.
        """
        self._items = items
        self._lighten, self._on_close = lighten, on_close
        self._most, self._when_full = max(1, most), when_full
        self._ready: deque[tuple[T, float]] = deque()
        self._dropped: list[T] = []
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="shortcast-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Ready[T]]:
        return self

    def __next__(self) -> Ready[T]:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            if not self._ready:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopIteration
            item, ready_s = self._ready.popleft()
            dropped, self._dropped = tuple(self._dropped), []
            self._changed.notify_all()
            return Ready(item, ready_s, dropped)

    def close(self) -> None:
        """Stops the thread; items that wait are let go."""
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
        if self._on_close:
            self._on_close()
        self._thread.join(_JOIN_S)

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
            if isinstance(self._items, Generator):
                self._items.close()
        except BaseException as error:  # raised again by take(), in the thread that asks
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """False where nobody wants any more."""
        with self._changed:
            if self._when_full == "wait":
                self._changed.wait_for(lambda: self._stopped or len(self._ready) < self._most)
            elif len(self._ready) >= self._most:
                oldest, _ = self._ready.popleft()
                self._dropped.append(self._lighten(oldest) if self._lighten else oldest)
            if self._stopped:
                return False
            self._ready.append((item, perf_counter()))
            self._changed.notify_all()
            return True


class Closeable(Protocol):
    """What has to be closed by whoever has it."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closeable)


def opened_apart(opening: Callable[[], C]) -> C:
    """Runs what may block in a library that hears of no signal in a thread of its own, so that Ctrl-C ends the wait for it.

    What is opened after nobody waits for it any more is closed.
    """
    attempt = _Attempt(opening)
    try:
        return attempt.result()
    except BaseException:
        attempt.abandon()
        raise


class _Attempt(Generic[C]):
    """One call in a thread of its own. `Future.result` would do, were it not that its executor waits for its threads at the exit."""

    def __init__(self, opening: Callable[[], C]) -> None:
        self._opening = opening
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._opened: C | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        threading.Thread(target=self._run, name="shortcast-open", daemon=True).start()

    def result(self) -> C:
        self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._opened is not None
        return self._opened

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._opened is not None:
                self._opened.close()

    def _run(self) -> None:
        try:
            opened = self._opening()
        except BaseException as error:  # raised again by result(), in the thread that asks
            self._error = error
        else:
            with self._lock:
                self._opened = opened
                if self._abandoned:
                    opened.close()
        self._ended.set()
