"""Baselines come back from their file as they were, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.baseline_file import BASELINES_FILE, FittedBaselines, load_baselines, save_baselines
from shortcast.training.baselines import UnlabelledClips, fit_baselines
from shortcast.training.labelled import EmbeddedClip, LabelledClips

AUTHORS = [*"aabbccddee"]


def split(seed: int) -> LabelledClips:
    draw = np.random.default_rng(seed)
    clips = []
    for index in range(10):
        visual, audio = (draw.normal(size=(3, size)).astype(np.float32) for size in (4, 2))
        clips.append(EmbeddedClip(visual, np.ones(3, dtype=bool), audio, np.full(3, index > 0), np.array([2.0, 4.0, 5.0 + index])))
    return LabelledClips(clips, draw.normal(size=10) + np.arange(10) // 2, np.zeros(10, dtype=np.int64))


@pytest.fixture
def saved(tmp_path: Path) -> FittedBaselines:
    fitted = FittedBaselines("a" * 64, 10, fit_baselines(split(0), AUTHORS))
    save_baselines(tmp_path, fitted)
    return fitted


def test_what_is_read_predicts_what_was_fitted(saved: FittedBaselines, tmp_path: Path) -> None:
    found = load_baselines(tmp_path)
    assert found is not None
    assert (found.run_sha256, found.clips) == ("a" * 64, 10)
    assert [one.name for one in found.baselines] == [one.name for one in saved.baselines]
    clips = UnlabelledClips(split(1).clips, [*"abcdefghij"])
    for before, after in zip(saved.baselines, found.baselines, strict=True):
        np.testing.assert_array_equal(after.predict(clips), before.predict(clips))
    assert [path.name for path in tmp_path.iterdir()] == [BASELINES_FILE]


def test_authors_that_tell_nothing_come_back_too(tmp_path: Path) -> None:
    fitted = FittedBaselines("a" * 64, 10, fit_baselines(split(0), [str(index) for index in range(10)]))
    save_baselines(tmp_path, fitted)
    found = load_baselines(tmp_path)
    assert found is not None
    assert found.baselines[2] == fitted.baselines[2]


def test_no_file_is_none(tmp_path: Path) -> None:
    assert load_baselines(tmp_path) is None


def of(kind: str, plain: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in plain["baselines"] if one["kind"] == kind)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain.update(format=2),
        lambda plain: plain.pop("clips"),
        lambda plain: of("constant", plain).update(kind="oracle"),
        lambda plain: of("constant", plain).update(value="1"),
        lambda plain: of("constant", plain).update(more=1),
        lambda plain: of("ridge", plain)["mean"].append(1.0),
        lambda plain: of("ridge", plain).update(modalities=["smell"]),
        lambda plain: of("author mean", plain).update(by_author=[1]),
    ],
)
def test_a_file_that_was_altered_is_refused(saved: FittedBaselines, tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / BASELINES_FILE
    plain = json.loads(path.read_text())
    spoil(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(DataError, match="not a file of baselines"):
        load_baselines(tmp_path)
