"""Open loops on a station whose time is made up: latencies, misses and searches have one right answer each."""

from itertools import chain, islice, pairwise, repeat
from types import ModuleType
from typing import Any

import pytest

from shortcast.benchmarks.open_loop import Trial, ages_ms, best_of, largest_load, live, poisson, serve
from shortcast.benchmarks.station import ThreadStation, Ticket


def test_arrivals_are_poisson_and_repeatable() -> None:
    times = list(islice(poisson(20.0, seed=3), 20_000))
    assert times == list(islice(poisson(20.0, seed=3), 20_000))
    assert times != list(islice(poisson(20.0, seed=4), 20_000))
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / 20, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.03)  # of an exponential distribution they are equal


def test_a_stall_shows_in_all_that_was_due_meanwhile(fake: ModuleType) -> None:
    """A closed loop would have asked nothing while it stalled, and shown one slow answer."""
    station = fake.FakeStation(chain([0.001] * 100, [1.0], repeat(0.001)))
    trial = serve(station, 100.0, bound_s=10.0, streams=4, most_s=4.0, seed=1)
    stalled = trial.latencies_ms[100]
    assert stalled >= 1000
    due = [ticket.due_s for ticket in trial.tickets]
    meanwhile = [k for k, due_s in enumerate(due) if due[100] < due_s < due[100] + 1.0]
    assert len(meanwhile) > 60
    for k in meanwhile:  # each waited for the end of the stall, and for those before it
        waited = due[100] + 1.0 - due[k]
        assert trial.latencies_ms[k] >= 1e3 * waited
    assert trial.latencies_ms[99] < 10


def test_latencies_are_those_of_a_queue_with_one_server(fake: ModuleType) -> None:
    station = fake.FakeStation(repeat(0.03))
    trial = serve(station, 20.0, bound_s=5.0, streams=4, most_s=10.0, seed=2)
    free_s = 0.0
    for ticket, latency_ms in zip(trial.tickets, trial.latencies_ms, strict=True):
        free_s = max(free_s, ticket.due_s) + 0.03
        assert latency_ms == pytest.approx(1e3 * (free_s - ticket.due_s))


@pytest.mark.parametrize(
    ("service_s", "passed", "proved"),
    [(0.001, True, True), (0.2, False, True)],
)
def test_a_rate_is_settled_with_proof(fake: ModuleType, service_s: float, passed: bool, proved: bool) -> None:
    trial = serve(fake.FakeStation(repeat(service_s)), 50.0, bound_s=0.1, streams=4, most_s=60.0, seed=1)
    assert (trial.passed, trial.proved) == (passed, proved)
    assert len(trial.tickets) >= 662 if passed else len(trial.tickets) < 100


@pytest.mark.parametrize(("most_s", "passed"), [(5.0, True), (0.2, False)])
def test_without_time_for_a_proof_it_says_so(fake: ModuleType, most_s: float, passed: bool) -> None:
    trial = serve(fake.FakeStation(repeat(0.001)), 30.0, bound_s=0.1, streams=4, most_s=most_s, seed=1)
    assert (trial.passed, trial.proved) == (passed, False)


def test_one_slow_answer_in_fifty_is_over_a_bound_on_the_99th_percentile(fake: ModuleType) -> None:
    cycle = chain.from_iterable(chain([0.5], [0.001] * 49) for _ in range(1000))
    trial = serve(fake.FakeStation(cycle, workers=50), 20.0, bound_s=0.1, streams=50, most_s=600.0, seed=1)
    assert (trial.passed, trial.proved) == (False, True)


def test_live_streams_in_time_miss_nothing(fake: ModuleType) -> None:
    trial = live(fake.FakeStation(repeat(0.1)), 4, period_s=1.0, periods=5)
    assert (trial.passed, trial.missed, trial.skipped, len(trial.tickets)) == (True, 0, 0, 20)
    assert trial.latencies_ms == pytest.approx([100.0] * 20)
    assert ages_ms(trial.tickets) == pytest.approx([1100.0] * 16)


def test_a_late_chunk_is_a_miss_and_the_next_is_skipped(fake: ModuleType) -> None:
    """Chunk 1 takes 1.5 periods: it misses its deadline, chunk 2 is skipped, chunk 3 is in time."""
    trial = live(fake.FakeStation([0.1, 1.5, 0.1]), 1, period_s=1.0, periods=4)
    assert (trial.passed, trial.missed, trial.skipped) == (False, 1, 1)
    assert trial.latencies_ms == pytest.approx([100.0, 1500.0, 100.0])
    assert ages_ms(trial.tickets) == pytest.approx([2500.0, 2100.0])


def test_a_chunk_that_never_ends_is_a_miss(fake: ModuleType) -> None:
    trial = live(fake.FakeStation(repeat(1e9)), 1, period_s=0.5, periods=3)
    assert (trial.passed, trial.missed, trial.skipped) == (False, 1, 2)


@pytest.mark.parametrize(("service_s", "workers", "most"), [(0.3, 1, 3), (0.3, 2, 6), (0.09, 1, 11), (1.2, 1, None)])
def test_the_most_streams_are_found(fake: ModuleType, service_s: float, workers: int, most: int | None) -> None:
    def trial(streams: int) -> Trial:
        return live(fake.FakeStation(repeat(service_s), workers=workers), streams, period_s=1.0, periods=40)

    best = best_of(largest_load(trial, 4, out_of_time=lambda: False))
    assert (None if best is None else best.load) == most


def test_the_largest_rate_is_found_whichever_side_it_begins(fake: ModuleType) -> None:
    def trial(rate_per_s: float) -> Trial:
        return Trial(rate_per_s, rate_per_s <= 23.0, True, ())

    for first in (1.0, 22.0, 24.0, 500.0):
        trials = largest_load(trial, first, out_of_time=lambda: False)
        best = best_of(trials)
        assert best is not None
        assert 23.0 / 1.06 <= best.load <= 23.0


def test_a_search_downwards_ends_where_there_are_too_few_queries_to_judge(fake: ModuleType) -> None:
    def trial(rate_per_s: float) -> Trial:
        return serve(fake.FakeStation(repeat(1.0)), rate_per_s, bound_s=0.5, streams=1, most_s=10.0, seed=1)

    trials = largest_load(trial, 5.0, out_of_time=lambda: False)
    assert best_of(trials) is None
    assert len(trials) < 20


def test_a_trial_goes_on_for_queries_enough_to_be_judged(fake: ModuleType) -> None:
    trial = serve(fake.FakeStation(repeat(0.01)), 5.0, bound_s=0.5, streams=1, most_s=2.0, seed=1)
    assert (len(trial.tickets), trial.passed) == (20, True)


def test_a_search_ends_with_its_time(fake: ModuleType) -> None:
    left = iter([False, False, True])
    trials = largest_load(lambda load: Trial(load, True, True, ()), 1, out_of_time=lambda: next(left, True))
    assert [trial.load for trial in trials] == [1, 2, 4]


def test_a_rate_that_passed_above_one_that_failed_does_not_count() -> None:
    trials = [Trial(load, passed, True, ()) for load, passed in ((8.0, True), (4.0, False), (2.0, True))]
    best: Any = best_of(trials)
    assert best.load == 2.0


def test_threads_serve_what_is_due() -> None:
    served: list[int] = []
    with ThreadStation(2, served.append) as station:
        tickets = [Ticket(stream, station.now()) for stream in range(5)]
        for ticket in tickets:
            station.submit(ticket)
        while any(ticket.ended_s is None for ticket in tickets):
            station.wait_until(station.now() + 0.01)
    assert sorted(served) == [0, 1, 2, 3, 4]
    assert all(ticket.latency_s is not None and ticket.latency_s >= 0 for ticket in tickets)


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def serve_badly(stream: int) -> None:
        raise ValueError(f"stream {stream}")

    with ThreadStation(1, serve_badly) as station, pytest.raises(ValueError, match="stream 7"):  # noqa: PT012
        station.submit(Ticket(7, station.now()))
        for _ in range(1000):
            station.wait_until(station.now() + 0.01)
