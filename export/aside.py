"""Writing a directory whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BundleError


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """A scratch directory beside `out` that takes its place at the end, or vanishes.

    Raises:
        BundleError: a file cannot be written, or the directory not renamed; what was there before stays.
    """
    aside = out.with_name(f".{out.name}.writing-{os.getpid()}")
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        yield aside
        if out.exists():
            out.rename(old)
        aside.rename(out)
    except OSError as error:
        raise BundleError(f"{out} cannot be written: {error}") from error
    finally:
        if old.exists() and not out.exists():
            old.rename(out)  # cut off between the two renames: what was there comes back
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
