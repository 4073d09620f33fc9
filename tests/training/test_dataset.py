"""Features on disk: the same as scoring makes, each clip once, and no clip lost without a word."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.chunks import read_chunks
from shortcast.runtime.contract import Contract, PictureContract
from shortcast.runtime.whisper import SoundEncoder, WhisperWeights, resolve_whisper
from shortcast.training.dataset import ClipFeatures, FeatureStore, StoredClips, extract_clip, in_processes, prepare_features

SMALL = Contract(picture=PictureContract(fps=Fraction(2), height=32, width=16))


def write_clip(path: Path, *, seconds: float = 3.0, tone_hz: float | None = 440.0, shade: int = 120) -> Path:
    """A grey clip that brightens, with a tone."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 48, 96, "yuv420p"
        audio = out.add_stream("aac", rate=16_000, layout="mono") if tone_hz else None
        for index in range(round(seconds * 10)):
            picture = np.full((96, 48, 3), min(255, shade + 3 * index), dtype=np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
        if audio and tone_hz:
            wave = 0.3 * np.sin(2 * np.pi * tone_hz * np.arange(round(seconds * 16_000)) / 16_000)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, 0
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


@pytest.fixture(scope="module")
def weights() -> WhisperWeights:
    return resolve_whisper("tiny.en")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    first = write_clip(folder / "first.mp4")
    (folder / "copy.mp4").write_bytes(first.read_bytes())
    (folder / "broken.mp4").write_bytes(b"not a clip at all" * 100)
    return {
        "first": first,
        "silent": write_clip(folder / "silent.mp4", tone_hz=None, shade=40),
        "broken": folder / "broken.mp4",
        "missing": folder / "missing.mp4",
        "copy": folder / "copy.mp4",
    }


@pytest.fixture(scope="module")
def prepared(clips: dict[str, Path], weights: WhisperWeights, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list, list, list]:
    root, events = tmp_path_factory.mktemp("features"), []
    ready, failed = prepare_features(
        clips, root, contract=SMALL, whisper=weights, jobs=2, on_clip=lambda done, total: events.append((done, total))
    )
    return root, ready, failed, events


def test_every_clip_is_ready_or_has_a_reason(prepared: tuple[Path, list, list, list]) -> None:
    _, ready, failed, events = prepared
    assert [clip.id for clip in ready] == ["first", "silent", "copy"]
    assert [clip.id for clip in failed] == ["broken", "missing"]
    assert "missing.mp4" in failed[1].reason
    assert all(clip.reason for clip in failed)
    assert events == [(done, 5) for done in range(1, 6)]


def test_the_same_bytes_are_one_entry(prepared: tuple[Path, list, list, list]) -> None:
    root, ready, _, _ = prepared
    assert ready[0].sha256 == ready[2].sha256
    assert len(list(FeatureStore(root, SMALL).folder.iterdir())) == 2


def test_features_are_those_that_scoring_makes(
    prepared: tuple[Path, list, list, list], clips: dict[str, Path], weights: WhisperWeights
) -> None:
    root, ready, _, _ = prepared
    found = StoredClips(FeatureStore(root, SMALL), ready)[0]
    sound = SoundEncoder(weights, SMALL.sound)
    with read_chunks(clips["first"], SMALL) as stream:
        chunks = list(stream)
    assert len(chunks) == ready[0].chunks == len(found.epochs) == 2
    for index, chunk in enumerate(chunks):
        np.testing.assert_array_equal(found.frames[index], chunk.frames)
        np.testing.assert_array_equal(found.frame_mask[index], chunk.frame_mask)
        np.testing.assert_array_equal(found.sound[index], sound.embed(chunk.samples, chunk.sample_mask))
    assert found.end_s[-1] == ready[0].duration_s == pytest.approx(3.0, abs=0.15)
    assert found.frames.shape[1:] == (4, 32, 16, 3)
    assert isinstance(found.frames, np.memmap)


def test_a_clip_without_sound_says_so(prepared: tuple[Path, list, list, list]) -> None:
    root, ready, _, _ = prepared
    silent = StoredClips(FeatureStore(root, SMALL), ready)[1]
    assert not silent.sound_mask.any()
    assert not silent.sound.any()
    assert silent.picture_mask.all()


def test_running_again_repeats_nothing(prepared: tuple[Path, list, list, list], clips: dict[str, Path], weights: WhisperWeights) -> None:
    root, ready, failed, _ = prepared
    folder = FeatureStore(root, SMALL).folder

    def written() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}

    before = written()
    assert prepare_features(clips, root, contract=SMALL, whisper=weights) == (ready, failed)
    assert written() == before


def test_only_what_is_missing_is_computed(clips: dict[str, Path], weights: WhisperWeights, tmp_path: Path) -> None:
    encoder = SoundEncoder(weights, SMALL.sound)
    store = FeatureStore(tmp_path, SMALL)
    marked = replace(extract_clip(clips["first"], SMALL, encoder), end_s=np.array([2.0, 77.0]))
    (silent,), _ = prepare_features({"silent": clips["silent"]}, tmp_path, contract=SMALL, whisper=weights)
    ready, _ = prepare_features({"first": clips["first"]}, tmp_path / "other", contract=SMALL, whisper=weights)
    store.save(ready[0].sha256, marked)
    found, _ = prepare_features({"first": clips["first"], "silent": clips["silent"]}, tmp_path, contract=SMALL, whisper=weights)
    assert [clip.duration_s for clip in found] == [77.0, silent.duration_s]


def test_another_contract_is_another_cache(tmp_path: Path) -> None:
    other = replace(SMALL, sound=replace(SMALL.sound, whisper_sha256="abc"))
    assert FeatureStore(tmp_path, SMALL).folder != FeatureStore(tmp_path, other).folder


@pytest.fixture
def features() -> ClipFeatures:
    return ClipFeatures(
        frames=np.zeros((1, 4, 32, 16, 3), dtype=np.uint8),
        frame_mask=np.ones((1, 4), dtype=bool),
        epochs=np.zeros(1, dtype=np.int64),
        sound=np.zeros((1, 384), dtype=np.float32),
        sound_mask=np.zeros(1, dtype=bool),
        end_s=np.ones(1),
    )


def test_the_first_writer_wins_and_the_second_leaves_nothing_behind(features: ClipFeatures, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SMALL)
    store.save("abc", features)
    store.save("abc", replace(features, end_s=np.zeros(1)))
    assert store.load("abc").end_s.tolist() == [1.0]
    assert [path.name for path in store.folder.iterdir()] == ["abc"]


def test_half_written_entries_are_not_seen_and_swept_when_old(features: ClipFeatures, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SMALL)
    for name, age_s in ((".part-old", 7200), (".part-young", 60)):
        (store.folder / name).mkdir(parents=True)
        then = time.time() - age_s
        os.utime(store.folder / name, (then, then))
    store.sweep()
    assert [path.name for path in store.folder.iterdir()] == [".part-young"]
    assert "abc" not in store


def _cut_short(entry: Path) -> None:
    (entry / "features.safetensors").write_bytes((entry / "features.safetensors").read_bytes()[:100])


def _pickle(entry: Path) -> None:
    np.save(entry / "frames.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("spoil", [_cut_short, _pickle])
def test_a_spoilt_entry_is_an_error_that_names_it(spoil: Callable[[Path], None], features: ClipFeatures, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SMALL)
    store.save("abc", features)
    spoil(store.folder / "abc")
    with pytest.raises(DataError, match=r"abc cannot be read.*delete"):
        store.load("abc")


def test_a_store_that_cannot_be_written_is_an_error(features: ClipFeatures, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        FeatureStore(tmp_path / "file", SMALL).save("abc", features)


def test_a_process_that_dies_takes_its_own_task_and_no_other() -> None:
    tasks = ["1 + 1", "__import__('os')._exit(3)", "2 + 2", "3 + 3"]
    found = dict(in_processes(eval, tasks, jobs=2))
    assert found == {"1 + 1": 2, "__import__('os')._exit(3)": None, "2 + 2": 4, "3 + 3": 6}


def test_an_error_of_the_work_itself_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        dict(in_processes(eval, ["1 / 0"], jobs=1))


def test_what_is_queued_is_dropped_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    tasks = [f"open({str(tmp_path / str(number))!r}, 'x').close()" for number in range(200)]
    outcomes = in_processes(eval, tasks, jobs=1)
    next(outcomes)
    outcomes.close()
    assert 1 <= len(list(tmp_path.iterdir())) < 200
