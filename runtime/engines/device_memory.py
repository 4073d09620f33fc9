"""What engines take of the GPU's memory, from their own figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes on the GPU. What CUDA itself takes (its context, loaded kernels, captured graphs) is in none of them."""

    weights_bytes: int | None
    """As TensorRT has them loaded; None where it does not say (before 10.16)."""
    scratch_bytes: int
    """Of activations, while the engine runs. Engines opened together share one block of the largest size: see `together`."""
    io_bytes: int
    """Inputs and outputs, for every shape in use."""
    state_bytes: int
    """Recurrent state of every stream that is or was open."""

    @property
    def total_bytes(self) -> int:
        """All that is known."""
        return (self.weights_bytes or 0) + self.scratch_bytes + self.io_bytes + self.state_bytes

    @classmethod
    def together(cls, parts: Iterable[DeviceMemory]) -> DeviceMemory:
        """Engines that were opened together: everything adds up but scratch, which they share."""
        each = list(parts)
        known = [part.weights_bytes for part in each if part.weights_bytes is not None]
        return cls(
            weights_bytes=sum(known) if len(known) == len(each) else None,
            scratch_bytes=max((part.scratch_bytes for part in each), default=0),
            io_bytes=sum(part.io_bytes for part in each),
            state_bytes=sum(part.state_bytes for part in each),
        )


@runtime_checkable
class OnGpu(Protocol):
    """What an engine on a GPU says of itself."""

    @property
    def name(self) -> str:
        """What runs, and on what."""
        ...

    @property
    def capture_refused(self) -> str:
        """Why its work is not launched as captured graphs; empty where it is."""
        ...

    @property
    def memory(self) -> DeviceMemory: ...

    def prepare(self, *, chunks: int) -> None:
        """Does before the first clip what would make it wait, for clips of up to so many chunks."""
        ...
