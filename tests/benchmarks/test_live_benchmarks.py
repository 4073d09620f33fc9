"""The sender of the live benchmarks sends what it says, when it says; and their figures, from scripted runs."""

import io
from itertools import pairwise
from pathlib import Path

import av
import pytest

from shortcast.benchmarks.live_feed import slices, small_clip
from shortcast.benchmarks.live_streams import ChunkRun, Trial, _last_pieces
from shortcast.benchmarks.long_stream import LongStream, MemorySample


def test_a_repeated_clip_is_one_stream_without_a_jump(tmp_path: Path) -> None:
    small_clip(tmp_path / "clip.mp4", seconds=2, fps=10)
    pieces = list(slices(tmp_path / "clip.mp4", 9.0))
    assert [piece.due_s for piece in pieces] == sorted(piece.due_s for piece in pieces)
    assert 8.8 < pieces[-1].due_s < 9.0
    with av.open(io.BytesIO(b"".join(piece.data for piece in pieces))) as read:
        times = [frame.time for frame in read.decode(video=0)]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) > 80
    assert max(steps) < 0.2
    assert min(steps) > 0.09


def test_the_last_piece_of_every_whole_chunk(sample: Path) -> None:
    pieces = list(slices(sample, 9.0))
    last = sorted(_last_pieces(pieces, 2.0))
    origin_s = min(piece.start_s for piece in pieces)
    assert len(last) == 4
    for chunk, index in enumerate(last):
        assert pieces[index].start_s - origin_s < 2.0 * (chunk + 1)
        assert all(piece.start_s - origin_s >= 2.0 * (chunk + 1) for piece in pieces[index + 1 :])


def test_latency_percentiles_and_misses_of_scripted_runs() -> None:
    runs = tuple(ChunkRun(0, chunk, 2.0 * chunk, 2.0 * chunk + 0.01 * chunk, 5.0) for chunk in range(101))
    trial = Trial(1, True, 1, 204.0, 102, 0, 0.1, runs)
    assert [round(trial.percentile_ms(share)) for share in (50, 95, 99, 100)] == [500, 950, 990, 1000]
    assert trial.misses(2.0) == 1  # one chunk never had a score
    assert trial.misses(0.5) == 102 - 51


@pytest.mark.parametrize(("rss_mb", "growth_mb"), [([300.0, 301.0, 299.0], -1.0), ([300.0, 310.0, 320.0], 20.0)])
def test_growth_is_from_the_first_sample_to_the_last(rss_mb: list[float], growth_mb: float) -> None:
    samples = tuple(MemorySample(300.0 * number, 1.0, held, 9, 1000, 0) for number, held in enumerate(rss_mb))
    assert LongStream(2, "", "", 900.0, False, samples).growth_mb == growth_mb
