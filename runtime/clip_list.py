"""Which clips are asked for: files, URLs, folders and lists of names, each with what tells a file from its later versions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"}
)
"""What is taken for a clip in a folder. Any file can be named by itself."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What tells a file from another of the same name, without reading it."""

    size_bytes: int
    modified_s: float
    """Seconds since 1970, to a microsecond."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A source as it was given."""

    source: str
    """A path, a URL or `-`."""
    file: FileFacts | None
    """None of a URL, of standard input, and of a file that is not there."""

    @property
    def name(self) -> str:
        """What rows call it."""
        return "standard input" if self.source == "-" else self.source

    @property
    def key(self) -> str:
        """What a file of scores finds it by."""
        return clip_key(self.name)


def clip_key(source: str) -> str:
    """The name of a clip as it was given, but for `./` and doubled slashes; bytes of a file name that are no UTF-8 are escaped."""
    name = source if "://" in source else os.path.normpath(source)
    return name.encode("utf-8", "backslashreplace").decode()


def list_clips(sources: Iterable[str], *, once: bool) -> list[Clip]:
    """The clips that sources stand for, in the order given; a folder stands for the videos in it and its subfolders, by name.

    Args:
        sources: paths of files and folders, URLs, `-`.
        once: leave out a clip that is already in the list.

    Raises:
        DataError: a folder cannot be read, or holds no video.
    """
    seen: set[str] = set()
    clips = []
    for source in _expand(sources):
        place = source if "://" in source else os.path.abspath(source)
        if not (once and place in seen):
            seen.add(place)
            clips.append(Clip(source, file_facts(source)))
    return clips


def parse_list(raw: bytes) -> list[str]:
    """Names of clips, one a line, or ended by NUL as `find -print0` has them. Blank lines are passed over.

    Args:
        raw: the list as it was read; names need not be UTF-8.
    """
    lines = raw.split(b"\0") if b"\0" in raw else raw.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


def file_facts(source: str) -> FileFacts | None:
    """What can be told of a file without reading it; None of what is no regular file."""
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return None
    return FileFacts(found.st_size, round(found.st_mtime_ns / 1e9, 6)) if os.path.isfile(source) else None


def _expand(sources: Iterable[str]) -> Iterator[str]:
    for source in sources:
        if source != "-" and os.path.isdir(source):
            yield from _videos(Path(source))
        else:
            yield source


def _videos(folder: Path) -> list[str]:
    """Every video in a folder and its subfolders, sorted; what is hidden is passed over, and links to folders are not followed."""
    found: list[str] = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        videos = (name for name in sorted(files) if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES)
        found += (str(Path(place) / name) for name in videos)
    if not found:
        raise DataError(
            f"{folder} holds no video: expected files that end in {', '.join(sorted(VIDEO_SUFFIXES))}; name others by themselves"
        )
    return found


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
