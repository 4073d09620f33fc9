"""A plan at one set of sizes: an execution context, its buffers on both sides, and what was captured from it.

A context and a captured graph are for fixed shapes, so there is one of these for each; the engine decides which and keeps few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import ExitStack, closing
from math import prod
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from . import Feeds, Tensors, TensorSpec
from .cuda import CapturedGraph, Device, DeviceBuffer
from .tensorrt_plan import LoadedPlan

_PROGRAMS = 64
"""Captured graphs that one shape keeps: two for each stream that steps alone."""


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


class Recent(Generic[T]):
    """The things used last, each made when it is first asked for; one that falls out is closed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this key. Room is made before it is made, so that no more than `most` ever hold memory."""
        if key not in self._kept:
            while len(self._kept) >= self._most:
                self._kept.popitem(last=False)[1].close()
            self._kept[key] = make()
        self._kept.move_to_end(key)
        return self._kept[key]

    def values(self) -> Iterable[T]:
        return self._kept.values()

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1].close()


class Shape:
    """A plan at fixed sizes. Its caller holds the device's lock."""

    def __init__(self, plan: LoadedPlan, device: Device, sizes: Mapping[str, int], profile: int) -> None:
        """Opens a context and makes buffers for every tensor.

        Args:
            plan: the loaded plan.
            device: where it runs; its scratch block is reserved.
            sizes: of every dimension that varies.
            profile: the optimisation profile these sizes lie in.

        Raises:
            EngineError: TensorRT refuses the shape, or memory does not suffice; nothing stays behind.
        """
        self.sizes = dict(sizes)
        self.refusal = ""
        """Why work could not be captured; empty where all of it was."""
        self._plan, self._device = plan, device
        self._shapes = {spec.name: _sized(spec, sizes) for spec in (*plan.inputs, *plan.outputs)}
        self._programs: Recent[_Program] = Recent(_PROGRAMS)
        self.host: dict[str, NDArray[Any]] = {}
        self.on_gpu: dict[str, DeviceBuffer] = {}
        with ExitStack() as guard:
            for spec in (*plan.inputs, *plan.outputs):
                shape, what = self._shapes[spec.name], f"hold {spec.name} of shape {self._shapes[spec.name]}"
                nbytes = prod(shape) * np.dtype(spec.dtype).itemsize
                self.on_gpu[spec.name] = guard.enter_context(closing(device.allocate(nbytes, what)))
                self.host[spec.name] = guard.enter_context(closing(device.pinned(shape, spec.dtype, what))).array
                device.zero(self.on_gpu[spec.name].address, nbytes)
            # Last in, first out: graphs go before their context, the context before its buffers.
            guard.callback(self._drop_context)
            self._context = self._open_context(profile)
            guard.callback(self._programs.close)
            self._owned = guard.pop_all()

    @property
    def io_bytes(self) -> int:
        """On the GPU."""
        return sum(buffer.nbytes for buffer in self.on_gpu.values())

    def row_bytes(self, name: str) -> int:
        """Of one stream in a batch."""
        return self.host[name].nbytes // len(self.host[name])

    def fill(self, feeds: Feeds) -> None:
        """Puts inputs where the GPU copies them from; what is smaller than the shape is followed by zeros."""
        for name, values in feeds.items():
            place = self.host[name]
            if place.shape != values.shape:
                place[...] = 0
            place[_corner(values.shape)] = values

    def run(self, key: Hashable, *, inputs: Iterable[str], outputs: Iterable[str], addresses: Mapping[str, int]) -> None:
        """Copies inputs in, runs the plan and copies outputs out, and waits for them.

        Args:
            key: one for each set of the other arguments.
            inputs: what is copied from the host.
            outputs: what is copied to the host.
            addresses: where tensors lie that are not in this shape's own buffers.
        """
        placed = {name: buffer.address for name, buffer in self.on_gpu.items()} | dict(addresses)
        ins, outs = tuple(inputs), tuple(outputs)
        self._programs.get(key, lambda: _Program(self, ins, outs, placed)).launch()
        self._device.synchronise()

    def take(self, outputs: Iterable[TensorSpec], sizes: Mapping[str, int]) -> Tensors:
        """Copies of outputs, cut to the sizes that were asked for."""
        return {spec.name: self.host[spec.name][_corner(_sized(spec, sizes))].copy() for spec in outputs}

    def close(self) -> None:
        self._owned.close()

    def _open_context(self, profile: int) -> Any:
        context = self._plan.open_context()
        # The profile before the shapes: choosing one forgets them.
        if self._plan.engine.num_optimization_profiles > 1:
            if not context.set_optimization_profile_async(profile, self._device.stream):
                raise self._refused(f"optimisation profile {profile}")
            self._device.synchronise()
        for spec in self._plan.inputs:
            if not context.set_input_shape(spec.name, self._shapes[spec.name]):
                raise self._refused(f"{spec.name} of shape {self._shapes[spec.name]}")
        if unknown := context.infer_shapes():
            raise self._refused(f"a run, since it lacks the shapes of {', '.join(unknown)}")
        for spec in self._plan.outputs:
            made = tuple(context.get_tensor_shape(spec.name))
            if made != self._shapes[spec.name]:
                raise EngineError(f"the engine makes {spec.name} of shape {made}, and the graph {self._shapes[spec.name]}; build it again")
        self._give_scratch(context)
        return context

    def _give_scratch(self, context: Any) -> None:
        scratch, needed = self._device.scratch, int(context.update_device_memory_size_for_shapes())
        if scratch is None or needed > scratch.nbytes:
            had = 0 if scratch is None else scratch.nbytes
            raise EngineError(f"the engine asks for {needed} bytes of scratch memory, and the block has {had}; please report this")
        context.set_device_memory(scratch.address, scratch.nbytes)

    def _refused(self, what: str) -> EngineError:
        return EngineError(f"{self._plan.trt.__name__} refuses {what}: {self._plan.log.errors() or 'it gave no reason'}")

    def _drop_context(self) -> None:
        self._device.settle()
        self._context = None

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Tells the context where every tensor lies."""
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._refused(f"the address of {name}")

    def enqueue(self) -> None:
        """Puts the plan on the stream."""
        if not self._context.execute_async_v3(self._device.stream):
            raise self._refused("to run")

    def capturable(self) -> str:
        """Empty, or why TensorRT says its work can't be captured; TensorRT itself is only found out by trying."""
        if hasattr(self._context, "is_stream_capturable") and not self._context.is_stream_capturable(self._device.stream):
            return f"{self._plan.trt.__name__} says that this engine can't be captured; build it again with this version of shortcast"
        return ""


class _Program:
    """Copies in, the plan, copies out, between fixed addresses: one captured graph, or the same calls one by one."""

    def __init__(self, shape: Shape, inputs: tuple[str, ...], outputs: tuple[str, ...], addresses: Mapping[str, int]) -> None:
        self._shape, self._inputs, self._outputs, self._addresses = shape, inputs, outputs, addresses
        # Once outside of a capture: TensorRT allocates and compiles when a shape first runs. What is written is written again by the
        # launch that follows; a stream's state is only read, since its output goes to the other side.
        self._enqueue()
        shape._device.synchronise()
        captured = shape.capturable() or shape._device.capture(self._enqueue_bound)
        self._graph = captured if isinstance(captured, CapturedGraph) else None
        if isinstance(captured, str):
            shape.refusal = captured

    def launch(self) -> None:
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()

    def _enqueue(self) -> None:
        self._shape.bind(self._addresses)
        self._enqueue_bound()

    def _enqueue_bound(self) -> None:
        shape, device = self._shape, self._shape._device
        for name in self._inputs:
            device.to_gpu(self._addresses[name], shape.host[name])
        shape.enqueue()
        for name in self._outputs:
            device.to_host(shape.host[name], self._addresses[name])

    def close(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()


def _sized(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape)


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in shape)
