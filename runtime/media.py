"""Media: an open source that yields its pictures and its sound in one demux pass, on one continuous clock that starts at 0.

`sources` finds and opens, `timeline` is the clock, `streams` decode; here they are driven, packet by packet.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from types import TracebackType
from typing import Any, Literal

import av
from av.container import InputContainer
from av.stream import Disposition

from ..errors import MediaError
from .containers import kind_of, open_container
from .pictures import UPRIGHT, display_size
from .read_options import FREE_DECODE_S, ReadOptions, Source
from .sources import FOREIGN, Place, find_source, said
from .streams import PICTURES_GONE_S, SOUND_GONE_S, Event, Picture, PictureStream, Sound, SoundStream
from .timeline import Timeline

MAX_FILE_S = 3 * 3600.0
"""Of a file no more is read than this, unless it is asked for."""

__all__ = ["Event", "Media", "MediaInfo", "Picture", "ReadOptions", "Sound", "Source", "open_media"]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a source holds: what its container declares and, as reading goes on, what really decoded."""

    has_video: bool
    """Until the end: a video stream is there and not given up. After the end: at least one picture decoded."""
    has_audio: bool
    """Until the end: an audio stream is there and not given up. After the end: some sound decoded."""
    width: int
    """Display size in square pixels, after rotation; 0 without video."""
    height: int
    rotation: int
    """Degrees counter-clockwise the coded pictures are turned to stand upright: 0, 90, 180 or 270."""
    video_codec: str | None
    audio_codec: str | None
    declared_s: float | None
    """What the container says it lasts; it can be wrong, or absent."""


class Media:
    """An open source; `open_media` makes it. Iterate `events()` once, then close; `with` does the latter."""

    def __init__(
        self, container: InputContainer, place: Place, options: ReadOptions, *, timeline: Timeline | None = None, fps: float | None = None
    ) -> None:
        self.name = place.name
        self.kind = kind_of(container, place)
        self.truncated = False
        """Demuxing failed, a stream was given up, or `max_seconds` or the decode budget was reached."""
        self.limited = False
        """`max_seconds` was reached."""
        self.over_budget = False
        """Decoding was stopped because it took longer than `decode_budget` allows."""
        self.failure: BaseException | None = None
        """Why demuxing ended before the end."""
        self.reconnects = 0
        self.gap_s = 0.0
        """Of the connection that this is, there is no other before: see `LastingMedia`."""
        self.on_packet: Callable[[Any], None] | None = None
        """Shown every packet before it is decoded."""
        self._container = container
        self._place = place
        self._options = options
        self._most_s = inf if self.live else MAX_FILE_S
        if options.max_seconds is not None:
            self._most_s = options.max_seconds
        self._finished = False
        video = _best(container, "video") if options.use_pictures else None
        audio = _best(container, "audio") if options.use_sound else None
        streams = [s for s in (video, audio) if s is not None]
        if not streams:
            raise MediaError(f"{self.name} {_absence(container, options)}")
        if video is not None and video.width * video.height > options.max_pixels:
            raise MediaError(f"{self.name} has pictures of {video.width}x{video.height}, over the limit of {options.max_pixels} pixels")
        starts = [float(s.start_time * s.time_base) for s in streams if s.start_time is not None]
        self.timeline = timeline = Timeline(starts) if timeline is None else timeline
        self._pictures = PictureStream(video, timeline=timeline, options=options, prompt=self.live, fps=fps) if video is not None else None
        self._sound = SoundStream(audio, timeline=timeline, options=options) if audio is not None else None
        self._decoders = [side.decoder for side in (self._pictures, self._sound) if side]
        self._codecs = tuple(s.codec_context.codec.canonical_name if s is not None else None for s in (video, audio))
        self._declared_s = _declared_s(container, streams)
        self._sound_s_at_last_picture = 0.0
        self._pictures_gone = False
        self._sound_gone = False
        self._without_sound_s = 0.0

    def __enter__(self) -> Media:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Releases the source. A file object stays open: it is its owner's."""
        for decoder in self._decoders:
            decoder.close()
        self._container.close()
        self._place.close()

    @property
    def live(self) -> bool:
        """Whether media comes into being while it is read, as far as anybody can tell: what is no file is live."""
        return self.kind != "file"

    def interrupt(self) -> None:
        """Ends a wait for a pipe, from any thread."""
        self._place.interrupt()

    @property
    def info(self) -> MediaInfo:
        """What is known so far; exact once `events` has ended."""
        pictures = self._pictures
        orientation = pictures.orientation if pictures else UPRIGHT
        size = (0, 0)
        if pictures and all(pictures.size):
            size = display_size(*pictures.size, pixel_aspect=pictures.pixel_aspect, orientation=orientation)
        return MediaInfo(
            has_video=self._has(pictures),
            has_audio=self._has(self._sound),
            width=size[0],
            height=size[1],
            rotation=orientation.rotation,
            video_codec=self._codecs[0],
            audio_codec=self._codecs[1],
            declared_s=self._declared_s,
        )

    def _has(self, side: PictureStream | SoundStream | None) -> bool:
        return side is not None and (side.count > 0 or (side.decoder.usable and not self._finished))

    @property
    def pixel_aspect(self) -> Fraction:
        """The video's sample aspect ratio."""
        return self._pictures.pixel_aspect if self._pictures else Fraction(1)

    @property
    def lost_packets(self) -> int:
        """Packets that did not decode so far."""
        return sum(decoder.lost for decoder in self._decoders)

    @property
    def awaits_pictures(self) -> bool:
        """False once no picture is to be waited for: no video, given up, or sound went on for 5 s without a video packet."""
        return self._pictures is not None and self._pictures.decoder.usable and not self._pictures_gone

    @property
    def awaits_sound(self) -> bool:
        """False once no sound is to be waited for: no audio, given up, or video went on for 2 s without an audio packet."""
        return self._sound is not None and self._sound.decoder.usable and not self._sound_gone

    def events(self) -> Generator[Event, None, None]:
        """Pictures and sound, in the order they decode.

        Raises:
            MediaError: nothing at all decoded.
        """
        for event in self._all_events():
            if event.start_s >= self._most_s:
                self.truncated = self.limited = True
                break
            yield event
        self._finished = True
        if not any(side.count for side in (self._pictures, self._sound) if side):
            raise self._nothing_decoded()

    def _all_events(self) -> Iterator[Event]:
        for packet in self._packets():
            if self._pictures and packet.stream_index == self._pictures.decoder.index:
                yield from self._picture_events(self._pictures, packet)
            elif self._sound:
                yield from self._sound_events(self._sound, packet)
            if not any(decoder.usable for decoder in self._decoders):
                break
            if self._spent_budget():
                self.truncated = self.over_budget = True
                return
        self.truncated = self.truncated or any(decoder.given_up for decoder in self._decoders)
        for side in (self._pictures, self._sound):
            if side:
                yield from side.drain()

    def _spent_budget(self) -> bool:
        """True once decoding has taken more than is allowed for the media decoded so far. Waiting for a source is no decoding."""
        budget = self._options.decode_budget
        if budget is None or (spent_s := sum(decoder.spent_s for decoder in self._decoders)) <= FREE_DECODE_S:
            return False
        return spent_s > FREE_DECODE_S + budget * max(side.end_s for side in (self._pictures, self._sound) if side)

    def _picture_events(self, pictures: PictureStream, packet: Any) -> Iterator[Event]:
        self._pictures_gone = False
        yield from pictures.accept(packet)
        if self._sound and not self._sound_gone:
            self._sound_s_at_last_picture = self._sound.end_s
            self._without_sound_s += pictures.step_s(packet)
            if self._without_sound_s > SOUND_GONE_S:
                yield from self._sound.settle()
                self._sound_gone = True

    def _sound_events(self, sound: SoundStream, packet: Any) -> Iterator[Event]:
        self._sound_gone, self._without_sound_s = False, 0.0
        yield from sound.accept(packet)
        if self._pictures and self.awaits_pictures and sound.end_s - self._sound_s_at_last_picture > PICTURES_GONE_S:
            yield from self._pictures.drain()
            self._pictures_gone = True

    def _packets(self) -> Iterator[Any]:
        """Packets that carry data, up to the end or to the first error of the demuxer, which is kept."""
        packets = self._container.demux([decoder.stream for decoder in self._decoders])
        while True:
            try:
                packet = next(packets, None)
                self._place.check()
            except FOREIGN as error:
                self.truncated, self.failure = True, error
                return
            if packet is None:
                return
            if packet.size:
                if self.on_packet:
                    self.on_packet(packet)
                yield packet

    @property
    def interruption(self) -> str:
        """What ended it before its end, in words that follow its name."""
        if isinstance(self.failure, av.error.ExitError):
            return f"sent nothing for {self._place.read_timeout_s(self._options):g} s"
        return f"broke off: {said(self.failure)}" if self.failure else "ended"

    def _nothing_decoded(self) -> MediaError:
        """One sentence for a source that opened, but in which nothing decodes."""
        if isinstance(self.failure, av.error.ExitError):
            return MediaError(f"{self.name} {self.interruption}")
        if self._place.is_encrypted():
            return MediaError(f"{self.name} is encrypted, and there is no key for it")
        codecs = " and ".join(codec for codec in self._codecs if codec)
        if self.over_budget:
            return MediaError(f"{self.name}: decoding ({codecs}) went over its budget before anything came out")
        if self.lost_packets:
            failed = "1 packet" if self.lost_packets == 1 else f"{self.lost_packets} packets"
            return MediaError(f"{self.name}: nothing in it decodes ({codecs}, {failed} failed)")
        if self.failure:
            return MediaError(f"{self.name} cannot be read ({codecs}): {said(self.failure)}")
        return MediaError(f"{self.name} ends after its header: it declares {codecs} but holds no media")


def open_media(source: Source, *, options: ReadOptions | None = None, timeline: Timeline | None = None, fps: float | None = None) -> Media:
    """Opens a source and chooses its streams; nothing is decoded yet.

    Args:
        source: a path, a URL, `-` for standard input, or an object with `read`. An MP4 whose index comes last is copied to a
            temporary file first if it cannot be seeked.
        options: limits and choices.
        timeline: a clock that goes on; None begins one.
        fps: pictures a second that will be looked at: those that fill no slot of this grid, and that no other picture is built on, need
            not be decoded. None: every picture is wanted.

    Raises:
        MediaError: it cannot be opened, holds no usable stream, or exceeds `max_pixels`. The message is one sentence.
    """
    options = options or ReadOptions()
    place = find_source(source, options)
    try:
        container = open_container(place, options)
        try:
            return Media(container, place, options, timeline=timeline, fps=fps)
        except BaseException:
            container.close()
            raise
    except BaseException:
        place.close()
        raise


def _best(container: InputContainer, kind: Literal["video", "audio"]) -> Any:
    """FFmpeg's choice of a stream, or None; cover art is not video, and a stream without a decoder is of no use."""
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def _absence(container: InputContainer, options: ReadOptions) -> str:
    kinds = {stream.type for stream in container.streams} & {"video", "audio"}
    if not kinds:
        return "has no video or audio stream"
    if options.use_pictures and options.use_sound:
        return f"has no stream FFmpeg can decode (only {' and '.join(sorted(kinds))} of an unknown codec, or a cover picture)"
    return f"has no {'video' if options.use_pictures else 'audio'} stream, and the other one is not to be used"


def _declared_s(container: InputContainer, streams: Sequence[Any]) -> float | None:
    """How long the used streams claim to last; where one does not say, what the container says."""
    if all(stream.duration for stream in streams):
        starts = [float((stream.start_time or 0) * stream.time_base) for stream in streams]
        ends = [start + float(stream.duration * stream.time_base) for start, stream in zip(starts, streams, strict=True)]
        return max(ends) - min(starts)
    return container.duration / av.time_base if container.duration else None
