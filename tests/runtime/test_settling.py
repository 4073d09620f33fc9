"""What a settling table promises, and how firm scores are, on values whose right answer is known."""

import json
from math import inf, log, sqrt
from typing import Any

import pytest

from shortcast.errors import DataError
from shortcast.runtime.settling import Firmness, Settling, SettlingRow, SettlingRule, least_share, moved

CLASS = SettlingRule(
    "class", 2, (SettlingRow(3.0, 40, 40, 0.2, 0.1), SettlingRow(2.0, 100, 96, 0.3, 0.3), SettlingRow(0.5, 180, 140, None, 0.6))
)
INTERVAL = SettlingRule("interval", 3, (SettlingRow(-0.01, 20, 20, 0.1, 0.1),))
SETTLING = Settling(200, 0.95, (CLASS, INTERVAL), {"source": "made"})


@pytest.mark.parametrize(
    ("kept", "of", "doubt", "bound"),
    [
        (18, 20, 0.025, 0.6830),  # the tabulated 95 % interval of 18 of 20 is 0.6830 to 0.9877
        (90, 100, 0.025, 0.8238),
        (50, 50, 0.05, 0.05 ** (1 / 50)),
        (1, 1, 0.05, 0.05),
        (0, 7, 0.05, 0.0),
        (1, 20, 0.05, 1 - 0.95 ** (1 / 20)),
        (1960, 2000, 0.025, 0.9729),
    ],
)
def test_the_bound_is_that_of_clopper_and_pearson(kept: int, of: int, doubt: float, bound: float) -> None:
    assert least_share(kept, of, doubt=doubt) == pytest.approx(bound, abs=6e-5)


def test_few_clips_promise_little_though_all_of_them_kept() -> None:
    bounds = [least_share(clips, clips, doubt=0.05) for clips in (1, 5, 20, 100, 1000)]
    assert bounds == sorted(bounds)
    assert bounds[1] < 0.6


def test_the_loosest_threshold_that_promises_as_much_is_taken() -> None:
    doubt = 0.05 / 3  # shared among the rows
    bounds = [least_share(row.kept, row.stopped, doubt=doubt) for row in CLASS.rows]
    assert SETTLING.stop("class", 0.7).row is CLASS.rows[2]
    assert SETTLING.stop("class", 0.75).row is CLASS.rows[1]
    stop = SETTLING.stop("class", 0.85)
    assert (stop.row, stop.rule) == (CLASS.rows[1], CLASS)
    assert stop.at_least == bounds[1]
    assert SETTLING.stop("class", bounds[0]).row is (CLASS.rows[0] if bounds[0] > bounds[1] else CLASS.rows[1])


def test_what_cannot_be_promised_is_refused_with_what_can() -> None:
    with pytest.raises(DataError, match=r"with 99%: the most that the 200 clips .* allow is 9\d\.\d %; .*`shortcast settle`"):
        SETTLING.stop("class", 0.99)
    with pytest.raises(DataError, match="no rule for the interval"):
        Settling(200, 0.95, (CLASS, SettlingRule("interval", 3, ())), {}).stop("interval", 0.5)
    with pytest.raises(DataError, match="no rule for the interval"):
        Settling(200, 0.95, (CLASS,), {}).stop("interval", 0.5)


def test_a_class_is_firm_once_chunks_agree_and_firmer_with_each() -> None:
    firm = Firmness("class", 2)
    assert firm.after((0.6, 0.3, 0.1), (0.0, 1.0)) == -inf
    assert firm.after((0.6, 0.3, 0.1), (0.0, 1.0)) == pytest.approx(log(2) * sqrt(2))
    assert firm.after((0.6, 0.3, 0.1), (0.0, 1.0)) == pytest.approx(log(2) * sqrt(3))
    assert firm.after((0.3, 0.6, 0.1), (0.0, 1.0)) == -inf
    assert firm.after((0.3, 0.6, 0.1), (0.0, 1.0)) == pytest.approx(log(2) * sqrt(5))
    assert Firmness("class", 1).after((1.0, 0.0), (0.0, 1.0)) == pytest.approx(log(1e12))


def test_an_interval_is_as_firm_as_its_ends_stood_still_over_the_last_chunks() -> None:
    firm = Firmness("interval", 3)
    ends = [(0.0, 2.0), (0.5, 2.0), (0.4, 2.4), (0.4, 2.4), (0.4, 2.4), (0.4, 2.4)]
    found = [firm.after((0.5, 0.5), end) for end in ends]
    assert found == [-inf, -inf, *(pytest.approx(value) for value in (-0.2, -0.2, 0.0, 0.0))]


@pytest.mark.parametrize("now", [(1.0, 1.0), (float("-inf"), 1.0), (0.0, float("nan")), (2.0, 1.0)])
def test_an_interval_of_no_width_or_without_ends_is_never_firm(now: tuple[float, float]) -> None:
    assert moved((0.0, 1.0), now) == inf
    firm = Firmness("interval", 1)
    assert firm.after((1.0, 0.0), now) == -inf


@pytest.mark.parametrize("settling", [SETTLING, Settling(1, 0.9, (), {})])
def test_json_round_trip(settling: Settling) -> None:
    assert Settling.from_json(json.loads(json.dumps(settling.to_json(), allow_nan=False))) == settling


ROW = {"threshold": 1.0, "stopped": 20, "kept": 19, "moved_z": None, "unread": 0.2}
RULE = {"kind": "class", "patience": 2, "rows": [ROW]}
PLAIN = {"clips": 40, "certainty": 0.95, "rules": [RULE], "provenance": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"more": 1}, "cannot be read"),
        ({"rules": None}, "cannot be read"),
        ({"provenance": None}, "cannot be read"),
        ({"rules": [{**RULE, "more": 1}]}, "cannot be read"),
        ({"rules": [{**RULE, "rows": [{**ROW, "more": 1}]}]}, "cannot be read"),
        ({"rules": [{**RULE, "rows": [{**ROW, "threshold": "high"}]}]}, "cannot be read"),
        ({"rules": [{**RULE, "kind": "score"}]}, "expected one of class, interval"),
        ({"rules": [{**RULE, "patience": 0}]}, "patience"),
        ({"rules": [{**RULE, "patience": 1.5}]}, "patience"),
        ({"rules": [{**RULE, "rows": [{**ROW, "kept": 21}]}]}, "more clips kept"),
        ({"rules": [{**RULE, "rows": [{**ROW, "stopped": 0, "kept": 0}]}]}, "more clips kept"),
        ({"rules": [{**RULE, "rows": [{**ROW, "threshold": inf}]}]}, "finite"),
        ({"rules": [{**RULE, "rows": [ROW, ROW]}]}, "falling"),
        ({"rules": [{**RULE, "rows": [ROW, {**ROW, "threshold": 0.5, "stopped": 20}]}]}, "ever more"),
        ({"rules": [RULE, RULE]}, "different kinds"),
        ({"clips": 10}, "no more clips stop"),
        ({"clips": 0}, "expected clips"),
        ({"certainty": 1.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_a_table_is_refused(change: dict[str, Any], words: str) -> None:
    assert Settling.from_json(PLAIN).clips == 40
    with pytest.raises(DataError, match=words):
        Settling.from_json({**PLAIN, **change})
