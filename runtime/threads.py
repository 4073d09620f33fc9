"""Who gets how many threads, decided in one place so that together they fit the CPUs this process may use."""

from __future__ import annotations

from dataclasses import dataclass

from .cpu import available_cpus

_MOST_GRAPH_THREADS = 4
"""Chunk-sized graphs stop gaining beyond this."""
_MOST_DECODE_THREADS = 8
"""Each thread of a frame-threaded decoder holds back one picture more."""


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """The threads of one stream. The libraries release the interpreter's lock, so decoding, hearing and seeing overlap."""

    decode: int
    """Of the video decoder."""
    graphs: int
    """Of one engine call."""
    sound: int
    """Of one call of the Whisper encoder, which runs beside the visual engine."""
    ahead: int
    """Chunks that may be decoded before they are asked for."""

    @classmethod
    def fit(cls, cpus: int | None = None, *, streams: int = 1) -> ThreadPlan:
        """The plan for one of several streams that run at once.

        Args:
            cpus: CPUs to share among them; None takes the CPU quota.
            streams: how many run at once.
        """
        share = max(1, (cpus or available_cpus()) // streams)
        return cls(
            decode=min(share, _MOST_DECODE_THREADS),
            graphs=min(share, _MOST_GRAPH_THREADS),
            sound=1 if share < 4 else 2,
            ahead=2,
        )
