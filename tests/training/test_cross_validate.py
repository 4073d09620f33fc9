"""Grouped cross-validation: how clips are dealt, how folds in units of their own are pooled, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.target import Target
from shortcast.training.clips import ClipRow
from shortcast.training.cross_validate import FoldOptions, FoldResult, cross_validate, fold_kind, fold_splits
from shortcast.training.evaluation import Prediction, Predictions
from shortcast.training.metrics import mse, spearman
from shortcast.training.splits import Split
from shortcast.training.studies import MODEL, TRAIN_MEAN

VALUES = {f"c{index}": float(np.random.default_rng(index).integers(10, 100_000)) for index in range(60)}
ROWS = [ClipRow(clip, Path(f"{clip}.mp4"), None, f"a{index // 3}", {"views": VALUES[clip]}) for index, clip in enumerate(VALUES)]
NEAR = {"c0": "c0", "c30": "c0", "c31": "c31", "c59": "c31"}
OPTIONS = FoldOptions(5, "author+duplicate", seed=3, resamples=50)
TARGET = Target.fit(list(VALUES.values()), name="views", transform="log1p")


def fit_to(split: Split) -> Target:
    return Target.fit([VALUES[clip] for clip in split.train], name="views", transform="log1p")


def guess_of(clip: str) -> float:
    """What the model of these tests says of a clip, in views: not far from the truth."""
    return VALUES[clip] * (0.5 + int(clip[1:]) % 4 * 0.4)


def fit(_number: int, split: Split) -> FoldResult:
    """A model that knows how to answer; its answer is in its own fold's units, over two chunks of which the last counts."""
    target = fit_to(split)
    whole = []
    for clip in split.test:
        score = float(target.standardise(guess_of(clip)))
        named = int(target.class_of(guess_of(clip)))
        whole.append(
            Prediction(np.array([9.0, score]), np.array([[9.0, 9.0], [score - 1, score + 1]]), np.array([0, named]), np.array([2.0, 4.0]))
        )
    nothing = [replace(one, score=one.score * 0) for one in whole]
    return FoldResult(target, (0.1, 0.9), Predictions(whole, nothing, nothing))


def groups(clips: tuple[str, ...]) -> set[str]:
    return {row.author for row in ROWS if row.id in clips and row.author} | {NEAR[clip] for clip in clips if clip in NEAR}


def test_every_clip_is_held_out_once_and_nothing_alike_is_on_two_sides() -> None:
    splits = fold_splits(ROWS, OPTIONS, NEAR)
    assert sorted(clip for split in splits for clip in split.test) == sorted(VALUES)
    for split in splits:
        assert split.kind == "grouped by author and duplicate"
        assert sorted((*split.train, *split.val, *split.test)) == sorted(VALUES)
        parts = [groups(part) for part in (split.train, split.val, split.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert 5 <= len(split.val) <= 12
    assert splits == fold_splits(ROWS, OPTIONS, NEAR)
    assert splits != fold_splits(ROWS, replace(OPTIONS, seed=4), NEAR)


def test_folds_at_random_keep_nothing_together() -> None:
    splits = fold_splits(ROWS, replace(OPTIONS, kind="random"))
    assert {split.kind for split in splits} == {"random"}
    assert any(groups(split.train) & groups(split.test) for split in splits)


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(DataError, match="21 folds of"):
        fold_splits(ROWS, replace(OPTIONS, folds=21, kind="author"))
    two = [replace(row, author="x" if index < 30 else "y") for index, row in enumerate(ROWS)]
    with pytest.raises(DataError, match="leave one group"):
        fold_splits(two, replace(OPTIONS, folds=2, kind="author"))


def test_the_split_decides_what_folds_keep_together() -> None:
    nobody = [replace(row, author=None) for row in ROWS]
    assert [fold_kind(split, ROWS) for split in ("auto", "manifest", "time")] == ["author+duplicate"] * 3
    assert fold_kind("auto", nobody) == "duplicate"
    assert [fold_kind(split, ROWS) for split in ("random", "music", "author+music")] == ["random", "music", "author+music"]


def test_pooled_figures_are_those_of_all_clips_in_one_pair_of_units(tmp_path: Path) -> None:
    report = tmp_path / "folds" / "report.json"
    found = cross_validate(ROWS, options=OPTIONS, values=VALUES, target=TARGET, fit=fit, report=report, near=NEAR)
    ids = list(VALUES)
    truth, guess = np.array([VALUES[clip] for clip in ids]), np.array([guess_of(clip) for clip in ids])
    figures = {(row.predictor, row.space): row.metrics for row in found.predictors}
    logs, views = figures[MODEL, "standardised log1p(views)"], figures[MODEL, "views"]
    assert logs["mse"].estimate == pytest.approx(mse(TARGET.standardise(truth), TARGET.standardise(guess)))
    assert views["mse"].estimate == pytest.approx(mse(truth, guess))
    assert views["spearman"].estimate == pytest.approx(spearman(truth, guess))
    assert (found.clips, found.authors, len(found.folds)) == (60, 20, 5)
    assert logs["mse"].low is not None
    assert logs["mse"].low < (logs["mse"].estimate or 0) < (logs["mse"].high or 0)
    assert found.classes is not None
    assert found.classes.clips == 60
    assert 0.3 < found.classes.accuracy < 1
    assert found.interval.coverage == pytest.approx(np.mean([0.3 < guess_of(clip) / VALUES[clip] < 3 for clip in ids]), abs=0.2)
    written = json.loads(report.read_text())
    assert written == json.loads(json.dumps(found.to_json()))
    single = {one["id"]: one for one in written["out_of_fold"]}
    assert {clip: one["predicted"] for clip, one in single.items()} == pytest.approx({clip: guess_of(clip) for clip in ids})
    assert "out_of_fold" not in found.to_card()


def test_the_mean_that_is_compared_with_is_that_of_the_folds_own_training_clips(tmp_path: Path) -> None:
    found = cross_validate(ROWS, options=OPTIONS, values=VALUES, target=TARGET, fit=fit, report=tmp_path / "r.json", near=NEAR)
    for split, fold in zip(fold_splits(ROWS, OPTIONS, NEAR), found.folds, strict=True):
        mean = np.full(len(split.test), TARGET.standardise(fit_to(split).restore(0.0)))
        z = TARGET.standardise([VALUES[clip] for clip in split.test])
        assert fold.train_mean[0].mse == pytest.approx(mse(z, mean))
        assert (fold.train, fold.val, fold.held_out) == (len(split.train), len(split.val), len(split.test))
    pooled = next(row for row in found.predictors if row.predictor == TRAIN_MEAN).metrics["nmse"].estimate
    assert pooled is not None
    assert pooled > 1  # the mean of other clips is never better than that of the clips themselves


def test_the_spread_is_over_folds(tmp_path: Path) -> None:
    found = cross_validate(ROWS, options=OPTIONS, values=VALUES, target=TARGET, fit=fit, report=tmp_path / "r.json", near=NEAR)
    errors = [fold.model[1].mae for fold in found.folds]
    (spread,) = (one for one in found.spread if (one.space, one.metric) == ("views", "mae"))
    assert (spread.folds, spread.mean, spread.std) == (5, pytest.approx(np.mean(errors)), pytest.approx(np.std(errors, ddof=1)))
    assert (spread.low, spread.high) == (min(errors), max(errors))
