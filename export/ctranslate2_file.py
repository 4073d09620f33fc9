"""Reading the weights file of a CTranslate2 model, `model.bin`, back into arrays.

The layout is the one CTranslate2's converter writes (`ctranslate2/specs/model_spec.py`), little-endian throughout:

    uint32 version, string spec, uint32 revision
    uint32 count, and for each variable: string name, uint8 rank, uint32 for each dimension, uint8 type, uint32 bytes, the values
    uint32 count, and for each alias: string name, string of the variable it stands for

A string is a uint16 length, that many bytes and the last of them zero. A weight `w` stored in 8 or 16 bits has a neighbour `w_scale`,
one number for each row (int8) or for all of it (int16): the value is the stored integer divided by it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError

VERSION = 6
"""The layout above; CTranslate2 4.x writes no other."""
_SCALE = "_scale"
_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
"""Position is the number in the file."""


@dataclass(frozen=True, slots=True)
class CTranslate2File:
    """What a `model.bin` holds, as stored."""

    path: Path
    spec: str
    """CTranslate2's name for the architecture, such as `WhisperSpec`."""
    revision: int
    types: Mapping[str, str]
    """Stored element type of each variable."""
    variables: Mapping[str, NDArray[Any]]
    """Values as stored; bfloat16 as uint16 bit patterns."""
    aliases: Mapping[str, str]

    def float32(self, name: str) -> NDArray[np.float32]:
        """One weight in float32, whatever it is stored as; a weight stored as integers comes back with its rounding.

        Raises:
            WeightsError: the file has no such variable, or integers without their scale.
        """
        stored, kind = self._stored(name), self.types[self.aliases.get(name, name)]
        if kind == "bfloat16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        if kind in ("int8", "int16"):
            scale = np.asarray(self._stored(self.aliases.get(name, name) + _SCALE), np.float32)
            return np.asarray(stored / scale.reshape(scale.shape + (1,) * (stored.ndim - scale.ndim)), np.float32)
        return stored.astype(np.float32)

    def integer(self, name: str) -> int:
        """One whole number.

        Raises:
            WeightsError: the file has no such variable.
        """
        return int(self._stored(name))

    def weight_bytes(self) -> dict[str, int]:
        """Bytes of weights by stored type, attributes such as the number of heads aside: what the file is, not what was asked for."""
        total: dict[str, int] = {}
        for name, values in self.variables.items():
            if values.ndim:
                total[self.types[name]] = total.get(self.types[name], 0) + values.nbytes
        return total

    def matrix_types(self) -> set[str]:
        """Stored types of what is multiplied: matrices and convolutions, not norms, biases or positions."""
        return {self.types[name] for name, values in self.variables.items() if name.endswith("/weight") and values.ndim > 1}

    def _stored(self, name: str) -> NDArray[Any]:
        try:
            return self.variables[self.aliases.get(name, name)]
        except KeyError as error:
            raise WeightsError(f"{self.path} holds no {name}: expected the weights of a Whisper model") from error


def read_ctranslate2(path: Path) -> CTranslate2File:
    """Reads a `model.bin` whole. Nothing in the format can run code.

    Args:
        path: the file.

    Raises:
        WeightsError: it cannot be read, ends early, or is of another layout.
    """
    try:
        return _read(path, _Reader(path.read_bytes()))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    except (struct.error, ValueError, IndexError) as error:
        raise WeightsError(f"{path} is not a whole CTranslate2 model: it ends early or was altered ({error})") from error


class _Reader:
    """Takes values off the front of some bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from("<" + kind, self._content, self._at)
        self._at += struct.calcsize("<" + kind)
        return int(value)

    def raw(self, size: int) -> memoryview:
        if self._at + size > len(self._content):
            raise ValueError(f"{size} bytes wanted at byte {self._at} of {len(self._content)}")
        self._at += size
        return memoryview(self._content)[self._at - size : self._at]

    def string(self) -> str:
        return bytes(self.raw(self.number("H"))[:-1]).decode()


def _read(path: Path, reader: _Reader) -> CTranslate2File:
    version = reader.number("I")
    if version != VERSION:
        raise WeightsError(f"{path} is no CTranslate2 model of layout {VERSION} (it says {version}): convert it again with CTranslate2 4")
    spec, revision = reader.string(), reader.number("I")
    types: dict[str, str] = {}
    variables: dict[str, NDArray[Any]] = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        types[name], variables[name] = _variable(reader)
    aliases = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        aliases[name] = reader.string()
    return CTranslate2File(path, spec, revision, types, variables, aliases)


def _variable(reader: _Reader) -> tuple[str, NDArray[Any]]:
    shape = tuple(reader.number("I") for _ in range(reader.number("B")))
    kind = _TYPES[reader.number("B")]
    values = np.frombuffer(reader.raw(reader.number("I")), dtype="<u2" if kind == "bfloat16" else np.dtype(kind).newbyteorder("<"))
    return kind, values.reshape(shape)
