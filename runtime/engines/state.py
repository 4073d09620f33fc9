"""Recurrent state: it belongs to a stream, and lies where its engine computes: arrays on the host, or buffers on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from . import Engine, Feeds, Tensors, TensorSpec, check_feeds


class State(Protocol):
    """What an engine carries from one chunk of a stream to the next. The stream owns it and closes it."""

    def reset(self) -> None:
        """Goes back to the state of a stream of which nothing has been seen: zeros."""
        ...

    def snapshot(self) -> Tensors:
        """A copy on the host, one array for every state input, as a batch of one."""
        ...

    def restore(self, values: Feeds) -> None:
        """Takes over what `snapshot` gave.

        Raises:
            EngineError: `values` are not those of this graph.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds; closing twice is harmless."""
        ...


@runtime_checkable
class Stepper(Protocol):
    """Runs a recurrent graph chunk by chunk: the state goes from each call to the next without passing through the caller."""

    def begin(self) -> State:
        """The state of a new stream."""
        ...

    def step(self, feeds: Feeds, state: State) -> Tensors:
        """Runs the graph on a stream's next chunk.

        Args:
            feeds: one array for every input that is no state, as a batch of one.
            state: what `begin` gave; advanced by this call, and left as it was where it fails.

        Returns:
            One array for every output that is no state.

        Raises:
            EngineError: `feeds` do not fit, the state is another engine's or closed, or the backend failed.
        """
        ...

    def step_many(self, feeds: Sequence[Feeds], states: Sequence[State]) -> list[Tensors]:
        """The next chunks of several streams, in one call of the engine where it can; equal to one `step` after the other."""
        ...


def stepper(engine: Engine) -> Stepper:
    """What steps a graph: the engine itself where it keeps state on its device, else `HostStepper` around its `run`."""
    return engine if isinstance(engine, Stepper) else HostStepper(engine)


def state_pairs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """State inputs and the output that holds what each becomes: `h0` and `h0_out`, alike in type and shape."""
    made = {spec.name: spec for spec in outputs}
    pairs = {spec.name: f"{spec.name}_out" for spec in inputs if f"{spec.name}_out" in made}
    for spec in inputs:
        if spec.name in pairs and (made[pairs[spec.name]].dtype, made[pairs[spec.name]].shape) != (spec.dtype, spec.shape):
            raise EngineError(f"the state output {made[pairs[spec.name]]} is not like its input {spec}")
    return pairs


def check_state(specs: Sequence[TensorSpec], values: Feeds) -> None:
    """Checks a snapshot that is to be restored.

    Raises:
        EngineError: an array is missing, extra, or no batch of one of its type and shape.
    """
    check_feeds(tuple(specs), values)
    for spec in specs:
        if values[spec.name].shape[0] != 1:
            raise EngineError(f"a state is that of one stream: expected a batch of one, got {spec.name} {values[spec.name].shape}")


class HostState:
    """Recurrent state as arrays."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = tuple(specs)
        self.reset()

    def reset(self) -> None:
        self.values: Tensors = {
            spec.name: np.zeros([1 if isinstance(dim, str) else dim for dim in spec.shape], dtype=spec.dtype) for spec in self._specs
        }

    def snapshot(self) -> Tensors:
        return {name: values.copy() for name, values in self.values.items()}

    def restore(self, values: Feeds) -> None:
        check_state(self._specs, values)
        self.values = {spec.name: values[spec.name].copy() for spec in self._specs}

    def close(self) -> None:
        """Nothing to give back."""


class HostStepper:
    """Steps any engine through its `run`; the state is arrays that go in and come out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pairs = state_pairs(engine.inputs, engine.outputs)
        self._specs = tuple(spec for spec in engine.inputs if spec.name in self._pairs)
        self._fed = tuple(spec for spec in engine.inputs if spec.name not in self._pairs)

    def begin(self) -> HostState:
        return HostState(self._specs)

    def step(self, feeds: Feeds, state: State) -> Tensors:
        return self.step_many([feeds], [state])[0]

    def step_many(self, feeds: Sequence[Feeds], states: Sequence[State]) -> list[Tensors]:
        """All streams as one batch."""
        own = [self._own(state) for state in states]
        batch = joined(feeds, len(own))
        check_feeds(self._fed, batch)
        outputs = self._engine.run({**batch, **{name: np.concatenate([state.values[name] for state in own]) for name in self._pairs}})
        for row, state in enumerate(own):
            state.values = {name: outputs[out][row : row + 1] for name, out in self._pairs.items()}
        told = [name for name in outputs if name not in self._pairs.values()]
        return [{name: outputs[name][row : row + 1] for name in told} for row in range(len(own))]

    def _own(self, state: State) -> HostState:
        if not isinstance(state, HostState):
            raise EngineError("the state is another engine's; take one from `begin` of the engine that steps")
        return state


def joined(feeds: Sequence[Feeds], streams: int) -> dict[str, NDArray[np.generic]]:
    """The feeds of several streams as one batch.

    Raises:
        EngineError: their number, names or shapes differ, or one is no batch of one.
    """
    if len(feeds) != streams or not feeds:
        raise EngineError(f"expected feeds and a state for each of one or more streams, got {len(feeds)} feeds and {streams} states")
    if len(feeds) == 1:
        return dict(feeds[0])
    shapes = [_shapes(one) for one in feeds]
    odd = next((shape for shape in shapes if shape != shapes[0]), None)
    if odd is not None or any(shape[:1] != (1,) for shape, _ in shapes[0].values()):
        raise EngineError(f"streams that step together have chunks alike, each a batch of one: got {shapes[0]} and {odd or shapes[0]}")
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


def _shapes(feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (values.shape, values.dtype.name) for name, values in feeds.items()}
