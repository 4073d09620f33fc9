"""Capture devices: `v4l2:/dev/video0` is a camera, `x11grab::0` a screen. Only what is asked for by such a name is ever opened as one.

A device is a demuxer of FFmpeg, and no playlist or file can name one: the demuxers of files and URLs are listed in `sources`, and
these are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from ..errors import MediaError

DEVICES: dict[str, str] = {
    "v4l2": "/dev/video0",
    "x11grab": ":0",
    "alsa": "hw:0",
    "pulse": "default",
    "fbdev": "/dev/fb0",
    "kmsgrab": "/dev/dri/card0",
    "oss": "/dev/dsp",
    "avfoundation": "0:0",
    "dshow": "video=Integrated Camera",
    "gdigrab": "desktop",
    "lavfi": "testsrc2=size=360x640:rate=25,realtime",
}
"""FFmpeg's capture devices that can be asked for, each with an example. Which of them an FFmpeg has depends on its build."""

OPTIONS = frozenset(
    {"video_size", "framerate", "input_format", "pixel_format", "sample_rate", "channels", "grab_x", "grab_y", "draw_mouse"}
)
"""What may be set, as in `v4l2:/dev/video0?video_size=640x480&framerate=30`. None of them names a file."""

TEST_FILTERS = frozenset(
    {"testsrc", "testsrc2", "smptebars", "smptehdbars", "rgbtestsrc", "color", "gradients", "mandelbrot", "sine", "anoisesrc", "anullsrc"}
    | {"realtime", "arealtime", "format", "aformat", "fps", "scale", "noise"}
)
"""What a `lavfi` graph may be made of: other filters open files, addresses and plug-ins of their own."""


@dataclass(frozen=True, slots=True)
class Device:
    """A capture device as it was asked for."""

    form: str
    """FFmpeg's name for its kind."""
    address: str
    """Which one: `/dev/video0`, `:0.0`, a filter graph."""
    options: dict[str, str] = field(default_factory=dict)


def names_device(source: str) -> bool:
    """Whether a source is spelled as a device is."""
    form, colon, _ = source.partition(":")
    return bool(colon) and form in DEVICES


def parse_device(source: str, formats_available: Collection[str]) -> Device | None:
    """The device that a source names; None where it names none.

    Args:
        source: as it was given.
        formats_available: the demuxers FFmpeg has, as it names them: `video4linux2,v4l2` is one with two names.

    Raises:
        MediaError: this FFmpeg has no such kind of device, or an option is not one.
    """
    if not names_device(source):
        return None
    form, _, rest = source.partition(":")
    forms = {name for names in formats_available for name in names.split(",")}
    if form not in forms:
        here = ", ".join(sorted(DEVICES.keys() & forms))
        raise MediaError(f"{form}: the FFmpeg of this PyAV has no such device; it has {here}")
    address, _, query = rest.rpartition("?") if "?" in rest and form != "lavfi" else (rest, "", "")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(options.keys() - OPTIONS):
        raise MediaError(f"{form}: {unknown[0]} is no option of a device; there are {', '.join(sorted(OPTIONS))}")
    if not address:
        raise MediaError(f"{form}: which one? for example {form}:{DEVICES[form]}")
    if form == "lavfi" and (others := [name for name in _filters(address) if name not in TEST_FILTERS]):
        raise MediaError(f"lavfi: {others[0]!r} is none of the filters a test picture is made of: {', '.join(sorted(TEST_FILTERS))}")
    return Device(form, address, options)


def device_at(path: Path) -> str | None:
    """How to ask for the device that a path is, where it looks like one: `v4l2:/dev/video0`."""
    for form, example in DEVICES.items():
        if path.parent == Path(example).parent and path.name.startswith(Path(example).name.rstrip("0123456789")):
            return f"{form}:{path}"
    return None


def _filters(graph: str) -> list[str]:
    """The names of a graph's filters, as far as it is written without quotes; what is quoted comes out as no name of a filter."""
    return [re.split(r"[=@]", re.sub(r"\[\w+\]", "", part).strip())[0] for part in re.split(r"[,;]", graph)]
