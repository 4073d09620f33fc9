"""Open-loop scenarios: queries come when they are due. `server`: at random; `live`: a chunk of every stream in every period.

A station that stalls gets no rest: what was due meanwhile has waited, and its latency says so (no coordinated omission).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from .station import Station, Ticket
from .statistics import CONFIDENCE, exceeds_by_chance, largest_tail, percentile

PERCENT = 99.0
"""The percentile that a bound is on."""
_DRAIN_PERIODS = 2.0
_LONGEST = 3.0
"""How many times its time a trial may take to get the least queries."""
_LEAST_QUERIES = 20
"""Fewer say nothing of a rate, not even without proof."""
_BISECTION_ENDS = 1.05
"""Rates this close are one."""

Load = TypeVar("Load", int, float)


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate or number of streams that was tried."""

    load: float
    passed: bool
    proved: bool
    """Whether there were queries enough to be sure at 99 %; else time was up and the plain percentile decided."""
    tickets: tuple[Ticket, ...]
    skipped: int = 0
    missed: int = 0

    @property
    def latencies_ms(self) -> list[float]:
        """Of the queries that were served, in the order they were due."""
        return [1e3 * ticket.latency_s for ticket in self.tickets if ticket.latency_s is not None]


def poisson(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds after the beginning at which queries come, independent of one another; one seed gives one sequence."""
    random, at_s = Random(seed), 0.0
    while True:
        at_s += random.expovariate(rate_per_s)
        yield at_s


def serve(station: Station, rate_per_s: float, *, bound_s: float, streams: int, most_s: float, seed: int) -> Trial:
    """Queries at one rate, until it's settled whether the 99th percentile of their latencies is under a bound, or time is up.

    Args:
        station: where they are served.
        rate_per_s: how many come in a second.
        bound_s: what the percentile must not exceed.
        streams: queries are the next chunk of these in turn.
        most_s: no query comes later, but for the least without which a rate cannot be judged; these within three times as long.
        seed: of the arrivals.
    """
    begun, tickets = station.now(), []
    for number, at_s in enumerate(poisson(rate_per_s, seed)):
        if at_s > most_s and (number >= _LEAST_QUERIES or at_s > _LONGEST * most_s):
            break
        station.wait_until(begun + at_s)
        tickets.append(Ticket(number % streams, begun + at_s))
        station.submit(tickets[-1])
        verdict = _verdict(tickets, station.now(), bound_s)
        if verdict is not None:
            _drain(station, tickets, bound_s)
            return Trial(rate_per_s, verdict, True, tuple(tickets))
    _drain(station, tickets, bound_s)
    verdict = _verdict(tickets, station.now(), bound_s)
    if verdict is not None:
        return Trial(rate_per_s, verdict, True, tuple(tickets))
    if len(tickets) < _LEAST_QUERIES:
        return Trial(rate_per_s, False, False, tuple(tickets))
    plain = percentile([_age(ticket, station.now()) for ticket in tickets], PERCENT).plain
    return Trial(rate_per_s, plain is not None and plain <= bound_s, False, tuple(tickets))


def live(station: Station, streams: int, *, period_s: float, periods: int) -> Trial:
    """Streams that each bring a chunk every period, evenly shifted against one another. One chunk of a stream may be outstanding:
    where the last is not done when the next is due, that next one is skipped. A score must be there before the next chunk is due.

    Args:
        station: where chunks are served.
        streams: how many at once.
        period_s: from chunk to chunk.
        periods: chunks of each stream.
    """
    begun = station.now() + 0.01
    latest: dict[int, Ticket] = {}
    tickets: list[Ticket] = []
    skipped = 0
    for turn in range(periods):
        for stream in range(streams):
            due_s = begun + (turn + stream / streams) * period_s
            station.wait_until(due_s)
            before = latest.get(stream)
            if before is not None and before.ended_s is None:
                skipped += 1
                continue
            latest[stream] = Ticket(stream, due_s)
            tickets.append(latest[stream])
            station.submit(latest[stream])
    _drain(station, tickets, period_s)
    missed = sum(ticket.ended_s is None or ticket.ended_s > ticket.due_s + period_s for ticket in tickets)
    return Trial(streams, not (missed or skipped), True, tuple(tickets), skipped, missed)


def ages_ms(tickets: Sequence[Ticket]) -> list[float]:
    """Age of information at its oldest: when a score comes, how long ago the chunk of the score before it had ended."""
    known: dict[int, float] = {}
    ages = []
    for ticket in sorted((ticket for ticket in tickets if ticket.ended_s is not None), key=lambda ticket: ticket.ended_s or 0.0):
        if ticket.stream in known and ticket.ended_s is not None:
            ages.append(1e3 * (ticket.ended_s - known[ticket.stream]))
        known[ticket.stream] = ticket.due_s
    return ages


def largest_load(trial: Callable[[Load], Trial], first: Load, *, out_of_time: Callable[[], bool]) -> list[Trial]:
    """Doubles the load until a trial fails (or halves it until one passes), then bisects, as long as there is time.

    Args:
        trial: tries one load.
        first: where to begin; whole numbers stay whole, and are at least 1.
        out_of_time: looked at before every trial but the first. A search downwards also ends where queries come too seldom to be judged.

    Returns:
        Every trial, in order.
    """
    whole = isinstance(first, int)
    trials = [trial(first)]
    factor = 2.0 if trials[0].passed else 0.5
    while True:
        load = _scaled(trials[-1].load, factor, whole=whole)
        slow = factor < 1 and not trials[-1].proved and len(trials[-1].tickets) < _LEAST_QUERIES
        if slow or out_of_time() or trials[-1].passed != trials[0].passed or load == trials[-1].load:
            break
        trials.append(trial(load))  # type: ignore[arg-type]
    while not out_of_time():
        passed = [one.load for one in trials if one.passed]
        failed = [one.load for one in trials if not one.passed]
        if not passed or not failed:
            break
        low, high = max(passed), min(failed)
        middle = (low + high) // 2 if whole else (low + high) / 2
        if high <= low or (whole and middle == low) or (not whole and high / low <= _BISECTION_ENDS):
            break
        trials.append(trial(int(middle) if whole else middle))  # type: ignore[arg-type]
    return trials


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The largest load that passed below the smallest that failed; None where none did."""
    worst = min((one.load for one in trials if not one.passed), default=float("inf"))
    passed = [one for one in trials if one.passed and one.load < worst]
    return max(passed, key=lambda one: one.load, default=None)


def _verdict(tickets: Sequence[Ticket], now_s: float, bound_s: float) -> bool | None:
    """True or False where the queries so far settle it at 99 %, else None. One that is overdue counts before it has ended."""
    known = [ticket for ticket in tickets if ticket.ended_s is not None or now_s - ticket.due_s > bound_s]
    over = sum(_age(ticket, now_s) > bound_s for ticket in known)
    if over < largest_tail(len(known), PERCENT):
        return True
    return False if exceeds_by_chance(len(known), over, PERCENT) <= 1 - CONFIDENCE else None


def _age(ticket: Ticket, now_s: float) -> float:
    """Its latency, or how long it has waited so far."""
    return now_s - ticket.due_s if ticket.latency_s is None else ticket.latency_s


def _drain(station: Station, tickets: Sequence[Ticket], period_s: float) -> None:
    """Waits for what is outstanding, so that the next trial begins with an empty queue."""
    deadline = station.now() + max(_DRAIN_PERIODS * period_s, 10.0)
    while station.now() < deadline and any(ticket.ended_s is None for ticket in tickets):
        station.wait_until(station.now() + 0.01)


def _scaled(load: float, factor: float, *, whole: bool) -> float:
    return max(1, int(load * factor)) if whole else load * factor
