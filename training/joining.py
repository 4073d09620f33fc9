"""Which media file belongs to which post: by the path it names, by the stem of its `.info.json`, or by its id in a file's name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..runtime.clip_list import VIDEO_SUFFIXES
from .formats import INFO_SUFFIX, Post

OTHER_SUFFIXES = frozenset({".aac", ".gif", ".heic", ".jpeg", ".jpg", ".m4a", ".mp3", ".ogg", ".opus", ".png", ".wav", ".webp"})
"""Sound and images: what an image post leaves behind."""
SHORTEST_ID = 6
"""Characters of an id that is looked for at the end of longer names: `holiday_1.mp4` isn't the clip of row 1."""


@dataclass(frozen=True, slots=True)
class Match:
    """The media of a post, or why there is none."""

    path: Path | None
    reason: str = ""


class MediaIndex:
    """Every media file of some folders, by what its name can be recognised by."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Goes through folders and their subfolders; hidden ones, and files without a video's suffix, are passed over."""
        files = dict.fromkeys(normal(file) for folder in folders for file in sorted(folder.rglob("*")) if _is_seen(file, folder))
        self.videos = tuple(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES)
        """Absolute and normalised, in alphabetic order."""
        self._others = {_plain(file.stem): file for file in files if file.suffix.lower() in OTHER_SUFFIXES}
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_id: dict[str, list[Path]] = defaultdict(list)
        for file in self.videos:
            stem = _plain(file.stem)
            self._by_stem[stem].append(file)
            for key in _ids_in(stem):
                self._by_id[key].append(file)

    def find(self, post: Post, folders: Iterable[Path]) -> Match:
        """The media of a post.

        Args:
            post: what the source says of it.
            folders: where a relative path may start, the best first.
        """
        named = self._by_path(post.path, folders) if post.path else None
        if named and named.path:
            return named
        by_stem = self._by_info(post.info_file) if post.info_file else []
        by_id = self._with_id(post.id) if post.id else []
        found = by_stem or by_id
        if len(found) == 1:
            return Match(found[0])
        if found:
            return Match(None, f"{len(found)} files fit: {', '.join(file.name for file in found)}")
        return named or Match(None, self._nothing(post))

    def _by_path(self, said: str, folders: Iterable[Path]) -> Match:
        candidates = [normal(folder / said) for folder in folders]
        here = next((file for file in candidates if file.is_file()), None)
        if here is not None:
            video = here.suffix.lower() in VIDEO_SUFFIXES
            return Match(here) if video else Match(None, f"{said} has no video's suffix")
        # A table made on another machine: its folders are gone, the name is the same.
        same_name = [file for file in self.videos if file.name == re.split(r"[/\\]", said)[-1]]
        return Match(same_name[0]) if len(same_name) == 1 else Match(None, f"{said} is not there")

    def _by_info(self, info_file: Path) -> list[Path]:
        found = self._by_stem.get(_plain(info_file.name[: -len(INFO_SUFFIX)]), [])
        beside = [file for file in found if file.parent == normal(info_file).parent]
        return beside or found

    def _with_id(self, post_id: str) -> list[Path]:
        key = _plain(post_id)
        stem = key[: -len(Path(key).suffix)] if Path(key).suffix.lower() in VIDEO_SUFFIXES else key
        return self._by_stem.get(stem) or self._by_id.get(key) or []

    def _nothing(self, post: Post) -> str:
        stem = _plain(post.info_file.name[: -len(INFO_SUFFIX)]) if post.info_file else _plain(post.id or "")
        other = self._others.get(stem)
        return f"no video, only {other.name}: an image post?" if other else "no file is named after it"


def normal(path: Path) -> Path:
    """A path made absolute, without `.` and `..`; links stay as they are."""
    return Path(os.path.abspath(path))


def _is_seen(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _plain(stem: str) -> str:
    # macOS writes é as two characters, yt-dlp as one.
    return unicodedata.normalize("NFC", stem)


def _ids_in(stem: str) -> set[str]:
    """What in a file's name may be an id: `title [id]`, `title-id`, `@user_video_id`, `id_720p`."""
    ends = {stem[match.end() :] for match in re.finditer(r"[_\-. ]", stem)}
    starts = {stem[: match.start()] for match in re.finditer(r"[_\-. ]", stem)}
    numbers = set(re.findall(r"(?<!\d)\d{15,}(?!\d)", stem))
    return {key for key in ends | starts if len(key) >= SHORTEST_ID} | numbers | set(re.findall(r"\[([^\[\]]+)\]", stem))
