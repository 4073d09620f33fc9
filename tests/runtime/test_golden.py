from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import BundleError
from shortcast.runtime.golden import load_golden, save_golden


def test_round_trip_keeps_every_array(demo: Path, tmp_path: Path) -> None:
    golden = load_golden(demo / "golden" / "golden.npz")
    save_golden(golden, tmp_path / "copy.npz")
    copy = load_golden(tmp_path / "copy.npz")
    for field in fields(golden):
        before, after = getattr(golden, field.name), getattr(copy, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
    for name in golden.fusion:
        np.testing.assert_array_equal(golden.fusion[name], copy.fusion[name])
    for one, other in zip(golden.chunks, copy.chunks, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        assert (one.start_s, one.end_s, one.final) == (other.start_s, other.end_s, other.final)


def test_saving_twice_gives_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    golden = load_golden(demo / "golden" / "golden.npz")
    for name in ("a.npz", "b.npz"):
        save_golden(golden, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_last_golden_chunk_has_a_padded_tail(demo: Path) -> None:
    *whole, tail = load_golden(demo / "golden" / "golden.npz").chunks
    assert all(chunk.frame_mask.all() for chunk in whole)
    assert 0 < tail.frame_mask.sum() < tail.frame_mask.size
    assert 0 < tail.sample_mask.sum() < tail.sample_mask.size
    assert not tail.frames[~tail.frame_mask].any()


def test_the_state_before_a_chunk_is_the_one_after_the_last(demo: Path) -> None:
    golden = load_golden(demo / "golden" / "golden.npz")
    assert not any(values.any() for values in golden.state_before(0).values())
    for name, values in golden.state_before(2).items():
        np.testing.assert_array_equal(values, golden.states[name][1:2])


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None])
def test_damaged_data_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "golden.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match="is not golden data"):
        load_golden(path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", window_s=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(BundleError, match="is not golden data"):
        load_golden(tmp_path / "golden.npz")
