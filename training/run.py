"""A training run on disk: its configuration, its log, and the state from which it goes on after a kill.

    RUN/
      config.json             what was asked for; a run is only resumed with the same
      log.jsonl               one line per epoch
      seconds.json            wall time of each stage so far
      autoencoder.safetensors embeddings.safetensors regressor.safetensors
                              weights, optimiser moments and history of the last whole epoch
      tensorboard/            the log as TensorBoard events, where they were asked for (`training.tensorboard`)
      baselines.json          what needs no training loop, fitted on the training split (`baseline_file`)
      ablation-NAME/ video-NAME/
                              networks trained for comparison (`side_run`)
      folds/1/ ...            a run directory for each fold of a cross-validation, and report.json
      features/               the cache of decoded clips (`dataset.FeatureStore`), unless it is kept elsewhere

Every file but the log is written aside and renamed, so a reader sees the old one or the new one. A state is one file, tensors and
JSON together (the JSON lies in the safetensors header), so that the two can never disagree. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import DataError

CONFIG_FILE = "config.json"
_META = "shortcast"


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of a stage of training; the first event of a stage has `done == 0`."""

    stage: str
    """`features`, `compare`, `autoencoder`, `embed` or `regressor`; in a cross-validation after the fold, as `fold 2/5 embed`."""
    done: int
    total: int
    note: str = ""
    """What to show beside the bar, for example the last losses."""


Progress = Callable[[ProgressEvent], None]
"""Is called from the training thread, often; it must be quick."""


Watcher = Callable[[Mapping[str, Any]], None]
"""Is given lines of a run's log, after they are written."""


def silent(_event: ProgressEvent) -> None:
    """The progress callback that shows nothing."""


@dataclass(frozen=True, slots=True)
class State:
    """What a stage needs in order to go on."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    """JSON values; `history` holds a line per epoch, where the stage has epochs."""


class RunDirectory:
    """Owns the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._watchers: list[Watcher] = []

    @classmethod
    def open(cls, path: Path, config: Mapping[str, Any], *, resume: bool = True) -> RunDirectory:
        """Opens a run directory, new or begun before.

        Args:
            path: made where it does not exist.
            config: JSON values that decide the result; a begun run is resumed only where they are all the same.
            resume: False forgets the states and the log of a begun run (not its cached features).

        Raises:
            DataError: the directory holds a run with another configuration, or cannot be read or written.
        """
        run = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if resume:
                run._refuse_other(config)
            else:
                run._forget()
            run._write(CONFIG_FILE, (json.dumps(config, indent=2, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise DataError(f"run directory {path} cannot be written: {error}") from error
        return run

    def save_state(self, stage: str, state: State) -> None:
        """Writes the state of a stage, replacing the one before it in a single rename."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        self._write(f"{stage}.safetensors", save(tensors, metadata={_META: json.dumps(state.meta, allow_nan=False)}))

    def load_state(self, stage: str) -> State | None:
        """Reads what `save_state` wrote last; None where the stage has not begun.

        Raises:
            DataError: the file is not one that `save_state` wrote.
        """
        path = self.path / f"{stage}.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
                meta = json.loads((file.metadata() or {})[_META])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} is not a training state ({error}); start over with --no-resume") from error
        return State(tensors, meta)

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one line to `log.jsonl`."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        for watcher in self._watchers:
            watcher(record)

    @contextmanager
    def watched(self, watcher: Watcher) -> Iterator[None]:
        """Shows a watcher every line that is logged so far, and while this lasts every further one."""
        log = self.path / "log.jsonl"
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            watcher(json.loads(line))
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def rewrite_log(self, *stages: str) -> None:
        """Makes the log agree with the states of these stages: a kill between the two leaves a line too few, or half a line."""
        states = ((stage, self.load_state(stage)) for stage in stages)
        records = [{"stage": stage, **line} for stage, state in states if state for line in state.meta["history"]]
        self._write("log.jsonl", "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode())

    def _refuse_other(self, config: Mapping[str, Any]) -> None:
        path = self.path / CONFIG_FILE
        if not path.exists():
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} cannot be read ({error}); start over with --no-resume") from error
        wanted = json.loads(json.dumps(config))
        if before != wanted:
            changes = "; ".join(_differences(before, wanted))
            raise DataError(f"{self.path} holds a run with another configuration ({changes}); use another --run-dir, or --no-resume")

    def add_seconds(self, stage: str, seconds: float) -> float:
        """Counts wall time spent on a stage; returns what all processes that worked on this run have spent on it so far."""
        path = self.path / "seconds.json"
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            total = round(float(known.get(stage, 0.0)) + seconds, 1)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path} cannot be read ({error}); delete it and run again") from error
        self._write("seconds.json", (json.dumps({**known, stage: total}, indent=2) + "\n").encode())
        return total

    def _forget(self) -> None:
        for file in [
            self.path / "seconds.json",
            *self.path.glob("*.safetensors"),
            *self.path.glob("tensorboard/events.out.tfevents.*"),
            self.path / "log.jsonl",
            self.path / CONFIG_FILE,
        ]:
            file.unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        replace_file(self.path / name, content)


def run_identity(config: Mapping[str, Any]) -> str:
    """SHA-256 of a run's configuration: with it, what lies in a run directory is told from what another run left there."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def read_run_config(path: Path) -> dict[str, Any] | None:
    """The configuration in a run directory; None where there is none that can be read."""
    try:
        found = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def replace_file(path: Path, content: bytes) -> None:
    """Writes beside `path` and renames: whoever reads sees the old file or the whole new one, also after a kill."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of AdamW by name, for a state; its hyperparameters come from the run's configuration."""
    moments = optimiser.state_dict()["state"]
    return {f"optimiser.{index}.{name}": value for index, slot in moments.items() for name, value in slot.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimiser_tensors` took."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})


def cosine_with_warmup(step: int, total: int, *, peak: float, warmup: float) -> float:
    """The learning rate at a step: a line up to `peak`, then half a cosine down towards 0.

    A function of the step alone, so that a resumed run needs no scheduler's state.

    Args:
        step: 0-based.
        total: steps of the whole training.
        peak: the highest rate.
        warmup: share of `total` spent rising.
    """
    rising = max(1, round(warmup * total))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def module_tensors(module: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """A copy of a module's weights and buffers by prefixed name."""
    return {f"{prefix}.{name}": value.detach().clone() for name, value in module.state_dict().items()}


def restore_module(module: torch.nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Puts back what `module_tensors` took."""
    start = len(prefix) + 1
    module.load_state_dict({name[start:]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")})


def _differences(before: Mapping[str, Any], wanted: Mapping[str, Any], where: str = "") -> list[str]:
    found = []
    for key in sorted({*before, *wanted}):
        old, new = before.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{where}{key}.")
        elif old != new:
            found.append(f"{where}{key}: {_short(old)} -> {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets PyTorch compute with this many threads, and gives the caller's number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
