"""What an update holds in memory, measured, and the micro-batch with which it keeps within a budget.

Counted are the bytes of all tensors alive at once: weights, gradients, the optimiser's moments, the batch, and the activations that
wait for the backward pass. Not counted is what libraries take for themselves: the interpreter, a CUDA context, a convolution's workspace.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import DataError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a batch is cut so that an update keeps within a budget. The batch stays what it is."""

    budget_bytes: int
    batch: int
    accumulate: int
    """Micro-batches in one update."""
    checkpoint_steps: int
    """Frames recomputed together in the backward pass; 0 stores all."""
    peak_bytes: int
    """What an update will hold at most: measured with micro-batches of 1 and 2, and a straight line from there."""

    @property
    def micro_batch(self) -> int:
        return -(-self.batch // self.accumulate)

    def __str__(self) -> str:
        parts = f"batches of {self.batch} whole" if self.accumulate == 1 else f"batches of {self.batch} in parts of {self.micro_batch}"
        recomputed = f", {self.checkpoint_steps} frames at a time recomputed" if self.checkpoint_steps else ""
        return f"{parts}{recomputed}: an update holds {_shown(self.peak_bytes)} of {_shown(self.budget_bytes)}"


def parse_size(text: str) -> int:
    """Bytes of `2GiB`, `800MB`, `1.5 GB` or a plain number.

    Raises:
        DataError: it is no size above 0.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match["unit"].lower()) if match else None
    if match is None or unit is None or not float(match["number"]):
        raise DataError(f"memory budget {text!r} cannot be read; expected a size such as 2GiB or 800MB")
    return int(float(match["number"]) * unit)


def plan_memory(budget_bytes: int, *, batch: int, checkpointing: Sequence[int], peak_of: Callable[[int, int], int]) -> MemoryPlan:
    """Picks the largest micro-batch that fits, and gradient checkpointing only where not even a micro-batch of 1 fits without.

    Args:
        budget_bytes: what an update may hold.
        batch: examples in an update.
        checkpointing: values of `checkpoint_steps` to try, the fastest first.
        peak_of: measures what an update holds, from the micro-batch and `checkpoint_steps`.

    Raises:
        DataError: nothing fits; the message has the smallest budget that would do.
    """
    smallest = []
    for steps in checkpointing:
        one = peak_of(1, steps)
        each = peak_of(2, steps) - one if batch > 1 and one <= budget_bytes else 0
        for accumulate in range(1, batch + 1):
            peak = one + each * (-(-batch // accumulate) - 1)
            if peak <= budget_bytes:
                return MemoryPlan(budget_bytes, batch, accumulate, steps, peak)
        smallest.append(one)
    raise DataError(f"memory budget {_shown(budget_bytes)} is too small: one example at a time takes {_shown(min(smallest), up=True)}")


def peak_bytes(work: Callable[[], object], *, held: Sequence[Tensor]) -> int:
    """The most bytes of tensors alive at once while `work` runs.

    Args:
        work: forward, backward and optimiser steps.
        held: what is there before and stays, such as weights; a storage that two tensors share counts once.
    """
    live = _LiveBytes()
    with live:
        work()
    storages = (tensor.untyped_storage() for tensor in held)
    return live.peak + sum({storage.data_ptr(): int(storage.nbytes()) for storage in storages}.values())


def weights_of(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage that an operator makes, from its first tensor to its last; views and in-place results add nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._live: dict[int, int] = {}
        self._total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in before:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self._total += storage.nbytes()
        self.peak = max(self.peak, self._total)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._total -= self._live.pop(key)


def _shown(size: int, *, up: bool = False) -> str:
    """Bytes in MB of 10^6; `up` never shows less than there is."""
    tenths = -(-size // 10**5) if up else round(size / 10**5)
    return f"{tenths / 10:.1f} MB"
