"""Where queries of an open loop are served: they come when they are due, wait for a free worker, and their latency counts the waiting.

The scenarios see a `Station` alone. The real one has threads; tests have one whose time is made up, so what they prove is exact.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter, sleep
from types import TracebackType
from typing import Protocol


@dataclass(slots=True)
class Ticket:
    """One query. Times are the station's seconds."""

    stream: int
    """Whose next chunk it is."""
    due_s: float
    """When it was to come: it comes then, however busy the station is."""
    ended_s: float | None = None

    @property
    def latency_s(self) -> float | None:
        """From the moment it was due, not from the moment somebody had time for it."""
        return None if self.ended_s is None else self.ended_s - self.due_s


class Station(Protocol):
    """Workers behind one queue."""

    def now(self) -> float: ...

    def wait_until(self, at_s: float) -> None:
        """Lets time pass; returns at once where it has passed already."""
        ...

    def submit(self, ticket: Ticket) -> None:
        """Queues a query; its `ended_s` is set when it has been served."""
        ...


class ThreadStation:
    """Workers that are threads. A context manager; leaving it ends them after the query they are at."""

    def __init__(self, workers: int, serve: Callable[[int], None]) -> None:
        """Starts the threads.

        Args:
            workers: queries that are served at once.
            serve: serves the next chunk of a stream; calls for one stream never overlap unless its tickets do.
        """
        self._serve = serve
        self._queue: SimpleQueue[Ticket | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._work, name=f"station-{k}", daemon=True) for k in range(workers)]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        return perf_counter()

    def wait_until(self, at_s: float) -> None:
        """Sleeps; raises what went wrong in a worker."""
        while (left := at_s - perf_counter()) > 0 and self._error is None:
            sleep(min(left, 0.05))
        if self._error is not None:
            raise self._error

    def submit(self, ticket: Ticket) -> None:
        self._queue.put(ticket)

    def __enter__(self) -> ThreadStation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def _work(self) -> None:
        while (ticket := self._queue.get()) is not None:
            try:
                self._serve(ticket.stream)
            except BaseException as error:  # raised again by wait_until()
                self._error = error
                return
            ticket.ended_s = perf_counter()
