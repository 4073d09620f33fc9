"""What a score lacks, in sentences: a missing stream, a damaged file, a source that ended before its time."""

from __future__ import annotations

from collections.abc import Iterator

from .chunks import Chunk, ChunkStream
from .read_options import ReadOptions


def with_notes(chunks: ChunkStream, options: ReadOptions) -> Iterator[tuple[Chunk, tuple[str, ...]]]:
    """Each chunk with what its score lacks, said while the source stands there; the source is closed at the end."""
    with chunks:
        for chunk in chunks:
            yield chunk, _notes(chunks, chunk, options)


def _notes(chunks: ChunkStream, chunk: Chunk, options: ReadOptions) -> tuple[str, ...]:
    """What the score lacks, in sentences."""
    info = chunks.info
    notes = [
        (not options.use_pictures, "pictures left out on request"),
        (not options.use_sound, "sound left out on request"),
        (options.use_pictures and not info.has_video, "no pictures: scored from sound alone"),
        (options.use_sound and not info.has_audio, "no sound: scored from pictures alone"),
        (options.decode == "fast" and info.has_video, "decoded fast: a score may differ a little from that of exact decoding"),
    ]
    if chunk.final:
        notes += _ending(chunks)
        declared = "" if info.declared_s is None else f" of the {info.declared_s:.1f} s the container declares"
        notes += [
            (chunks.lost_packets > 0, f"packets that did not decode: {chunks.lost_packets}"),
            (chunks.over_budget, f"decoding took over {options.decode_budget} s for a second of media, and was stopped"),
            (chunks.truncated and not chunks.live, f"truncated: {chunks.decoded_s:.1f} s decoded{declared}"),
            (chunk.epoch > 0, f"jumps of the clock: {chunk.epoch}"),
        ]
    return tuple(sentence for applies, sentence in notes if applies)


def _ending(chunks: ChunkStream) -> list[tuple[bool, str]]:
    """How a live source ended, where that was not its own end."""
    return [
        (chunks.live and chunks.limited, f"stopped after {chunks.decoded_s:.1f} s, as asked"),
        (chunks.live and chunks.interruption is not None, f"the source {chunks.interruption}"),
    ]
