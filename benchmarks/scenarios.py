"""How a contender is asked: one call after the other, many clips at once, at random, or by the clock of live streams."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

from ..runtime.chunks import ChunkStream, read_chunks
from ..runtime.many import score_many
from ..runtime.scorer import Scorer
from ..runtime.scoring_stream import Stream
from .contenders import Opened
from .open_loop import Trial, ages_ms, best_of, largest_load, live, serve
from .recording import Record, RunRule, closed_loop
from .results import WarmUp
from .scopes import EngineCalls, Files, Stages
from .station import ThreadStation
from .task import Load, Task
from .warmup import warm_up
from .workload import Draw, chunk_pool

_AUDIT_PAIRS = 24
_TRIAL_PERIODS = 4
_LEAST_TRIAL_S = 6.0
_TRIALS = 6


@dataclass(frozen=True, slots=True)
class Timed:
    """The timed part of a run."""

    warm_up: WarmUp
    wall_s: float
    cpu_s: float


def threads_of(task: Task) -> int:
    """Of one engine call: all of them for one stream at a time; one each where as many streams run as there are CPUs."""
    return task.threads if task.scenario in (None, "single-stream") else 1


def run_scenario(task: Task, opened: Opened, scorer: Scorer, record: Record, mark: Callable[[str], None]) -> Timed:
    """Warms up and measures.

    Args:
        task: what to do.
        opened: the contender.
        scorer: the pipeline over it.
        record: where samples go.
        mark: told the name of each phase as it begins.
    """
    clips = [Path(clip) for clip in task.clips]
    draw = Draw(clips, task.seed)
    subject: EngineCalls | Stages | Files
    mark("inputs")
    if task.scope == "engine":
        subject = EngineCalls(opened, scorer, chunk_pool(clips, scorer.bundle), task.seed)
    elif task.scope == "stage":
        subject = Stages(opened, scorer, draw)
    else:
        subject = Files(scorer, draw)
    mark("warm-up")
    warmed = warm_up(lambda: subject.once(Record()), task.warm_up)
    mark("timed")
    begun_cpu = _cpu_s()
    if task.scenario == "single-stream":
        wall_s = closed_loop(subject.once, record, task.rule, counted=subject.counted)
        cpu_s = _cpu_s() - begun_cpu
        if isinstance(subject, EngineCalls):
            subject.audit(record, _AUDIT_PAIRS)
        return Timed(warmed, wall_s, cpu_s)
    if task.scenario == "offline":
        wall_s = _offline(scorer, draw, record, task.rule, jobs=task.threads)
    elif task.scenario == "server":
        wall_s = _server(scorer, draw, record, task)
    else:
        wall_s = _live(scorer, draw, record, task)
    return Timed(warmed, wall_s, _cpu_s() - begun_cpu)


def _offline(scorer: Scorer, draw: Iterator[Path], record: Record, rule: RunRule, *, jobs: int) -> float:
    """All clips are there at once and are scored as fast as may be, several at a time; how many was found by scoring a few."""
    trial = Record()
    pace_s = _score_all(scorer, list(islice(draw, 2 * jobs)), trial, jobs) / trial.clips
    clips = max(4 * jobs, round(rule.least_s / pace_s))
    wall_s = _score_all(scorer, list(islice(draw, clips)), record, jobs)
    record.outcome.update(rate_per_s=record.clips / wall_s, jobs=float(jobs), real_time_factor=wall_s / record.media_s)
    return wall_s


def _score_all(scorer: Scorer, clips: Sequence[Path], record: Record, jobs: int) -> float:
    begun = perf_counter()
    for event in score_many(scorer, list(map(str, clips)), jobs=jobs, each_chunk=True):
        if event.error:
            raise event.error
        if event.score is None:
            continue
        record.add("answer", event.score.latency.answer_ms)
        record.chunks += 1
        if event.score.final:
            record.add("finished", perf_counter() - begun, unit="s")
            record.add("media", event.score.end_s, unit="s")
            record.clips += 1
            record.media_s += event.score.end_s
    return perf_counter() - begun


class _Cursor:
    """The next chunk of a clip, and of another clip where one has ended: read, decoded and scored when it is asked for, not before."""

    def __init__(self, scorer: Scorer, draw: Iterator[Path]) -> None:
        self._scorer, self._draw = scorer, draw
        self._chunks: ChunkStream | None = None
        self._stream: Stream | None = None

    def step(self) -> None:
        """One chunk from its packets to its score."""
        if self._chunks is None or self._stream is None:
            path = next(self._draw)
            self._chunks = read_chunks(path, self._scorer.bundle.contract)
            self._stream = self._scorer.new_stream(path.name)
        chunk = next(iter(self._chunks))
        self._scorer.step(self._stream, chunk)
        if chunk.final:
            self._chunks.close()
            self._chunks = None


def _server(scorer: Scorer, draw: Iterator[Path], record: Record, task: Task) -> float:
    idle = deque(_Cursor(scorer, draw) for _ in range(2 * task.threads))

    def one(_: int) -> None:
        cursor = idle.popleft()
        cursor.step()
        idle.append(cursor)

    with ThreadStation(task.threads, one) as station:
        pace_s = _pace(lambda: one(0))
        search = _Search(task.load)

        def trial(rate_per_s: float) -> Trial:
            return serve(station, rate_per_s, bound_s=task.load.bound_ms / 1e3, streams=1, most_s=search.share_s, seed=task.seed)

        trials = largest_load(trial, 0.5 * task.threads / pace_s, out_of_time=search.over)
    best = best_of(trials)
    shown = best or max(trials, key=lambda trial: len(trial.tickets))
    _keep(record, shown, "answer")
    for one_trial in trials:
        record.add("tried_rate", one_trial.load, unit="1/s")
        record.add("tried_p99", sorted(one_trial.latencies_ms)[-1 - len(one_trial.latencies_ms) // 100], unit="ms")
        record.add("tried_proved", float(one_trial.proved), unit="1")
    proved, rate_per_s = float(bool(best and best.proved)), best.load if best else 0.0
    record.outcome.update(rate_per_s=rate_per_s, bound_ms=task.load.bound_ms, proved=proved, queries=len(shown.tickets))
    return _span_s(shown)


def _live(scorer: Scorer, draw: Iterator[Path], record: Record, task: Task) -> float:
    cursors: dict[int, _Cursor] = {}

    def one(stream: int) -> None:
        cursors.setdefault(stream, _Cursor(scorer, draw)).step()

    period_s, search = task.load.period_s, _Search(task.load)
    periods = max(_TRIAL_PERIODS, round(_LEAST_TRIAL_S / period_s))
    with ThreadStation(task.threads, one) as station:
        pace_s = _pace(lambda: one(0))
        first = max(1, int(0.5 * task.threads * period_s / pace_s))
        trials = largest_load(lambda streams: live(station, streams, period_s=period_s, periods=periods), first, out_of_time=search.over)
    best = best_of(trials)
    shown = best or min(trials, key=lambda trial: trial.load)
    _keep(record, shown, "answer")
    for age in ages_ms(shown.tickets):
        record.add("age", age, measured_from="schedule")
    for trial in trials:
        record.add("tried_streams", trial.load, unit="1")
        record.add("tried_misses", (trial.missed + trial.skipped) / (trial.load * periods), unit="1")
    record.outcome.update(
        streams=best.load if best else 0.0, period_s=period_s, deadline_misses=shown.missed, skipped_chunks=shown.skipped, periods=periods
    )
    return _span_s(shown)


class _Search:
    """Time for a search, of which one trial may take a sixth: doubling and bisection need several, and a proof takes long."""

    def __init__(self, load: Load) -> None:
        self._ends_s = perf_counter() + load.search_s
        self.share_s = load.search_s / _TRIALS

    def over(self) -> bool:
        return perf_counter() >= self._ends_s


def _keep(record: Record, trial: Trial, name: str) -> None:
    for latency in trial.latencies_ms:
        record.add(name, latency, measured_from="schedule")
    record.chunks += len(trial.latencies_ms)


def _span_s(trial: Trial) -> float:
    ends = [ticket.ended_s for ticket in trial.tickets if ticket.ended_s is not None]
    return max(ends) - trial.tickets[0].due_s if ends else 0.0


def _pace(call: Callable[[], None]) -> float:
    """Seconds of one call, from a few."""
    begun = perf_counter()
    for _ in range(4):
        call()
    return (perf_counter() - begun) / 4


def _cpu_s() -> float:
    """User and system, all threads of this process."""
    spent = os.times()
    return spent.user + spent.system
