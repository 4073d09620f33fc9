"""A run's log as TensorBoard event files: every number of every epoch of every stage, in RUN/tensorboard.

The events mirror `log.jsonl`. Where a run goes on, they are written again from the log, which agrees with the run's state: an epoch
that was cut short, or logged twice over a kill, is there once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .run import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def require_tensorboard() -> type[SummaryWriter]:
    """The class that writes events.

    Raises:
        DataError: the package `tensorboard` is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DataError(f"--tensorboard needs a package that is not here ({error}): pip install 'shortcast[tensorboard]'") from error
    return SummaryWriter


@contextmanager
def mirrored(run: RunDirectory) -> Iterator[None]:
    """While it lasts, every line that is logged in this run becomes events as well; those of before are written anew.

    Raises:
        DataError: the package `tensorboard` is not installed, or its folder cannot be written.
    """
    writer_class = require_tensorboard()
    folder = run.path / "tensorboard"
    try:
        _clear(folder)
        writer = writer_class(log_dir=str(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error
    try:
        with run.watched(lambda record: _write(writer, record)):
            yield
    finally:
        writer.close()


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a log line by tag: `{"stage": "a", "epoch": 1, "train": {"mse": 2}}` -> `{"a/train/mse": 2}`; None is left out."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= scalars({"stage": f"{record['stage']}/{name}", **value})
        elif isinstance(value, (int, float)) and name != "epoch":
            found[f"{record['stage']}/{name}"] = float(value)
    return found


def _write(writer: SummaryWriter, record: Mapping[str, Any]) -> None:
    for tag, value in scalars(record).items():
        writer.add_scalar(tag, value, global_step=int(record["epoch"]))
    writer.flush()


def _clear(folder: Path) -> None:
    for file in folder.glob("events.out.tfevents.*"):
        file.unlink()
