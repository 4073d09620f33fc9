"""The clock: timestamps of every stream of a source -> one continuous time that starts at 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BACKWARD_JUMP_S = 0.5
FORWARD_JUMP_S = 5.0
"""A stream that goes back further than the first, or ahead further than the second, has jumped: it is put where it left off."""
SAME_CLOCK_S = 60.0
"""A start time is believed, and a stream may begin late, within this of what is already known."""
MAX_PICTURE_S = 60.0
RECONNECT_SLACK_S = 10.0
"""After a connection was lost, a clock that has gone on by as long, within this, is taken for the same one."""


@dataclass(slots=True)
class Track:
    """One stream on the clock: where its last unit began and ended, in continuous seconds."""

    shift: float | None = None
    start: float = 0.0
    end: float = 0.0


class Timeline:
    """Puts the timestamps of all streams on one continuous clock.

    The origin is the earliest start of the streams used. A stream that jumps (more than 0.5 s back, more than 5 s ahead) is a
    discontinuity: the epoch grows by one and the stream goes on where it left off. The stream beside it, which jumps a few packets
    later, adopts the same shift instead of making a second one, and so they stay in sync. A stream that merely begins late, or
    falls silent while the other goes on, has not jumped.
    """

    def __init__(self, starts: Sequence[float]) -> None:
        self.epoch = 0
        self._starts = starts
        self._origin: float | None = None
        self._shift = 0.0
        self._tracks: list[Track] = []
        self._resumes_s: float | None = None
        """Where media goes on after a connection was lost."""

    @property
    def front_s(self) -> float:
        """Where media ends so far."""
        return max((track.end for track in self._tracks), default=self._resumes_s or 0.0)

    def reconnect(self, pts_s: float, *, replayed: bool, outage_s: float) -> float:
        """Media goes on after a connection was lost: a new epoch, which begins where the last one ended.

        Args:
            pts_s: the first timestamp of the new connection.
            replayed: whether its first packet came once before: then its clock is the old one, and what is repeated lies where it lay.
            outage_s: wall seconds between the connections.

        Returns:
            Seconds of media that were missed. By the timestamps where they have gone on; by the wall clock where they begin anew.
        """
        front = self.front_s
        ahead_s = pts_s - (self._origin if self._origin is not None else pts_s) + self._shift - front
        goes_on = 0 <= ahead_s <= outage_s + RECONNECT_SLACK_S
        self._tracks, self._resumes_s = [], front
        self.epoch += 1
        if replayed:
            return max(0.0, ahead_s)
        self._shift -= ahead_s
        return ahead_s if goes_on else outage_s

    def track(self) -> Track:
        """One more stream."""
        self._tracks.append(Track())
        return self._tracks[-1]

    def place(self, track: Track, pts_s: float | None, duration_s: float) -> float:
        """The continuous start, in seconds, of a unit with this timestamp; without one it follows the unit before it."""
        track.start = track.end if pts_s is None else self._settle(track, pts_s)
        track.end = track.start + duration_s
        return track.start

    def foresee(self, track: Track, pts_s: float | None) -> float | None:
        """Where a unit with this timestamp will start, if the clock does not jump; None where that cannot be told yet."""
        if pts_s is None or self._origin is None or track.shift is None:
            return None
        return pts_s - self._origin + track.shift

    def _settle(self, track: Track, pts_s: float) -> float:
        if self._origin is None:
            self._origin = min([pts_s, *(s for s in self._starts if pts_s - SAME_CLOCK_S <= s <= pts_s)])
        raw = pts_s - self._origin
        if track.shift is None:
            return self._begin(track, raw)
        if self._jumped(track, raw + track.shift):
            self._rejoin(track, raw)
        return raw + track.shift

    def _begin(self, track: Track, raw: float) -> float:
        beside = self._front_beside(track)
        front = (self._resumes_s or 0.0) if beside is None else beside
        believable = -SAME_CLOCK_S <= raw + self._shift <= front + SAME_CLOCK_S
        track.shift = self._shift if believable else front - raw
        return raw + track.shift

    def _jumped(self, track: Track, at: float) -> bool:
        if at < track.start - BACKWARD_JUMP_S:
            return True
        beside = self._front_beside(track)
        # Landing where the other stream already is means a pause in this one, not a jump of the clock.
        return at > track.end + FORWARD_JUMP_S and (beside is None or at > beside + FORWARD_JUMP_S)

    def _rejoin(self, track: Track, raw: float) -> None:
        if track.shift != self._shift and abs(raw + self._shift - track.end) <= FORWARD_JUMP_S:
            track.shift = self._shift
            return
        track.shift = self._shift = track.end - raw
        self.epoch += 1

    def _front_beside(self, track: Track) -> float | None:
        return max((t.end for t in self._tracks if t is not track and t.shift is not None), default=None)
