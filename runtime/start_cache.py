"""What a start leaves behind so that the next one is shorter: optimised graphs, the encoder's part of Whisper, hashes once computed.

Everything here can be made again from a bundle and its weights, so nothing about the cache is ever an error: an entry that is damaged,
or that somebody else could have written, counts as absent, and a folder that cannot be written stays as it is. An entry is one file, its
own SHA-256 first; it is written aside and renamed, so that processes that start at once do no harm to each other.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

VARIABLE = "SHORTCAST_CACHE"
"""A folder, or `off`."""
MAX_BYTES = 512 << 20
"""Of all entries together: the oldest ones go first. Whisper tiny.en and the graphs of one bundle take 20 MB."""

_SUFFIX = ".entry"
_ASIDE = ".writing-"
_DIGEST_BYTES = 32
_STALE_S = 3600.0
"""A file still aside after this was left by a process that was killed."""
_TOUCHED_S = 86_400.0
"""How exactly the age of an entry is known: reading one does not write to the disk more often than this."""


@dataclass(frozen=True, slots=True)
class StartCache:
    """A folder of entries, each under a kind and a key that names everything it depends on."""

    folder: Path
    max_bytes: int = MAX_BYTES

    def problem(self) -> str | None:
        """Why the folder is not used, in a sentence; None where it is, or can be made."""
        try:
            found = self.folder.lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self.folder} cannot be read: {error.strerror}"
        if not stat.S_ISDIR(found.st_mode):
            return f"{self.folder} is not a folder"
        return None if _trusted(found) else f"{self.folder} belongs to somebody else, or others may write to it"

    def get(self, kind: str, key: str) -> bytes | None:
        """What was put under a key, whole; None where it was not, or is not what was written."""
        if self.problem():
            return None
        path = self._path(kind, key)
        try:
            with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
                found = os.fstat(file.fileno())
                digest, content = (file.read(_DIGEST_BYTES), file.read()) if _trusted(found) and stat.S_ISREG(found.st_mode) else (b"", b"")
        except OSError:
            return None
        if hashlib.sha256(content).digest() != digest:
            self.drop(kind, key)
            return None
        if time() - found.st_mtime > _TOUCHED_S:
            with suppress(OSError):
                os.utime(path)
        return content

    def put(self, kind: str, key: str, content: bytes) -> bool:
        """Keeps `content` under a key. False where that was not possible: too large, no room, no right to write."""
        if len(content) + _DIGEST_BYTES > self.max_bytes:
            return False
        with self.scratch() as aside:
            if aside is None:
                return False
            try:
                with aside.open("wb") as file:
                    file.write(hashlib.sha256(content).digest())
                    file.write(content)
                os.replace(aside, self._path(kind, key))
            except OSError:
                return False
        self._prune(keep=self._path(kind, key))
        return True

    def drop(self, kind: str, key: str) -> None:
        """Removes an entry that turned out to be of no use."""
        with suppress(OSError):
            self._path(kind, key).unlink()

    @contextmanager
    def scratch(self) -> Iterator[Path | None]:
        """A new empty file in the folder that only this process knows, gone afterwards; None where none can be made."""
        path = self.folder / f"{_ASIDE}{os.getpid()}-{os.urandom(8).hex()}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = None if self.problem() else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            made = None
        if made is None:
            yield None
            return
        os.close(made)
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink()

    def entries(self) -> tuple[int, int]:
        """How many there are, and their bytes."""
        sizes = [found.st_size for _, found in self._listed(_SUFFIX)]
        return len(sizes), sum(sizes)

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:40]}{_SUFFIX}"

    def _prune(self, *, keep: Path) -> None:
        """Removes what was left behind, and the oldest entries beyond the limit."""
        for path, found in self._listed(""):
            if path.name.startswith(_ASIDE) and time() - found.st_mtime > _STALE_S:
                with suppress(OSError):
                    path.unlink()
        listed = sorted(self._listed(_SUFFIX), key=lambda one: one[1].st_mtime)
        excess = sum(found.st_size for _, found in listed) - self.max_bytes
        for path, found in listed:
            if excess > 0 and path != keep:
                with suppress(OSError):
                    path.unlink()
                excess -= found.st_size

    def _listed(self, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
        with suppress(OSError):
            for name in os.listdir(self.folder):
                if name.endswith(suffix):
                    with suppress(OSError):
                        yield self.folder / name, (self.folder / name).lstat()


def user_cache(environment: Mapping[str, str] = os.environ) -> StartCache | None:
    """The user's own cache, where this system keeps such things; None where the user wants none.

    Args:
        environment: where `SHORTCAST_CACHE` (a folder, or `off`) and, on Linux, `XDG_CACHE_HOME` are looked up.
    """
    chosen = environment.get(VARIABLE, "")
    if chosen.lower() in ("off", "0", "no", "none"):
        return None
    if chosen:
        return StartCache(Path(chosen).expanduser())
    base = _base(environment)
    return None if base is None else StartCache(base / "shortcast")


def _base(environment: Mapping[str, str]) -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in the password file, as containers have them
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    # A relative path is to be ignored, says the XDG base directory specification.
    asked = Path(environment.get("XDG_CACHE_HOME", ""))
    return asked if asked.is_absolute() else home / ".cache"


def _trusted(found: os.stat_result) -> bool:
    """Nobody else could have written it. Windows keeps profiles apart by itself."""
    return not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def file_key(path: Path) -> str | None:
    """A key that changes when a file's content does: where it lies, and what the file system says of it.

    None for a file so new that a change within the same tick of the clock would go unseen (the problem git calls racy).

    Raises:
        OSError: there is no such file.
    """
    found = path.stat()
    newest_s = max(found.st_mtime, found.st_ctime)
    if time() - newest_s < 2.0:
        return None
    facts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return "\0".join((str(path.resolve()), *map(str, facts)))
