"""Fixed windows of media time: pictures on the PTS grid and 16 kHz sound, cut into chunks, padded and masked at the tail.

A chunk k is the window `[k * chunk_s, (k + 1) * chunk_s)` of continuous media time, which starts at the earliest stream's start.

Pictures. Slot i lies at `i / fps` s and holds what a player would show at that moment: the last picture whose PTS is not later
(within half a millisecond, for containers that round to one). So a gap in a variable frame rate holds its picture, and held slots
count as real. Slot 0 takes the first picture if that starts less than one slot later. Slots before the first picture, and slots
after the last one's end (its PTS plus its duration), are zero and masked.

Sound is placed by its PTS, to the sample. A gap is zero and masked; where runs overlap, the earlier one is kept.

Waiting. A chunk is given once both streams passed its end. Late sound is waited for until video packets have advanced by 2 s without
one of sound; late pictures until sound has advanced by 5 s without one of video, since a picture may well be held that long; nothing
is waited for beyond 30 s of media. What comes for a chunk that is gone is dropped and counted as lost. So memory is bounded by those
seconds, however long or badly interleaved the source is.

The end. A remainder shorter than `fold_tail_s` makes no chunk of its own unless it is the only one. A chunk is held back until media
reaches that far into the next window, or ends; so `final` is True on the last chunk, and on no other.

Live sources. Holding back would make every score late, so a chunk is given as soon as its last slot is settled and its sound is there.
Where such a source ends without a chunk that could be the last, the last one is given `again`, now `final`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .ahead import WhenFull
from .contract import Contract
from .lasting import LastingMedia, open_lasting
from .media import Event, Media, MediaInfo, Picture, ReadOptions, Sound, Source
from .pictures import PictureScaler

__all__ = ["Chunk", "ChunkStream", "MediaInfo", "ReadOptions", "Source", "read_chunks"]

PTS_SLACK_S = 0.0005
"""Half a tick of the coarsest common container clock, Matroska's 1 ms."""
MAX_WAIT_S = 30.0
PREROLL_S = 5.0
"""Opening decodes up to the first picture, so that size and rotation are known, but through no more sound than this."""
TRUNCATED_S, TRUNCATED_SHARE = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class Chunk:
    """One window of media time. Shapes are fixed by the contract; the masks say what is real."""

    index: int
    start_s: float
    end_s: float
    """End of the media inside the window: `start_s + chunk_s`, or earlier where the clip ends. Half-open."""
    frames: NDArray[np.uint8]
    """uint8 (T, H, W, 3) RGB. A slot with no picture holds zeros."""
    frame_mask: NDArray[np.bool_]
    """bool (T,): True where a picture was on screen at the slot's time."""
    samples: NDArray[np.float32]
    """float32 (S,) at 16 kHz mono in [-1, 1]; zeros where there is no sound."""
    sample_mask: NDArray[np.bool_]
    """bool (S,): True where the sound is decoded, False where it is padding or a gap."""
    epoch: int
    """Counts timestamp discontinuities; recurrent state is reset where it changes."""
    final: bool
    """True exactly once, on the last chunk of a source."""
    decode_s: float
    """Wall seconds spent demuxing, decoding and scaling for this chunk."""
    lost_packets: int
    """Packets that did not decode since the previous chunk."""
    again: bool = False
    """True where it is the chunk before it once more, now known to be the last: nothing but `final` is new."""
    reconnects: int = 0
    """Connections that were lost and found since the previous chunk."""
    gap_s: float = 0.0
    """Seconds of media missed between connections since the previous chunk."""

    @property
    def has_pictures(self) -> bool:
        return bool(self.frame_mask.any())

    @property
    def has_sound(self) -> bool:
        return bool(self.sample_mask.any())


class _PictureLine:
    """Pictures in order -> slots of the grid. A picture is scaled when it is known to fill a slot, and once however many it fills."""

    def __init__(self, contract: Contract, scaler: PictureScaler) -> None:
        self.failed = 0
        self.start_s = 0.0
        """Where the latest picture starts: every slot before it is settled."""
        self._fps = contract.picture.fps
        self._shape = (contract.frames_per_chunk, contract.picture.height, contract.picture.width, 3)
        self._scaler = scaler
        self._shown: Picture | None = None
        self._pixels: NDArray[np.uint8] | None = None
        self._next = 0
        self._slots: dict[int, NDArray[np.uint8]] = {}

    def add(self, picture: Picture) -> None:
        """The next picture: the one before it is held until this one's start."""
        self.start_s = max(self.start_s, picture.start_s)
        first = self._first_slot_from(self.start_s)
        if self._shown is not None:
            self._fill(first)
        elif 0 < picture.start_s * self._fps < 1:
            first = 0
        self._next = max(self._next, first)
        self._shown, self._pixels = picture, None

    def settle(self) -> None:
        """No next picture is to be expected: the latest one stays until its own end."""
        if self._shown is not None:
            self._fill(self._first_slot_from(self._shown.end_s))

    @property
    def settled_s(self) -> float:
        """Up to where every slot is settled, which may be later than `start_s`: no later picture can be on screen at a slot's time."""
        return max(self.start_s, float(self._next / self._fps)) if self._shown else 0.0

    @property
    def end_s(self) -> float:
        """End of the latest picture, by its own duration."""
        return max(self.start_s, self._shown.end_s) if self._shown else 0.0

    def take(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Chunk `index`'s frames uint8 (T, H, W, 3) and mask bool (T,); its slots are closed afterwards."""
        frames, mask = np.zeros(self._shape, np.uint8), np.zeros(self._shape[0], np.bool_)
        first = index * self._shape[0]
        for row in range(self._shape[0]):
            pixels = self._slots.pop(first + row, None)
            if pixels is not None:
                frames[row], mask[row] = pixels, True
        self._next = max(self._next, first + self._shape[0])
        return frames, mask

    def _first_slot_from(self, time_s: float) -> int:
        return max(0, ceil((time_s - PTS_SLACK_S) * self._fps))

    def _fill(self, end: int) -> None:
        if end > self._next and self._shown is not None:
            pixels = self._scaled(self._shown)
            if pixels is not None:
                self._slots.update(dict.fromkeys(range(self._next, end), pixels))
            self._next = end

    def _scaled(self, picture: Picture) -> NDArray[np.uint8] | None:
        if self._pixels is None:
            try:
                self._pixels = self._scaler.scale(picture.frame)
            except MediaError:  # counted, and its slots stay masked
                self.failed += 1
        return self._pixels


class _SoundLine:
    """Runs of sound, each at its sample position -> windows of samples. Runs are kept as they come and copied once."""

    def __init__(self, contract: Contract) -> None:
        self.late = 0
        self.end_s = 0.0
        self._size = contract.samples_per_chunk
        self._runs: deque[tuple[int, NDArray[np.float32], NDArray[np.bool_] | None]] = deque()
        self._free = 0
        """The first sample position that is not taken yet."""

    def add(self, sound: Sound) -> None:
        """The next run; what lies before the end of the one before it, or in a chunk that is gone, is cut off."""
        end, cut = sound.first_sample + len(sound.samples), max(0, self._free - sound.first_sample)
        self.end_s = max(self.end_s, sound.end_s)
        if end <= self._free:
            self.late += 1
            return
        self._runs.append((sound.first_sample + cut, sound.samples[cut:], None if sound.valid is None else sound.valid[cut:]))
        self._free = end

    def take(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Chunk `index`'s samples float32 (S,) and mask bool (S,); the window is closed afterwards."""
        samples, mask = np.zeros(self._size, np.float32), np.zeros(self._size, np.bool_)
        start, stop = index * self._size, (index + 1) * self._size
        while self._runs and self._runs[0][0] < stop:
            first, run, valid = self._runs.popleft()
            head = run[: stop - first]
            window = slice(first - start, first - start + len(head))
            samples[window] = head
            mask[window] = True if valid is None else valid[: len(head)]
            if len(head) < len(run):
                self._runs.appendleft((stop, run[len(head) :], None if valid is None else valid[len(head) :]))
        self._free = max(self._free, stop)
        return samples, mask


class ChunkStream:
    """Chunks of one source, in order, made as they are asked for. A context manager; closing it early releases everything."""

    def __init__(self, media: Media | LastingMedia, contract: Contract, *, opening_s: float = 0.0) -> None:
        """Takes over an open source; `read_chunks` is the way in.

        Raises:
            MediaError: it ends before anything decoded.
        """
        self._media = media
        self._chunk_s, self._fold_s = contract.chunk_s, contract.fold_tail_s
        self._pictures = _PictureLine(contract, PictureScaler(contract.picture, pixel_aspect=media.pixel_aspect))
        self._sound = _SoundLine(contract)
        self._jumps: deque[float] = deque()
        self._seen_epoch = self._epoch = 0
        self._index = 0
        self._lost = self._reconnects = 0
        self._gap_s = 0.0
        self._latest: Chunk | None = None
        self._ended = False
        self._since = perf_counter() - opening_s
        self._events = media.events()
        self._opened = self._preroll()
        self._carried_s = perf_counter() - self._since
        self._made = self._make()

    @property
    def name(self) -> str:
        """The source, as messages name it."""
        return self._media.name

    @property
    def info(self) -> MediaInfo:
        """What the source holds. Size and rotation are read off the first picture; `has_video` and `has_audio` are exact once the last
        chunk was given, and before that say which streams are declared and have not been given up.
        """
        return self._media.info

    @property
    def live(self) -> bool:
        """Whether it is no file: media comes into being while it is read."""
        return self._media.live

    @property
    def usually(self) -> WhenFull:
        """What a source of this kind does with chunks that are not asked for in time: its clock goes on, or it waits."""
        return "drop-oldest" if self._media.kind in ("stream", "device") else "wait"

    @property
    def limited(self) -> bool:
        """Whether reading has stopped at `max_seconds`."""
        return self._media.limited

    @property
    def interruption(self) -> str | None:
        """How a live source ended before its end, in words that follow its name; None where it did not."""
        return self._media.interruption if self._media.truncated and not self._media.limited else None

    def interrupt(self) -> None:
        """Makes a wait for a pipe, or a pause before a reconnect, end at once. From any thread; `close` has to follow."""
        self._media.interrupt()

    @property
    def decoded_s(self) -> float:
        """Seconds of media time read so far; the true length after the end."""
        return max(self._pictures.end_s, self._sound.end_s)

    @property
    def lost_packets(self) -> int:
        """Packets that did not decode, or came too late for their chunk, so far."""
        return self._media.lost_packets + self._pictures.failed + self._sound.late

    @property
    def over_budget(self) -> bool:
        """True where decoding was stopped because it took longer than `decode_budget` allows."""
        return self._media.over_budget

    @property
    def truncated(self) -> bool:
        """True where reading stopped early, or (after the end) where the container declares over 0.5 s and 5 % more than decoded.

        A declared duration can be wrong, so this is information and never an error.
        """
        declared_s = self.info.declared_s
        if self._media.truncated or not self._ended or declared_s is None:
            return self._media.truncated
        return declared_s - self.decoded_s > max(TRUNCATED_S, TRUNCATED_SHARE * declared_s)

    def __enter__(self) -> ChunkStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        self._since = perf_counter() - self._carried_s
        self._carried_s = 0.0
        try:
            return next(self._made)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Releases the source; what was learned of it stays readable."""
        self._made.close()
        self._events.close()
        self._media.close()

    def _preroll(self) -> list[Event]:
        opened = []
        for event in self._events:
            opened.append(event)
            if isinstance(event, Picture) or event.end_s > PREROLL_S or not self._media.awaits_pictures:
                break
        return opened

    def _make(self) -> Generator[Chunk, None, None]:
        for event in self._each_event():
            self._add(event)
            while self._ready():
                yield self._next_chunk(final=False)
        self._ended = True
        self._pictures.settle()
        while self._exists(self._index + 1, self.decoded_s):
            yield self._next_chunk(final=False)
        if self._latest is not None and not self._exists(self._index, self.decoded_s):
            yield replace(self._latest, final=True, again=True, decode_s=0.0, lost_packets=0, reconnects=0, gap_s=0.0)
        else:
            yield self._next_chunk(final=True)

    def _each_event(self) -> Iterator[Event]:
        yield from self._opened
        self._opened.clear()
        yield from self._events

    def _add(self, event: Event) -> None:
        if event.epoch > self._seen_epoch:
            self._seen_epoch = event.epoch
            self._jumps.append(event.start_s)
        if isinstance(event, Picture):
            self._pictures.add(event)
        else:
            self._sound.add(event)

    def _exists(self, index: int, reached_s: float) -> bool:
        return reached_s - index * self._chunk_s >= self._fold_s

    def _ready(self) -> bool:
        """True once the next chunk is complete, or no longer waited for, and known not to be the last (unless it is of a live source)."""
        front_s = max(self._seen_s, self._sound.end_s)
        end_s = (self._index + 1) * self._chunk_s
        if front_s < end_s or not (self.live or self._exists(self._index + 1, front_s)):
            return False
        if front_s > end_s + MAX_WAIT_S:
            return True
        heard = not self._media.awaits_sound or self._sound.end_s >= end_s
        seen = not self._media.awaits_pictures or self._seen_s >= end_s
        return heard and seen

    @property
    def _seen_s(self) -> float:
        """Up to where pictures have come; of a live source the end of the slots that they have settled."""
        return self._pictures.settled_s if self.live else self._pictures.start_s

    def _next_chunk(self, *, final: bool) -> Chunk:
        start_s, window_end_s = self._index * self._chunk_s, (self._index + 1) * self._chunk_s
        if self._seen_s < window_end_s:
            self._pictures.settle()
        while self._jumps and self._jumps[0] < window_end_s:
            self._jumps.popleft()
            self._epoch += 1
        frames, frame_mask = self._pictures.take(self._index)
        samples, sample_mask = self._sound.take(self._index)
        lost, self._lost = self.lost_packets - self._lost, self.lost_packets
        reconnects, self._reconnects = self._media.reconnects - self._reconnects, self._media.reconnects
        gap_s, self._gap_s = self._media.gap_s - self._gap_s, self._media.gap_s
        now = perf_counter()
        chunk = Chunk(
            index=self._index,
            start_s=start_s,
            end_s=min(window_end_s, self.decoded_s) if final else window_end_s,
            frames=frames,
            frame_mask=frame_mask,
            samples=samples,
            sample_mask=sample_mask,
            epoch=self._epoch,
            final=final,
            decode_s=now - self._since,
            lost_packets=lost,
            reconnects=reconnects,
            gap_s=gap_s,
        )
        self._since = now
        self._index += 1
        self._latest = chunk if self.live else None
        return chunk


def read_chunks(source: Source, contract: Contract, *, options: ReadOptions | None = None) -> ChunkStream:
    """Opens a source and cuts it into the contract's chunks; decoding goes on as they are asked for, in the caller's thread.

    Args:
        source: a path, a URL, `-` for standard input, or an object with `read` (its exceptions reach the caller unchanged, save for
            I/O errors).
        contract: chunk length, picture grid and size.
        options: limits, timeouts, and which of pictures and sound to use.

    Returns:
        An iterator of `Chunk` and a context manager; `info`, `decoded_s`, `lost_packets` and `truncated` describe the source.

    Raises:
        MediaError: the source cannot be opened or nothing in it decodes. One sentence that names the source.
    """
    started = perf_counter()
    media = open_lasting(source, options=options, fps=float(contract.picture.fps))
    try:
        return ChunkStream(media, contract, opening_s=perf_counter() - started)
    except BaseException:
        media.close()
        raise
