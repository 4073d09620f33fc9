"""Scores for asyncio: the loop goes on, the thread waits for its reader, and a source is closed when nobody reads it any more."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from shortcast.errors import MediaError
from shortcast.runtime.aio import AsyncScorer
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.media import ReadOptions
from shortcast.runtime.score import Score
from shortcast.runtime.scorer import Scorer


class Live:
    """A scorer with an endless clip for `live`, a clip of three chunks for anything else, and none for `bad`."""

    def __init__(self, made_score: Callable[..., Score]) -> None:
        self.made_score = made_score
        self.chunks = 0
        self.running = self.most_running = 0
        self.pause = threading.Event()
        self.lock = threading.Lock()

    def stream(self, source: object, *, options: object = None) -> Iterator[Score]:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            if source == "bad":
                raise MediaError("bad is no media")
            for index in range(1_000_000 if source == "live" else 3):
                self.pause.wait(0.005)
                self.chunks += 1
                yield self.made_score(clip=str(source), index=index, final=source != "live" and index == 2)
        finally:
            with self.lock:
                self.running -= 1


@pytest.fixture
def live(made_score: Callable[..., Score]) -> Live:
    return Live(made_score)


def test_a_stream_gives_every_score_and_ends(live: Live) -> None:
    async def main() -> list[int]:
        return [score.index async for score in AsyncScorer(live).stream("clip")]

    assert asyncio.run(main()) == [0, 1, 2]


def test_the_loop_goes_on_while_a_clip_is_scored(live: Live) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await AsyncScorer(live).score("clip")
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 3


def test_the_thread_is_no_more_than_a_few_scores_ahead_of_its_reader(live: Live) -> None:
    async def main() -> None:
        async with aclosing(AsyncScorer(live).stream("live")) as scores:
            await anext(scores)
            await asyncio.sleep(0.2)

    asyncio.run(main())
    assert 2 <= live.chunks <= 4


@pytest.mark.parametrize("busy", [False, True])
def test_cancelling_closes_the_source(live: Live, busy: bool) -> None:
    async def watch() -> None:
        async with aclosing(AsyncScorer(live).stream("live")) as scores:
            async for _ in scores:
                await asyncio.sleep(60 if busy else 0)

    async def main() -> None:
        task = asyncio.create_task(watch())
        await asyncio.sleep(0.1)
        assert live.running == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert live.running == 0

    asyncio.run(main())


def test_a_stream_left_behind_is_closed_with_the_loop(live: Live) -> None:
    async def main() -> None:
        scores = AsyncScorer(live).stream("live")
        await anext(scores)
        assert live.running == 1

    asyncio.run(main())
    assert live.running == 0


def test_a_loop_that_is_left_without_closing_the_stream_closes_it_soon(live: Live) -> None:
    async def main() -> None:
        async for _ in AsyncScorer(live).stream("live"):
            break
        await asyncio.sleep(0.2)
        assert live.running == 0

    asyncio.run(main())


def test_errors_arrive_where_the_scores_would(live: Live) -> None:
    async def main() -> list[object]:
        return await asyncio.gather(*(AsyncScorer(live).score(clip) for clip in ("a", "bad", "b")), return_exceptions=True)

    first, error, last = asyncio.run(main())
    assert isinstance(error, MediaError)
    assert isinstance(first, Score)
    assert isinstance(last, Score)
    assert (first.clip, last.clip) == ("a", "b")


def test_of_many_clips_no_more_are_scored_at_once_than_asked_for(live: Live) -> None:
    async def main() -> list[Score]:
        scorer = AsyncScorer(live, jobs=3)
        return await asyncio.gather(*(scorer.score(f"clip{number}") for number in range(20)))

    scores = asyncio.run(main())
    assert [score.clip for score in scores] == [f"clip{number}" for number in range(20)]
    assert live.most_running == 3


def test_real_clips_score_as_they_do_without_asyncio(demo: Path, sample: Path) -> None:
    options = ReadOptions(use_sound=False)

    async def main(scorer: Scorer, sources: list[object]) -> list[float]:
        scores = await asyncio.gather(*(AsyncScorer(scorer).score(source, options=options) for source in sources))  # type: ignore[arg-type]
        return [score.z for score in scores]

    with Scorer(Bundle.open(demo), threads=1) as scorer:
        alone = scorer.score(sample, options=options).z
        assert asyncio.run(main(scorer, [sample, io.BytesIO(sample.read_bytes()), str(sample)])) == [alone] * 3
