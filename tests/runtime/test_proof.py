from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import BundleError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.proof import PrecisionProof, load_proof_clips, save_proof_clips


def test_round_trip_keeps_every_clip(demo: Path, tmp_path: Path) -> None:
    clips = Bundle.open(demo).proof_clips()
    save_proof_clips(clips, tmp_path / "clips.npz")
    copies = load_proof_clips(tmp_path / "clips.npz")
    assert len(copies) == len(clips) > 3
    for clip, copy in zip(clips, copies, strict=True):
        for field in fields(clip):
            np.testing.assert_array_equal(getattr(clip, field.name), getattr(copy, field.name))


def test_the_first_clip_is_the_golden_one(demo: Path) -> None:
    bundle = Bundle.open(demo)
    from shortcast.runtime.golden import load_golden

    golden, first = load_golden(bundle.golden), bundle.proof_clips()[0]
    np.testing.assert_array_equal(golden.visual, first.visual)
    np.testing.assert_array_equal(golden.fusion["score"], first.z)


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None])
def test_damaged_data_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clips.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match="does not hold proof clips"):
        load_proof_clips(path)


@pytest.mark.parametrize("change", [{"rows": [{}]}, {"surprise": 1}, {"decision": {"clips": 1}}, {"stages": None}])
def test_a_proof_with_other_keys_is_refused(demo: Path, change: dict[str, object]) -> None:
    plain = Bundle.open(demo).parity_report()["fp32"].to_json()
    with pytest.raises(BundleError, match="parity report"):
        PrecisionProof.from_json(plain | change)
