"""Streams that end where a clip is settled: what they give, that the source is closed at once, and what is accounted for."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from shortcast.errors import DataError, MediaError
from shortcast.runtime.aio import AsyncScorer
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.early import Until, UntilSettled
from shortcast.runtime.many import score_many
from shortcast.runtime.media import ReadOptions
from shortcast.runtime.score import Score
from shortcast.runtime.scorer import Scorer
from shortcast.runtime.settling import Settling, SettlingRow, SettlingRule

SURE, UNSURE = (0.02, 0.03, 0.05, 0.9), (0.31, 0.29, 0.2, 0.2)
RULES = (
    SettlingRule("class", 2, (SettlingRow(3.0, 100, 98, 0.2, 0.4),)),
    SettlingRule("interval", 3, (SettlingRow(-0.05, 100, 90, 0.1, 0.3),)),
)


@pytest.fixture(scope="session")
def settling_bundle(demo: Path) -> Bundle:
    """The demo bundle with a table of its own making."""
    opened = Bundle.open(demo)
    return replace(opened, manifest=replace(opened.manifest, settling=Settling(200, 0.95, RULES, {"source": "made"})))


@dataclass
class Made:
    """A scorer of made clips: `sure` is settled after two chunks, `turns` from the third chunk on, `unsure` never; of five chunks each."""

    bundle: Bundle
    made_score: Callable[..., Score]
    scored: int = 0
    open: int = 0

    def stream(self, source: object, *, options: object = None, **how: Any) -> Iterator[Score]:
        self.open += 1
        self.how = how
        try:
            if source == "bad":
                raise MediaError("bad is no media")
            for index in range(5):
                self.scored += 1
                sure = source == "sure" or (source == "turns" and index >= 2)
                yield self.made_score(
                    clip=str(source),
                    index=index,
                    final=index == 4,
                    class_probabilities=SURE if sure else UNSURE,
                    interval=(100.0, 1000.0) if sure else (100.0 * (index + 1), 10_000.0),
                    declared_s=None if source == "turns" else 10.0,
                    notes=("no sound: scored from pictures alone",),
                )
        finally:
            self.open -= 1


@pytest.fixture
def made(settling_bundle: Bundle, made_score: Callable[..., Score]) -> Made:
    return Made(settling_bundle, made_score)


@pytest.mark.parametrize(("clip", "chunks"), [("sure", 2), ("turns", 4), ("unsure", 5)])
def test_a_stream_ends_where_its_clip_is_settled(made: Made, clip: str, chunks: int) -> None:
    scores = list(UntilSettled(made).stream(clip))
    assert [score.index for score in scores] == list(range(chunks))
    assert made.scored == chunks
    assert [score.final for score in scores] == [*[False] * (chunks - 1), True]
    assert [score.settled for score in scores] == [*[False] * (chunks - 1), chunks < 5]


def test_the_last_score_says_where_it_was_settled(made: Made) -> None:
    last = UntilSettled(made).score("sure")
    assert last.notes == ("no sound: scored from pictures alone", "settled after 4.0 s of 10.0 s")
    assert {key: last.to_json()[key] for key in ("final", "settled", "end_s", "unread_s")} == {
        "final": True,
        "settled": True,
        "end_s": 4.0,
        "unread_s": 6.0,
    }
    unknown = UntilSettled(made).score("turns")
    assert unknown.notes[-1] == "settled after 8.0 s"
    assert (unknown.to_json()["settled"], unknown.to_json()["unread_s"]) == (True, None)
    whole = UntilSettled(made).score("unsure")
    assert (whole.to_json()["settled"], whole.to_json()["unread_s"], whole.notes) == (False, None, last.notes[:1])


def test_the_source_is_closed_before_the_last_score_is_handed_over(made: Made) -> None:
    stream = UntilSettled(made).stream("sure")
    next(stream)
    assert made.open == 1
    assert next(stream).settled
    assert made.open == 0
    abandoned = UntilSettled(made).stream("unsure")
    next(abandoned)
    abandoned.close()
    assert made.open == 0


def test_the_interval_has_a_rule_of_its_own(made: Made) -> None:
    scores = list(UntilSettled(made, Until("interval", 0.7)).stream("sure"))
    assert len(scores) == 3
    assert scores[-1].settled


def test_an_interval_end_that_has_no_standardised_value_settles_nothing(made: Made, made_score: Callable[..., Score]) -> None:
    def stream(source: object, *, options: object = None) -> Iterator[Score]:
        yield from (made_score(index=index, final=index == 4, interval=(-1.0, 5.0)) for index in range(5))

    made.stream = stream  # type: ignore[method-assign]
    assert len(list(UntilSettled(made, Until("interval", 0.7)).stream("odd"))) == 5


def test_what_the_scorer_takes_is_passed_on(made: Made) -> None:
    list(UntilSettled(made).stream("sure", when_full="drop-oldest"))
    assert made.how == {"when_full": "drop-oldest"}


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("each_chunk", [False, True])
def test_many_clips_and_what_was_saved(made: Made, jobs: int, each_chunk: bool) -> None:
    until = UntilSettled(made)
    clips = ["sure", "bad", "unsure", "turns", "sure"]
    events = list(score_many(until, clips, jobs=jobs, ordered=True, each_chunk=each_chunk))
    done = [event for event in events if event.done]
    assert [event.source for event in done] == clips
    assert [bool(event.score and event.score.settled) for event in done] == [True, False, False, True, True]
    assert len(events) == (2 + 1 + 5 + 4 + 2 if each_chunk else 5)
    saved = until.savings
    assert (saved.clips, saved.settled, saved.undeclared) == (4, 3, 1)
    assert (saved.seen_s, saved.unread_s) == (26.0, 12.0)
    assert saved.core_s_per_s is not None
    assert saved.core_s_per_s >= 0
    assert saved.core_s == saved.core_s_per_s * 12.0


def test_one_score_is_too_few_to_say_what_a_second_costs(made: Made) -> None:
    until = UntilSettled(made)
    assert (until.savings.clips, until.savings.core_s, until.savings.joules) == (0, None, None)
    next(until.stream("sure"))
    assert until.savings.core_s is None


def test_coroutines_stop_early_too(made: Made) -> None:
    async def main() -> list[Score]:
        scorer = AsyncScorer(UntilSettled(made))
        return [*[score async for score in scorer.stream("sure")], await scorer.score("turns")]

    scores = asyncio.run(main())
    assert [(score.index, score.settled) for score in scores] == [(0, False), (1, True), (3, True)]
    assert made.open == 0


def test_a_bundle_without_a_table_is_refused_with_the_command_that_makes_one(made: Made) -> None:
    plain = Made(replace(made.bundle, manifest=replace(made.bundle.manifest, settling=None)), made.made_score)
    with pytest.raises(DataError, match=r"no settling table, .*: shortcast settle .*demo.shortcast CLIPS"):
        UntilSettled(plain)


def test_more_than_the_table_promises_is_refused(made: Made) -> None:
    with pytest.raises(DataError, match="no settled class can be promised with 99%"):
        UntilSettled(made, Until("class", 0.99))


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan")])
def test_a_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        Until("class", confidence)


def test_a_real_clip_stops_early_with_the_scores_of_the_whole_run(sample: Path, settling_bundle: Bundle) -> None:
    options = ReadOptions(use_sound=False)
    loose = (SettlingRule("class", 2, (SettlingRow(1e-6, 100, 98, 0.2, 0.4),)),)
    bundle = replace(settling_bundle, manifest=replace(settling_bundle.manifest, settling=Settling(100, 0.95, loose, {})))
    with Scorer(bundle, threads=1) as scorer:
        whole = list(scorer.stream(sample, options=options))
        early = list(UntilSettled(scorer).stream(sample, options=options))
    assert 2 <= len(early) < len(whole)
    assert [score.z for score in early] == [score.z for score in whole[: len(early)]]
    assert early[-1].interval == whole[len(early) - 1].interval
    assert early[-1].declared_s == pytest.approx(whole[-1].end_s, abs=0.5)
    assert early[-1].unread_s == pytest.approx(whole[-1].end_s - early[-1].end_s, abs=0.5)
