"""How devices are spelled, and that nothing else is one."""

from pathlib import Path

import pytest

from shortcast.errors import MediaError
from shortcast.runtime.containers import MEDIA_FORMATS, URL_FORMATS
from shortcast.runtime.devices import DEVICES, Device, device_at, parse_device
from shortcast.runtime.sources import find_source

FORMATS = {*DEVICES, "video4linux2,v4l2", "mov,mp4,m4a"} - {"v4l2", "pulse"}
"""As if FFmpeg had all but one, under the names it has them by."""


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("v4l2:/dev/video0", Device("v4l2", "/dev/video0")),
        ("v4l2:/dev/video0?video_size=640x480&framerate=30", Device("v4l2", "/dev/video0", {"video_size": "640x480", "framerate": "30"})),
        ("x11grab::0.0", Device("x11grab", ":0.0")),
        ("alsa:hw:1,0", Device("alsa", "hw:1,0")),
        ("dshow:video=Camera", Device("dshow", "video=Camera")),
        ("lavfi:testsrc2=size=90x160[out0];sine[out1]", Device("lavfi", "testsrc2=size=90x160[out0];sine[out1]")),
        ("clip.mp4", None),
        ("./v4l2:x", None),
        ("C:\\clip.mp4", None),
        ("concat:a.mp4|b.mp4", None),
        ("-", None),
    ],
)
def test_what_is_a_device(source: str, device: Device | None) -> None:
    assert parse_device(source, FORMATS) == device


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("pulse:default", "no such device; it has"),
        ("v4l2:", "which one"),
        ("v4l2:/dev/video0?options_file=/etc/passwd", "no option of a device"),
        ("lavfi:amovie=/etc/passwd", "'amovie' is none of"),
        ("lavfi:testsrc2,drawtext=textfile=/etc/passwd", "'drawtext' is none of"),
        ("lavfi:testsrc2[x];[x]subtitles=f", "'subtitles' is none of"),
        ("lavfi:life=filename=/etc/passwd", "'life' is none of"),
    ],
)
def test_what_is_refused(source: str, sentence: str) -> None:
    with pytest.raises(MediaError, match=sentence):
        parse_device(source, FORMATS)


def test_a_path_object_is_never_a_device() -> None:
    with pytest.raises(MediaError, match="does not exist"):
        find_source(Path("v4l2:/dev/video0"))


@pytest.mark.parametrize("formats", [MEDIA_FORMATS, URL_FORMATS])
def test_no_playlist_can_open_a_device(formats: str) -> None:
    assert not DEVICES.keys() & set(formats.split(","))


@pytest.mark.parametrize(("path", "device"), [("/dev/video1", "v4l2:/dev/video1"), ("/dev/fb0", "fbdev:/dev/fb0"), ("/dev/null", None)])
def test_a_path_of_a_device_says_how_to_ask_for_it(path: str, device: str | None) -> None:
    assert device_at(Path(path)) == device
