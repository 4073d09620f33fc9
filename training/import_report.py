"""What became of everything an import found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NAMED_IN_SUMMARY = 5
"""Entries of one kind; the report as JSON has all."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing worth knowing about one post, file or column."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class SourceRead:
    """What a file or folder was taken for."""

    path: str
    format: str
    posts: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of everything that was found."""

    manifest: str
    rows: int
    sources: tuple[SourceRead, ...]
    left_out: tuple[Entry, ...]
    """Posts that are no row, and videos that no row names."""
    noted: tuple[Entry, ...]
    """Rows that are in the manifest with something missing, rounded or ambiguous, and columns that aren't."""

    @property
    def counts(self) -> dict[str, int]:
        """Entries by kind, those left out first."""
        return dict(Counter(entry.kind for entry in (*self.left_out, *self.noted)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "counts": self.counts}

    def summary(self) -> str:
        """A short text: what was taken for what, and the first few entries of every kind."""
        taken = [f"took {source.path} for {source.format}: {_plural(source.posts, 'post')}" for source in self.sources]
        left_out, noted = (list(_lines(entries)) for entries in (self.left_out, self.noted))
        head = [f"{_plural(self.rows, 'row')} in {self.manifest}"]
        return "\n".join([*taken, *head, *_titled("left out:", left_out), *_titled("in the manifest, but:", noted)])


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    by_kind: dict[str, list[Entry]] = {kind: [] for kind in dict.fromkeys(entry.kind for entry in entries)}
    for entry in entries:
        by_kind[entry.kind].append(entry)
    for kind, some in by_kind.items():
        yield f"  {kind}: {len(some)}"
        yield from (f"    {entry.where}" + (f": {entry.detail}" if entry.detail else "") for entry in some[:NAMED_IN_SUMMARY])
        if len(some) > NAMED_IN_SUMMARY:
            yield f"    and {len(some) - NAMED_IN_SUMMARY} more"


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *lines] if lines else []


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
