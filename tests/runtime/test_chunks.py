"""Chunks: the slot rule, sound placement, waiting, the end, and the invariants over every clip there is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from shortcast.errors import MediaError
from shortcast.runtime.chunks import Chunk, ChunkStream, ReadOptions, read_chunks
from shortcast.runtime.contract import Contract

CONTRACT = Contract()
CHUNK_S, FPS, RATE = 2.0, 8, 16_000

MakeClip = Callable[..., Path]
Tone = Callable[..., NDArray[np.float32]]


def chunks_of(source: object, **options: object) -> tuple[list[Chunk], ChunkStream]:
    with read_chunks(source, CONTRACT, options=ReadOptions(**options)) as stream:  # type: ignore[arg-type]
        return list(stream), stream


def levels(chunks: list[Chunk]) -> list[int | None]:
    """The grey level in the middle of every slot, None where it is masked."""
    return [int(frame[80, 48, 0]) if real else None for chunk in chunks for frame, real in zip(chunk.frames, chunk.frame_mask, strict=True)]


def heard(chunks: list[Chunk]) -> NDArray[np.bool_]:
    return np.concatenate([chunk.sample_mask for chunk in chunks])


def sound(chunks: list[Chunk]) -> NDArray[np.float32]:
    return np.concatenate([chunk.samples for chunk in chunks])


def steady(seconds: float, fps: int = 25) -> list[tuple[float, int]]:
    """Pictures whose grey level says when they start: 20 + 8 per second, plus a little per picture."""
    return [(i / fps, 20 + round(8 * i / fps)) for i in range(round(seconds * fps))]


def check_invariants(chunks: list[Chunk], stream: ChunkStream) -> None:
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert stream.lost_packets == sum(chunk.lost_packets for chunk in chunks)
    for chunk in chunks:
        assert chunk.frames.shape == (16, 160, 96, 3)
        assert chunk.frames.dtype == np.uint8
        assert chunk.frame_mask.shape == (16,)
        assert chunk.frame_mask.dtype == np.bool_
        assert chunk.samples.shape == (32_000,)
        assert chunk.samples.dtype == np.float32
        assert chunk.sample_mask.shape == (32_000,)
        assert chunk.sample_mask.dtype == np.bool_
        assert not chunk.frames[~chunk.frame_mask].any()
        assert not chunk.samples[~chunk.sample_mask].any()
        assert np.abs(chunk.samples).max() <= 1.0
        assert chunk.start_s == chunk.index * CHUNK_S
        assert chunk.start_s < chunk.end_s <= chunk.start_s + CHUNK_S
        assert chunk.final or chunk.end_s == chunk.start_s + CHUNK_S
        assert chunk.decode_s >= 0
    assert all(a.epoch <= b.epoch for a, b in pairwise(chunks))
    assert stream.info.has_video == any(chunk.has_pictures for chunk in chunks)
    assert stream.info.has_audio == any(chunk.has_sound for chunk in chunks)


def same(a: list[Chunk], b: list[Chunk]) -> None:
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        for name in ("frames", "frame_mask", "samples", "sample_mask"):
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=f"chunk {left.index} {name}")
        assert (left.start_s, left.end_s, left.epoch, left.final) == (right.start_s, right.end_s, right.epoch, right.final)
        assert left.lost_packets == right.lost_packets


# ------------------------------------------------------------------------------------------------------------------ every clip

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clips"
FOLDERS = ("real", "odd", "audio_only", "derived", "broken")
ALL = sorted(str(path.relative_to(CLIPS)) for folder in FOLDERS for path in (CLIPS / folder).glob("*"))
UNREADABLE = {
    "broken/1024_incrementing_bytes.mp3": "is not a media file FFmpeg knows",
    "broken/full_blocks.mkv": "has no video or audio stream",
    "broken/large_stbl_truncated_after_moov.m4b": "ends after its header",
    "broken/sample_fragmented_clearkey.mp4": "is encrypted",
    "broken/sample_fragmented_sideloaded_track.mp4": "without their moov atom",
    "broken/sample_fragmented_uuid.mp4": "nothing in it decodes",
    "derived/empty.mp4": "is empty",
    "derived/nasa_truncated_half.mp4": "moov atom missing",
    "derived/random_bytes.mp4": "is not a media file FFmpeg knows",
    "derived/text_renamed.mp4": "is not a media file FFmpeg knows",
}


@pytest.mark.parametrize("clip", ALL or ["none"])
def test_every_clip_gives_sound_chunks_or_one_clear_sentence(data_clips: Path, clip: str) -> None:
    path = data_clips / clip
    if clip in UNREADABLE:
        with pytest.raises(MediaError, match=UNREADABLE[clip]) as caught:
            chunks_of(path)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "\n" not in message
    else:
        check_invariants(*chunks_of(path))


class Trickle:
    """A pipe: no seeking, and at most 4096 bytes a read."""

    def __init__(self, data: bytes) -> None:
        self._file = BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 4096))


STREAMABLE = (
    "real/big_buck_bunny_432_433.webm",
    "real/sample.avi",
    "odd/sample.flv",
    "odd/sample_fragmented.mp4",
    "odd/circle.gif",
    "derived/vertical_jfk.mp4",
    "derived/bbb_truncated.webm",
    "audio_only/bear.flac",
    "audio_only/bbb_6ch_8kHz_opus.ogg",
    "audio_only/bear-vbr-no-seek-table.mp3",
    "real/sample_portrait.mp4",
)


@pytest.mark.parametrize("clip", STREAMABLE)
def test_a_pipe_and_a_file_object_give_what_the_file_gives(data_clips: Path, clip: str) -> None:
    expected, _ = chunks_of(data_clips / clip)
    data = (data_clips / clip).read_bytes()
    same(expected, chunks_of(Trickle(data))[0])
    same(expected, chunks_of(BytesIO(data))[0])


@pytest.mark.parametrize("clip", ["derived/vertical_german.mp4", "real/nasa_13013.mp4", "real/hdr10-av1.mp4"])
def test_the_number_of_threads_changes_nothing(data_clips: Path, clip: str) -> None:
    one, _ = chunks_of(data_clips / clip, decode_threads=1)
    same(one, chunks_of(data_clips / clip, decode_threads=7)[0])


# -------------------------------------------------------------------------------------------------------------------- pictures


def test_a_slot_holds_the_last_picture_that_is_not_later(make_clip: MakeClip) -> None:
    starts = [0.0, 0.1, 0.125, 0.3, 1.0, 2.49, 2.51, 3.0]
    chunks, _ = chunks_of(make_clip("vfr.mkv", pictures=[(start, 20 + 25 * i) for i, start in enumerate(starts)]))
    got = levels(chunks)
    for slot in range(24):
        shown = max(i for i, start in enumerate(starts) if start <= slot / FPS)
        assert got[slot] == pytest.approx(20 + 25 * shown, abs=3), f"slot {slot}"
    assert got[24] is not None  # the last picture, at 3.0
    assert got[26:] == [None] * 6  # and nothing after its end
    assert len(chunks) == 2


@pytest.mark.parametrize(("start_s", "masked"), [(0.1, 0), (0.124, 0), (0.3, 3), (1.0, 8)])
def test_slots_before_the_first_picture_are_masked_save_a_first_slot_that_is_only_just_early(
    make_clip: MakeClip, tone: Tone, start_s: float, masked: int
) -> None:
    pictures = [(start_s + i / 25, 128) for i in range(50)]
    chunks, _ = chunks_of(make_clip("late.mkv", pictures=pictures, sound=tone(3.0), audio_codec="pcm_s16le"))
    assert levels(chunks)[: masked + 1] == [None] * masked + [pytest.approx(128, abs=3)]


def test_a_held_picture_is_scaled_once(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    from shortcast.runtime.pictures import PictureScaler

    scaled = []
    original = PictureScaler.scale
    monkeypatch.setattr(PictureScaler, "scale", lambda self, frame: scaled.append(frame.pts) or original(self, frame))
    chunks, _ = chunks_of(make_clip("hold.mkv", pictures=[(0.0, 50), (0.02, 60), (0.04, 70), (3.0, 200)]))
    assert sum(level is not None for level in levels(chunks)) == 25
    assert scaled == [0, 40, 3000]  # the picture at 0.02 fills no slot


def test_pictures_of_a_new_size_in_mid_stream_are_fitted_anew(make_clip: MakeClip, tmp_path: Path) -> None:
    tall = make_clip("tall.ts", pictures=[(i / 25, 200) for i in range(50)], size=(96, 160))
    wide = make_clip("wide.ts", pictures=[(i / 25, 200) for i in range(50)], size=(160, 96), offset_s=2.0)
    both = tmp_path / "both.ts"
    both.write_bytes(tall.read_bytes() + wide.read_bytes())
    chunks, stream = chunks_of(both)
    bright = [int((frame[..., 0] > 100).sum()) for chunk in chunks for frame in chunk.frames[chunk.frame_mask]]
    assert bright[0] == 160 * 96
    assert bright[-1] == pytest.approx(58 * 96, abs=96)
    assert stream.lost_packets == 0


def test_a_picture_held_for_longer_than_the_wait_is_found_again(make_clip: MakeClip, tone: Tone) -> None:
    """Matroska says no durations: pictures pause for 8 s under sound, and the next one is no keyframe."""
    pictures = [(i / 25, 60 + i) for i in range(50)] + [(10 + i / 25, 180) for i in range(25)]
    path = make_clip("pause.mkv", pictures=pictures, sound=tone(12.0))
    chunks, stream = chunks_of(path, decode_threads=4)
    got = levels(chunks)
    assert got[15] == pytest.approx(60 + 46, abs=3)  # the decoder was drained: nothing is missing before the pause
    assert got[80:88] == [pytest.approx(180, abs=3)] * 8  # and it went on after it
    assert stream.lost_packets == 0
    assert [chunk.epoch for chunk in chunks] == [0] * 6
    same(chunks, chunks_of(path, decode_threads=1)[0])


def test_pictures_that_end_early_do_not_hold_up_the_rest(make_clip: MakeClip, tone: Tone) -> None:
    for name in ("ends.mp4", "ends.mkv"):
        chunks, _ = chunks_of(make_clip(name, pictures=steady(1.48), sound=tone(20.0)), decode_threads=4)
        assert len(chunks) == 10
        assert [level is None for level in levels(chunks)[:16]] == [False] * 12 + [True] * 4
        assert heard(chunks)[: 19 * RATE].all()


# ----------------------------------------------------------------------------------------------------------------------- sound


def test_sound_far_behind_the_pictures_in_the_file_is_waited_for(make_clip: MakeClip, tone: Tone) -> None:
    """Every packet of sound comes 4 s of media after its pictures, as a bad muxer may write it to a pipe. Only what belonged to the
    chunks given in the first 4 s, when there was none at all, is lost, and counted.
    """
    pictures = steady(12.0)
    usual, _ = chunks_of(make_clip("usual.mkv", pictures=pictures, sound=tone(12.0), audio_codec="pcm_s16le"))
    behind = make_clip("behind.mkv", pictures=pictures, sound=tone(12.0), audio_codec="pcm_s16le", sound_delay_s=4.0)
    chunks, stream = chunks_of(Trickle(behind.read_bytes()))
    check_invariants(chunks, stream)
    assert stream.lost_packets > 0
    assert heard(chunks)[4 * RATE : 12 * RATE].all()
    np.testing.assert_array_equal(sound(chunks)[5 * RATE :], sound(usual)[5 * RATE :])


def test_flash_and_beep_stay_together(make_clip: MakeClip, tone: Tone) -> None:
    """A white picture and a beep at 3.0 s, in containers with three different clocks. MPEG-TS cannot say that AAC begins with 1024
    samples of its own, so there the beep lags by those 64 ms in any player.
    """
    pictures = [(i / 25, 250 if 75 <= i < 85 else 20) for i in range(125)]
    beep = np.zeros(5 * RATE, np.float32)
    beep[3 * RATE : round(3.4 * RATE)] = tone(0.4)
    for name, lag_s in (("sync.mp4", 0), ("sync.mkv", 0), ("sync.ts", 0.064)):
        chunks, _ = chunks_of(make_clip(name, pictures=pictures, sound=beep))
        flash_s = next(i for i, level in enumerate(levels(chunks)) if level and level > 128) / FPS
        beep_s = np.flatnonzero(np.abs(sound(chunks)) > 0.1)[0] / RATE
        assert flash_s == pytest.approx(3.0, abs=1 / FPS), name
        assert beep_s == pytest.approx(3.0 + lag_s, abs=0.03), name


def test_sound_arrives_to_the_sample(make_clip: MakeClip) -> None:
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, 5 * RATE).astype(np.float32)
    chunks, _ = chunks_of(make_clip("noise.wav", sound=noise, audio_codec="pcm_f32le"))
    np.testing.assert_array_equal(sound(chunks)[: len(noise)], noise)
    assert heard(chunks).sum() == len(noise)


def test_resampled_sound_has_no_seams_between_chunks(make_clip: MakeClip, tone: Tone) -> None:
    chunks, _ = chunks_of(make_clip("tone.mkv", sound=tone(6.0, rate_hz=44_100), rate_hz=44_100, audio_codec="pcm_s16le"))
    expected = tone(6.0)
    np.testing.assert_allclose(sound(chunks)[200:-200], expected[200 : len(sound(chunks)) - 200], atol=2e-3)


def test_sound_that_starts_late_is_no_discontinuity(make_clip: MakeClip, tone: Tone) -> None:
    chunks, stream = chunks_of(make_clip("late.mkv", pictures=steady(12.0), sound=tone(3.0), sound_start_s=8.0, audio_codec="pcm_s16le"))
    check_invariants(chunks, stream)
    assert [chunk.epoch for chunk in chunks] == [0] * 6
    assert not heard(chunks)[: 8 * RATE - 1].any()
    assert heard(chunks)[8 * RATE : 11 * RATE - 1].all()


def test_sound_that_ends_early_is_masked_from_there(make_clip: MakeClip, tone: Tone) -> None:
    chunks, _ = chunks_of(make_clip("short.mkv", pictures=steady(8.0), sound=tone(3.0), audio_codec="pcm_s16le"))
    assert heard(chunks)[: 3 * RATE].all()
    assert not heard(chunks)[3 * RATE :].any()
    assert None not in levels(chunks)


@pytest.mark.parametrize("modality", ["pictures", "sound"])
def test_one_modality_alone(make_clip: MakeClip, tone: Tone, modality: str) -> None:
    path = make_clip("both.mp4", pictures=steady(4.0), sound=tone(4.0))
    chunks, stream = chunks_of(path, **{"use_sound" if modality == "pictures" else "use_pictures": False})
    check_invariants(chunks, stream)
    assert stream.info.has_video == (modality == "pictures")
    assert stream.info.has_audio == (modality == "sound")
    both, _ = chunks_of(path)
    for alone, whole in zip(chunks, both, strict=False):
        if modality == "pictures":
            np.testing.assert_array_equal(alone.frames, whole.frames)
        else:
            np.testing.assert_array_equal(alone.samples, whole.samples)


# ---------------------------------------------------------------------------------------------------------------- the clock


@pytest.mark.parametrize("jump_s", [1000.0, -3.0])
def test_a_timestamp_jump_is_one_discontinuity_for_both_streams(make_clip: MakeClip, tone: Tone, tmp_path: Path, jump_s: float) -> None:
    first = make_clip("a.ts", pictures=[(i / 25, 60) for i in range(100)], sound=tone(4.0), offset_s=10.0)
    second = make_clip("b.ts", pictures=[(i / 25, 180) for i in range(100)], sound=tone(4.0), offset_s=14.0 + jump_s)
    joined = tmp_path / "jump.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    chunks, stream = chunks_of(joined)
    check_invariants(chunks, stream)
    assert sorted({chunk.epoch for chunk in chunks}) == [0, 1]
    assert stream.decoded_s == pytest.approx(8.0, abs=0.2)
    got = levels(chunks)
    assert got[28] == pytest.approx(60, abs=3)
    assert got[36] == pytest.approx(180, abs=3)
    assert heard(chunks)[RATE : 7 * RATE].mean() > 0.98


def test_pictures_and_sound_with_clocks_apart_are_put_together(make_clip: MakeClip, tone: Tone) -> None:
    chunks, _ = chunks_of(make_clip("apart.mkv", pictures=steady(4.0), sound=tone(4.0), sound_start_s=5000.0))
    assert len(chunks) <= 5


# ------------------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.12, [0.12]), (2.0, [2.0]), (2.2, [2.0]), (2.24, [2.0]), (2.28, [2.0, 2.28]), (4.0, [2.0, 4.0]), (5.0, [2.0, 4.0, 5.0])],
)
def test_a_short_remainder_is_folded_and_final_is_set_once(make_clip: MakeClip, seconds: float, expected: list[float]) -> None:
    chunks, stream = chunks_of(make_clip("length.mp4", pictures=steady(seconds)))
    check_invariants(chunks, stream)
    assert [chunk.end_s for chunk in chunks] == pytest.approx(expected, abs=1e-3)
    assert stream.decoded_s == pytest.approx(seconds, abs=1e-3)


def test_a_chunk_is_given_before_the_next_one_is_read(make_clip: MakeClip, tone: Tone) -> None:
    data = make_clip("live.mkv", pictures=steady(10.0), sound=tone(10.0)).read_bytes()
    with read_chunks(Trickle(data), CONTRACT) as stream:
        first = next(stream)
        assert not first.final
        assert stream.decoded_s < 3.5


def test_a_truncated_file_says_so(make_clip: MakeClip, tone: Tone, tmp_path: Path) -> None:
    whole = make_clip("whole.mp4", pictures=steady(10.0), sound=tone(10.0), options={"movflags": "faststart"})
    assert not chunks_of(whole)[1].truncated
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    chunks, stream = chunks_of(cut)
    check_invariants(chunks, stream)
    assert stream.truncated
    assert 2.0 < stream.decoded_s < 9.0
    assert stream.info.declared_s == pytest.approx(10.0, abs=0.1)


def test_reading_stops_at_max_seconds(make_clip: MakeClip, tone: Tone) -> None:
    chunks, stream = chunks_of(make_clip("long.mp4", pictures=steady(10.0), sound=tone(10.0)), max_seconds=5.0)
    check_invariants(chunks, stream)
    assert stream.truncated
    assert [chunk.index for chunk in chunks] == [0, 1, 2]
    assert stream.decoded_s == pytest.approx(5.0, abs=0.1)


def test_declared_length_that_is_wrong_is_only_information(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("length.mkv", pictures=steady(3.0), sound=tone(3.0))
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88")  # Matroska: Duration, an 8-byte float in milliseconds
    data[at + 3 : at + 11] = np.array([143_165_000.0], ">f8").tobytes()
    chunks, stream = chunks_of(BytesIO(bytes(data)))
    check_invariants(chunks, stream)
    assert stream.truncated
    assert stream.info.declared_s == pytest.approx(143_165)


# -------------------------------------------------------------------------------------------------------------------- the stream


def test_info_is_known_after_opening(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("info.mp4", pictures=steady(2.0), sound=tone(2.0), size=(128, 64), pixel_aspect=Fraction(2), rotation=(90.0, False))
    with read_chunks(path, CONTRACT) as stream:
        info = stream.info
        list(stream)
    assert (info.width, info.height, info.rotation) == (64, 256, 90)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    assert info.has_video
    assert info.has_audio
    assert info.declared_s == pytest.approx(2.0, abs=0.1)
    assert stream.info == info
    assert stream.name == str(path)


def test_decode_time_leaves_out_the_consumer(make_clip: MakeClip) -> None:
    with read_chunks(make_clip("slow.mp4", pictures=steady(6.0)), CONTRACT) as stream:
        spent = 0.0
        started = time.perf_counter()
        for chunk in stream:
            spent += chunk.decode_s
            time.sleep(0.2)
        wall = time.perf_counter() - started
    assert spent <= wall - 0.5


def test_closing_early_releases_the_source(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("early.mp4", pictures=steady(10.0), sound=tone(10.0))
    with path.open("rb") as file:
        with read_chunks(file, CONTRACT) as stream:
            next(stream)
        assert list(stream) == []
        assert not file.closed
        stream.close()


class Interrupting(Trickle):
    """Raises an exception after the first reads."""

    def __init__(self, data: bytes, error: BaseException, after: int) -> None:
        super().__init__(data)
        self._error, self._left = error, after

    def read(self, size: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return super().read(size)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("cancelled")])
@pytest.mark.parametrize("after", [0, 1, 60])
def test_an_exception_of_the_source_reaches_the_caller(make_clip: MakeClip, tone: Tone, error: BaseException, after: int) -> None:
    data = make_clip("stop.mkv", pictures=steady(10.0), sound=tone(10.0), size=(360, 640)).read_bytes()
    data += bytes(4096 * 100)
    with pytest.raises(type(error)) as caught:
        chunks_of(Interrupting(data, error, after))
    assert caught.value is error


def test_an_io_error_in_mid_stream_ends_it_as_truncated(make_clip: MakeClip, tone: Tone) -> None:
    rng = np.random.default_rng(0)
    pictures = [(i / 25, rng.integers(0, 255, (160, 96, 3), np.uint8)) for i in range(250)]
    data = make_clip("broken-pipe.mkv", pictures=pictures, sound=tone(10.0), size=(96, 160)).read_bytes()
    chunks, stream = chunks_of(Interrupting(data, ConnectionResetError("reset by peer"), len(data) // 4096 * 2 // 3))
    check_invariants(chunks, stream)
    assert stream.truncated
    assert 2 < stream.decoded_s < 9


def test_another_contract_is_followed(make_clip: MakeClip, tone: Tone) -> None:
    contract = replace(CONTRACT, chunk_s=1.0, picture=replace(CONTRACT.picture, fps=Fraction(10), height=64, width=64))
    with read_chunks(make_clip("ten.mp4", pictures=steady(3.0), sound=tone(3.0)), contract) as stream:
        chunks = list(stream)
    assert len(chunks) == 3
    assert chunks[0].frames.shape == (10, 64, 64, 3)
    assert chunks[0].samples.shape == (16_000,)
    assert all(chunk.frame_mask.all() for chunk in chunks)


def test_pictures_do_not_outlive_their_chunk(make_clip: MakeClip) -> None:
    """PyAV's side data ties a frame into a reference cycle: at 1080p, 500 MB pile up before the collector runs."""
    path = make_clip("memory.mp4", pictures=steady(8.0), rotation=(90.0, False))

    def alive() -> int:
        return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())  # isinstance would wake lazy objects

    gc.collect()
    gc.disable()
    before = alive()
    try:
        with read_chunks(path, CONTRACT) as stream:
            assert max(alive() - before for _ in stream) <= 12  # of 64 that are scaled
    finally:
        gc.enable()
