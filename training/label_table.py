"""A manifest or any table of labels as columns: counts, other numbers, and who, when and which part of the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .documents import read_document
from .formats import points_at_somebody
from .layouts import COUNTS, FLAT_ALIASES, Item, flattened, unwrap, words
from .values import HIDDEN, Reading, parse_count, parse_number, parse_time

Numbers = NDArray[np.float64]
Keys = tuple[str | None, ...]
KEYS = ("id", "author", "music", "split", "sha256")
TIMES = ("created_at", "crawled_at")
ROLES = (*KEYS, *TIMES, *COUNTS)
_ALIASES = {role: FLAT_ALIASES.get(role, (role,)) for role in ROLES}
_REACTIONS = frozenset(
    (
        "view",
        "like",
        "dislike",
        "comment",
        "share",
        "save",
        "play",
        "digg",
        "favorite",
        "favourite",
        "download",
        "repost",
        "collect",
        "heart",
    )
)
"""Words in the names of columns that come after publication, as the target does."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Columns of one table; every array and tuple is as long as the table."""

    source: str
    rows: int
    counts: Mapping[str, Numbers]
    """The counts the table has, NaN where hidden or unreadable."""
    numbers: Mapping[str, Numbers]
    """Every column of numbers and flags that is neither a count nor says who or when, NaN where empty."""
    keys: Mapping[str, Keys]
    """`id`, `author`, `music`, `split`, `sha256`, as far as the table has them."""
    times_s: Mapping[str, Numbers]
    """`created_at` and `crawled_at` as epoch seconds, NaN where unknown."""
    columns: Mapping[str, str]
    """Which column was taken for which role."""
    written: Mapping[str, Mapping[str, int]]
    """By count: how many values were hidden, rounded (`12.3K`), ambiguous or unreadable."""

    def target(self, name: str) -> Numbers:
        """The values of a count or of another column of numbers.

        Raises:
            DataError: there is no such column.
        """
        known = {**self.numbers, **self.counts}
        if name not in known:
            raise DataError(f"{self.source} has no column of numbers {name!r}; it has {', '.join(sorted(known)) or 'none'}")
        return known[name]

    def features(self, target: str) -> dict[str, Numbers]:
        """Columns a model may use: no counts, nothing that comes after publication, and the hour and weekday of publication."""
        own = {name: values for name, values in self.numbers.items() if name != target and not _is_reaction(name)}
        created = self.times_s.get("created_at")
        if created is None or not np.isfinite(created).any():
            return own
        hours = np.floor(created / 3600)
        # 1970-01-01 was a Thursday.
        return {**own, "hour of day": hours % 24, "weekday": (np.floor(hours / 24) + 3) % 7}


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> LabelTable:
    """Reads a manifest, or a CSV, JSON, JSON lines or Parquet table.

    Args:
        path: the file.
        columns: role -> column, for columns whose names say nothing, such as `{"author": "outlet"}`.

    Raises:
        DataError: the file is damaged or empty, or a role or a column is unknown.
    """
    items = [item for node in read_document(path) for _, item in unwrap(node.where, node.value)]
    if not items or not all(isinstance(item, Mapping) for item in items):
        raise DataError(f"{path} is no table: expected rows with named columns")
    taken = _roles(items, columns or {}, path)
    counts = {role: [parse_count(item.get(taken[role])) for item in items] for role in COUNTS if role in taken}
    others = [name for name in _names(items) if name not in taken.values() and not points_at_somebody(name)]
    numbers = {name: _numbers([item.get(name) for item in items]) for name in others}
    return LabelTable(
        source=str(path),
        rows=len(items),
        counts={role: _array(readings, float) for role, readings in counts.items()},
        numbers={name: values for name, values in numbers.items() if values is not None},
        keys={role: tuple(_key(item.get(taken[role])) for item in items) for role in KEYS if role in taken},
        times_s={
            role: _array([parse_time(item.get(taken[role])) for item in items], datetime.timestamp) for role in TIMES if role in taken
        },
        columns=taken,
        written={role: dict(Counter(reading.note for reading in readings if reading.note)) for role, readings in counts.items()},
    )


def _roles(items: Sequence[Item], given: Mapping[str, str], path: Path) -> dict[str, str]:
    names = _names(items)
    for role, column in given.items():
        if role not in ROLES:
            raise DataError(f"role {role!r} is unknown; it is one of {', '.join(ROLES)}")
        if column not in names:
            raise DataError(f"{path} has no column {column!r}; it has {', '.join(names)}")
    by_alias = {flattened(name): name for name in reversed(names) if name not in given.values()}
    found = {role: next((by_alias[alias] for alias in aliases if alias in by_alias), None) for role, aliases in _ALIASES.items()}
    return {**{role: name for role, name in found.items() if name is not None}, **given}


def _names(items: Sequence[Item]) -> list[str]:
    return list(dict.fromkeys(name for item in items for name in item))


def _numbers(values: Sequence[Any]) -> Numbers | None:
    """A column of numbers and flags, or None where it holds anything else or nothing."""
    filled = [None if value is None or (isinstance(value, str) and value.strip().lower() in HIDDEN) else value for value in values]
    parsed = [None if value is None else parse_number(value) for value in filled]
    if all(number is None for number in parsed) or any(
        number is None and value is not None for number, value in zip(parsed, filled, strict=True)
    ):
        return None
    return np.array([np.nan if number is None else number for number in parsed])


def _array(readings: Sequence[Reading[Any]], number: Callable[[Any], float]) -> Numbers:
    return np.array([np.nan if reading.value is None else number(reading.value) for reading in readings], dtype=np.float64)


def _key(found: Any) -> str | None:
    return None if found is None or str(found).strip().lower() in HIDDEN else str(found).strip()


def _is_reaction(column: str) -> bool:
    return any(word.removesuffix("s") in _REACTIONS for word in words(column))
