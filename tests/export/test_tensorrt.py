"""Building engines for real, with TensorRT-RTX; `tensorrt` itself is stood in for by the same module, up to what needs a GPU."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from shortcast.errors import EngineError, GateError
from shortcast.export import tensorrt
from shortcast.export.float16 import to_float16
from shortcast.export.nodes import compute_nodes
from shortcast.export.tensorrt import BuildOptions, build_engine
from shortcast.export.trt_gpu import Gpu
from shortcast.export.trt_network import parse_network
from shortcast.runtime.engine_cache import find_engine, read_record
from shortcast.runtime.engine_record import EngineRecord, Profile
from shortcast.runtime.engines.tensorrt_log import build_log

MakeGraph = Callable[..., Path]
NO_OPS = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops in TensorRT-RTX:DeprecationWarning")


@pytest.fixture(scope="module")
def built(trt: Any, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, EngineRecord]]:
    """Both graphs of the demo bundle in float32, and the dual Transformer in float16 too."""
    out = tmp_path_factory.mktemp("engines")
    options = BuildOptions(compute_capabilities=("8.9", "8.6", "8.9"), workspace_bytes=1 << 30)
    records = {name: build_engine(demo / "onnx" / f"{name}.fp32.onnx", out, options) for name in ("visual", "fusion")}
    half, report = to_float16(onnx.load(demo / "onnx" / "fusion.fp32.onnx"))
    path = tmp_path_factory.mktemp("onnx") / "fusion.fp16.onnx"
    onnx.save(half, path)
    reasons = {node.name: node.reason for node in report.kept}
    records["fusion.fp16"] = build_engine(path, out, replace(options, precision="fp16"), reasons=reasons)
    return out, records


def test_an_engine_lies_beside_its_record(built: tuple[Path, dict[str, EngineRecord]], trt: Any) -> None:
    out, records = built
    tag = f"tensorrt_rtx-{'.'.join(trt.__version__.split('.')[:3])}-sm86-sm89"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.is_file()) == [
        f"{tag}-{engine}/{name}" for engine in ("fp16/fusion", "fp32/fusion", "fp32/visual") for name in ("build.json", "engine.plan")
    ]
    for record in records.values():
        plan = find_engine(out, record.key)
        assert hashlib.sha256(plan.read_bytes()).hexdigest() == record.sha256
        assert read_record(plan.parent) == record
        assert json.loads((plan.parent / "build.json").read_text())["engine"] is None
        assert record.log == ()


def test_the_key_says_what_the_engine_depends_on(built: tuple[Path, dict[str, EngineRecord]], demo: Path, trt: Any) -> None:
    key = built[1]["visual"].key
    assert (key.graph, key.precision, key.flavour, key.version, key.gpu) == ("visual", "fp32", "tensorrt_rtx", trt.__version__, "")
    assert key.onnx_sha256 == hashlib.sha256((demo / "onnx" / "visual.fp32.onnx").read_bytes()).hexdigest()
    assert key.compute_capabilities == ("8.6", "8.9")
    assert key.flags == ("optimisation_level=3", "require_user_allocation", "strongly_typed", "tf32_off", "workspace_bytes=1073741824")
    assert key.profiles == (Profile.of(batch=(1, 1, 8)),)
    assert built[1]["fusion"].key.profiles == (Profile.of(batch=(1, 1, 8), chunks=(1, 32, 256)),)


def test_precision_is_attested(built: tuple[Path, dict[str, EngineRecord]], demo: Path) -> None:
    nodes = {name: len(compute_nodes(onnx.load(demo / "onnx" / f"{name}.fp32.onnx"))) for name in ("visual", "fusion")}
    visual, fusion, half = (built[1][name].attestation for name in ("visual", "fusion", "fusion.fp16"))
    assert {found.source for found in (visual, fusion, half)} == {"network"}
    assert (visual.half_layers, visual.compute_layers) == (0, nodes["visual"])
    assert (fusion.half_layers, fusion.compute_layers) == (0, nodes["fusion"])
    assert half.compute_layers == nodes["fusion"]
    assert half.half_layer_share > 0.8
    assert half.half_weight_share > 0.8
    assert half.float32_layers
    assert all(layer.reason for layer in half.float32_layers)


def test_weights_are_counted_as_tensorrt_counts_them(built: tuple[Path, dict[str, EngineRecord]], demo: Path) -> None:
    initializers = onnx.load(demo / "onnx" / "visual.fp32.onnx").graph.initializer
    stored = sum(len(tensor.raw_data) for tensor in initializers if tensor.data_type == onnx.TensorProto.FLOAT)
    assert built[1]["visual"].network.weight_bytes == pytest.approx(stored, rel=0.01)


@pytest.mark.parametrize(("half", "declared"), [(False, "fp16"), (True, "fp32")])
def test_a_graph_that_is_not_what_it_is_declared_to_be_makes_no_engine(
    trt: Any, product_graph: MakeGraph, tmp_path: Path, half: bool, declared: str
) -> None:
    with pytest.raises(GateError, match=f"declared {declared}"):
        build_engine(product_graph(half=half), tmp_path / "engines", BuildOptions(precision=declared))
    assert not (tmp_path / "engines").exists()


def test_the_builder_is_told_what_the_options_say(trt: Any, product_graph: MakeGraph) -> None:
    log = build_log(trt)
    options = BuildOptions(compute_capabilities=("8.9", "8.6"), workspace_bytes=1 << 20, optimisation_level=1)
    with log.collecting():
        parsed = parse_network(trt, log, product_graph())
        config = tensorrt._config(trt, parsed, options, (Profile.of(batch=(1, 2, 8)),))
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert not config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.builder_optimization_level == 1
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 20
    assert config.num_optimization_profiles == 1
    assert [config.get_compute_capability(index).name for index in range(config.num_compute_capabilities)] == ["SM86", "SM89"]


def test_no_torch_is_needed_to_build(trt: Any, product_graph: MakeGraph, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shortcast.export.tensorrt import BuildOptions, build_engine\n"
        "build_engine(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions())\n"
        "print({'torch', 'tensorrt'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, str(product_graph()), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr


def test_several_profiles_make_one_engine(trt: Any, product_graph: MakeGraph, tmp_path: Path) -> None:
    profiles = (Profile.of(batch=(1, 1, 1)), Profile.of(batch=(2, 8, 32)))
    record = build_engine(product_graph(), tmp_path, BuildOptions(profiles=profiles))
    assert record.key.profiles == profiles


def test_turing_takes_half_products_only(trt: Any, product_graph: MakeGraph, tmp_path: Path) -> None:
    turing = BuildOptions(compute_capabilities=("7.5",))
    with pytest.raises(EngineError, match=r"Turing \(SM75\): FP32 GEMM is not supported"):
        build_engine(product_graph(), tmp_path, turing)
    record = build_engine(product_graph("product.fp16.onnx", half=True), tmp_path, replace(turing, precision="fp16"))
    assert record.key.tag.endswith("sm75-fp16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "cuda"}, "one of tensorrt, tensorrt-rtx"),
        ({"optimisation_level": 6}, "expected 0 to 5, got 6"),
        ({"attestation_threshold": 0.0}, "above 0 and up to 1"),
        ({"compute_capabilities": ()}, "none is given"),
        ({"compute_capabilities": ("9.0",)}, "does not build for compute capability 9.0; it knows 7.5, 8.0"),
        ({"timing_cache": Path("x")}, "no timing cache"),
        ({"precision": "int8"}, "fp32 and fp16"),
        ({"profiles": ()}, "no optimisation profile"),
        ({"target": "tensorrt", "compute_capabilities": ("8.6",)}, "--target tensorrt-rtx"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(
    trt: Any, product_graph: MakeGraph, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        build_engine(product_graph(), tmp_path / "engines", BuildOptions(**change))
    assert not (tmp_path / "engines").exists()


HALF_GEMM = {
    "Name": "product_myl0_0",
    "LayerType": "gemm",
    "Inputs": [{"Name": "x16", "Dimensions": [1, 4], "Format/Datatype": "Half"}],
    "Outputs": [{"Name": "y16", "Dimensions": [1, 3], "Format/Datatype": "Half"}],
    "TacticName": "sm90_xmma_gemm_f16f16_f16f16_f16_nn_n",
    "Metadata": "[ONNX Layer: product]",
}


class Inspected:
    """A runtime that loads every plan into an engine whose inspector answers as told; None loads none."""

    def __init__(self, layers: list[Any] | None) -> None:
        self.layers = layers

    def __call__(self, logger: Any) -> Any:
        return self

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return None if self.layers is None else self

    def create_engine_inspector(self) -> Any:
        return self

    def get_engine_information(self, form: Any) -> str:
        return json.dumps({"Layers": self.layers, "Bindings": []})


@pytest.fixture
def on_a_gpu(trt: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """TensorRT-RTX's builder under TensorRT's name, with a GPU and a runtime that aren't there."""

    def stand_in(layers: list[Any] | None) -> None:
        module = ModuleType("tensorrt")
        vars(module).update({**vars(trt), "Runtime": Inspected(layers)})
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.setattr(tensorrt, "current_gpu", lambda: Gpu("NVIDIA H100 80GB HBM3", "9.0"))

    return stand_in


FOR_THIS_GPU = BuildOptions(target="tensorrt", precision="fp16")


def test_on_a_gpu_the_engine_is_read_back(on_a_gpu: Callable[..., None], product_graph: MakeGraph, tmp_path: Path) -> None:
    on_a_gpu([HALF_GEMM])
    record = build_engine(product_graph("product.fp16.onnx", half=True), tmp_path, FOR_THIS_GPU)
    assert record.attestation.source == "engine"
    assert record.attestation.half_layers == 1
    assert record.network.source == "network"
    assert record.key.tag.endswith("-nvidia-h100-80gb-hbm3-sm90-fp16")
    assert (record.key.gpu, record.key.compute_capabilities) == ("NVIDIA H100 80GB HBM3", ("9.0",))


def test_an_engine_that_came_out_float32_is_not_kept(on_a_gpu: Callable[..., None], product_graph: MakeGraph, tmp_path: Path) -> None:
    on_a_gpu([{**HALF_GEMM, "TacticName": "ampere_sgemm_128x64_tn"}])
    with pytest.raises(GateError, match="read from the engine"):
        build_engine(product_graph("product.fp16.onnx", half=True), tmp_path / "engines", FOR_THIS_GPU)
    assert not (tmp_path / "engines").exists()


def test_an_engine_that_shows_no_compute_layer_leaves_the_network_to_attest(
    on_a_gpu: Callable[..., None], product_graph: MakeGraph, tmp_path: Path
) -> None:
    on_a_gpu([])
    record = build_engine(product_graph("product.fp16.onnx", half=True), tmp_path, FOR_THIS_GPU)
    assert record.engine is None
    assert record.attestation.source == "network"
    assert any("inspector" in line for line in record.log)


def test_an_engine_that_does_not_load_is_an_error(on_a_gpu: Callable[..., None], product_graph: MakeGraph, tmp_path: Path) -> None:
    on_a_gpu(None)
    with pytest.raises(EngineError, match="does not load on the same GPU"):
        build_engine(product_graph("product.fp16.onnx", half=True), tmp_path / "engines", FOR_THIS_GPU)
    assert not (tmp_path / "engines").exists()


@NO_OPS
def test_a_timing_cache_is_written_and_read(on_a_gpu: Callable[..., None], product_graph: MakeGraph, tmp_path: Path) -> None:
    on_a_gpu([HALF_GEMM])
    options = replace(FOR_THIS_GPU, timing_cache=tmp_path / "timings")
    graph = product_graph("product.fp16.onnx", half=True)
    assert build_engine(graph, tmp_path / "engines", options).log == ()
    assert (tmp_path / "timings").is_file()
    build_engine(graph, tmp_path / "engines", options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engines", "product.fp16.onnx", "timings"]


@NO_OPS
def test_a_timing_cache_that_cannot_be_read_or_written_is_an_error(
    on_a_gpu: Callable[..., None], product_graph: MakeGraph, tmp_path: Path
) -> None:
    on_a_gpu([HALF_GEMM])
    graph = product_graph("product.fp16.onnx", half=True)
    for path in (tmp_path, tmp_path / "nowhere" / "timings"):
        with pytest.raises(EngineError, match="timing cache"):
            build_engine(graph, tmp_path / "engines", replace(FOR_THIS_GPU, timing_cache=path))
    assert not (tmp_path / "engines").exists()


def test_without_a_gpu_the_way_without_one_is_named_before_tensorrt_is_missed(
    product_graph: MakeGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Gpu:
        raise EngineError("no GPU is here; `--target tensorrt-rtx` builds anywhere")

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(tensorrt, "current_gpu", none)
    with pytest.raises(EngineError, match="--target tensorrt-rtx"):
        build_engine(product_graph(), tmp_path, BuildOptions(target="tensorrt"))
