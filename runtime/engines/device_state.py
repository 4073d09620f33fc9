"""Recurrent state on the GPU: two buffers for each tensor of a stream, of which one is read and the other written in turn."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack, closing
from math import prod

import numpy as np

from ...errors import EngineError
from . import Feeds, Tensors, TensorSpec
from .cuda import Device
from .state import check_state


class Slot:
    """The buffers of one stream. A step reads the current side and writes the other, and only a step that succeeded turns them round."""

    def __init__(self, device: Device, specs: Sequence[TensorSpec], index: int) -> None:
        self.index = index
        self.side = 0
        self._specs = tuple(specs)
        self._device = device
        with ExitStack() as guard:
            self._buffers = {
                spec.name: [
                    guard.enter_context(closing(device.allocate(_row_bytes(spec), f"hold {spec.name} of one more stream")))
                    for _ in range(2)
                ]
                for spec in self._specs
            }
            self._owned = guard.pop_all()

    @property
    def nbytes(self) -> int:
        """On the GPU."""
        return sum(buffer.nbytes for sides in self._buffers.values() for buffer in sides)

    def current(self, name: str) -> int:
        """The address of the state as it is."""
        return self._buffers[name][self.side].address

    def other(self, name: str) -> int:
        """The address of the state as it will be."""
        return self._buffers[name][1 - self.side].address

    def turn(self) -> None:
        """What was written is the state from now on."""
        self.side = 1 - self.side

    def zero(self) -> None:
        for spec in self._specs:
            self._device.zero(self.current(spec.name), _row_bytes(spec))
        self._device.synchronise()

    def read(self) -> Tensors:
        values = {spec.name: np.empty(_row(spec), dtype=spec.dtype) for spec in self._specs}
        for name, array in values.items():
            self._device.to_host(array, self.current(name))
        self._device.synchronise()
        return values

    def write(self, values: Feeds) -> None:
        check_state(self._specs, values)
        held = [(name, np.ascontiguousarray(array)) for name, array in values.items()]
        for name, array in held:
            self._device.to_gpu(self.current(name), array)
        self._device.synchronise()

    def close(self) -> None:
        self._owned.close()


class Slots:
    """The slots of an engine: one given back is used again, with what was captured for it."""

    def __init__(self, device: Device, specs: Sequence[TensorSpec]) -> None:
        self._device = device
        self._specs = tuple(specs)
        self._all: list[Slot] = []
        self._free: list[Slot] = []

    @property
    def nbytes(self) -> int:
        return sum(slot.nbytes for slot in self._all)

    def take(self) -> Slot:
        """A slot of zeros."""
        if not self._free:
            self._all.append(Slot(self._device, self._specs, len(self._all)))
            self._free.append(self._all[-1])
        self._free[-1].zero()
        return self._free.pop()

    def give_back(self, slot: Slot) -> None:
        self._free.append(slot)

    def close(self) -> None:
        self._free.clear()
        while self._all:
            self._all.pop().close()


class DeviceState:
    """A stream's hold on a slot. One that is dropped without being closed gives it back when it is collected."""

    def __init__(self, slots: Slots, device: Device) -> None:
        self._device = device
        self._slots = slots
        with device.lock:
            self._slot = slots.take()
        self._give_back = weakref.finalize(self, slots.give_back, self._slot)
        self._give_back.atexit = False

    def slot(self, slots: Slots) -> Slot:
        """The slot, for the engine whose slots these are.

        Raises:
            EngineError: it was given back, or is another engine's.
        """
        if slots is not self._slots:
            raise EngineError("the state is another engine's; take one from `begin` of the engine that steps")
        return self._held()

    def _held(self) -> Slot:
        if not self._give_back.alive:
            raise EngineError("the state is closed; begin another stream")
        return self._slot

    def reset(self) -> None:
        """See `State`."""
        with self._device.lock:
            self._held().zero()

    def snapshot(self) -> Tensors:
        """See `State`."""
        with self._device.lock:
            return self._held().read()

    def restore(self, values: Feeds) -> None:
        """See `State`."""
        with self._device.lock:
            self._held().write(values)

    def close(self) -> None:
        """See `State`."""
        with self._device.lock:
            self._give_back()


def _row(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(1 if isinstance(dim, str) else dim for dim in spec.shape)


def _row_bytes(spec: TensorSpec) -> int:
    return prod(_row(spec)) * np.dtype(spec.dtype).itemsize
