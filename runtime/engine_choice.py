"""Which backend scores: the one asked for, or with `auto` TensorRT where a usable engine and its GPU are there, else ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EngineError
from .bundle import GRAPHS, Bundle
from .engines import home_device

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What was chosen, and what is to be told of it."""

    backend: str
    device: str
    reason: str = ""
    """A sentence where `auto` had engines to choose from; empty where nothing needs saying."""


def choose_engine(bundle: Bundle, *, engine: str = AUTO, precision: str = "fp32", device: str | None = None) -> EngineChoice:
    """Chooses a backend and a device, without loading a graph. What is asked for is never replaced by something else.

    Args:
        bundle: the opened bundle.
        engine: a backend, or `auto`.
        precision: the precision asked for; an engine in another one is no engine for this.
        device: `cpu` or `cuda`; None is where the backend is at home. With `auto`, `cpu` rules TensorRT out.

    Raises:
        BundleError: the bundle has no such precision.
    """
    if engine != AUTO:
        return EngineChoice(engine, device or home_device(engine))
    plain = EngineChoice("onnxruntime", device or home_device("onnxruntime"))
    graphs = [bundle.graph(name, precision=precision) for name in GRAPHS]
    # Cheap where there is no engine, which is nearly everywhere: no library is imported to look for one.
    if device == "cpu" or not any((bundle.path / "engines").glob("*/*/build.json")):
        return plain
    from .engines.cuda import cuda_runtime, find_gpu
    from .engines.tensorrt_plan import find_plan

    try:
        gpu = find_gpu(cuda_runtime())
        found = [find_plan(graph, gpu) for graph in graphs]
    except EngineError as error:
        return EngineChoice(plain.backend, plain.device, f"--engine auto took ONNX Runtime on the {plain.device}: {error}")
    key = found[0].record.key
    return EngineChoice("tensorrt", "cuda", f"--engine auto took {key.flavour} {key.version} on {gpu.name}, {precision}")
