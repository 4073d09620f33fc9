"""A benchmark's report on disk: `bench.json` with every sample, `report.html` to look at, and `bench.md` for a README."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import DataError
from .report_html import page
from .report_markdown import markdown
from .results import Results, write_results

JSON_FILE = "bench.json"
PAGE_FILE = "report.html"
MARKDOWN_FILE = "bench.md"


def check_folder(folder: Path, *, force: bool) -> None:
    """Refuses a folder before anything is measured for it.

    Raises:
        DataError: it exists and is not to be replaced.
    """
    if folder.exists() and not (force and (folder / JSON_FILE).is_file()):
        raise DataError(f"{folder} exists; {'it holds no benchmark, so choose another name' if force else 'give --force to replace it'}")


def write_report(results: Results, folder: Path, *, force: bool = False) -> Path:
    """Writes a report beside its target and renames it whole.

    Args:
        results: what was measured.
        folder: the directory to make.
        force: replace a benchmark's report that is there; anything else is never replaced.

    Returns:
        The page.

    Raises:
        DataError: the folder exists and is not to be replaced, or cannot be written.
    """
    check_folder(folder, force=force)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.absolute().parent) as aside:
            whole = Path(aside, "report")
            whole.mkdir()
            write_results(results, whole / JSON_FILE)
            (whole / PAGE_FILE).write_text(page(results), encoding="utf-8")
            (whole / MARKDOWN_FILE).write_text(markdown(results), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(aside, "old"))
            whole.rename(folder)
    except OSError as error:
        raise DataError(f"report {folder} cannot be written: {error}") from error
    return folder / PAGE_FILE
