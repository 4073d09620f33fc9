"""AdamW updates on a schedule, each from the gradients of one or more micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from .compute import Compute
from .run import cosine_with_warmup, optimiser_tensors, restore_optimiser


class Schedule(Protocol):
    """What options of a trainer say about its updates."""

    @property
    def learning_rate(self) -> float:
        """The highest."""

    @property
    def weight_decay(self) -> float: ...

    @property
    def warmup(self) -> float:
        """Share of all updates during which the learning rate rises."""

    @property
    def gradient_clip(self) -> float:
        """Largest norm of the gradient."""

    @property
    def compute(self) -> Compute: ...


class Updates:
    """Owns the optimiser of a model: `begin`, `backward` for every micro-batch, `step`."""

    def __init__(self, model: nn.Module, schedule: Schedule, *, total: int) -> None:
        """Starts with no moments.

        Args:
            model: where its weights are to be updated, see `Compute.hosting`.
            schedule: rates and limits.
            total: updates of the whole training.
        """
        self._model = model
        self._schedule = schedule
        self._total = total
        self._optimiser = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
        self._scaler = schedule.compute.scaler()

    def begin(self, number: int) -> None:
        """Begins an update (0-based) with no gradients."""
        rate = cosine_with_warmup(number, self._total, peak=self._schedule.learning_rate, warmup=self._schedule.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a micro-batch's share of the loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """Clips the gradients and updates the weights; with fp16, an update whose gradients overflowed is left out."""
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self._model.parameters(), self._schedule.gradient_clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()

    def tensors(self) -> dict[str, Tensor]:
        """Moments, and the scale of gradients where there is one, by name, for a state."""
        scale = {f"scaler.{name}": torch.tensor(value) for name, value in self._scaler.state_dict().items()}
        return optimiser_tensors(self._optimiser) | scale

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `tensors` gave."""
        restore_optimiser(self._optimiser, tensors)
        scale = {name.removeprefix("scaler."): value.item() for name, value in tensors.items() if name.startswith("scaler.")}
        if scale:
            self._scaler.load_state_dict(scale)
