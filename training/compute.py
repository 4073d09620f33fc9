"""Where and in which precision training computes: one code path for a CPU and for CUDA.

What is asked for is what is used, or it is an error. Losses are always float32, and so is the ConvLSTM's state, which carries a whole
clip (see `models.convlstm`); embeddings and figures are computed in float32 whatever training used, because the exported graphs are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EngineError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16", "fp16")
_MEANS = frozenset({"device", "accumulate", "checkpoint_steps"})
"""Options of any trainer that say how its numbers are reached. Precision isn't one of them."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Compute:
    """A device and a precision. That they are there is checked by `choose`, and again where they are used."""

    device: str = "cpu"
    """`cpu` or `cuda`: the current CUDA device."""
    precision: str = "fp32"
    """`fp32`: full float32, without TF32. `bf16` and `fp16`: torch.autocast; fp16 with its gradients scaled."""

    def __post_init__(self) -> None:
        if self.device not in DEVICES[1:]:
            raise EngineError(f"device {self.device!r} is unknown; expected one of {', '.join(DEVICES[1:])}")
        if self.precision not in PRECISIONS:
            raise EngineError(f"precision {self.precision!r} is unknown; expected one of {', '.join(PRECISIONS)}")

    def check(self) -> None:
        """Refuses what this machine cannot compute.

        Raises:
            EngineError: there is no such device, or it cannot compute in this precision.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise EngineError("device cuda was asked for and PyTorch finds no CUDA device here; use --device cpu or auto")
        if self.precision == "fp16" and self.device != "cuda":
            raise EngineError("precision fp16 needs a CUDA device; on a CPU use fp32 or bf16")
        if self.precision == "bf16" and self.device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise EngineError(f"{torch.cuda.get_device_name()} has no bf16 arithmetic; use --precision fp16 or fp32")

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "fp32") -> Compute:
        """What a user asked for; `auto` takes CUDA where there is a CUDA device, and the CPU elsewhere.

        Raises:
            EngineError: there is no such device, or it cannot compute in this precision.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        found = cls(device, precision)
        found.check()
        return found

    @contextmanager
    def hosting(self, *modules: nn.Module) -> Iterator[None]:
        """Moves modules to the device, and back to the CPU at the end, however it ends.

        On CUDA, convolutions are held to float32 (no TF32) and to algorithms that give the same bits every time.

        Raises:
            EngineError: see `check`.
        """
        self.check()
        with ExitStack() as stack:
            for module in modules:
                module.to(self.device)
                stack.callback(module.cpu)
            if self.device == "cuda":
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
            yield

    def autocast(self) -> torch.autocast:
        """The context of a forward pass; with fp32 it changes nothing."""
        return torch.autocast(self.device, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """The scaler of gradients; it does nothing unless the precision is fp16, whose small gradients would be 0."""
        return torch.amp.GradScaler(self.device, enabled=self.precision == "fp16")

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seeds PyTorch's generators, the device's included, and gives the caller's back afterwards."""
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if self.device == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def move(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors on the device; on a CPU they are the same objects."""
        return tuple(tensor.to(self.device) for tensor in tensors)


def decisive(options: Any) -> dict[str, Any]:
    """A trainer's options (a dataclass) as JSON, less those that change no more than the rounding of what it computes."""
    return asdict(options, dict_factory=lambda fields: {name: value for name, value in fields if name not in _MEANS})
