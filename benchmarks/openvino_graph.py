"""OpenVINO as a contender: the bundle's ONNX files through its own Python interface, tuned for latency."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..runtime.engines import Tensors, TensorSpec, check_feeds


class OpenVinoEngine:
    """One ONNX graph, compiled for the CPU."""

    def __init__(self, path: Path, *, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], threads: int) -> None:
        """Reads and compiles the graph.

        Args:
            path: the ONNX file.
            inputs: as the bundle's manifest states them.
            outputs: as well.
            threads: for one call.

        Raises:
            EngineError: OpenVINO isn't installed, or does not take the graph.
        """
        if find_spec("openvino") is None:
            raise EngineError("openvino is not installed: pip install openvino")
        import openvino

        self.inputs, self.outputs = inputs, outputs
        self._requests = threading.local()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Else it'd compute in bfloat16 or float16 wherever the processor can, and the row would say fp32.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            self._model: Any = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except Exception as error:  # OpenVINO raises bare RuntimeErrors and its own classes
            raise EngineError(f"OpenVINO does not take {path.name}: {_first_line(error)}") from error

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        """Runs the graph once; see `Engine.run`."""
        check_feeds(self.inputs, feeds)
        try:
            request = self._own_request()
            request.infer(dict(feeds), share_inputs=False)
            return {spec.name: np.array(request.get_tensor(spec.name).data) for spec in self.outputs}
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed: {_first_line(error)}") from error

    def _own_request(self) -> Any:
        """A request is busy until its answer is read: each thread has its own."""
        if not hasattr(self._requests, "request"):
            self._requests.request = self._model.create_infer_request()
        return self._requests.request

    def close(self) -> None:
        """Frees the model; the engine can't run afterwards."""
        del self._requests, self._model

    def __enter__(self) -> OpenVinoEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
