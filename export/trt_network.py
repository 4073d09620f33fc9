"""An ONNX file -> a strongly typed TensorRT network, and the profiles for its dynamic dimensions.

The same code drives `tensorrt` (10.12 and later, 11) and `tensorrt_rtx`. Neither is imported before it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

from ..errors import EngineError
from ..runtime.engine_record import Profile
from ..runtime.engines.tensorrt_log import BuildLog, readable
from .nodes import load_graph

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The module of each build target. The target's name is also that of the extra that installs it."""
RTX_HINT = "`--target tensorrt-rtx` builds on any x86-64 Linux machine, with or without a GPU"


@dataclass(frozen=True)
class ParsedNetwork:
    """A network with all that it points into: TensorRT keeps none of them alive by itself."""

    name: str
    """`visual` for `visual.fp16.onnx`."""
    onnx_sha256: str
    builder: Any
    network: Any
    parser: Any
    log: BuildLog


def import_tensorrt(target: str) -> Any:
    """Imports the module of a build target.

    Raises:
        EngineError: the target is unknown, or its package is not installed or does not load.
    """
    if target not in MODULES:
        raise EngineError(f"engine target {target!r} is unknown; it is one of {', '.join(MODULES)}")
    name = MODULES[target]
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        install = f"pip install 'shortcast[{target}]'"
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise EngineError(f"target {target} needs the package {name}; install it: {install}") from error
        raise EngineError(f"{name} does not load: {error}; install it again: {install} --force-reinstall") from error


def parse_network(trt: Any, log: BuildLog, graph: Path) -> ParsedNetwork:
    """Reads an ONNX file into a strongly typed network: precision is what the file says, layer by layer.

    Args:
        trt: what `import_tensorrt` returned.
        log: the process's logger for `trt`.
        graph: the ONNX file, its weights inside.

    Raises:
        EngineError: the file is not valid ONNX, or holds what TensorRT does not take, and which node it is.
    """
    content = _checked_onnx(graph)
    builder = _builder(trt, log)
    # Without this flag TensorRT 10 may choose types itself; from 11 on it is the only way, and the flag says nothing.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.native)
    if not parser.parse(content):
        raise EngineError(f"TensorRT cannot parse {graph.name}: {_parser_errors(parser) or log.errors()}")
    # An empty input parses without an error and leaves nothing behind.
    if network.num_layers < 1 or network.num_outputs < 1:
        raise EngineError(f"TensorRT made {network.num_layers} layers and {network.num_outputs} outputs of {graph.name}; expected some")
    return ParsedNetwork(graph.name.partition(".")[0], hashlib.sha256(content).hexdigest(), builder, network, parser, log)


def restricted_profiles(parsed: ParsedNetwork, wanted: Sequence[Profile]) -> tuple[Profile, ...]:
    """The profiles with only the dimensions that this network has, each once: one list serves graphs with other dimensions too.

    Raises:
        EngineError: a dynamic dimension has no name, or a profile has no range for it.
    """
    names = sorted({name for dims in _input_dims(parsed.network).values() for name in dims if isinstance(name, str)})
    made: list[Profile] = []
    for offered in wanted:
        ranges = {dim.dim: dim for dim in offered.dims}
        missing = [name for name in names if name not in ranges]
        if missing:
            raise EngineError(f"the profile ({offered}) gives no sizes for the dimension {missing[0]}; the graph has {', '.join(names)}")
        made.append(Profile(tuple(ranges[name] for name in names)))
    if names and not made:
        raise EngineError(f"the graph has the dynamic dimensions {', '.join(names)}, and no optimisation profile gives their sizes")
    return tuple(dict.fromkeys(made))


def add_profiles(parsed: ParsedNetwork, config: Any, profiles: Sequence[Profile]) -> None:
    """Adds optimisation profiles to a build.

    Args:
        parsed: the network.
        config: the builder's configuration.
        profiles: as `restricted_profiles` returns them.

    Raises:
        EngineError: TensorRT refuses one: expected 1 <= minimum <= best <= maximum.
    """
    for wanted in profiles:
        ranges = {dim.dim: dim for dim in wanted.dims}
        profile = parsed.builder.create_optimization_profile()
        for name, dims in _input_dims(parsed.network).items():
            if any(isinstance(dim, str) for dim in dims):
                shapes = [[getattr(ranges[dim], end) if isinstance(dim, str) else dim for dim in dims] for end in ("min", "opt", "max")]
                profile.set_shape(name, *shapes)
        # A profile that is refused is only counted as -1.
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the optimisation profile ({wanted}): {parsed.log.errors()}")


def _checked_onnx(graph: Path) -> bytes:
    model = load_graph(graph)
    if any(weights.data_location == onnx.TensorProto.EXTERNAL for weights in model.graph.initializer):
        raise EngineError(f"{graph} keeps weights in other files; expected one file: export it with external_data=False")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise EngineError(f"{graph} is not valid ONNX: {error}") from error
    for value in (*model.graph.input, *model.graph.output):
        # TensorRT's parser takes float64 and makes it float32 without a word.
        if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
            raise EngineError(f"{graph}: {value.name} is float64, which TensorRT has not; expected float32")
    return graph.read_bytes()


def _builder(trt: Any, log: BuildLog) -> Any:
    try:
        return trt.Builder(log.native)
    except (TypeError, RuntimeError) as error:  # what the bindings make of a null pointer
        raise EngineError(f"{trt.__name__} cannot start a builder here: {log.errors() or error}; {RTX_HINT}") from error


def _input_dims(network: Any) -> dict[str, list[int | str]]:
    """Every input's dimensions: a size, or the name of one that varies."""
    dims: dict[str, list[int | str]] = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        named = [tensor.get_dimension_name(axis) if size < 0 else size for axis, size in enumerate(tensor.shape)]
        if "" in named or None in named:
            raise EngineError(
                f"input {tensor.name}: dimension {tensor.shape} varies and has no name; export the graph with named dimensions"
            )
        dims[tensor.name] = named
    return dims


def _parser_errors(parser: Any) -> str:
    return "; ".join(_parser_error(parser.get_error(index)) for index in range(parser.num_errors))


def _parser_error(failure: Any) -> str:
    operator, name = failure.node_operator(), failure.node_name()
    where = f"node {name!r} ({operator})" if operator else "the graph"
    if "UNSUPPORTED_NODE" in str(failure.code()) and operator:
        return f"{where} is not supported: {failure.code().name}"
    return f"{where}: {' '.join(readable([failure.desc()]))}"
