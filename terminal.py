"""What the commands say and write: data on stdout, messages on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DataError

if TYPE_CHECKING:
    from rich.console import Console


def say(message: str) -> None:
    """One line on stderr."""
    print(f"shortcast: {message}", file=sys.stderr, flush=True)


def console() -> Console:
    """stdout; a pipe gets a width that cuts nothing."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def write_json(path: Path, plain: object) -> None:
    """Writes a report.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
