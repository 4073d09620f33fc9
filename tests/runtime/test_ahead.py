import threading
import time
from collections.abc import Iterator

import pytest

from shortcast.runtime.ahead import Ahead, opened_apart
from shortcast.runtime.threads import ThreadPlan


def until(holds: "object", seconds: float = 5.0) -> None:
    """Waits for a condition, given as a callable."""
    assert callable(holds)
    deadline = time.perf_counter() + seconds
    while not holds():
        assert time.perf_counter() < deadline
        time.sleep(0.002)


def test_items_come_in_order_and_whole() -> None:
    with Ahead(iter(range(100)), 2) as ahead:
        assert [ready.item for ready in ahead] == list(range(100))


def test_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10):
            made.append(item)
            yield item

    with Ahead(items(), 2) as ahead:
        until(lambda: len(made) == 3)  # two wait, and one has no room
        time.sleep(0.05)
        assert made == [0, 1, 2]
        assert next(ahead).item == 0
        until(lambda: len(made) == 4)


def test_the_oldest_makes_room_where_it_is_to_and_is_named() -> None:
    released = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        released.wait()

    with Ahead(items(), 2, when_full="drop-oldest") as ahead:
        until(lambda: ahead._ready and ahead._ready[0][0] == 3)
        first = next(ahead)
        assert (first.item, first.dropped) == (3, (0, 1, 2))
        assert next(ahead).item == 4
        released.set()
        assert list(ahead) == []


def test_little_is_kept_of_what_made_room() -> None:
    with Ahead(iter(["a" * 1000] * 5), 1, when_full="drop-oldest", lighten=lambda item: item[:1]) as ahead:
        until(lambda: ahead._ended)
        last = next(ahead)
    assert (len(last.item), last.dropped) == (1000, ("a",) * 4)


def test_closing_calls_whoever_can_end_a_read() -> None:
    released = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        released.wait(30)

    with Ahead(items(), 1, on_close=released.set) as ahead:
        next(ahead)
    assert not any(thread.name == "shortcast-ahead" for thread in threading.enumerate())


class Opened:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_what_is_opened_apart_is_given_or_its_error_raised() -> None:
    opened = Opened()
    assert opened_apart(lambda: opened) is opened
    assert not opened.closed.is_set()

    def fail() -> Opened:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        opened_apart(fail)


def test_what_opens_when_nobody_waits_any_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, begun, released = Opened(), threading.Event(), threading.Event()

    def slowly() -> Opened:
        begun.set()
        released.wait(30)
        return opened

    def interrupted(attempt: object) -> Opened:
        begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr("shortcast.runtime.ahead._Attempt.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened_apart(slowly)
    released.set()
    assert opened.closed.wait(30)


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    with Ahead(items(), 2) as ahead:
        assert next(ahead).item == 1
        with pytest.raises(KeyError, match="broken"):
            next(ahead)


def test_leaving_early_closes_the_iterator_in_its_own_thread() -> None:
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    with Ahead(items(), 1) as ahead:
        next(ahead)
    assert closed == ["shortcast-ahead"]
    assert not any(thread.name == "shortcast-ahead" for thread in threading.enumerate())


def test_a_read_that_never_ends_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcast.runtime.ahead._JOIN_S", 0.05)
    released = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        released.wait()

    with Ahead(items(), 1) as ahead:
        next(ahead)
    released.set()


def test_ready_is_when_it_was_made_not_when_it_was_taken() -> None:
    with Ahead(iter([1]), 1) as ahead:
        until(lambda: ahead._ended)
        before = time.perf_counter()
        assert next(ahead).ready_s < before


@pytest.mark.parametrize(("cpus", "streams", "graphs", "decode"), [(1, 1, 1, 1), (2, 1, 2, 2), (2, 4, 1, 1), (16, 1, 4, 8), (16, 4, 4, 4)])
def test_a_plan_fits_the_cpus(cpus: int, streams: int, graphs: int, decode: int) -> None:
    plan = ThreadPlan.fit(cpus, streams=streams)
    assert (plan.graphs, plan.decode) == (graphs, decode)
    assert plan.ahead >= 1
