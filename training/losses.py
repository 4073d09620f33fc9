"""Losses of an error in standardised units, each with its influence: how hard an error of that size pulls on the prediction.

A squared error pulls twice as hard at twice the distance, without end; that is how one viral clip decides what a model learns.
Absolute, Huber and log-cosh losses pull no harder beyond some distance; Tukey's biweight and Student's t let go of what is far off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError


@dataclass(frozen=True, slots=True)
class _Kind:
    """Value and derivative of a loss as functions of the error, prediction less target, and of one parameter."""

    value: Callable[[Tensor, float], Tensor]
    influence: Callable[[Tensor, float], Tensor]
    parameter: str | None = None
    default: float = 1.0
    below: float = math.inf
    """The parameter lies above 0 and below this."""


def _huber(error: Tensor, delta: float) -> Tensor:
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def _log_cosh(error: Tensor, _: float) -> Tensor:
    size = error.abs()  # cosh of 100 is no float32; this is the same number
    return size + F.softplus(-2.0 * size) - math.log(2.0)


def _tukey(error: Tensor, cut: float) -> Tensor:
    inside = 1.0 - (error / cut).square().clamp(max=1.0)
    return cut**2 / 6.0 * (1.0 - inside**3)


def _tukey_influence(error: Tensor, cut: float) -> Tensor:
    return error * (1.0 - (error / cut).square().clamp(max=1.0)).square()


def _student_t(error: Tensor, freedom: float) -> Tensor:
    return (freedom + 1.0) / 2.0 * torch.log1p(error.square() / freedom)


def _student_t_influence(error: Tensor, freedom: float) -> Tensor:
    return (freedom + 1.0) * error / (freedom + error.square())


def _pinball(error: Tensor, level: float) -> Tensor:
    return torch.maximum(-level * error, (1.0 - level) * error)


def _pinball_influence(error: Tensor, level: float) -> Tensor:
    return torch.where(error > 0, 1.0 - level, torch.where(error < 0, -level, 0.0)).to(error.dtype)


_KINDS = {
    "huber": _Kind(_huber, lambda error, delta: error.clamp(-delta, delta), "delta"),
    "mse": _Kind(lambda error, _: error.square(), lambda error, _: 2.0 * error),
    "mae": _Kind(lambda error, _: error.abs(), lambda error, _: error.sign()),
    "log-cosh": _Kind(_log_cosh, lambda error, _: error.tanh()),
    "tukey": _Kind(_tukey, _tukey_influence, "cut", 4.685),
    "student-t": _Kind(_student_t, _student_t_influence, "degrees of freedom", 3.0),
    "pinball": _Kind(_pinball, _pinball_influence, "level", 0.5, below=1.0),
}
LOSSES = tuple(_KINDS)


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss. Value and influence are elementwise over an error, prediction less target, in standardised units."""

    name: str = "huber"
    """`mse` e^2; `mae` |e|; `huber` (1964), e^2 / 2 up to delta, then straight; `log-cosh`; `tukey`'s biweight (Beaton and Tukey 1974),
    flat beyond its cut; `student-t`, the negative log likelihood of t at scale 1, less what does not depend on e; `pinball` (Koenker
    and Bassett 1978), which asks for a quantile of the target instead of its centre."""
    parameter: float | None = None
    """Huber's delta (1 unless given), Tukey's cut (4.685: 95 % efficient on normal errors), Student's degrees of freedom (3), or
    pinball's level (0.5, half the absolute error)."""

    def __post_init__(self) -> None:
        kind = _KINDS.get(self.name)
        if kind is None:
            raise DataError(f"score loss {self.name!r} is unknown; it is one of {', '.join(LOSSES)}")
        if self.parameter is None:
            return
        if kind.parameter is None:
            raise DataError(f"score loss {self.name} takes no parameter, got {self.parameter:g}")
        if not (0 < self.parameter < kind.below):
            most = f" and below {kind.below:g}" if kind.below < math.inf else ""
            raise DataError(f"score loss {self.name}: {kind.parameter} is above 0{most}, got {self.parameter:g}")

    @classmethod
    def parse(cls, text: str) -> Loss:
        """Reads `huber`, or with its parameter `huber:2`.

        Raises:
            DataError: there is no such loss, or it has no such parameter.
        """
        name, stroke, number = text.partition(":")
        try:
            return cls(name, float(number) if stroke else None)
        except ValueError as error:
            raise DataError(f"score loss {text!r} cannot be read; expected a name, or name:number such as huber:2") from error

    def value(self, error: Tensor) -> Tensor:
        """Float (...) -> the same shape; 0 at 0 and nowhere negative."""
        return _KINDS[self.name].value(error, self._number)

    def influence(self, error: Tensor) -> Tensor:
        """The derivative of `value`, float (...) -> the same shape; 0 where there is a kink."""
        return _KINDS[self.name].influence(error, self._number)

    def each(self, predicted: Tensor, target: Tensor) -> Tensor:
        """The loss of every prediction, float, both broadcast to one shape."""
        return self.value(predicted - target)

    def mean(self, predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Float (): the mean over all predictions, weighted where weights (not negative, of the losses' shape) are given."""
        each = self.each(predicted, target)
        return each.mean() if weights is None else (each * weights).sum() / weights.sum()

    @property
    def _number(self) -> float:
        return _KINDS[self.name].default if self.parameter is None else self.parameter


def pinball(quantiles: Tensor, z: Tensor, levels: Sequence[float]) -> Tensor:
    """The quantile loss of Koenker and Bassett (1978): float32 (..., Q), z broadcast to it -> the same shape."""
    error = z - quantiles
    level = torch.tensor(levels, dtype=error.dtype, device=error.device)
    return torch.maximum(level * error, (level - 1.0) * error)
