"""JSON, JSON lines, CSV and Parquet files as plain values, each with the place it came from.

A damaged file is one sentence that names the file and the line.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
DELIMITERS = ",\t;|"


@dataclass(frozen=True, slots=True)
class Node:
    """A value from a file: a row of a table, a line of JSON lines, or a whole JSON document."""

    where: str
    """`posts.csv, line 3`; for a JSON document, the file."""
    value: Any


def read_document(path: Path) -> list[Node]:
    """Reads a file of a kind its suffix tells; blank lines are passed over.

    Raises:
        DataError: the file cannot be read, is damaged, or is of another kind.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix not in JSON_SUFFIXES + TABLE_SUFFIXES:
        raise DataError(f"{path}: expected a file that ends in {', '.join(JSON_SUFFIXES + TABLE_SUFFIXES)}")
    text = _text(path)
    return list(_read_table(path, text) if suffix in TABLE_SUFFIXES else _read_json(path, text))


def parquet_module() -> Any:
    """`pyarrow.parquet`, which is needed for nothing else.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError("Parquet files need pyarrow, which is not installed: pip install 'shortcast[parquet]'; or use .jsonl") from error


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as Parquet, aside and renamed whole.

    Raises:
        DataError: pyarrow is not installed, or the file cannot be written.
    """
    parquet, aside = parquet_module(), path.with_name(path.name + ".part")
    try:
        parquet.write_table(importlib.import_module("pyarrow").Table.from_pylist(list(rows)), aside)
        os.replace(aside, path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text (byte {raw[error.start]:#04x}); save the file as UTF-8") from error


def _read_json(path: Path, text: str) -> Iterator[Node]:
    if _is_lines(text):
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield Node(f"{path}, line {number}", _parse(line, path, number))
    else:
        yield Node(str(path), _parse(text, path, 1))


def _is_lines(text: str) -> bool:
    """Whether a text is JSON lines: several lines, of which the first is a value of its own."""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # A damaged first line of JSON lines is followed by a line that begins an object; a pretty-printed document isn't.
        return first.startswith("{") and rest.startswith("{")
    return True


def _parse(text: str, path: Path, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}, line {line}: not valid JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {first_line}: not valid JSON ({error})") from error


def _read_table(path: Path, text: str) -> Iterator[Node]:
    first_line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    # strict: or one quote too many swallows the rest of the file into one field.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    for line, row in _numbered(rows, path):
        if header is None:
            header = _header(row, path, line)
        elif len(row) != len(header):
            raise DataError(f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}")
        else:
            yield Node(f"{path}, line {line}", {name: field for name, field in zip(header, row, strict=True) if name})


def _numbered(rows: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that aren't blank, each with the line it begins on."""
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: not valid CSV ({error}); a quote may be open or out of place") from error
        if row is None:
            return
        if any(field.strip() for field in row):
            yield line, row


def _header(row: list[str], path: Path, line: int) -> list[str]:
    names = [name.strip() for name in row]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{path}, line {line}: the header names {', '.join(map(repr, twice))} twice")
    return names


def _read_parquet(path: Path) -> list[Node]:
    try:
        rows = parquet_module().read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    return [Node(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]
