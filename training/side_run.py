"""A network trained beside a run's model, in a folder of the run directory: begun, taken up again, finished, loaded.

RUN/NAME/
  config.json    the network, how it is trained, and on what
  result.json    the loss curve and what the network is; there once training has ended
  model.safetensors     weights of the best epoch
  log.jsonl, STAGE.safetensors    while training goes on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import DataError
from .run import RunDirectory, read_run_config, replace_file, run_identity

_RESULT, _WEIGHTS = "result.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class SideRun:
    """The folder of one network."""

    folder: Path
    what: str
    """What errors call the network, such as `video baseline`."""
    stage: str
    """The stage under which its training keeps state."""

    @property
    def finished(self) -> bool:
        return (self.folder / _RESULT).exists()

    @property
    def identity(self) -> str | None:
        """SHA-256 of the configuration; None where training has not ended, or never began."""
        config = read_run_config(self.folder) if self.finished else None
        return None if config is None else run_identity(config)

    def open(self, config: Mapping[str, Any], *, resume: bool) -> RunDirectory:
        """Opens the folder, new or begun before.

        Args:
            config: JSON values that decide the result.
            resume: False forgets what is there.

        Raises:
            DataError: the folder holds another training, or cannot be written.
        """
        if not resume:
            (self.folder / _RESULT).unlink(missing_ok=True)
        run = RunDirectory.open(self.folder, config, resume=resume)
        if not self.finished:
            run.rewrite_log(self.stage)
        return run

    def save(self, model: nn.Module, result: Mapping[str, Any]) -> None:
        """Writes the weights, then the result that says they are whole; the resumable state, several times their size, goes.

        Raises:
            DataError: the folder cannot be written.
        """
        try:
            replace_file(self.folder / _WEIGHTS, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
            replace_file(self.folder / _RESULT, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
            (self.folder / f"{self.stage}.safetensors").unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{self.what} {self.folder} cannot be written: {error}") from error

    def result(self) -> dict[str, Any]:
        """What `save` was given.

        Raises:
            DataError: it is not there, or is damaged.
        """
        try:
            found: dict[str, Any] = json.loads((self.folder / _RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.damaged(error) from error
        return found

    def weights(self) -> dict[str, Tensor]:
        """The weights that `save` wrote.

        Raises:
            DataError: they are not there, or are damaged.
        """
        try:
            return load_file(self.folder / _WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise self.damaged(error) from error

    def damaged(self, error: Exception) -> DataError:
        """What to raise where the folder's content is of no use."""
        return DataError(f"{self.what} {self.folder} cannot be read ({error}); delete that folder and train it again")
