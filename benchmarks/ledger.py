"""Who holds the memory: a list that adds up to what was measured, with who says so beside each entry.

Phases that can be told apart in time are told apart by difference: what a process held when one ended, less what it held when it began.
What an engine itself knows of a phase (its weights, scratch, buffers) is taken out of that difference. What nobody answers for is `rest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .results import LedgerEntry

PHASES = {
    "start": "interpreter",
    "import": "libraries",
    "context": "CUDA context",
    "load-graphs": "sessions of the graphs",
    "capture": "CUDA graphs",
    "load-sound": "Whisper",
    "load": "loading",
    "first": "first call",
    "warm-up": "warm-up",
    "timed": "work",
}
"""What a phase's memory is called in the ledger; a phase that isn't here keeps its own name."""


@dataclass(frozen=True, slots=True)
class Level:
    """Memory that was held when a phase ended."""

    phase: str
    bytes: int


def ledger(
    total_bytes: int, levels: Sequence[Level], parts: Mapping[str, Mapping[str, int]] | None = None, *, source: str = "difference"
) -> tuple[LedgerEntry, ...]:
    """Divides a peak among phases and parts.

    A phase answers for what it added and nobody gave back before the peak: a later phase that frees memory takes it from the entries
    before, so no entry is negative.

    Args:
        total_bytes: the peak that was measured; the entries sum to exactly this.
        levels: memory at the end of each phase up to the peak, in order of time; the last is the peak itself, or the last look before it.
        parts: by phase, what engines say they took in it, in bytes by name.
        source: how the differences were told.

    Returns:
        Entries in order of time; the last is `rest`.
    """
    entries: list[LedgerEntry] = []
    for phase, grown in _growth(total_bytes, levels):
        entries += _divided(phase, grown, (parts or {}).get(phase, {}), source)
    answered = sum(entry.bytes for entry in entries)
    return (*entries, LedgerEntry("rest", total_bytes - answered, "rest: between two looks, or in no phase that was marked"))


def _growth(total_bytes: int, levels: Sequence[Level]) -> Iterator[tuple[str, int]]:
    """What each phase added and is still there at the end: differences of the smallest level from each phase on."""
    lasting, smallest = [], total_bytes
    for level in reversed(levels):
        smallest = min(smallest, level.bytes)
        lasting.append(smallest)
    before = 0
    for level, held in zip(levels, reversed(lasting), strict=True):
        yield level.phase, held - before
        before = held


def _divided(phase: str, grown: int, parts: Mapping[str, int], source: str) -> Iterator[LedgerEntry]:
    """The engines' own figures first. Of a part that wasn't all resident, only what the phase grew by is counted, and that is said."""
    left = grown
    for what, planned in parts.items():
        counted = min(planned, left)
        left -= counted
        yield LedgerEntry(what, counted, "engine" if counted == planned else f"engine, of {planned / 2**20:.1f} MiB that it states")
    if left or not parts:
        yield LedgerEntry(PHASES.get(phase, phase), left, source)
