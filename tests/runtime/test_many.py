"""Many clips through one scorer: nothing lost, order where it is asked for, bounded, and stopped in time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from shortcast.errors import EngineError, MediaError
from shortcast.runtime import whisper
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.many import LOOKAHEAD, Event, score_many
from shortcast.runtime.score import Score
from shortcast.runtime.scorer import Scorer


class Clips:
    """A scorer whose clips are words: `NAME:CHUNKS[:WAIT_S]`; `bad` has no media, `broken` breaks the engine."""

    def __init__(self, made_score: Callable[..., Score]) -> None:
        self.made_score = made_score
        self.begun: list[str] = []
        self.open = 0
        self.threads: set[str] = set()

    def stream(self, source: object, *, options: object = None) -> Iterator[Score]:
        name, chunks, wait_s = [*str(source).split(":"), *("", "1", "0")[len(str(source).split(":")) :]]
        self.begun.append(name)
        self.threads.add(threading.current_thread().name)
        self.open += 1
        try:
            for index in range(int(chunks)):
                time.sleep(float(wait_s))
                if name == "bad":
                    raise MediaError("bad is no media")
                if name == "broken":
                    raise EngineError("the engine broke")
                yield self.made_score(clip=name, index=index, final=index == int(chunks) - 1)
        finally:
            self.open -= 1


@pytest.fixture
def clips(made_score: Callable[..., Score]) -> Clips:
    return Clips(made_score)


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_clip_is_done_once_and_a_bad_one_does_not_stop_the_others(clips: Clips, jobs: int, ordered: bool) -> None:
    sources = [f"{'bad' if number % 5 == 2 else f'clip{number}'}:{number % 3 + 1}:0.001" for number in range(40)]
    events = list(score_many(clips, sources, jobs=jobs, ordered=ordered))
    assert sorted(event.index for event in events) == list(range(40))
    assert all(event.done and event.source == sources[event.index] for event in events)
    assert [event.index for event in events if event.error] == sorted(range(2, 40, 5)) or not ordered
    assert sum(event.error is not None for event in events) == 8
    assert clips.open == 0


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_chunk_in_the_order_of_the_clips(clips: Clips, jobs: int) -> None:
    events = list(score_many(clips, ["a:3:0.02", "b:1", "bad", "c:2:0.001"], jobs=jobs, each_chunk=True, ordered=True))
    assert [(event.index, event.score and event.score.index) for event in events] == [
        *((0, 0), (0, 1), (0, 2), (1, 0), (2, None), (3, 0), (3, 1)),
    ]
    assert [event.done for event in events] == [False, False, True, True, True, False, True]


def test_in_order_the_chunks_of_the_first_clip_do_not_wait_for_its_end(clips: Clips) -> None:
    with closing(score_many(clips, ["slow:1000:0.01", "b"], jobs=2, each_chunk=True, ordered=True)) as events:
        first = next(events)
    assert (first.index, first.done) == (0, False)


def test_as_they_are_done_a_slow_clip_holds_nothing_back(clips: Clips) -> None:
    events = list(score_many(clips, ["slow:1:0.5", *(f"clip{number}" for number in range(100))], jobs=2))
    assert events[-1].index == 0


def test_in_order_no_more_clips_are_begun_than_may_be_held_back(clips: Clips) -> None:
    with closing(score_many(clips, ("slow:1:1" if not number else "b" for number in count()), jobs=3, ordered=True)) as events:
        assert next(events).index == 0
        assert LOOKAHEAD - 3 <= len(clips.begun) <= LOOKAHEAD


def test_a_slow_reader_holds_the_threads_back(clips: Clips) -> None:
    taken = count()
    with closing(score_many(clips, (f"clip{next(taken)}" for _ in range(10_000)), jobs=2)) as events:
        next(events)
        time.sleep(0.2)
        assert next(taken) < 10


def test_clips_are_scored_at_once_by_as_many_threads_as_asked_for(clips: Clips) -> None:
    started = time.monotonic()
    list(score_many(clips, ["a:1:0.2"] * 8, jobs=4))
    assert time.monotonic() - started < 1.2
    assert len(clips.threads) == 4


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_no_fault_of_a_clip_stops_everything(clips: Clips, jobs: int) -> None:
    with pytest.raises(EngineError, match="the engine broke"):
        list(score_many(clips, ["a", "broken", *["b:1:0.01"] * 1000], jobs=jobs))
    assert len(clips.begun) < 100
    assert clips.open == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_closing_stops_within_a_chunk(clips: Clips, jobs: int) -> None:
    events = score_many(clips, ["long:100000:0.01"] * 4, jobs=jobs, each_chunk=True)
    assert isinstance(next(events), Event)
    started = time.monotonic()
    events.close()
    assert time.monotonic() - started < 1
    assert clips.open == 0
    assert not any(thread.name.startswith("shortcast-") for thread in threading.enumerate())


def test_real_clips_score_at_once_as_they_do_alone_with_one_set_of_engines(
    demo: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = whisper.SoundEncoder.__init__
    monkeypatch.setattr(whisper.SoundEncoder, "__init__", lambda *given, **named: loaded.append(1) or load(*given, **named))
    with Scorer(Bundle.open(demo), threads=1) as scorer:
        at_once = [event.score for event in score_many(scorer, [sample] * 4, jobs=4)]
        assert len(loaded) == 1
        alone = scorer.score(sample)
    assert [score and (score.z, score.interval, score.chunk_weights) for score in at_once] == [
        (alone.z, alone.interval, alone.chunk_weights)
    ] * 4
    assert alone.has_sound
