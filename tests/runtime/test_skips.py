"""Pictures that are left out: none that anybody would have seen, or none more than one back."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import MediaError
from shortcast.runtime import media, read_options
from shortcast.runtime.bundle import Bundle, demo_bundle
from shortcast.runtime.chunks import Chunk, ReadOptions, read_chunks
from shortcast.runtime.media import Picture, open_media
from shortcast.runtime.skips import SkipPlan

FPS = 8.0
COUNT, RATE = 90, 30

CODINGS = [
    ("libx264", {"bf": "3", "b-pyramid": "normal"}),
    ("libx264", {"bf": "3", "b-pyramid": "none"}),
    ("libx264", {"bf": "2", "refs": "4"}),
    ("libx264", {"bf": "0"}),
    ("libx265", {"x265-params": "log-level=none:bframes=4"}),
    ("libx265", {"x265-params": "log-level=none:temporal-layers=2"}),
    ("mpeg4", {"bf": "2"}),
    ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
]


@pytest.fixture
def moving(tmp_path: Path) -> Callable[..., Path]:
    """3 s of a bright square that moves over noise, coded as asked."""

    def make(codec: str, options: dict[str, str], name: str = "moving.mp4") -> Path:
        import av

        random = np.random.default_rng(5)
        noise = random.integers(0, 120, (144, 80, 3), np.uint8)
        path = tmp_path / name
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=RATE, options={"g": "48", **options})
            stream.width, stream.height, stream.pix_fmt = 80, 144, "yuv420p"
            for k in range(COUNT):
                pixels = noise.copy()
                pixels[k : k + 40, 20:60] = 220
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode(None))
        return path

    return make


def pictures(path: Path, options: ReadOptions, fps: float | None) -> list[Picture]:
    with open_media(path, options=options, fps=fps) as opened:
        return [event for event in opened.events() if isinstance(event, Picture)]


def chunks_of(path: Path, options: ReadOptions) -> list[Chunk]:
    with read_chunks(path, Bundle.open(demo_bundle()).contract, options=options) as chunks:
        return list(chunks)


def shown(starts: list[float], slot_s: float) -> int:
    """Which of the source's pictures a slot shows."""
    return max(round(start * RATE) for start in starts if start <= slot_s + 0.0005)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("codec", "options"), CODINGS)
def test_exact_decoding_shows_every_slot_what_full_decoding_shows(
    moving: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, codec: str, options: dict[str, str], threads: int
) -> None:
    path = moving(codec, options)
    found = chunks_of(path, ReadOptions(decode_threads=threads))
    monkeypatch.setattr(SkipPlan, "leaves_out", lambda *_: False)
    expected = chunks_of(path, ReadOptions(decode_threads=threads))
    for ours, full in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.frames, full.frames)
        np.testing.assert_array_equal(ours.frame_mask, full.frame_mask)
        assert ours.end_s == full.end_s


@pytest.mark.parametrize(("codec", "options"), CODINGS)
def test_fast_decoding_fills_every_slot_from_at_most_one_picture_back(
    moving: Callable[..., Path], codec: str, options: dict[str, str]
) -> None:
    path = moving(codec, options)
    starts = [picture.start_s for picture in pictures(path, ReadOptions(decode="fast"), FPS)]
    for slot in range(int(COUNT / RATE * FPS)):
        assert int(slot / FPS * RATE + 1e-6) - shown(starts, slot / FPS) <= 1
    masks = [chunk.frame_mask for chunk in chunks_of(path, ReadOptions(decode="fast"))]
    full = [chunk.frame_mask for chunk in chunks_of(path, ReadOptions())]
    np.testing.assert_array_equal(masks, full)


def test_b_frames_between_slots_are_left_out_and_others_are_not(moving: Callable[..., Path]) -> None:
    path = moving("libx264", {"bf": "3", "b-pyramid": "normal"})
    counts = [len(pictures(path, ReadOptions(decode=mode), fps)) for mode, fps in (("exact", None), ("exact", FPS), ("fast", FPS))]
    assert counts[0] == COUNT
    assert all(fewer < more for more, fewer in pairwise(counts))
    assert len(pictures(moving("libx264", {"bf": "0"}, "plain.mp4"), ReadOptions(decode="fast"), FPS)) == COUNT


def test_a_decoder_that_takes_too_long_is_stopped(moving: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Any decoding is too long here: the free minute is taken away, and next to nothing is allowed."""
    path = moving("libx264", {"bf": "0"})
    monkeypatch.setattr(media, "FREE_DECODE_S", 0.0)
    with open_media(path, options=ReadOptions(decode_budget=1e-9)) as opened, pytest.raises(MediaError, match="went over its budget"):
        list(opened.events())
    with open_media(path, options=ReadOptions(decode_budget=None)) as opened:
        assert len(list(opened.events())) == COUNT
        assert not opened.over_budget


def test_the_free_minute_keeps_short_clips_from_any_budget(moving: Callable[..., Path]) -> None:
    assert read_options.FREE_DECODE_S >= 10
    with open_media(moving("libx264", {}), options=ReadOptions(decode_budget=1e-9)) as opened:
        assert len(list(opened.events())) == COUNT
