"""How a source and its scoring keep up with one another: what was late, what was let go, what was missed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How far scoring has kept up, after one chunk. Counts and sums are over the stream so far."""

    live: bool = False
    """Whether the source is no file: a pipe, a URL that has no end, a device."""
    deadline_ms: float = 0.0
    """How long after a chunk is ready its score is late."""
    queue_ms: float = 0.0
    """How long this chunk was ready before anything was done with it."""
    late_ms: float = 0.0
    """How long after its deadline this chunk's score came; 0 in time."""
    late_chunks: int = 0
    """Scores that came after their deadline."""
    real_time_factor: float = 0.0
    """Seconds spent scoring for each second of media scored; decoding, which goes on beside it, is not counted. Below 1 it keeps up."""
    gap_s: float = 0.0
    """Seconds of media that were not scored: let go because scoring was behind, or missed while a connection was lost."""
    reconnects: int = 0
    """Connections that were lost and found again."""


@dataclass(slots=True)
class PaceKeeper:
    """Keeps count for one stream."""

    live: bool = False
    deadline_s: float = 0.0
    gap_s: float = 0.0
    reconnects: int = 0
    late_chunks: int = 0
    _spent_s: float = 0.0
    _media_s: float = 0.0

    def miss(self, seconds: float, *, reconnects: int = 0) -> None:
        """Media that was not scored, and the connections it was lost with."""
        self.gap_s += seconds
        self.reconnects += reconnects

    def scored(self, media_s: float, *, ready_s: float, taken_s: float, scored_s: float) -> Pace:
        """What one more chunk makes of it.

        Args:
            media_s: length of the chunk.
            ready_s: when it was decoded, by one clock.
            taken_s: when it was begun to be scored.
            scored_s: when its score was known.
        """
        self._spent_s += scored_s - taken_s
        self._media_s += media_s
        late_s = max(0.0, scored_s - ready_s - self.deadline_s)
        self.late_chunks += late_s > 0
        return Pace(
            live=self.live,
            deadline_ms=1e3 * self.deadline_s,
            queue_ms=1e3 * (taken_s - ready_s),
            late_ms=1e3 * late_s,
            late_chunks=self.late_chunks,
            real_time_factor=self._spent_s / self._media_s if self._media_s else 0.0,
            gap_s=self.gap_s,
            reconnects=self.reconnects,
        )
