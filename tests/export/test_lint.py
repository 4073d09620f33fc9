import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortcast.errors import EngineError, GateError
from shortcast.export.lint import FORBIDDEN, lint_graph, require_sound_graph

Spoil = Callable[[onnx.ModelProto], None]


def value(name: str, shape: list[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def sound_graph(opset: int = 18) -> onnx.ModelProto:
    """Uint8 (batch, 2) -> Cast, times a weight, plus the state h0 -> out and h0_out."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["x"], "read", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "weight"], ["y"], "weigh"),
        helper.make_node("Add", ["y", "h0"], ["h0_out"], "keep"),
        helper.make_node("Abs", ["h0_out"], ["out"], "tell"),
    ]
    graph = helper.make_graph(
        nodes,
        "sound",
        [value("frames", ["batch", 2], TensorProto.UINT8), value("h0", ["batch", 2])],
        [value("out", ["batch", 2]), value("h0_out", ["batch", 2])],
        [numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def add(model: onnx.ModelProto, op: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
    model.graph.node.append(helper.make_node(op, inputs, outputs, f"added {op}", **attributes))


def add_half(model: onnx.ModelProto) -> None:
    """Makes it a graph that may call itself fp16."""
    add(model, "Cast", ["out"], ["half"], to=TensorProto.FLOAT16)


def feed_bytes_elsewhere(model: onnx.ModelProto) -> None:
    add(model, "Identity", ["frames"], ["unused"])


def put_isnan(model: onnx.ModelProto) -> None:
    add(model, "IsNaN", ["x"], ["unused"])


def put_nonzero(model: onnx.ModelProto) -> None:
    add(model, "NonZero", ["x"], ["unused"])


def put_unique(model: onnx.ModelProto) -> None:
    add(model, "Unique", ["x"], ["unused"])


def put_sequence(model: onnx.ModelProto) -> None:
    add(model, "SequenceConstruct", ["x"], ["unused"])


def put_if(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "branch", [], [value("z", ["batch", 2])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    add(model, "If", ["condition"], ["unused"], then_branch=branch, else_branch=branch)


def move_weight_outside(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    weight.external_data.append(onnx.StringStringEntryProto(key="location", value="elsewhere.bin"))


def another_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def new_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 23


def rename_state(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.input[:] = ["kept" if name == "h0_out" else name for name in node.input]
        node.output[:] = ["kept" if name == "h0_out" else name for name in node.output]
    model.graph.output[1].name = "kept"


def state_comes_from_nowhere(model: onnx.ModelProto) -> None:
    add(model, "Neg", ["out"], ["c9_out"])
    model.graph.output.append(value("c9_out", ["batch", 2]))


def state_changes_shape(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1


def name_a_size(model: onnx.ModelProto) -> None:
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.shape.dim[0].dim_param = "s15" if info.name in ("out", "h0", "h0_out") else "batch"


def leave_a_size_open(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_value")


def vary_in_no_input(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "chunks"


def count_out(model: onnx.ModelProto) -> None:
    add(model, "Shape", ["out"], ["count"])
    model.graph.output.append(value("count", [2], TensorProto.INT64))


def double_out(model: onnx.ModelProto) -> None:
    add(model, "Cast", ["out"], ["wide"], to=TensorProto.DOUBLE)
    model.graph.output.append(value("wide", ["batch", 2], TensorProto.DOUBLE))


def half_out(model: onnx.ModelProto) -> None:
    add_half(model)
    model.graph.output.append(value("half", ["batch", 2], TensorProto.FLOAT16))


def unwire(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "nowhere"


def contradict(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3


def quantise(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "scale"))
    add(model, "QuantizeLinear", ["out", "scale"], ["quantised"])


def large_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([1.0, -7e4], np.float32), "weight"))


def large_constant(model: onnx.ModelProto) -> None:
    add(model, "Constant", [], ["unused"], value=numpy_helper.from_array(np.array([np.inf], np.float32)))


def large_attribute(model: onnx.ModelProto) -> None:
    add(model, "Selu", ["x"], ["unused"], gamma=1e30)


def large_list(model: onnx.ModelProto) -> None:
    add(model, "Constant", [], ["unused"], value_floats=[0.0, float("nan")])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (feed_bytes_elsewhere, "uint8 feeds Identity"),
        (put_isnan, "not every backend runs: IsNaN"),
        (put_nonzero, "not every backend runs: NonZero"),
        (put_unique, "not every backend runs: Unique"),
        (put_sequence, "not every backend runs: SequenceConstruct"),
        (put_if, "not every backend runs: If"),
        (move_weight_outside, "weights outside the file, weight first"),
        (another_domain, "default operator domain is allowed, got com.example"),
        (old_opset, "expected 18 to 22, got 17"),
        (new_opset, "expected 18 to 22, got 23"),
        (rename_state, "state h0: expected an input h0 and an output h0_out, got one"),
        (state_comes_from_nowhere, "state c9: expected an input c9"),
        (state_changes_shape, r"goes in as float32 \(1, 2\) and comes out as float32 \(batch, 2\)"),
        (leave_a_size_open, r"out: only batch and chunks may vary, got \?"),
        (vary_in_no_input, "out: chunks varies in no input"),
        (count_out, "count: expected float32 or uint8, got int64"),
        (double_out, "wide: expected float32 or uint8, got double"),
        (unwire, "not valid ONNX: .*nowhere"),
        (contradict, "not valid ONNX"),
        (quantise, "declared fp32 has quantised tensors"),
        (add_half, "declared fp32 has float16"),
    ],
)
def test_a_graph_that_breaks_one_rule_is_told_so_in_one_sentence(spoil: Spoil, sentence: str) -> None:
    model = sound_graph()
    spoil(model)
    found = lint_graph(model)
    assert len(found) == 1
    assert re.search(sentence, found[0])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (large_weight, "weight holds -70000"),
        (large_constant, r"Constant added Constant \(value\) holds inf"),
        (large_attribute, r"Selu added Selu \(gamma\) holds 1e\+30"),
        (large_list, r"\(value_floats\) holds nan"),
        (half_out, "half: expected float32 or uint8, got float16"),
    ],
)
def test_a_float16_file_holds_nothing_that_float16_cannot(spoil: Spoil, sentence: str) -> None:
    model = sound_graph()
    add_half(model) if spoil is not half_out else None
    spoil(model)
    found = lint_graph(model, precision="fp16")
    assert len(found) == 1
    assert re.search(sentence, found[0])


@pytest.mark.parametrize("spoil", [large_weight, large_constant, large_attribute])
def test_a_float32_file_may_hold_large_constants(spoil: Spoil) -> None:
    model = sound_graph()
    spoil(model)
    assert lint_graph(model) == []


@pytest.mark.parametrize(("precision", "make"), [("fp16", add_half), ("int8", quantise)])
def test_a_file_is_of_the_precision_it_declares(precision: str, make: Spoil) -> None:
    model = sound_graph()
    assert len(lint_graph(model, precision=precision)) == 1
    make(model)
    assert lint_graph(model, precision=precision) == []


def test_every_size_that_varies_is_named_by_the_contract() -> None:
    model = sound_graph()
    name_a_size(model)
    assert [sentence.split(":")[0] for sentence in lint_graph(model)] == ["h0", "out", "h0_out"]


@pytest.mark.parametrize("op", sorted(FORBIDDEN))
def test_a_forbidden_operator_is_named_even_where_the_opset_lacks_it(op: str) -> None:
    model = sound_graph()
    add(model, op, ["x"], ["unused"])
    assert any(sentence.endswith(f"not every backend runs: {op}") for sentence in lint_graph(model))


@pytest.mark.parametrize("opset", [18, 20, 22])
def test_a_sound_graph_has_no_fault(opset: int) -> None:
    assert lint_graph(sound_graph(opset)) == []


@pytest.mark.parametrize("graph", ["visual", "fusion"])
def test_the_demo_graphs_are_sound(demo: Path, graph: str) -> None:
    require_sound_graph(demo / "onnx" / f"{graph}.fp32.onnx", precision="fp32")


def test_a_file_with_faults_is_refused_with_all_of_them(tmp_path: Path) -> None:
    model = sound_graph()
    put_isnan(model)
    old_opset(model)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(GateError, match=r"bad.onnx.*got 17.*IsNaN") as caught:
        require_sound_graph(tmp_path / "bad.onnx", precision="fp32")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [None, b"\xff\xff\xff"])
def test_a_file_that_is_no_graph_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "none.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=r"none.onnx cannot be read"):
        require_sound_graph(path, precision="fp32")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(EngineError, match="'fp8' is unknown; it is one of fp32, fp16, int8"):
        lint_graph(sound_graph(), precision="fp8")
