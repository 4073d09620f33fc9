"""Files that scores are appended to, clip by clip, and that a later run can go on with.

A clip's rows are handed to the system in one piece when the clip is done, so a process that is killed loses the clips it was at and no
others. At most the last rows are half written; who goes on cuts them off. Parquet cannot be appended to: until the end its rows are
in `NAME.partial.jsonl` beside it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import DataError
from .clip_list import Clip, FileFacts, clip_key
from .score import Score
from .score_parquet import lines_from_parquet, parquet_from_lines, parquet_module
from .score_rows import csv_columns, ends_clip, flat_row, rows_of


class FileFormat(str, Enum):
    """How rows are written."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@dataclass(frozen=True, slots=True)
class RowsKey:
    """What the rows of one file have in common."""

    scored_with: str
    """The model and the settings: rows of two are not put into one file."""
    classes: int
    """Classes of the target, which decide the columns."""


@dataclass(frozen=True, slots=True)
class DoneClip:
    """A clip whose rows are in the file, whole."""

    key: str
    file: FileFacts | None
    failed: bool
    start: int
    end: int
    """Its bytes `[start, end)`."""


class RowEncoder:
    """Rows as bytes: JSON lines, or CSV with its heading."""

    def __init__(self, form: FileFormat, classes: int) -> None:
        self._classes = classes
        self._columns = csv_columns(classes) if form is FileFormat.csv else None

    def heading(self) -> bytes:
        """What a new file begins with."""
        return self._csv(self._columns) if self._columns else b""

    def encode(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        """The rows, each with its end of line."""
        return b"".join(self._encode(row) for row in rows)

    def _encode(self, row: Mapping[str, Any]) -> bytes:
        if self._columns is None:
            return json.dumps(row).encode() + b"\n"
        flat = flat_row(row, self._classes)
        return self._csv([flat.get(column) for column in self._columns])

    @staticmethod
    def _csv(values: Sequence[object]) -> bytes:
        line = io.StringIO()
        # A bare carriage return is quoted by some versions of Python only, and read as an end of line by all.
        dialect = csv.unix_dialect if any("\r" in str(value) for value in values) else _Plain
        csv.writer(line, dialect).writerow(values)
        return line.getvalue().encode("utf-8", "surrogateescape")


class _Plain(csv.unix_dialect):
    """Lines end with a newline, and only what must be quoted is; the dialect it is made from quotes all."""

    quoting = csv.QUOTE_MINIMAL


class ScoreFile:
    """An open file of scores. `with` closes it, which is when Parquet is made."""

    def __init__(self, path: Path, form: FileFormat, key: RowsKey) -> None:
        """Use `new_score_file` or `resume_score_file`."""
        self.path = path
        self.done: dict[str, DoneClip] = {}
        """Clips that were in the file when it was opened, by their keys."""
        self._form = form
        self._key = key
        self._encoder = RowEncoder(form, key.classes)
        self._log = rows_path(path, form)
        try:
            self._file = _locked(self._log)
        except OSError as error:
            raise DataError(f"{self._log} cannot be written: {error.strerror or error}") from error

    def add(self, clip: Clip, scores: Sequence[Score], error: str | None = None) -> None:
        """Appends the rows of a clip that is done.

        Args:
            clip: the clip as it was asked for.
            scores: what is to be kept of it, the last one final unless there is an error.
            error: one sentence if it could not be scored.

        Raises:
            DataError: the file cannot be written.
        """
        self._append(self._encoder.encode(rows_of(clip, scores, error, self._key.scored_with)))

    def close(self, *, finished: bool = True) -> None:
        """Closes the file.

        Args:
            finished: make the Parquet file, where that is what was asked for; otherwise the rows stay beside it for later.
        """
        self._file.close()
        if finished and self._form is FileFormat.parquet:
            parquet_from_lines(self._log, self.path, classes=self._key.classes)
            self._log.unlink()

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(finished=error is None)

    def begin(self) -> None:
        """Empties the file and writes what it begins with."""
        if self._log.is_file():
            self._file.truncate(0)
        self._append(self._encoder.heading())

    def take_up(self, wanted: Mapping[str, Clip], *, retry_failed: bool) -> None:
        """Keeps the clips that are done, and cuts off or takes out what is to be scored again; see `resume_score_file`."""
        content, heading = self._log.read_bytes(), self._encoder.heading()
        if len(content) < len(heading) and heading.startswith(content):
            self.begin()
            content = heading
        if not content.startswith(heading):
            raise DataError(f"{self.path} does not begin with the columns of this model's scores; give another file")
        kept = []
        for clip in _done_clips(content, len(heading), self._form, self.path, self._key.scored_with):
            if clip.key not in self.done and not _is_due(clip, wanted.get(clip.key), retry_failed=retry_failed):
                self.done[clip.key] = clip
                kept.append(clip)
        self._keep(content, heading, kept)

    def _keep(self, content: bytes, heading: bytes, kept: Sequence[DoneClip]) -> None:
        """Leaves the rows of these clips alone in the file, in place if only the end goes, else through a copy that takes its place."""
        rows = b"".join(content[clip.start : clip.end] for clip in kept)
        if content.startswith(heading + rows):
            self._file.truncate(len(heading) + len(rows))
            return
        aside = self._log.with_name(f"{self._log.name}.writing-{os.getpid()}")
        aside.write_bytes(heading + rows)
        copy = _locked(aside)
        os.replace(aside, self._log)
        self._file.close()
        self._file = copy

    def _append(self, content: bytes) -> None:
        try:
            while content:
                content = content[self._file.write(content) or 0 :]
        except OSError as error:
            raise DataError(f"{self._log} cannot be written: {error.strerror or error}") from error


def format_of(path: Path) -> FileFormat | None:
    """The format that a file's suffix asks for."""
    return next((form for form in FileFormat if path.suffix.lower() == f".{form.value}"), None)


def rows_path(path: Path, form: FileFormat) -> Path:
    """Where rows go while a run goes on."""
    return path.with_name(f"{path.name}.partial.jsonl") if form is FileFormat.parquet else path


def new_score_file(path: Path, form: FileFormat, key: RowsKey, *, force: bool = False) -> ScoreFile:
    """Begins a file of scores.

    Args:
        path: the file.
        form: how rows are written.
        key: what they have in common.
        force: replace what is there. A Parquet file is replaced at the end, the others at once.

    Raises:
        DataError: something is there, another process writes it, pyarrow is not installed, or it cannot be written.
    """
    if form is FileFormat.parquet:
        parquet_module()
    there = [each for each in (rows_path(path, form), path) if each.is_file()]
    if there and not force:
        raise DataError(f"{there[0]} exists; use --resume {path} to go on with it, or --force to replace it")
    file = ScoreFile(path, form, key)
    try:
        file.begin()
    except BaseException:
        file.close(finished=False)
        raise
    return file


def resume_score_file(path: Path, form: FileFormat, key: RowsKey, clips: Iterable[Clip], *, retry_failed: bool = False) -> ScoreFile:
    """Goes on with a file of scores, or begins it where there is none. `done` of the result says which clips need no more work.

    A clip is done if the file has it by the name it is given now, with the size and time of change its file has now: that is told
    without reading a clip, and one that was replaced since is scored again. Its old rows are taken out first.

    Args:
        path: the file.
        form: how its rows are written.
        key: what they have in common, and must have.
        clips: what is asked for now.
        retry_failed: score clips again that could not be scored.

    Raises:
        DataError: it is no file of scores, its rows were scored otherwise, another process writes it, or it cannot be written.
    """
    log = rows_path(path, form)
    unpacked = form is FileFormat.parquet and not log.exists() and _unpack(path, log)
    file = ScoreFile(path, form, key)
    try:
        file.take_up({clip.key: clip for clip in clips}, retry_failed=retry_failed)
    except (OSError, DataError) as error:
        file.close(finished=False)
        if unpacked:
            log.unlink()
        raise error if isinstance(error, DataError) else DataError(f"{log} cannot be gone on with: {error}") from error
    return file


def _unpack(path: Path, log: Path) -> bool:
    """Puts the rows of a Parquet file, if there is one, where rows can be appended."""
    parquet_module()
    if not path.exists():
        return False
    aside = log.with_name(f"{log.name}.writing-{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.writelines(lines_from_parquet(path))
        os.replace(aside, log)
    except OSError as error:
        raise DataError(f"{log} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return True


def _locked(path: Path) -> io.FileIO:
    """Opens a file for appending, unbuffered; one process at a time, where the system can say so."""
    file = io.FileIO(path, "a")
    if not path.is_file():  # a device or a pipe, which many may write
        return file
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(f"{path} is being written by another process; wait for it, or give another file") from error
    except (ImportError, OSError):  # Windows, or a file system without locks
        pass
    return file


def _is_due(done: DoneClip, wanted: Clip | None, *, retry_failed: bool) -> bool:
    """Whether a clip of the file is to be scored again. One whose file is gone by now keeps its rows."""
    if wanted is None:
        return False
    replaced = wanted.file is not None and wanted.file != done.file
    return replaced or (done.failed and retry_failed)


def _done_clips(content: bytes, start: int, form: FileFormat, path: Path, scored_with: str) -> Iterator[DoneClip]:
    """The clips of a file, up to the first that is not whole."""
    begun = start
    for row, end in _rows(content, start, form, path):
        if row.get("scored_with") != scored_with:
            raise DataError(
                f"{path} was scored with {row.get('scored_with')!r}, and this run has {scored_with!r}: rows of both must not mix; "
                "give another file, or the same bundle and options"
            )
        if ends_clip(row):
            yield DoneClip(clip_key(str(row["clip"])), _facts(row), bool(row.get("error")), begun, end)
            begun = end


def _rows(content: bytes, start: int, form: FileFormat, path: Path) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Rows that end, each with where it ends. The last one may be cut off by a kill; one before it that is no row is an error."""
    columns = next(csv.reader([content[:start].decode()])) if form is FileFormat.csv else None
    for number, (record, end) in enumerate(_records(content, start, quoted=columns is not None), start=1):
        row = _parse(record, columns)
        if row is not None:
            yield row, end
        elif end < len(content):
            raise DataError(f"{path} is no file of scores: its row {number} is none; give another file")


def _records(content: bytes, start: int, *, quoted: bool) -> Iterator[tuple[bytes, int]]:
    """Lines that end; of CSV, where an end of line may stand within quotes, as many lines as make the quotes even."""
    begun = position = start
    while (end := content.find(b"\n", position) + 1) > 0:
        position = end
        if not quoted or content.count(b'"', begun, end) % 2 == 0:
            yield content[begun:end], end
            begun = end


def _parse(record: bytes, columns: Sequence[str] | None) -> Mapping[str, Any] | None:
    try:
        if columns is None:
            row = json.loads(record)
        else:
            text = record.decode("utf-8", "surrogateescape")
            row = dict(zip(columns, next(csv.reader(io.StringIO(text, newline=""))), strict=True))
    except (ValueError, StopIteration, csv.Error):
        return None
    return row if isinstance(row, dict) and row.get("clip") else None


def _facts(row: Mapping[str, Any]) -> FileFacts | None:
    """What a row says of its clip's file; CSV has numbers as text, and nothing for None."""
    try:
        return FileFacts(int(row["file_bytes"]), float(row["file_modified_s"]))
    except (KeyError, TypeError, ValueError):
        return None
