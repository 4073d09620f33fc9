"""A clip as an endless live stream: MPEG-TS with timestamps that grow, in slices that each have their time.

    python -m shortcast.benchmarks.live_feed CLIP --seconds 10800            # as fast as it is read, on standard output
    python -m shortcast.benchmarks.live_feed CLIP --seconds 60 --real-time   # as a camera would send it

Packets are copied, not encoded again. The clip is repeated for as long as is asked; every packet is written by itself, at the time its
decoding time says.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import av


@dataclass(frozen=True, slots=True)
class Slice:
    """What one packet of a stream becomes on the wire."""

    due_s: float
    """When it is sent, from the first packet on."""
    start_s: float
    """Its presentation time, from the first of the clip on."""
    data: bytes


class _Sink:
    """What the muxer writes to, emptied after every packet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def slices(clip: Path, seconds: float) -> Iterator[Slice]:
    """The clip, over and over, as MPEG-TS.

    Args:
        clip: what is repeated; its streams must be such that MPEG-TS can hold them (H.264 and AAC).
        seconds: media seconds, rounded up to a packet.
    """
    sink = _Sink()
    # Without these, the muxer waits for more sound before it writes any, and for each stream before it writes the other.
    plain = {"pes_payload_size": "0", "flush_packets": "1", "max_interleave_delta": "1"}
    with av.open(sink, "w", format="mpegts", options=plain) as out:
        streams: dict[int, Any] = {}
        first_s: float | None = None
        for packet, shift_s in _repeated(clip, streams, out):
            due_s = float(packet.dts * packet.time_base + shift_s)
            first_s = due_s if first_s is None else first_s
            if due_s - first_s >= seconds:
                return
            start_s = float(packet.pts * packet.time_base + shift_s)
            packet.pts, packet.dts = (stamp + round(shift_s / packet.time_base) for stamp in (packet.pts, packet.dts))
            packet.stream = streams[packet.stream_index]
            out.mux(packet)
            yield Slice(due_s - first_s, start_s, sink.take())


def _repeated(clip: Path, streams: dict[int, Any], out: Any) -> Iterator[tuple[Any, Fraction]]:
    """Packets of the clip in the order of their decoding times, again and again, and how much later each round is."""
    shift_s = Fraction(0)
    while True:
        with av.open(str(clip)) as source:
            if not streams:
                streams.update((stream.index, out.add_stream_from_template(stream)) for stream in source.streams if _usable(stream))
            packets: list[Any] = [packet for packet in source.demux() if packet.dts is not None and packet.stream_index in streams]
            packets.sort(key=lambda packet: packet.dts * packet.time_base)
            for packet in packets:
                yield packet, shift_s
            first = min(packet.dts * packet.time_base for packet in packets)
            shift_s += max((packet.pts + (packet.duration or 0)) * packet.time_base for packet in packets) - first


def _usable(stream: Any) -> bool:
    return stream.type in ("video", "audio")


def small_clip(path: Path, *, seconds: int = 10, size: tuple[int, int] = (96, 160), fps: int = 25) -> None:
    """A clip that costs next to nothing to decode: moving test pictures and a tone, H.264 and AAC in MP4."""
    graph = f"testsrc2=size={size[0]}x{size[1]}:rate={fps}:duration={seconds}[out0];sine=frequency=440:duration={seconds}[out1]"
    with av.open(graph, format="lavfi") as source, av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "g": str(2 * fps), "bf": "0"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = out.add_stream("aac", rate=44_100, layout="mono")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=44_100)
        frames: Iterator[Any] = source.decode()
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                shown = frame.reformat(format="yuv420p")
                shown.pts, shown.time_base = round(frame.time * fps), Fraction(1, fps)
                out.mux(video.encode(shown))
            else:
                for part in resampler.resample(frame):
                    out.mux(audio.encode(part))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def main() -> None:
    """Writes the stream to standard output."""
    parser = argparse.ArgumentParser(description="A clip as an endless MPEG-TS stream on standard output.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="media seconds")
    parser.add_argument("--real-time", action="store_true", help="send each packet when it is due")
    arguments = parser.parse_args()
    started = perf_counter()
    try:
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0 if arguments.real_time else 1 << 16) as out:
            for piece in slices(arguments.clip, arguments.seconds):
                if arguments.real_time:
                    sleep(max(0.0, started + piece.due_s - perf_counter()))
                out.write(piece.data)
    except BrokenPipeError:  # whoever reads has had enough
        pass


if __name__ == "__main__":
    main()
