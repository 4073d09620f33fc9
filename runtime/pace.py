"""How a source and its scoring keep up with one another: what was late, what was let go, what was missed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .score import Score

KEPT_ANSWERS = 4096
"""Answer times that percentiles are taken over, the latest: of chunks of 2 s more than two hours, in constant memory."""
P50_SAMPLES, P99_SAMPLES = 5, 100
"""Percentiles are told from as many answers on: with fewer, the 99th is the greatest."""


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


@dataclass(slots=True)
class PaceTally:
    """What one run over a live source comes to, in one line."""

    latest: Score | None = None
    chunks: int = 0
    answers_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_ANSWERS))

    def add(self, score: Score) -> None:
        """One more score."""
        if self.latest is None or score.index != self.latest.index:
            self.chunks += 1
            self.answers_ms.append(score.latency.answer_ms)
        self.latest = score

    def summary(self) -> str:
        """`120 chunks (240.0 s), 0 dropped, 0 late (deadline 2000 ms), ...`; nothing before the first score."""
        if self.latest is None:
            return "no chunk scored"
        pace = self.latest.pace
        parts = [
            f"{_count(self.chunks, 'chunk')} scored, {self.latest.dropped_chunks} dropped",
            f"{pace.late_chunks} late (deadline {pace.deadline_ms:.0f} ms)",
            *(f"answer p{share} {self._percentile(share):.0f} ms" for share in self._known_shares()),
            f"real-time factor {pace.real_time_factor:.3f}",
            _count(pace.reconnects, "reconnect"),
            f"{pace.gap_s:.1f} s not scored",
        ]
        return ", ".join(parts)

    def _known_shares(self) -> list[int]:
        enough = {50: P50_SAMPLES, 99: P99_SAMPLES}
        return [share for share, samples in enough.items() if len(self.answers_ms) >= samples]

    def _percentile(self, share: int) -> float:
        """The smallest answer that `share` per cent of them do not exceed."""
        ordered = sorted(self.answers_ms)
        return ordered[-(-share * len(ordered) // 100) - 1]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
