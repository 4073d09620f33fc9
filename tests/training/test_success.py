"""The rule of success and its ceiling, on factors alone: nothing is rendered here."""

from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.clips import ClipRow
from shortcast.training.success import HEARD, SEEN, Given, ceiling, ceiling_r2, expected_log_views, factor_table
from shortcast.training.synth import clip_row, plan_clip

NEUTRAL = {"motion": 0.5, "brightness": 0.5, "warmth": 0.5, "tempo": 0.5, "energy": 0.5, "speech": 0.65, "hook": 0.5}


@pytest.fixture(scope="module")
def rows() -> list[ClipRow]:
    return [clip_row(plan_clip(1, index), Path()) for index in range(12_000)]


@pytest.mark.parametrize(("given", "known"), [("both", 0.80), ("seen", 0.37), ("heard", 0.34)])
def test_the_ceiling_of_many_clips_is_the_analytic_one(rows: list[ClipRow], given: Given, known: float) -> None:
    assert ceiling_r2(given) == pytest.approx(known, abs=0.005), "the module's docstring states this figure"
    assert ceiling(rows, given).r2 == pytest.approx(ceiling_r2(given), abs=0.02)


@pytest.mark.parametrize("given", ["both", "seen", "heard"])
def test_the_rule_reaches_its_ceiling_on_the_views_themselves(rows: list[ClipRow], given: Given) -> None:
    log_views = np.log1p([row.value("views") for row in rows])
    error = log_views - expected_log_views(factor_table([row.columns["factors"] for row in rows]), given)
    assert 1 - error.var() / log_views.var() == pytest.approx(ceiling_r2(given), abs=0.025)


def test_ranks_follow_the_share_of_variance_known(rows: list[ClipRow]) -> None:
    both, seen, heard = (ceiling(rows[:3000], given).spearman for given in ("both", "seen", "heard"))
    assert 0.85 < both < 0.93
    assert 0.5 < heard < seen < 0.7


def test_views_have_a_heavy_upper_tail(rows: list[ClipRow]) -> None:
    views = np.array([row.value("views") for row in rows])
    assert 6500 < np.median(views) < 8500
    assert views.mean() > 2.5 * np.median(views)


@pytest.mark.parametrize("name", [*SEEN, *HEARD])
def test_every_weighted_factor_raises_views_by_its_weight(name: str) -> None:
    low, high = (expected_log_views(factor_table([{**NEUTRAL, name: value}]))[0] for value in (0.0, 1.0))
    spread = np.sqrt(0.65 * 0.35) if name == "speech" else np.sqrt(1 / 12)
    assert high - low == pytest.approx({**SEEN, **HEARD}[name] / spread)


def test_motion_and_energy_help_each_other() -> None:
    def guess(motion: float, energy: float) -> float:
        return float(expected_log_views(factor_table([{**NEUTRAL, "motion": motion, "energy": energy}]))[0])

    assert guess(1, 1) - guess(0, 1) - guess(1, 0) + guess(0, 0) == pytest.approx(0.45 * 12)


def test_a_missing_factor_adds_nothing() -> None:
    missing = factor_table([dict.fromkeys(NEUTRAL, None)])
    assert expected_log_views(missing) == pytest.approx(expected_log_views(factor_table([NEUTRAL])))


def test_a_ceiling_needs_made_clips() -> None:
    with pytest.raises(DataError, match="at least two made clips"):
        ceiling([ClipRow("a", Path("a.mp4"), None, None, {"views": 1})] * 3)
