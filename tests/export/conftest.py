"""Small ONNX graphs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def make_graph(tmp_path: Path) -> Callable[..., Path]:
    """Writes nodes as an ONNX file; inputs and outputs as name=(type, shape)."""

    def make(
        name: str,
        nodes: Sequence[onnx.NodeProto],
        inputs: dict[str, tuple[int, list[int | str]]],
        outputs: dict[str, tuple[int, list[int | str]]],
        weights: dict[str, NDArray[Any]] | None = None,
    ) -> Path:
        values = [[helper.make_tensor_value_info(key, *value) for key, value in side.items()] for side in (inputs, outputs)]
        tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
        domains = {node.domain for node in nodes}
        model = helper.make_model(
            helper.make_graph(nodes, "made", *values, tensors),
            opset_imports=[helper.make_opsetid(domain, 1 if domain else 18) for domain in sorted({"", *domains})],
            ir_version=8,
        )
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return make


@pytest.fixture
def product_graph(make_graph: Callable[..., Path]) -> Callable[..., Path]:
    """x (batch, 4) times a weight (4, 3): in float32, or as float16 with casts around it."""

    def make(name: str = "product.fp32.onnx", *, half: bool = False) -> Path:
        weight = np.ones((4, 3), np.float16 if half else np.float32)
        inner = [helper.make_node("MatMul", ["x16" if half else "x", "w"], ["y16" if half else "y"], name="product")]
        before = [helper.make_node("Cast", ["x"], ["x16"], to=HALF, name="down")] if half else []
        after = [helper.make_node("Cast", ["y16"], ["y"], to=FLOAT, name="up")] if half else []
        nodes = [*before, *inner, *after]
        return make_graph(name, nodes, {"x": (FLOAT, ["batch", 4])}, {"y": (FLOAT, ["batch", 3])}, {"w": weight})

    return make
