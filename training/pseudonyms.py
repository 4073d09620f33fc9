"""Keys that stand for authors and music: the same within a project, useless outside it."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal

from ..errors import DataError

SALT_BYTES = 32
KEY_BYTES = 10
"""80 bits: among a million authors two agree by chance once in two million million cases."""


def load_salt(path: Path) -> bytes:
    """The salt of a project; where there is none, a random one is made that only its owner can read.

    Raises:
        DataError: the file cannot be read or made, or holds no salt.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise DataError(f"salt file {path} cannot be made: {error.strerror}") from error
    salt = secrets.token_bytes(SALT_BYTES)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(salt.hex() + "\n")
    return salt


def pseudonym(identity: str, salt: bytes, kind: Literal["author", "music"]) -> str:
    """A keyed BLAKE2b hash, as hexadecimal text; a leading `@` doesn't count.

    Args:
        identity: an id or a handle.
        salt: the project's.
        kind: keeps the author 12 apart from the music 12.
    """
    return hashlib.blake2b(identity.strip().lstrip("@").encode(), key=salt, digest_size=KEY_BYTES, person=kind.encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise DataError(f"salt file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"salt file {path} holds no salt; expected {2 * SALT_BYTES} hexadecimal digits") from error
    if len(salt) != SALT_BYTES:
        raise DataError(f"salt file {path} holds {len(salt)} bytes; expected {2 * SALT_BYTES} hexadecimal digits")
    return salt
