import json

import pytest

from shortcast.errors import DataError
from shortcast.runtime.intervals import ConformalIntervals, IntervalMargin

INTERVALS = ConformalIntervals(
    0.9,
    (IntervalMargin(1, 0.5, 40), IntervalMargin(2, 0.25, 40), IntervalMargin(6, -0.125, 12), IntervalMargin(None, 0.1, 40)),
)


@pytest.mark.parametrize(("chunks", "margin"), [(1, 0.5), (2, 0.25), (5, 0.25), (6, -0.125), (90, -0.125)])
def test_a_prefix_takes_the_longest_bucket_that_is_not_longer(chunks: int, margin: float) -> None:
    assert INTERVALS.margin(chunks, final=False) == margin
    assert INTERVALS.margin(chunks, final=True) == 0.1


def test_without_a_bucket_the_quantiles_stand() -> None:
    assert ConformalIntervals(0.9, ()).apply(-1.0, 2.0, chunks=3, final=True) == (-1.0, 2.0)
    late = ConformalIntervals(0.9, (IntervalMargin(4, 0.5, 20),))
    assert late.apply(-1.0, 2.0, chunks=3, final=False) == (-1.0, 2.0)
    assert late.apply(-1.0, 2.0, chunks=4, final=False) == (-1.5, 2.5)


def test_a_negative_margin_narrows_and_never_crosses() -> None:
    assert INTERVALS.apply(-1.0, 1.0, chunks=8, final=False) == (-0.875, 0.875)
    assert INTERVALS.apply(1.0, 1.125, chunks=8, final=False) == (1.0625, 1.0625)


@pytest.mark.parametrize("intervals", [INTERVALS, ConformalIntervals(0.5, ())])
def test_json_round_trip(intervals: ConformalIntervals) -> None:
    assert ConformalIntervals.from_json(json.loads(json.dumps(intervals.to_json(), allow_nan=False))) == intervals


ROW = {"chunks": 1, "margin_z": 0.5, "clips": 40}


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"coverage": 0.9}, "cannot be read"),
        ({"coverage": 0.9, "margins": [], "more": 1}, "cannot be read"),
        ({"coverage": 0.9, "margins": [{**ROW, "more": 1}]}, "cannot be read"),
        ({"coverage": 0.9, "margins": [{"chunks": 1}]}, "cannot be read"),
        ({"coverage": 0.9, "margins": [{**ROW, "margin_z": "much"}]}, "cannot be read"),
        ({"coverage": "most", "margins": []}, "cannot be read"),
        ({"coverage": 1.0, "margins": []}, "between 0 and 1"),
        ({"coverage": 0.9, "margins": [{**ROW, "margin_z": float("inf")}]}, "finite"),
        ({"coverage": 0.9, "margins": [{**ROW, "clips": 0}]}, "at least one clip"),
        ({"coverage": 0.9, "margins": [{**ROW, "chunks": 0}]}, "rising"),
        ({"coverage": 0.9, "margins": [{**ROW, "chunks": 1.5}]}, "rising"),
        ({"coverage": 0.9, "margins": [ROW, ROW]}, "rising"),
        ({"coverage": 0.9, "margins": [{**ROW, "chunks": None}, ROW]}, "whole clips last"),
    ],
)
def test_what_cannot_be_intervals_is_refused(plain: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        ConformalIntervals.from_json(plain)
