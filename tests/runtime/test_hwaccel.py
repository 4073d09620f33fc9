"""Pictures decoded on hardware, or an error: on a machine without a GPU all that can be seen is the error, and that it is said."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from shortcast.errors import MediaError
from shortcast.runtime import containers
from shortcast.runtime.containers import open_container
from shortcast.runtime.gpu_findings import driver_version
from shortcast.runtime.read_options import ReadOptions
from shortcast.runtime.sources import find_source

NO_GPU = pytest.mark.skipif(driver_version() is not None, reason="an NVIDIA driver is here")


@NO_GPU
def test_without_the_hardware_nothing_falls_back(sample: Path) -> None:
    words = r"cannot be decoded on cuda: its decoder does not start .*shortcast doctor.*leave out --hwaccel"
    for source in (sample, io.BytesIO(sample.read_bytes())):
        with pytest.raises(MediaError, match=words):
            open_container(find_source(source), ReadOptions(hwaccel="cuda"))


def test_without_pictures_no_hardware_is_needed(sample: Path) -> None:
    open_container(find_source(sample), ReadOptions(hwaccel="cuda", use_pictures=False)).close()


def test_a_broken_file_is_still_said_to_be_broken(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no media at all, whatever decodes it")
    with pytest.raises(MediaError, match="is not a media file"):
        open_container(find_source(tmp_path / "x.mp4"), ReadOptions(hwaccel="cuda"))


@pytest.mark.parametrize("hardware", [False, True])
def test_a_decoder_that_is_not_the_hardwares_is_refused(sample: Path, monkeypatch: pytest.MonkeyPatch, hardware: bool) -> None:
    """PyAV asked for hardware and giving a software decoder all the same."""
    closed: list[bool] = []
    stream = SimpleNamespace(codec_context=SimpleNamespace(is_hwaccel=hardware, name="vp8"))
    container: Any = SimpleNamespace(streams=SimpleNamespace(video=[stream]), close=lambda: closed.append(True))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(containers.av, "open", lambda *_, **options: asked.update(options) or container)
    place, options = find_source(sample), ReadOptions(hwaccel="cuda")
    if hardware:
        assert open_container(place, options) is container
        assert isinstance(asked["hwaccel"], av.codec.hwaccel.HWAccel)
        assert not asked["hwaccel"].allow_software_fallback
        assert not asked["hwaccel"].is_hw_owned
        return
    with pytest.raises(MediaError, match="has no decoder for vp8"):
        open_container(place, options)
    assert closed
