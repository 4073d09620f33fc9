"""Reading a Whisper in CTranslate2's form: its hash, and the part of it that hears.

An embedding needs the encoder alone, a fifth of the weights of Whisper tiny: the decoder is most of what loading costs in time and
memory. CTranslate2 has no way to load half a model, but it takes a model's files from memory, so it is given a `model.bin` in which the
encoder is as it was, byte for byte, and every decoder weight has become a single number. Its layout (`ctranslate2/specs/model_spec.py`,
`export/ctranslate2_file.py` has it in full) is little-endian:

    uint32 version, string spec, uint32 revision
    uint32 count, and for each variable: string name, uint8 rank, uint32 for each dimension, uint8 type, uint32 bytes, the values
    uint32 count, and for each alias: string name, string of the variable it stands for

A string is a uint16 length, that many bytes and the last of them zero.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_VERSION = 6
_SPEC = b"WhisperSpec\0"
_ELEMENT_BYTES = (4, 1, 2, 4, 2, 2)
"""By type number: float32, int8, int16, int32, float16, bfloat16."""
_FIRST_LAYER = b"decoder/layer_0/"
"""The one layer of the decoder that stays, as single numbers: CTranslate2 wants at least one."""
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WhisperFile:
    """What was read of a `model.bin`: all of it for the hash, the encoder to keep."""

    sha256: str
    encoder: bytes | None
    """A `model.bin` that can encode and not decode; None where the file is of another layout than the one known here."""


def read_whisper(path: Path) -> WhisperFile:
    """Reads a `model.bin` once: what is hashed is what is kept.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        reader = _HashedReader(file)
        try:
            encoder = b"".join(_encoder_parts(reader))
        except (struct.error, _OtherLayoutError):
            encoder = None
        rest = reader.skip_rest()
        return WhisperFile(reader.digest.hexdigest(), None if rest else encoder)


class _OtherLayoutError(Exception):
    """The file is not laid out as this module knows it."""


class _HashedReader:
    """Takes bytes off a file; every byte goes through the hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def take(self, size: int) -> bytes:
        content = self._file.read(size)
        self.digest.update(content)
        if len(content) != size:
            raise _OtherLayoutError
        return content

    def number(self, kind: str) -> tuple[int, bytes]:
        """A number, and the bytes it was."""
        content = self.take(struct.calcsize("<" + kind))
        return int(struct.unpack("<" + kind, content)[0]), content

    def string(self) -> tuple[bytes, bytes]:
        """A string with its zero, and the bytes it was with its length."""
        size, length = self.number("H")
        content = self.take(size)
        return content, length + content

    def skip(self, size: int) -> None:
        while size > 0:
            size -= len(self.take(min(size, _READ_BYTES)))

    def skip_rest(self) -> int:
        """Reads to the end; how many bytes there were."""
        total = 0
        while block := self._file.read(_READ_BYTES):
            self.digest.update(block)
            total += len(block)
        return total


def _encoder_parts(reader: _HashedReader) -> Iterator[bytes]:
    """The bytes of the smaller file."""
    version, head = reader.number("I")
    if version != _VERSION:
        raise _OtherLayoutError
    spec, stored_spec = reader.string()
    _, revision = reader.number("I")
    if spec != _SPEC:
        raise _OtherLayoutError
    count, _ = reader.number("I")
    kept = [variable for variable in (_variable(reader) for _ in range(count)) if variable]
    aliases, stored_count = reader.number("I")
    yield from (head, stored_spec, revision, struct.pack("<I", len(kept)), *kept, stored_count)
    for _ in range(2 * aliases):
        yield reader.string()[1]


def _variable(reader: _HashedReader) -> bytes | None:
    """One variable as it is to be stored; None where it is not needed."""
    name, stored_name = reader.string()
    rank, stored_rank = reader.number("B")
    shape = reader.take(4 * rank)
    kind, stored_kind = reader.number("B")
    size, stored_size = reader.number("I")
    if kind >= len(_ELEMENT_BYTES):
        raise _OtherLayoutError
    if not name.startswith(b"decoder/") or not rank:
        return b"".join((stored_name, stored_rank, shape, stored_kind, stored_size, reader.take(size)))
    element = _ELEMENT_BYTES[kind]
    if name.startswith(b"decoder/layer_") and not name.startswith((_FIRST_LAYER, b"decoder/layer_norm/")):
        reader.skip(size)
        return None
    first = reader.take(min(size, element))
    reader.skip(size - len(first))
    return b"".join((stored_name, stored_rank, struct.pack("<I", 1) * rank, stored_kind, struct.pack("<I", len(first)), first))
