"""Live sources that outlast their connection: what breaks off is opened again, and to its reader it is one media.

FFmpeg can reconnect by itself for some protocols; then nobody learns of it, recurrent state runs on across the gap, and what a server
repeats is seen twice (and its `reconnect_at_eof` breaks HLS). So it is done here: a new epoch, the gap stated, repetition left out.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from time import perf_counter
from typing import Any
from zlib import crc32

from ..errors import MediaError
from .containers import is_refused
from .contract import SAMPLE_RATE_HZ
from .media import Event, Media, MediaInfo, Picture, ReadOptions, Source, open_media
from .read_options import DEFAULT_RECONNECTS

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
MOST_MISSING = 5
"""Times in a row that a server may say that it has no such stream: whoever sends to it may be starting again, but not for ever."""
REMEMBERED_PACKETS = 8192
"""More than a minute of pictures and sound."""
FIRST_PACKETS = 32
_SAME_PICTURE_S = 0.0005


class LastingMedia:
    """A source that is opened again when it breaks off. Where `Media` can be read, so can this."""

    def __init__(self, media: Media, source: Source, options: ReadOptions, *, tries: int, fps: float | None = None) -> None:
        """Takes over an open source.

        Args:
            media: the source as it was opened first.
            source: what to open again.
            options: how to read it.
            tries: how often in a row it is opened in vain before it has ended.
            fps: see `open_media`.
        """
        self.name = media.name
        self.live = media.live
        self.kind = media.kind
        self.truncated = self.limited = False
        self.reconnects = 0
        self.gap_s = 0.0
        """Seconds of media missed between connections."""
        self.interruption = ""
        self.pixel_aspect: Fraction = media.pixel_aspect
        self._source, self._options, self._tries, self._fps = source, options, tries, fps
        self._media = media
        self._lost_before = 0
        self._failed = 0
        self._packets = _PacketMemory()
        self._recorded = False
        """A connection began with what the first one began with."""
        self._picture_s, self._sound_end = -1.0, 0
        self._stop = threading.Event()
        self._events: Generator[Event, None, None] | None = None
        media.on_packet = self._packets.add

    @property
    def info(self) -> MediaInfo:
        """What the latest connection holds."""
        return self._media.info

    @property
    def lost_packets(self) -> int:
        """Packets that did not decode so far, of all connections."""
        return self._lost_before + self._media.lost_packets

    @property
    def over_budget(self) -> bool:
        """See `Media.over_budget`."""
        return self._media.over_budget

    @property
    def awaits_pictures(self) -> bool:
        """See `Media.awaits_pictures`."""
        return self._media.awaits_pictures

    @property
    def awaits_sound(self) -> bool:
        """See `Media.awaits_sound`."""
        return self._media.awaits_sound

    def interrupt(self) -> None:
        """Ends a pause between connections, from any thread."""
        self._stop.set()
        self._media.interrupt()

    def close(self) -> None:
        """Releases the source."""
        self._stop.set()
        if self._events is not None:
            self._events.close()
        self._media.close()

    def events(self) -> Generator[Event, None, None]:
        """Pictures and sound of one connection after the other.

        Raises:
            MediaError: nothing at all decoded in the first of them.
        """
        yield from self._connection()
        while self._broke_off() and self._open_again():
            try:
                yield from self._connection()
            except MediaError as error:  # it opens, and nothing comes of it
                self.interruption = str(error).removeprefix(f"{self.name} ")
        self.truncated = self._media.truncated
        self.limited = self._media.limited

    def _connection(self) -> Iterator[Event]:
        self._events = self._media.events()
        for event in self._events:
            if (new := self._unseen(event)) is not None:
                self._failed = 0
                yield new

    def _unseen(self, event: Event) -> Event | None:
        """The event, or what is new of it after a server has repeated itself."""
        if isinstance(event, Picture):
            if event.start_s <= self._picture_s + _SAME_PICTURE_S and self.reconnects:
                return None
            self._picture_s = event.start_s
            return event
        known = max(0, self._sound_end - event.first_sample) if self.reconnects else 0
        self._sound_end = max(self._sound_end, round(event.end_s * SAMPLE_RATE_HZ))
        if not known:
            return event
        if known >= len(event.samples):
            return None
        valid = None if event.valid is None else event.valid[known:]
        return replace(event, first_sample=event.first_sample + known, samples=event.samples[known:], valid=valid)

    def _broke_off(self) -> bool:
        """Whether there may be more: demuxing failed, or what may be endless ended: a connection that is cut can look so."""
        self.interruption = self._media.interruption
        may_be_endless = self.live and not self._recorded
        return not self._media.limited and (self._media.failure is not None or may_be_endless)

    def _open_again(self) -> bool:
        """Opens the source once more; False where it has ended, is refused, or is tried too often."""
        since = perf_counter()
        self._media.close()
        why = self.interruption
        while self._failed < self._tries:
            self._failed += 1
            pause_s = _pause_s(self._failed)
            self._tell(f"{self.name} {why}; trying again in {pause_s:.1f} s ({self._failed} of {self._tries})")
            if self._stop.wait(pause_s):
                return False
            try:
                media = open_media(self._source, options=self._options, timeline=self._media.timeline, fps=self._fps)
            except MediaError as error:
                if is_refused(error, missing_counts=self._failed >= MOST_MISSING):
                    self._tell(f"{error}; not tried again")
                    return False
                why = str(error).removeprefix(f"{self.name} ")
                continue
            return self._go_on(media, since)
        self._tell(f"{self.name} is given up after {self._tries} {'try' if self._tries == 1 else 'tries'}")
        return False

    def _go_on(self, media: Media, since: float) -> bool:
        if self.kind == "stream" and media.kind == "file":  # a playlist that has been completed
            media.close()
            return False
        self._lost_before += self._media.lost_packets
        self._media = media
        media.on_packet = self._first_packet(since)
        return True

    def _first_packet(self, since: float) -> Any:
        """What is shown the packets of a new connection: by the first that has a time, it is put on the clock."""

        def place(packet: Any) -> None:
            if packet.pts is None:
                return
            outage_s = perf_counter() - since
            self._recorded = self._recorded or self._packets.began_with(packet)
            replayed = self.kind == "file" or self._recorded or packet in self._packets
            gap_s = self._media.timeline.reconnect(float(packet.pts * packet.time_base), replayed=replayed, outage_s=outage_s)
            self.reconnects += 1
            self.gap_s += gap_s
            self._packets.add(packet)
            self._media.on_packet = self._packets.add
            self._tell(f"{self.name} is back after {outage_s:.1f} s; {gap_s:.1f} s of it were missed")

        return place

    def _tell(self, sentence: str) -> None:
        if self._options.tell:
            self._options.tell(sentence)


class _PacketMemory:
    """The last packets, each known by its time and its bytes: what a server repeats after a reconnect comes out the same.

    Times alone would not tell a server that repeats its last seconds from one that starts again and counts from zero. The very first
    packets are kept for good: a server that begins with them plays a recording.
    """

    def __init__(self) -> None:
        self._first: set[tuple[str, int, int]] = set()
        self._known: dict[tuple[str, int, int], None] = {}

    def add(self, packet: Any) -> None:
        if packet.pts is None:
            return
        key = _key(packet)
        if len(self._first) < FIRST_PACKETS:
            self._first.add(key)
        self._known[key] = None
        if len(self._known) > REMEMBERED_PACKETS:
            del self._known[next(iter(self._known))]

    def __contains__(self, packet: Any) -> bool:
        return _key(packet) in self._known

    def began_with(self, packet: Any) -> bool:
        """Whether it is among the very first."""
        return _key(packet) in self._first


def _key(packet: Any) -> tuple[str, int, int]:
    return packet.stream.type, packet.pts, crc32(packet)


def _pause_s(failed: int) -> float:
    """Twice as long each time, up to a limit; spread, so that many readers of a server that starts again do not come at once."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (failed - 1)) * random.uniform(0.5, 1.0))


def open_lasting(source: Source, *, options: ReadOptions | None = None, fps: float | None = None) -> Media | LastingMedia:
    """Opens a source, and once more whenever it breaks off, where that is asked for or usual: of URLs and devices.

    Raises:
        MediaError: it does not open; the first time is not tried again.
    """
    options = options or ReadOptions()
    media = open_media(source, options=options, fps=fps)
    usual = DEFAULT_RECONNECTS if media.kind == "stream" else 0
    tries = usual if options.reconnect is None else options.reconnect
    can_be_opened_again = media.kind == "device" or (isinstance(source, str) and "://" in source)
    return LastingMedia(media, source, options, tries=tries, fps=fps) if tries and can_be_opened_again else media
