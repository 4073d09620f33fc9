"""The manifest of clips: one JSON object per line, naming a file, its labels and, when known, its split and author.

    {"id": "a1", "path": "clips/a1.mp4", "views": 5120, "split": "train", "author": "k7", "likes": 310}

`id` and `path` are required. A relative path starts at the manifest's own folder. `split` is `train`, `val` or `test`. Every other
key is a free column; any column of numbers can be the target.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

SPLITS = ("train", "val", "test")
_NAMED = ("id", "path", "split", "author")


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One line of a manifest."""

    id: str
    path: Path
    """Where the clip is; absolute once read from a manifest."""
    split: str | None
    """`train`, `val`, `test`, or None where the manifest does not say."""
    author: str | None
    """Who posted it: splits are grouped by author."""
    columns: Mapping[str, Any]
    """Every other column as it stands in the manifest, targets among them."""

    def value(self, column: str) -> float:
        """The number in a column.

        Raises:
            DataError: the column is missing, or holds no finite number.
        """
        if column not in self.columns:
            raise DataError(f"clip {self.id!r} has no column {column!r}; its columns are {', '.join(sorted(self.columns)) or 'none'}")
        found = self.columns[column]
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
            raise DataError(f"clip {self.id!r}: column {column!r} holds {found!r}; expected a finite number")
        return float(found)


def read_manifest(path: Path | str) -> list[ClipRow]:
    """Reads a manifest; blank lines are passed over, and the clips themselves are not opened.

    Args:
        path: the JSONL file.

    Returns:
        The rows in file order, with absolute paths.

    Raises:
        DataError: the file cannot be read, holds no clip, or a line is wrong; the message names the line.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"manifest {source} cannot be read: {error}") from error
    folder = source.absolute().parent
    rows: dict[str, ClipRow] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            row = _parse(line, folder, f"{source}, line {number}")
            if row.id in rows:
                raise DataError(f"{source}, line {number}: id {row.id!r} was already used above; every clip needs its own")
            rows[row.id] = row
    if not rows:
        raise DataError(f"manifest {source} holds no clip; expected one JSON object per line")
    return list(rows.values())


def write_manifest(path: Path | str, rows: Iterable[ClipRow]) -> Path:
    """Writes a manifest beside its target and renames it whole, so that a reader never sees half of one.

    Args:
        path: the JSONL file; its folder must exist. An existing file is replaced.
        rows: what to write. A path inside the manifest's folder is written relative to it.

    Raises:
        DataError: the file cannot be written.
    """
    target = Path(path).absolute()
    aside = target.with_name(target.name + ".part")
    try:
        aside.write_text("".join(_line(row, target.parent) for row in rows), encoding="utf-8")
        os.replace(aside, target)
    except OSError as error:
        raise DataError(f"manifest {target} cannot be written: {error}") from error
    return target


def _line(row: ClipRow, folder: Path) -> str:
    place = row.path.relative_to(folder) if row.path.is_relative_to(folder) else row.path
    named = {"id": row.id, "path": place.as_posix(), "split": row.split, "author": row.author}
    return json.dumps({**{key: value for key, value in named.items() if value is not None}, **row.columns}) + "\n"


def _parse(line: str, folder: Path, where: str) -> ClipRow:
    try:
        plain = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(plain, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(plain).__name__}")
    split = _text(plain, "split", where)
    if split is not None and split not in SPLITS:
        raise DataError(f"{where}: split is {split!r}; expected {', '.join(SPLITS)}")
    return ClipRow(
        id=_required(plain, "id", where),
        path=folder / _required(plain, "path", where),
        split=split,
        author=_text(plain, "author", where),
        columns={key: value for key, value in plain.items() if key not in _NAMED},
    )


def _text(plain: Mapping[str, Any], key: str, where: str) -> str | None:
    found = plain.get(key)
    if found is None:
        return None
    if not isinstance(found, str) or not found:
        raise DataError(f"{where}: {key!r} is {found!r}; expected a string that is not empty")
    return found


def _required(plain: Mapping[str, Any], key: str, where: str) -> str:
    found = _text(plain, key, where)
    if found is None:
        raise DataError(f"{where}: {key!r} is missing; every line needs 'id' and 'path'")
    return found
