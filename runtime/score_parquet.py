"""Files of scores as Parquet, through pyarrow, which is needed for nothing else and imported when it is."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DataError
from .score_rows import PACE_TYPES, STAGES, class_key

_ROWS = 4096
"""In one row group."""


def parquet_module() -> Any:
    """`pyarrow.parquet`.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            "Parquet needs pyarrow, which is not installed: pip install 'shortcast[parquet]'; or write .jsonl or .csv"
        ) from error


def parquet_from_lines(lines: Path, path: Path, *, classes: int) -> None:
    """Makes a Parquet file of a file of JSON lines, aside and renamed whole; the keys become columns, records become structs.

    Raises:
        DataError: pyarrow is not installed, or the file cannot be written.
    """
    parquet, table = parquet_module(), importlib.import_module("pyarrow").Table
    aside = path.with_name(f"{path.name}.writing-{os.getpid()}")
    schema = _schema(classes)
    try:
        with lines.open(encoding="utf-8") as file, parquet.ParquetWriter(aside, schema) as writer:
            rows = (_storable(json.loads(line)) for line in file)
            while block := list(islice(rows, _ROWS)):
                writer.write_table(table.from_pylist(block, schema=schema))
        os.replace(aside, path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written: {error}; its rows are in {lines}, and --resume {path} tries again") from error
    finally:
        aside.unlink(missing_ok=True)


def lines_from_parquet(path: Path) -> Iterator[bytes]:
    """The rows of a Parquet file of scores as JSON lines.

    Raises:
        DataError: pyarrow is not installed, or the file cannot be read.
    """
    parquet = parquet_module()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS):
                yield from _encoded(batch.to_pylist())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _encoded(rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(row).encode() + b"\n"


def _storable(row: dict[str, Any]) -> dict[str, Any]:
    """Arrow's text is UTF-8, and a file's name need not be."""
    return row | {key: row[key].encode("utf-8", "backslashreplace").decode() for key in ("clip", "error") if row.get(key)}


def _schema(classes: int) -> Any:
    arrow = importlib.import_module("pyarrow")
    number, whole, text, truth = arrow.float64(), arrow.int64(), arrow.string(), arrow.bool_()
    stages = arrow.struct([(name, number) for name in STAGES])
    pace = arrow.struct([(name, {"bool": truth, "int": whole, "float": number}[kind]) for name, kind in PACE_TYPES.items()])
    segment = arrow.struct([("start_s", number), ("end_s", number), ("text", text)])
    kind = class_key(classes)
    columns = {
        "clip": text,
        "chunk": whole,
        "start_s": number,
        "end_s": number,
        "final": truth,
        "settled": truth,
        "unread_s": number,
        "target": text,
        "score": number,
        "z": number,
        "interval": arrow.list_(number),
        "interval_coverage": number,
        kind: whole,
        f"{kind}_probabilities": arrow.list_(number),
        "chunk_weights": arrow.list_(number),
        "modalities": arrow.struct([("pictures", truth), ("sound", truth)]),
        "epoch": whole,
        "lost_packets": whole,
        "dropped_chunks": whole,
        "pace": pace,
        "latency_ms": stages,
        "notes": arrow.list_(text),
        "transcript": arrow.list_(segment),
        "error": text,
        "file_bytes": whole,
        "file_modified_s": number,
        "scored_with": text,
    }
    return arrow.schema(list(columns.items()))
