"""The boxes of an MP4 (ISO/IEC 14496-12), as far as they say why a file cannot be read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

HEAD_BYTES = 64 * 1024
"""As much of a file's head as tells where its index lies."""
_MOST_BOXES = 1000
_ISO_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"uuid", b"pnot"})


def index_comes_last(head: bytes) -> bool:
    """True for an MP4 whose media comes before its index: FFmpeg reads all of such a pipe and then decodes nothing.

    Args:
        head: the first `HEAD_BYTES` of it, or all if it has fewer.
    """
    if not is_iso(head):
        return False
    for kind, _ in _boxes(BytesIO(head)):
        if kind in (b"moov", b"moof", b"mdat"):
            return kind == b"mdat"
    return False


def is_iso(head: bytes) -> bool:
    """Whether the first 8 bytes of a file begin a box that an MP4 may begin with."""
    return head[4:8] in _ISO_BOXES


def damage(file: Any) -> str:
    """What is wrong with a file in which FFmpeg finds no media."""
    file.seek(0)
    head = file.read(16)
    if not head:
        return "is empty"
    if not is_iso(head):
        return "is not a media file FFmpeg knows"
    kinds = [kind for kind, _ in _boxes(file)]
    if b"moov" in kinds:
        return "is encrypted, and there is no key for it" if is_encrypted(file) else "has a damaged MP4 header (its moov atom)"
    if b"moof" in kinds:
        return "holds MP4 fragments without their moov atom: the initialisation segment is missing"
    return "is a truncated MP4: moov atom missing, so it was cut short or its recording never finished"


def is_encrypted(file: Any) -> bool:
    """True where an MP4's moov box describes protected samples (ISO/IEC 23001-7 sample entries)."""
    for kind, offset in _boxes(file):
        if kind == b"moov":
            file.seek(offset)
            header = file.read(1 << 20)
            return b"encv" in header or b"enca" in header
    return False


def _boxes(file: Any) -> Iterator[tuple[bytes, int]]:
    """Types and payload offsets of an MP4's top-level boxes, as far as they can be followed."""
    offset = 0
    for _ in range(_MOST_BOXES):
        file.seek(offset)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        yield kind, offset + 8
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        if size < 8:
            return
        offset += size
