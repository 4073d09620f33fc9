"""Training clips are found again by id and by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from shortcast.errors import CheckpointError
from shortcast.training.dataset import ReadyClip
from shortcast.training.overlap import TRAINED_CLIPS_FILE, TrainedClips, find_overlap
from shortcast.training.splits import Split


def clip(name: str, content: str) -> ReadyClip:
    return ReadyClip(name, content * 64, 1, 2.0)


TRAINED = TrainedClips.of([clip("a", "1"), clip("b", "2"), clip("copy of b", "2")], [clip("c", "3")])


def test_the_content_is_kept_as_sorted_digits_once(tmp_path: Path) -> None:
    assert TrainedClips(("1" * 16, "2" * 16), ("3" * 16,)) == TRAINED
    (tmp_path / TRAINED_CLIPS_FILE).write_bytes(TRAINED.dumps())
    assert TrainedClips.read(tmp_path) == TRAINED


def test_renamed_clips_are_found_by_content() -> None:
    found = find_overlap([clip("new name", "2"), clip("other", "4"), clip("third", "3")], trained=TRAINED, split=None, run=None)
    assert (found.learned_from, found.chosen_by) == (1, 1)
    assert found.known_from.startswith("SHA-256")
    assert found.warning == "1 of these clips were trained on: the figures are too good"


def test_a_clip_known_by_id_and_by_content_counts_once() -> None:
    split = Split("random", ("a", "d"), ("c",), ("e",))
    found = find_overlap([clip("a", "1"), clip("d", "5"), clip("e", "2")], trained=TRAINED, split=split, run=None)
    assert (found.learned_from, found.chosen_by) == (3, 0)


def test_ids_of_the_run_serve_where_no_content_is_listed() -> None:
    run = {"split": {"train": ["a"], "val": ["c"], "test": []}}
    found = find_overlap([clip("c", "9"), clip("e", "9")], trained=None, split=None, run=run)
    assert (found.learned_from, found.chosen_by) == (0, 1)
    assert found.warning == "1 of these clips chose the epoch: the figures are a little too good"


def test_nothing_to_compare_with_is_unknown_and_nothing_found_is_no_warning() -> None:
    assert "is unknown" in find_overlap([clip("a", "1")], trained=None, split=None, run=None).warning
    assert find_overlap([clip("new", "7")], trained=TRAINED, split=None, run=None).warning == ""


def test_no_file_is_none_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    assert TrainedClips.read(tmp_path) is None
    for text in (
        "{",
        "[]",
        '{"format": 1, "train": ["12"], "val": []}',
        '{"format": 2, "train": [], "val": []}',
        '{"format": 1, "train": []}',
    ):
        (tmp_path / TRAINED_CLIPS_FILE).write_text(text)
        with pytest.raises(CheckpointError, match="damaged"):
            TrainedClips.read(tmp_path)
