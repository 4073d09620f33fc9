"""Which pictures need not be decoded: those no other picture is built on, and that fill no slot of the grid.

Only codecs that say in every packet whether a picture is a reference are looked at: H.264 (`nal_ref_idc` 0, ITU-T H.264 7.4.1) and HEVC
(a sub-layer non-reference picture, ITU-T H.265 7.4.2.2, in a stream of one temporal layer). To leave such a picture out changes no other
picture. Whether it fills a slot is known before it is decoded where a later picture was already sent, as it was for every B-frame: the
picture shows from its PTS to the next one's, which is no later than the earliest later PTS sent so far.

So `exact` leaves out pictures that nobody would have seen. `fast` also leaves out those that fill a slot, where the picture before them
is shown instead: never more than one picture back, for the picture before one that is left out is always decoded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from math import ceil, floor
from typing import Any, Literal

from .timeline import BACKWARD_JUMP_S, FORWARD_JUMP_S

DecodeMode = Literal["exact", "fast"]
"""`exact`: what is shown is what a player shows. `fast`: the loop filter is skipped, and a slot may show the picture before its own."""

_MARGIN_S = 0.002
"""A slot this close to a picture's time counts as its own: containers round to a millisecond."""
_MOST_TIMES = 64
"""Timestamps kept: more than any codec reorders."""
_MOST_UNITS = 64
"""NAL units looked at in one packet; a picture of more is decoded."""

_HEVC_SLICES = range(32)


class SkipPlan:
    """Decides, packet by packet in the order they are sent, what is left out. One per video stream."""

    def __init__(self, codec: Any, *, fps: float, mode: DecodeMode) -> None:
        """Reads what the decoder knows of the stream.

        Args:
            codec: PyAV's codec context.
            fps: slots per second.
            mode: see `DecodeMode`.
        """
        self._fps, self._mode = fps, mode
        self._units = _unit_reader(codec)
        self._times: list[float] = []
        self._left_out: set[float] = set()

    def leaves_out(self, packet: Any, at_s: float | None, end_s: float) -> bool:
        """Whether the picture in a packet need not be decoded.

        Args:
            packet: the next packet of the stream.
            at_s: its PTS on the clock as it stands; None where it has none, or no picture has been placed yet.
            end_s: where the latest picture that came out ends, on the same clock.
        """
        if self._units is None or at_s is None or not -BACKWARD_JUMP_S < at_s - end_s < FORWARD_JUMP_S:
            self._times.clear()
            self._left_out.clear()
            return False
        place = bisect_left(self._times, at_s)
        before = self._times[place - 1] if place else None
        behind = bisect_right(self._times, at_s)
        after = self._times[behind] if behind < len(self._times) else None
        self._note(at_s)
        if before is None or after is None or after - at_s > FORWARD_JUMP_S:
            return False
        wanted = self._fills_slot(at_s, after) and (self._mode == "exact" or before in self._left_out)
        if wanted or self._stands_in(after) or not self._units.disposable(packet):
            return False
        self._left_out.add(at_s)
        return True

    def _stands_in(self, after_s: float) -> bool:
        """Whether the picture after was left out, and may be shown by the one before it."""
        return self._mode == "fast" and after_s in self._left_out

    def _fills_slot(self, start_s: float, end_s: float) -> bool:
        return ceil((start_s - _MARGIN_S) * self._fps) <= floor((end_s + _MARGIN_S) * self._fps)

    def _note(self, at_s: float) -> None:
        insort(self._times, at_s)
        if len(self._times) > _MOST_TIMES:
            self._left_out.discard(self._times.pop(0))


class _Units:
    """Reads the NAL unit headers of a packet, without copying it."""

    def __init__(self, length_size: int, *, hevc: bool) -> None:
        self._size, self._hevc = length_size, hevc

    def disposable(self, packet: Any) -> bool:
        """True where the packet holds slices, and all of them are of a picture that no other is built on."""
        data, slices = memoryview(packet), 0
        for offset in self._offsets(data):
            kind = _hevc_kind(data[offset]) if self._hevc else _h264_kind(data[offset])
            if kind is None:
                return False
            slices += kind
        return slices > 0

    def _offsets(self, data: memoryview) -> list[int]:
        """Where the payload of each unit begins; none where the packet does not parse."""
        offsets: list[int] = []
        at = 0
        while at + self._size < len(data):
            if len(offsets) >= _MOST_UNITS:
                return []
            offsets.append(at + self._size)
            at += self._size + int.from_bytes(data[at : at + self._size], "big")
        return offsets if at == len(data) else []


def _h264_kind(header: int) -> bool | None:
    """True for a slice that is no reference, False for what is no slice, None for a reference."""
    if 1 <= header & 0x1F <= 5:
        return None if header & 0x60 else True
    return False


def _hevc_kind(header: int) -> bool | None:
    """As `_h264_kind`: even slice types below 16 are sub-layer non-reference pictures."""
    kind = header >> 1 & 0x3F
    if kind not in _HEVC_SLICES:
        return False
    return True if kind < 16 and kind % 2 == 0 else None


def _unit_reader(codec: Any) -> _Units | None:
    """A reader for streams whose units carry their lengths, as MP4, MOV and Matroska do; None for every other."""
    name, extra = codec.codec.canonical_name, codec.extradata or b""
    if name == "h264" and len(extra) > 6 and extra[0] == 1:
        return _Units((extra[4] & 3) + 1, hevc=False)
    if name == "hevc" and len(extra) > 22 and extra[0] == 1 and extra[21] >> 3 & 7 == 1:
        return _Units((extra[21] & 3) + 1, hevc=True)
    return None
