from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from shortcast.errors import EngineError
from shortcast.export.onnx import ExportedGraph, check_graph, export_fusion, export_visual
from shortcast.export.parity import fusion_parity, visual_parity
from shortcast.export.torch_engine import fusion_engine, fusion_specs, visual_engine, visual_specs
from shortcast.models.convlstm import ConvLSTMEncoder, EncoderConfig
from shortcast.models.dual_transformer import DualTransformer, FusionConfig, FusionOutput
from shortcast.runtime.engines import TensorSpec
from shortcast.runtime.engines.onnxruntime import OnnxRuntimeEngine

SMALL_ENCODER = EncoderConfig(
    frames_per_chunk=4, height=32, width=24, stem_channels=(8, 12), hidden_channels=(6, 5), pool_grid=(4, 3), embedding_dim=10
)
TINY_ENCODER = EncoderConfig(frames_per_chunk=1, height=8, width=8, stem_channels=(4,), hidden_channels=(4,), pool_grid=(1, 1))
SMALL_FUSION = FusionConfig(
    visual_dim=10,
    audio_dim=7,
    width=16,
    heads=2,
    layers=1,
    feedforward=16,
    quantile_levels=(0.1, 0.5, 0.9),
    dropout=0.5,
    classes=2,
    class_head="ordinal",
)


def drawn(module: nn.Module) -> nn.Module:
    """Every parameter random, so that nothing hides behind a zero start."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.15)
    return module


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads spin at every small operator, which costs minutes where other work runs beside the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[EncoderConfig(), SMALL_ENCODER], ids=["default", "small"])
def visual(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ConvLSTMEncoder, ExportedGraph]:
    torch.manual_seed(0)
    encoder = ConvLSTMEncoder(request.param)
    return encoder, export_visual(encoder, tmp_path_factory.mktemp("visual") / "visual.onnx")


def traced(config: FusionConfig, folder: Path) -> tuple[DualTransformer, ExportedGraph]:
    model = DualTransformer(config).eval()
    drawn(model)
    return model, export_fusion(model, folder / "fusion.onnx")


@pytest.fixture(scope="module")
def small_fusion(tmp_path_factory: pytest.TempPathFactory) -> tuple[DualTransformer, ExportedGraph]:
    return traced(SMALL_FUSION, tmp_path_factory.mktemp("small-fusion"))


@pytest.fixture(scope="module", params=["default", "small, two classes"])
def fusion(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[DualTransformer, ExportedGraph]:
    if request.param != "default":
        small: tuple[DualTransformer, ExportedGraph] = request.getfixturevalue("small_fusion")
        return small
    return traced(FusionConfig(), tmp_path_factory.mktemp("fusion"))


def assert_describes_the_file_and_not_the_machine(exported: ExportedGraph) -> None:
    content = exported.path.read_bytes()
    assert exported.size_bytes == len(content)
    assert exported.nodes == len(onnx.load_from_string(content).graph.node)
    for trace in (str(Path(__file__).parents[2]).encode(), b"stack_trace", b"convlstm.py", b"dual_transformer.py"):
        assert trace not in content


def test_onnxruntime_agrees_with_pytorch_on_the_visual_graph(visual: tuple[ConvLSTMEncoder, ExportedGraph]) -> None:
    encoder, exported = visual
    assert_describes_the_file_and_not_the_machine(exported)
    with OnnxRuntimeEngine(exported.path, threads=1) as engine:
        assert (engine.inputs, engine.outputs) == visual_specs(encoder.config)
        rows = visual_parity(visual_engine(encoder), engine)
    assert [row for row in rows if not row.passed] == []


def test_onnxruntime_agrees_with_pytorch_on_the_fusion_graph(
    fusion: tuple[DualTransformer, ExportedGraph],
) -> None:
    model, exported = fusion
    assert_describes_the_file_and_not_the_machine(exported)
    with OnnxRuntimeEngine(exported.path, threads=1) as engine:
        assert (engine.inputs, engine.outputs) == fusion_specs(model.config)
        rows = fusion_parity(fusion_engine(model), engine)
    assert [row for row in rows if not row.passed] == []


def test_an_export_is_silent_repeatable_and_without_dropout(
    small_fusion: tuple[DualTransformer, ExportedGraph], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, evaluating = small_fusion
    assert export_fusion(model.train(), tmp_path / "training.onnx").path.read_bytes() == evaluating.path.read_bytes()
    assert model.training
    model.eval()
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nowhere"):
        export_visual(ConvLSTMEncoder(TINY_ENCODER), tmp_path / "nowhere" / "visual.onnx")


class Broken(DualTransformer):
    def forward(self, *inputs: Tensor) -> FusionOutput:
        raise ValueError("this model has no forward")


def test_a_model_that_does_not_export_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot export Broken"):
        export_fusion(Broken(SMALL_FUSION), tmp_path / "fusion.onnx")


INPUTS = (TensorSpec("frames", "uint8", ("batch", 2)),)
OUTPUTS = (TensorSpec("out", "float32", ("batch", 2)),)


def tiny_graph(*, opset: int = 18) -> onnx.ModelProto:
    """Uint8 (batch, 2) -> Cast -> Abs -> float32 (batch, 2)."""
    nodes = [helper.make_node("Cast", ["frames"], ["x"], to=TensorProto.FLOAT), helper.make_node("Abs", ["x"], ["out"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.output[0].name = "result"


def fix_batch(model: onnx.ModelProto) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def unwire(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "nowhere"


def contradict(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3


def put_isnan(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("IsNaN", ["x"], ["unused"]))


def feed_bytes_elsewhere(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["frames"], ["unused"]))


def test_a_sound_graph_passes_the_checks() -> None:
    check_graph(tiny_graph(), INPUTS, OUTPUTS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rename_output, "expected outputs out.*got result"),
        (fix_batch, "expected inputs frames"),
        (unwire, "not valid ONNX"),
        (contradict, "not valid ONNX"),
        (put_isnan, "not every backend runs: IsNaN"),
        (feed_bytes_elsewhere, "uint8 feeds Identity"),
    ],
)
def test_a_spoilt_graph_is_refused(spoil: Callable[[onnx.ModelProto], None], message: str) -> None:
    model = tiny_graph()
    spoil(model)
    with pytest.raises(EngineError, match=message):
        check_graph(model, INPUTS, OUTPUTS)


def test_another_opset_is_refused() -> None:
    with pytest.raises(EngineError, match="opset: expected 18 to 22, got 17"):
        check_graph(tiny_graph(opset=17), INPUTS, OUTPUTS)
