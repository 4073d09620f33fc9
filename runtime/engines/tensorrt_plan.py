"""From a bundle's graph to a plan TensorRT has loaded: found by its key, its hash proved, and only then deserialised.

`tensorrt` (10.12 and later, 11) and `tensorrt_rtx` differ in the module's name, and in what TensorRT-RTX alone has: a runtime
configuration with a cache of the kernels it compiled for this GPU.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import EngineError
from ..engine_cache import engine_records, find_engine, read_record
from ..engine_record import FLAVOURS, EngineKey, EngineRecord, this_platform
from . import TensorSpec
from .cuda import Gpu
from .runtime_cache import RuntimeCache
from .tensorrt_log import BuildLog, build_log

EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
"""The extra that installs a flavour, and the export target that builds for it."""


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that fits this machine."""

    path: Path
    record: EngineRecord
    inputs: tuple[TensorSpec, ...]
    """As the bundle states them for the graph it was built from: a plan keeps no names of dimensions."""
    outputs: tuple[TensorSpec, ...]


def held_flavours(graph: Path) -> list[str]:
    """The TensorRT flavours a bundle has engines of, for one of its graphs; read from records, without loading anything.

    Args:
        graph: an ONNX file of a bundle, such as `onnx/visual.fp16.onnx`.
    """
    name, precision = graph_name(graph)
    held = {record.key.flavour for record in engine_records(_engines_of(graph), name) if record.key.precision == precision}
    return [flavour for flavour in FLAVOURS if flavour in held]


def find_plan(graph: Path, gpu: Gpu) -> PlanFile:
    """The plan for a graph on this GPU, of whichever flavour fits, TensorRT itself first.

    Args:
        graph: an ONNX file of a bundle.
        gpu: the GPU in use.

    Raises:
        EngineError: the bundle has no engine in the graph's precision, the package that runs it is not installed, or its key differs:
            which field, and the command that builds one.
    """
    flavours = held_flavours(graph)
    if not flavours:
        raise EngineError(_none_held(graph))
    problems = []
    for flavour in flavours:
        try:
            return _find(graph, gpu, flavour)
        except EngineError as error:
            problems.append(str(error))
    raise EngineError("; ".join(problems))


def graph_name(graph: Path) -> tuple[str, str]:
    """`visual.fp16.onnx` -> `visual` and `fp16`."""
    name, _, rest = graph.name.partition(".")
    return name, rest.partition(".")[0]


def import_flavour(flavour: str) -> Any:
    """The module of a TensorRT flavour.

    Raises:
        EngineError: its package is not installed or does not load.
    """
    install = f"pip install 'shortcast[{EXTRAS[flavour]}]'"
    try:
        return import_module(flavour)
    except ModuleNotFoundError as error:
        raise EngineError(f"the engines of this bundle need the package {flavour}; install it: {install}") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"{flavour} does not load: {error}; install it again: {install} --force-reinstall") from error


def _find(graph: Path, gpu: Gpu, flavour: str) -> PlanFile:
    trt = import_flavour(flavour)
    name, precision = graph_name(graph)
    wanted = EngineKey(
        graph=name,
        precision=precision,
        onnx_sha256=_sha256(graph),
        profiles=(),
        flags=(),
        flavour=flavour,
        version=trt.__version__,
        gpu=gpu.name,
        compute_capabilities=(gpu.capability,),
        platform=this_platform(),
    )
    try:
        path = find_engine(_engines_of(graph), wanted)
    except EngineError as error:
        raise EngineError(f"{error}: {_command(graph, flavour)}") from error
    inputs, outputs = _specs(graph)
    return PlanFile(path, read_record(path.parent), inputs, outputs)


def _none_held(graph: Path) -> str:
    name, precision = graph_name(graph)
    others = sorted({record.key.precision for record in engine_records(_engines_of(graph), name)})
    had = f"only {' and '.join(others)} ones (ask for one with --precision)" if others else "no engine at all"
    return f"{_bundle_of(graph)} has no {precision} TensorRT engine of its {name} graph, {had}; build it: {_command(graph, 'tensorrt')}"


def _command(graph: Path, flavour: str) -> str:
    _, precision = graph_name(graph)
    precision = precision if precision in ("fp32", "fp16") else "fp16"  # int8 graphs are for ONNX Runtime
    parts = ["shortcast", "export", "--engines-only", str(_bundle_of(graph)), "--target", EXTRAS[flavour], "--precision", precision]
    return f"`{shlex.join(parts)}`"


def _bundle_of(graph: Path) -> Path:
    return graph.parents[1]


def _engines_of(graph: Path) -> Path:
    return _bundle_of(graph) / "engines"


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}") from error


def _specs(graph: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a graph, as the manifest of its bundle has them."""
    path = _bundle_of(graph) / "manifest.json"
    name, precision = graph_name(graph)
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))["graphs"][name][precision]
        inputs, outputs = (
            tuple(TensorSpec(spec["name"], spec["dtype"], tuple(spec["shape"])) for spec in plain[side]) for side in ("inputs", "outputs")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} does not state the inputs of {graph.name}: {error}; open the bundle with `shortcast inspect`") from error
    return inputs, outputs


class LoadedPlan:
    """A plan TensorRT has deserialised: weights on the GPU, ready for execution contexts."""

    def __init__(self, file: PlanFile, gpu: Gpu) -> None:
        """Deserialises the plan.

        Args:
            file: what `find_plan` found.
            gpu: the GPU in use; TensorRT-RTX keeps compiled kernels for each.

        Raises:
            EngineError: TensorRT refuses the plan, or its tensors are not those of the graph.
        """
        self.inputs, self.outputs, self.profiles = file.inputs, file.outputs, file.record.key.profiles
        self.trt = import_flavour(file.record.key.flavour)
        self.log: BuildLog = build_log(self.trt)
        with self.log.collecting():
            self._runtime: Any = self.trt.Runtime(self.log.native)
            self.engine: Any = self._runtime.deserialize_cuda_engine(file.path.read_bytes())
            if self.engine is None:
                raise EngineError(f"{self.trt.__name__} cannot load {file.path}: {self._reason()}; build it again on this machine")
        self._check_tensors(file.path)
        self._config, self._cache = self._runtime_config(file, gpu)

    @property
    def name(self) -> str:
        """Such as `tensorrt_rtx 1.7.1.116`."""
        return f"{self.trt.__name__} {self.trt.__version__}"

    @property
    def scratch_bytes(self) -> int:
        """The most scratch memory that any shape of any profile needs."""
        return int(self.engine.device_memory_size_v2)

    @property
    def weights_bytes(self) -> int | None:
        """None where this TensorRT doesn't say."""
        if not hasattr(self.engine, "get_engine_stat"):
            return None
        return int(self.engine.get_engine_stat(self.trt.EngineStat.TOTAL_WEIGHTS_SIZE))

    def open_context(self) -> Any:
        """A new execution context; its scratch memory is the caller's to give.

        Raises:
            EngineError: TensorRT makes none, which is how it says that memory does not suffice.
        """
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy if self._config is None else self._config)
        if context is None:
            raise EngineError(
                f"{self.trt.__name__} makes no execution context: {self._reason()}; this is most often too little GPU memory: end what "
                "else uses it"
            )
        return context

    def _reason(self) -> str:
        return self.log.errors() or "it gave no reason"

    def _check_tensors(self, path: Path) -> None:
        """The plan's tensors against those of the graph: names, direction, types and sizes, a name standing for what varies."""
        engine, trt = self.engine, self.trt
        found = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            found[name] = (is_input, _TYPES.get(engine.get_tensor_dtype(name).name, "?"), tuple(engine.get_tensor_shape(name)))
        expected = {spec.name: (is_input, spec) for is_input, side in ((True, self.inputs), (False, self.outputs)) for spec in side}
        if set(found) != set(expected):
            raise EngineError(f"{path} has the tensors {sorted(found)}, and its graph {sorted(expected)}; build the engine again")
        for name, (is_input, spec) in expected.items():
            shape = tuple(-1 if isinstance(dim, str) else dim for dim in spec.shape)
            if found[name] != (is_input, spec.dtype, shape):
                raise EngineError(f"{path}: expected {spec}, got {found[name][1]} {found[name][2]}; build the engine again")

    def _runtime_config(self, file: PlanFile, gpu: Gpu) -> tuple[Any, RuntimeCache | None]:
        """TensorRT-RTX's: kernels are compiled for a shape when it is first used, before anything is captured, and kept for next time."""
        if file.record.key.flavour != "tensorrt_rtx":
            return None, None
        trt, config = self.trt, self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # The default swaps kernels in later, from another thread; a captured graph would never see them.
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        # Graphs are captured here, copies included.
        config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        kept = RuntimeCache(config.create_runtime_cache(), file.record.sha256, trt.__version__, gpu)
        if not config.set_runtime_cache(kept.native):
            raise EngineError(f"{trt.__name__} takes no runtime cache: {self._reason()}")
        return config, kept

    def close(self) -> None:
        """Keeps what TensorRT-RTX compiled, and lets go of the plan; every context must be gone before."""
        kept, self._cache, self._config = self._cache, None, None
        try:
            if kept is not None:
                kept.save()
        finally:
            # The engine first: it lives in its runtime.
            self.engine = None
            self._runtime = None


_TYPES: Mapping[str, str] = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}
