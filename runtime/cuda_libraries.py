"""CUDA's libraries from the packages that pip installs: loaded ahead, since no loader path leads to `site-packages/nvidia`."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

_WANTED = (("cublas", "libcublasLt.so.12"), ("cublas", "libcublas.so.12"), ("cudnn", "libcudnn.so.9"))
"""Folder below `nvidia/` and library, what others need first."""


def preload() -> None:
    """Loads what is there. A library loaded once is found by its name; one that is missing is for whoever needs it to say."""
    spec = find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        for folder, name in _WANTED:
            path = Path(root) / folder / "lib" / name
            if path.is_file():
                with suppress(OSError):
                    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
