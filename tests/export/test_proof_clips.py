"""Proof clips: small, decodable anywhere, and the same bytes every time."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from shortcast.errors import MediaError
from shortcast.export.proof_clips import MAX_CALIBRATION_CLIPS, MAX_CLIPS, choose_clips, write_proof_clips
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.chunks import Chunk, read_chunks
from shortcast.runtime.contract import Contract


@pytest.fixture(scope="module")
def contract(demo: Path) -> Contract:
    return Bundle.open(demo).contract


def decoded(path: Path, contract: Contract) -> list[Chunk]:
    with read_chunks(path, contract) as stream:
        return list(stream)


@pytest.fixture
def sound_alone(tmp_path: Path) -> Path:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((np.sin(np.arange(48_000) / 10) * 8_000).astype("<i2").tobytes())
    return path


@pytest.fixture
def pictures_alone(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 96, "yuv420p"
        for level in range(0, 250, 10):
            frame = av.VideoFrame.from_ndarray(np.full((96, 64, 3), level, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_a_proof_clip_looks_and_sounds_like_the_clip(sample: Path, contract: Contract, tmp_path: Path) -> None:
    golden, *excerpts = write_proof_clips(sample, (), contract, tmp_path)
    original, made = decoded(sample, contract), decoded(golden, contract)
    assert len(made) == 4
    assert len(excerpts) >= 6
    for one, other in zip(original[:3], made[:3], strict=True):
        error = one.frames.astype(np.float64) - other.frames
        assert 10 * np.log10(255**2 / np.square(error).mean()) > 30  # dB
        assert np.corrcoef(one.samples, other.samples)[0, 1] > 0.9
        assert other.frame_mask.all()
        assert other.sample_mask.all()


def test_the_golden_clip_ends_within_a_chunk(sample: Path, contract: Contract, tmp_path: Path) -> None:
    tail = decoded(write_proof_clips(sample, (), contract, tmp_path)[0], contract)[-1]
    assert tail.final
    assert 0 < tail.frame_mask.sum() < tail.frame_mask.size
    assert 0 < tail.sample_mask.sum() < tail.sample_mask.size


def test_the_same_clip_is_encoded_alike(sample: Path, contract: Contract, tmp_path: Path) -> None:
    pictures = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths = write_proof_clips(sample, [sample], contract, tmp_path / name)
        assert len(paths) == 2
        pictures.append(np.concatenate([chunk.frames for chunk in decoded(paths[1], contract)]).astype(np.float32))
    assert np.abs(pictures[0] - pictures[1]).mean() < 2


def test_a_clip_without_pictures_and_one_without_sound(
    sample: Path, sound_alone: Path, pictures_alone: Path, contract: Contract, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    _, heard, seen = write_proof_clips(sample, [sound_alone, pictures_alone], contract, folder)
    assert [(chunk.has_pictures, chunk.has_sound) for chunk in decoded(heard, contract)] == [(False, True)] * 2
    assert [(chunk.has_pictures, chunk.has_sound) for chunk in decoded(seen, contract)] == [(True, False)] * 2


def test_clips_are_chosen_evenly_and_serve_for_one_thing_each(tmp_path: Path) -> None:
    for k in range(100):
        (tmp_path / f"{k:03d}.mp4").touch()
    (tmp_path / "notes.txt").touch()
    chosen = choose_clips([tmp_path])
    assert len(chosen.proof) == MAX_CLIPS
    assert len(chosen.calibration) == MAX_CALIBRATION_CLIPS
    assert not set(chosen.proof) & set(chosen.calibration)
    assert chosen.proof[0].name == "000.mp4"
    assert chosen.proof[-1].name == "099.mp4"


def test_a_few_clips_serve_for_both(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.mp4", "b.mkv")]
    for path in paths:
        path.touch()
    chosen = choose_clips(paths)
    assert chosen.proof == chosen.calibration == tuple(paths)


@pytest.mark.parametrize(("name", "words"), [("none.mp4", "no such file"), ("", "no media in it")])
def test_what_holds_no_clips_is_one_sentence(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        choose_clips([tmp_path / name])
