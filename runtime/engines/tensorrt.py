"""TensorRT engines on the GPU: numpy in and out, state that stays there, and every call one captured graph where that is possible.

Needs TensorRT (10.12 and later, 11) or TensorRT-RTX, cuda-bindings and numpy, and nothing else. How sizes, graphs and memory are handled
and why is in docs/decisions/0009-the-gpu-path.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ...errors import EngineError
from ..engine_record import Profile
from . import Feeds, Tensors, TensorSpec, check_feeds
from .cuda import Device, cuda_runtime
from .device_memory import DeviceMemory
from .device_state import DeviceState, Slot, Slots
from .state import State, joined, state_pairs
from .tensorrt_plan import LoadedPlan, find_plan
from .tensorrt_shape import Recent, Shape

BATCH = "batch"
"""The dimension of clips side by side."""
CHUNK_MASK = "chunk_mask"
"""The input that says which chunks are there: a graph that has it may be given more, masked ones."""
SHAPES = 12
"""Shapes an engine keeps: all powers of two up to 32 chunks for one clip, and as many again."""


def open_tensorrt(graphs: Sequence[Path]) -> tuple[TensorRTEngine, ...]:
    """Opens the engines of a bundle's graphs; they share a stream, a lock and a block of scratch memory.

    Args:
        graphs: ONNX files of a bundle.

    Raises:
        EngineError: there is no GPU, the bundle has no engine that fits it, a package is missing, or the GPU's memory does not suffice;
            nothing stays open.
    """
    runtime = cuda_runtime()
    with ExitStack() as guard:
        device = Device(runtime)
        guard.callback(device.close)
        plans: list[LoadedPlan] = []
        for graph in graphs:
            plans.append(LoadedPlan(find_plan(graph, device.gpu), device.gpu))
            guard.callback(plans[-1].close)
        device.reserve(max(plan.scratch_bytes for plan in plans))
        engines = tuple(TensorRTEngine(plan, device) for plan in plans)
        guard.pop_all()
    return engines


class TensorRTEngine:
    """One graph's engine. Thread-safe: calls take turns, also with the engines it was opened with.

    Sizes that vary are rounded up to powers of two and the rest masked, so that a growing clip costs a handful of shapes and not one for
    every chunk.
    """

    def __init__(self, plan: LoadedPlan, device: Device) -> None:
        """Takes over a loaded plan.

        Args:
            plan: closed with the engine.
            device: its scratch block is reserved; left with the engine.
        """
        self.inputs, self.outputs = plan.inputs, plan.outputs
        self._plan, self._device = plan, device
        self._pairs = state_pairs(self.inputs, self.outputs)
        became = set(self._pairs.values())
        self._fed = tuple(spec for spec in self.inputs if spec.name not in self._pairs)
        self._told = tuple(spec for spec in self.outputs if spec.name not in became)
        self._paddable = {BATCH, *(dim for spec in self.inputs if spec.name == CHUNK_MASK for dim in spec.shape)}
        self._slots = Slots(device, [spec for spec in self.inputs if spec.name in self._pairs])
        self._shapes: Recent[Shape] = Recent(SHAPES)
        self._closed = False
        self._capture_refused = ""
        device.join()

    @property
    def name(self) -> str:
        """What runs, and on what: `tensorrt 10.16.1.11 on NVIDIA L4 (8.9)`."""
        return f"{self._plan.name} on {self._device.gpu.name} ({self._device.gpu.capability})"

    @property
    def capture_refused(self) -> str:
        """Why calls are not captured CUDA graphs but one launch after the other; empty where they are, or nothing has run yet."""
        return self._capture_refused

    @property
    def memory(self) -> DeviceMemory:
        """What the engine takes of the GPU now."""
        with self._device.lock:
            self._check_open()
            return DeviceMemory(
                weights_bytes=self._plan.weights_bytes,
                scratch_bytes=self._plan.scratch_bytes,
                io_bytes=sum(shape.io_bytes for shape in self._shapes.values()),
                state_bytes=self._slots.nbytes,
            )

    def run(self, feeds: Feeds) -> Tensors:
        """Runs the graph once, recurrent state going in and coming out as any other tensor; see `Engine.run`."""
        check_feeds(self.inputs, feeds)
        sizes = _sizes(self.inputs, feeds)
        with self._device.lock:
            shape = self._shape(sizes)
            shape.fill(feeds)
            self._launch(shape, "whole", [spec.name for spec in self.inputs], [spec.name for spec in self.outputs], {})
            return shape.take(self.outputs, sizes)

    def begin(self) -> DeviceState:
        """See `Stepper`: the state lies on the GPU, and the stream owns this hold on it.

        Raises:
            EngineError: the GPU's memory does not suffice for one more stream.
        """
        self._check_open()
        return DeviceState(self._slots, self._device)

    def step(self, feeds: Feeds, state: State) -> Tensors:
        """See `Stepper`: the state is read and written where it lies; one graph for each of its two sides."""
        return self.step_many([feeds], [state])[0]

    def step_many(self, feeds: Sequence[Feeds], states: Sequence[State]) -> list[Tensors]:
        """See `Stepper`: states are gathered into a batch on the GPU, and spread from it."""
        slots = [self._slot(state) for state in states]
        if len(set(slots)) < len(slots):
            raise EngineError("one stream cannot step twice in one call; give its chunks one after the other")
        batch = joined(feeds, len(slots))
        check_feeds(self._fed, batch)
        sizes = _sizes(self._fed, batch)
        if sizes.get(BATCH, 1) != len(slots):
            raise EngineError(f"expected a batch of one for each of {len(slots)} streams, got {sizes[BATCH]} rows")
        with self._device.lock:
            shape = self._shape(sizes)
            shape.fill(batch)
            if len(slots) == 1:
                self._step_alone(shape, slots[0])
            else:
                self._step_together(shape, slots)
            # Whatever failed before, no stream has moved.
            for slot in slots:
                slot.turn()
            outputs = shape.take(self._told, sizes)
        return [{name: values[row : row + 1] for name, values in outputs.items()} for row in range(len(slots))]

    def prepare(self, *, chunks: int = 1) -> None:
        """Opens and captures, before the first clip waits for it, what a clip alone will use.

        Args:
            chunks: as many as the graph may be shown; all powers of two up to it are prepared, as far as `SHAPES` go.
        """
        lengths = sorted({min(1 << power, chunks) for power in range(chunks.bit_length() + 1)})
        wanted = [{dim: 1 if dim == BATCH else n for spec in self._fed for dim in spec.shape if isinstance(dim, str)} for n in lengths]
        with self._device.lock:
            for sizes in [sizes for k, sizes in enumerate(wanted) if sizes not in wanted[:k]][-SHAPES:]:
                self._warm(sizes)

    def close(self) -> None:
        """Frees the context, the buffers, the states and the plan; the last of the engines opened together frees what they share."""
        with self._device.lock:
            if self._closed:
                return
            self._closed = True
            with ExitStack() as last_first:
                last_first.callback(self._device.leave)
                last_first.callback(self._plan.close)
                last_first.callback(self._slots.close)
                last_first.callback(self._shapes.close)

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _warm(self, sizes: Mapping[str, int]) -> None:
        shape = self._shape(sizes)
        if not self._pairs:
            self._launch(shape, "whole", [spec.name for spec in self.inputs], [spec.name for spec in self.outputs], {})
            return
        state = self.begin()
        try:
            for _ in range(2):
                self._step_alone(shape, self._slot(state))
                self._slot(state).turn()
        finally:
            state.close()

    def _step_alone(self, shape: Shape, slot: Slot) -> None:
        """The graph reads and writes the stream's own buffers: one for each side of each slot."""
        addresses = {name: slot.current(name) for name in self._pairs} | {out: slot.other(name) for name, out in self._pairs.items()}
        self._launch(shape, (slot.index, slot.side), [spec.name for spec in self._fed], [spec.name for spec in self._told], addresses)

    def _step_together(self, shape: Shape, slots: Sequence[Slot]) -> None:
        """One graph for any streams: their states are copied into a batch before it and out of it afterwards."""
        for name in self._pairs:
            nbytes, base = shape.row_bytes(name), shape.on_gpu[name].address
            for row, slot in enumerate(slots):
                self._device.within(base + row * nbytes, slot.current(name), nbytes)
        self._launch(shape, "together", [spec.name for spec in self._fed], [spec.name for spec in self._told], {})
        for name, out in self._pairs.items():
            nbytes, base = shape.row_bytes(out), shape.on_gpu[out].address
            for row, slot in enumerate(slots):
                self._device.within(slot.other(name), base + row * nbytes, nbytes)
        self._device.synchronise()

    def _launch(self, shape: Shape, key: object, inputs: list[str], outputs: list[str], addresses: Mapping[str, int]) -> None:
        shape.run(key, inputs=inputs, outputs=outputs, addresses=addresses)
        self._capture_refused = self._capture_refused or shape.refusal

    def _slot(self, state: State) -> Slot:
        if not isinstance(state, DeviceState):
            raise EngineError("the state is another engine's; take one from `begin` of the engine that steps")
        return state.slot(self._slots)

    def _shape(self, sizes: Mapping[str, int]) -> Shape:
        self._check_open()
        profile, rounded = self._rounded(sizes)
        key = (profile, *sorted(rounded.items()))
        return self._shapes.get(key, lambda: Shape(self._plan, self._device, rounded, profile))

    def _rounded(self, sizes: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        """The profile to use, and the sizes to run at: the next power of two where more may be given, within the profile's limits."""
        for index, offered in enumerate(self._plan.profiles or (Profile(()),)):
            ranges = {dim.dim: dim for dim in offered.dims}
            if all(dim not in ranges or size <= ranges[dim].max for dim, size in sizes.items()):
                rounded = {dim: _power(size) if dim in self._paddable else size for dim, size in sizes.items()}
                return index, {
                    dim: min(max(size, ranges[dim].min), ranges[dim].max) if dim in ranges else size for dim, size in rounded.items()
                }
        asked = ", ".join(f"{dim} {size}" for dim, size in sizes.items())
        built = " | ".join(map(str, self._plan.profiles))
        raise EngineError(f"the engine takes {built}, and was given {asked}; build it for more with `shortcast export --engines-only`")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")


def _sizes(specs: Sequence[TensorSpec], feeds: Feeds) -> dict[str, int]:
    """The size of every named dimension; `check_feeds` has seen that each has one."""
    return {dim: size for spec in specs for dim, size in zip(spec.shape, feeds[spec.name].shape, strict=True) if isinstance(dim, str)}


def _power(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()
