"""One contract suite over every backend: an engine is its backend's business, its manners are not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import EngineError
from shortcast.runtime.engines import Engine, TensorSpec, check_feeds, open_engine
from shortcast.runtime.engines.fake import FakeEngine

INPUTS = (TensorSpec("frames", "uint8", ("batch", 4, 3)), TensorSpec("h", "float32", ("batch", 2)))


@pytest.fixture(scope="module")
def fusion_graph(demo: Path) -> Path:
    return demo / "onnx" / "fusion.fp32.onnx"


@pytest.fixture(params=["onnxruntime", "fake", "torch", "tensorrt", "tensorrt_rtx"])
def engine(request: pytest.FixtureRequest, fusion_graph: Path) -> Iterator[Engine]:
    """The fusion graph's signature on every backend."""
    if request.param.startswith("tensorrt"):
        gpu, bundle = request.getfixturevalue("gpu"), request.getfixturevalue("bundle_with_engines")(request.param)
        with open_engine(bundle / "onnx" / fusion_graph.name, backend="tensorrt") as on_gpu:
            yield on_gpu
        del on_gpu
        assert gpu.cuda.leaks() == {}
        return
    with open_engine(fusion_graph) as onnx:
        if request.param == "onnxruntime":
            yield onnx
        elif request.param == "fake":
            yield FakeEngine(onnx.inputs, onnx.outputs)
        else:
            from shortcast.export.torch_engine import fusion_engine
            from shortcast.models.dual_transformer import DualTransformer

            yield fusion_engine(DualTransformer())


def feeds(engine: Engine, *, batch: int = 1, chunks: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"batch": batch, "chunks": chunks}
    return {
        spec.name: np.abs(rng.standard_normal([sizes[d] if isinstance(d, str) else d for d in spec.shape])).astype(spec.dtype)
        for spec in engine.inputs
    }


def test_outputs_have_the_names_types_and_shapes_promised(engine: Engine) -> None:
    outputs = engine.run(feeds(engine, batch=2, chunks=5))
    sizes = {"batch": 2, "chunks": 5}
    assert list(outputs) == [spec.name for spec in engine.outputs]
    for spec in engine.outputs:
        assert outputs[spec.name].dtype.name == spec.dtype
        assert outputs[spec.name].shape == tuple(sizes[d] if isinstance(d, str) else d for d in spec.shape)


def test_the_same_feeds_give_the_same_outputs_and_are_left_alone(engine: Engine) -> None:
    given = feeds(engine)
    before = {name: values.copy() for name, values in given.items()}
    first, second = engine.run(given), engine.run(given)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    for name in given:
        np.testing.assert_array_equal(given[name], before[name])


def test_outputs_of_one_call_survive_the_next(engine: Engine) -> None:
    first = engine.run(feeds(engine))["score"]
    kept = first.copy()
    engine.run({name: values + values.dtype.type(1) for name, values in feeds(engine).items()})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("damage", ["missing", "extra", "type", "rank", "size", "dims differ"])
def test_feeds_that_do_not_fit_are_refused(engine: Engine, damage: str) -> None:
    given = feeds(engine)
    match damage:
        case "missing":
            del given["visual"]
        case "extra":
            given["surprise"] = given["visual"]
        case "type":
            given["visual"] = given["visual"].astype(np.float64)
        case "rank":
            given["visual"] = given["visual"][0]
        case "size":
            given["visual"] = given["visual"][..., 1:]
        case "dims differ":
            given["audio_mask"] = given["audio_mask"][:, 1:]
    with pytest.raises(EngineError, match="expected"):
        engine.run(given)


def test_a_message_says_what_was_expected_and_what_came() -> None:
    feeds = {"frames": np.zeros((1, 4, 3), np.float32), "h": np.zeros((1, 2), np.float32)}
    with pytest.raises(EngineError, match=r"expected frames: uint8 \(batch, 4, 3\), got float32 \(1, 4, 3\)"):
        check_feeds(INPUTS, feeds)


def test_a_closed_fake_engine_does_not_run() -> None:
    engine = FakeEngine(INPUTS, INPUTS)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda"}, "asked onnxruntime for CUDAExecutionProvider"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"backend": "abacus"}, "engine 'abacus' is unknown"),
    ],
)
def test_what_is_not_there_is_an_error_and_never_a_fallback(fusion_graph: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        open_engine(fusion_graph, **options)


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(EngineError, match="cannot load"):
        open_engine(tmp_path / "x.onnx")


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
@pytest.mark.parametrize("raises", [False, True])
def test_a_provider_that_is_listed_and_does_not_load_is_an_error(fusion_graph: Path, monkeypatch: pytest.MonkeyPatch, raises: bool) -> None:
    """onnxruntime-gpu without a driver lists CUDA; asked for it, it raises or takes the CPU instead, by version."""
    from shortcast.runtime.engines import onnxruntime as backend

    monkeypatch.setattr(backend.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    if raises:
        monkeypatch.setattr(backend.ort, "InferenceSession", _refuse)
    with pytest.raises(EngineError, match=r"it is installed but its libraries do not load.*shortcast doctor.*--device cpu"):
        open_engine(fusion_graph, device="cuda")
    assert "do not load" in backend.usable_devices()["cuda"]


def _refuse(*_: object, enable_fallback: int, **__: object) -> None:
    assert enable_fallback == 0
    raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient")


def test_the_two_packages_side_by_side_are_named_where_cuda_is_asked_for(fusion_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shortcast.runtime import onnxruntime_packages

    monkeypatch.setattr(onnxruntime_packages, "version", lambda name: "1.26.0")
    with pytest.raises(EngineError, match=r"overwrite each other; keep one: pip uninstall -y onnxruntime onnxruntime-gpu && pip install"):
        open_engine(fusion_graph, device="cuda")


def test_an_emptied_onnxruntime_is_named(fusion_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from shortcast.runtime.engines import onnxruntime as backend

    monkeypatch.setattr(backend, "ort", SimpleNamespace())
    with pytest.raises(EngineError, match=r"empty shell.*--force-reinstall"):
        open_engine(fusion_graph)
    assert "empty shell" in backend.usable_devices()["cpu"]
