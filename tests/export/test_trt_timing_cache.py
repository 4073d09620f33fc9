"""The timing cache's file: read, begun anew where it is of another GPU, and written after a build that worked."""

from pathlib import Path

import pytest

from shortcast.errors import EngineError
from shortcast.export.trt_timing_cache import TimingCache


class Config:
    """A configuration that takes an empty cache alone."""

    content: bytes

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.content = cache
        return cache == b""

    def get_timing_cache(self) -> "Config":
        return self

    def serialize(self) -> bytes:
        return self.content + b"and new ones"


def test_a_timing_cache_of_another_gpu_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    path.write_bytes(b"of another GPU")
    config = Config()
    timings = TimingCache(config, path)
    with timings:
        pass
    assert path.read_bytes() == b"and new ones"
    assert "another GPU" in timings.notes[0]


def test_the_timings_of_a_failed_build_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    with pytest.raises(EngineError, match="failed"), TimingCache(Config(), path):
        raise EngineError("failed")
    assert list(tmp_path.iterdir()) == []
