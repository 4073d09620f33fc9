"""Made clips: real files that decode, the same for the same seed, whatever was interrupted on the way."""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.clips import read_manifest
from shortcast.training.render import ClipPlan, render
from shortcast.training.synth import clip_row, plan_clip, synthesise

COUNT, SEED = 3, 11


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise(tmp_path_factory.mktemp("made") / "clips", clips=COUNT, seed=SEED)


@pytest.fixture(scope="module")
def plans() -> list[ClipPlan]:
    return [plan_clip(SEED, index) for index in range(2000)]


def _decoded(path: Path) -> str:
    """A hash over every decoded picture and sample."""
    digest = hashlib.sha256()
    with av.open(str(path)) as source:
        for frame in source.decode():
            assert isinstance(frame, (av.VideoFrame, av.AudioFrame))
            digest.update(frame.to_ndarray().tobytes())
    return digest.hexdigest()


def _first(plans: list[ClipPlan], **wanted: object) -> ClipPlan:
    """The shortest plan with these fields."""
    return min((p for p in plans if all(getattr(p, key) == value for key, value in wanted.items())), key=lambda p: p.duration_s)


def _rendered(plan: ClipPlan, folder: Path) -> Path:
    target = folder / "clip.mp4"
    render(plan, target)
    return target


def _pictures(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as source:
        return list(source.decode(video=0))


def test_clips_are_h264_and_aac_of_the_length_the_manifest_says(made: Path) -> None:
    for index, row in enumerate(read_manifest(made)):
        plan = plan_clip(SEED, index)
        with av.open(str(row.path)) as source:
            video = source.streams.video[0]
            assert video.codec_context.name == "h264"
            assert video.average_rate == plan.fps
            assert [s.codec_context.name for s in source.streams.audio] == ([] if plan.sound == "none" else ["aac"])
            assert len(list(source.decode(video=0))) == plan.frames
        assert row.value("duration_s") == pytest.approx(plan.duration_s, abs=1e-6)


def test_sound_lasts_as_long_as_the_pictures(made: Path) -> None:
    for index, row in enumerate(read_manifest(made)):
        with av.open(str(row.path)) as source:
            if source.streams.audio:
                heard_s = sum(frame.samples / frame.sample_rate for frame in source.decode(audio=0))
                assert heard_s == pytest.approx(plan_clip(SEED, index).duration_s, abs=0.1)


def test_sound_and_pictures_lie_side_by_side(plans: list[ClipPlan], tmp_path: Path) -> None:
    latest: dict[str, float] = {}
    with av.open(str(_rendered(_first(plans, sound="track", picture="film"), tmp_path))) as source:
        for packet in source.demux():
            if packet.dts is not None:
                latest[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(latest.get("video", 0) - latest.get("audio", 0)) < 1.0


def test_the_same_seed_gives_the_same_rows_and_pictures(made: Path, tmp_path: Path) -> None:
    again = synthesise(tmp_path / "clips", clips=COUNT, seed=SEED, jobs=2)
    assert again.read_text() == made.read_text()
    assert [_decoded(row.path) for row in read_manifest(again)] == [_decoded(row.path) for row in read_manifest(made)]


def test_another_seed_gives_other_clips(made: Path, tmp_path: Path) -> None:
    other = synthesise(tmp_path / "clips", clips=1, seed=SEED + 1)
    assert other.read_text().splitlines()[0] != made.read_text().splitlines()[0]
    assert _decoded(read_manifest(other)[0].path) != _decoded(read_manifest(made)[0].path)


def test_nothing_beside_pictures_and_sound_tells_of_success(made: Path) -> None:
    for row in read_manifest(made):
        with av.open(str(row.path)) as source:
            assert set(source.metadata) <= {"major_brand", "minor_version", "compatible_brands", "encoder"}
        assert row.path.stem == row.id.removeprefix("made-")


def test_an_interrupted_run_leaves_whole_clips_and_is_finished_by_the_next(tmp_path: Path) -> None:
    def stop(finished: int, total: int) -> None:
        if finished == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path, clips=2, seed=SEED, progress=stop)
    (kept,) = tmp_path.glob("clips/*")
    assert not (tmp_path / "manifest.jsonl").exists()
    before = kept.stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    manifest = synthesise(tmp_path, clips=2, seed=SEED, progress=lambda finished, total: seen.append((finished, total)))
    assert kept.stat().st_mtime_ns == before
    assert seen == [(1, 2), (2, 2)]
    assert all(row.path.exists() for row in read_manifest(manifest))


def test_a_clip_that_fails_leaves_nothing_behind(plans: list[ClipPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcast.training.render.os.replace", _refuse)
    with pytest.raises(DataError, match="cannot be written: disk full"):
        render(_first(plans, sound="none"), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def _refuse(*_: object) -> None:
    raise OSError("disk full")


def test_a_folder_of_something_else_is_refused_and_by_force_only_added_to(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    mine = tmp_path / "clips" / "holiday.mp4"
    mine.write_text("mine")
    with pytest.raises(DataError, match="--force"):
        synthesise(tmp_path, clips=1, seed=SEED)
    synthesise(tmp_path, clips=1, seed=SEED, force=True)
    assert mine.read_text() == "mine"
    with pytest.raises(DataError, match=f"seed {SEED + 1}"):
        synthesise(tmp_path, clips=1, seed=SEED + 1)


@pytest.mark.parametrize(("clips", "jobs", "seed"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_counts_are_refused(tmp_path: Path, clips: int, jobs: int, seed: int) -> None:
    with pytest.raises(DataError, match="at least"):
        synthesise(tmp_path / "clips", clips=clips, jobs=jobs, seed=seed)
    assert not (tmp_path / "clips").exists()


def test_splits_are_grouped_by_author_and_sized_70_15_15(plans: list[ClipPlan]) -> None:
    rows = [clip_row(plan, Path()) for plan in plans[:1200]]
    splits = defaultdict(set)
    for row in rows:
        splits[row.author].add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(row.split for row in rows) == {"train": 840, "val": 180, "test": 180}
    assert {row.split for row in rows[:18]} == {"train", "val", "test"}


def test_counts_are_plausible(plans: list[ClipPlan]) -> None:
    for plan in plans[:300]:
        columns = clip_row(plan, Path()).columns
        assert 0 <= columns["comments"] <= columns["likes"] <= columns["views"]
        json.dumps(columns, allow_nan=False)


def test_lengths_sizes_rates_and_missing_parts_are_mixed(plans: list[ClipPlan]) -> None:
    share = {kind: sum(p.sound == kind for p in plans) / len(plans) for kind in ("none", "silent")}
    assert share["none"] == pytest.approx(0.08, abs=0.02)
    assert share["silent"] == pytest.approx(0.02, abs=0.01)
    assert {p.picture for p in plans} == {"film", "still", "black"}
    assert len({p.fps for p in plans}) == 4
    assert {p.rotation for p in plans} == {0, 90, 270}
    assert np.mean([p.height > p.width for p in plans]) > 0.8
    assert min(p.duration_s for p in plans) >= 3.9
    assert max(p.duration_s for p in plans) <= 20.1


def test_a_factor_is_none_exactly_where_the_clip_lacks_it(plans: list[ClipPlan]) -> None:
    for plan in plans:
        f = plan.factors
        assert (f.motion is None) == (f.warmth is None) == (plan.picture == "black")
        assert (f.energy is None) == (f.speech is None) == (plan.sound != "track")
        assert (f.hook is None) == (not f.speech) == (not plan.lines)


@pytest.mark.parametrize("rotation", [90, 270])
def test_rotation_sets_the_picture_upright(plans: list[ClipPlan], tmp_path: Path, rotation: int) -> None:
    plan = _first(plans, rotation=rotation, picture="still")
    frame = _pictures(_rendered(plan, tmp_path))[0]
    assert frame.rotation % 360 == rotation
    upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    assert upright.shape == (plan.height, plan.width, 3)
    level = _pictures(_rendered(_unturned(plan), tmp_path))[0].to_ndarray(format="rgb24")
    assert np.abs(upright.astype(int) - level).mean() < 4


def _unturned(plan: ClipPlan) -> ClipPlan:
    return ClipPlan(**{**{name: getattr(plan, name) for name in plan.__slots__}, "rotation": 0})


def test_a_black_clip_is_black_and_a_still_one_stands_still(plans: list[ClipPlan], tmp_path: Path) -> None:
    dark = [frame.to_ndarray(format="rgb24") for frame in _pictures(_rendered(_first(plans, picture="black"), tmp_path))]
    assert max(int(picture.max()) for picture in dark) <= 2
    held = [frame.to_ndarray(format="rgb24").astype(int) for frame in _pictures(_rendered(_first(plans, picture="still"), tmp_path))]
    assert np.ptp(held[0]) > 40
    assert np.abs(held[-1] - held[0]).mean() < 3


def test_a_silent_track_is_there_and_silent(plans: list[ClipPlan], tmp_path: Path) -> None:
    with av.open(str(_rendered(_first(plans, sound="silent"), tmp_path))) as source:
        assert all(np.abs(frame.to_ndarray()).max() < 1e-4 for frame in source.decode(audio=0))


def test_other_lengths_make_other_clips_and_the_usual_ones_stay(made: Path, tmp_path: Path) -> None:
    lengths = [plan_clip(SEED, index, (30.0, 90.0)).duration_s for index in range(300)]
    assert 30 <= min(lengths) < 33
    assert 83 < max(lengths) <= 90.05
    longer = synthesise(tmp_path / "clips", clips=1, seed=SEED, lengths_s=(1.0, 2.0))
    (row,) = read_manifest(longer)
    assert 1 <= row.value("duration_s") <= 2.05
    with pytest.raises(DataError, match="holds no clips of this recipe"):
        synthesise(tmp_path / "clips", clips=1, seed=SEED)
    assert plan_clip(SEED, 0) == plan_clip(SEED, 0, (4.0, 20.0))


def test_a_long_speech_says_sentences_again(plans: list[ClipPlan]) -> None:
    spoken = [plan for index in range(40) if (plan := plan_clip(SEED, index, (60.0, 90.0))).lines]
    assert max(len(plan.lines) for plan in spoken) > 24
    assert max(len({line.text for line in plan.lines}) for plan in spoken) <= 24


@pytest.mark.parametrize("lengths_s", [(0.5, 4.0), (9.0, 4.0), (4.0, 1e9), (float("nan"), 9.0)])
def test_lengths_that_cannot_be_are_refused(tmp_path: Path, lengths_s: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="lengths that rise"):
        synthesise(tmp_path / "clips", clips=1, lengths_s=lengths_s)
    assert not (tmp_path / "clips").exists()
