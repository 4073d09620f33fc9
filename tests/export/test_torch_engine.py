from collections.abc import Iterator

import numpy as np
import pytest
import torch

from shortcast.errors import EngineError
from shortcast.export.torch_engine import fusion_engine, visual_engine
from shortcast.models.convlstm import ConvLSTMEncoder, EncoderConfig
from shortcast.models.dual_transformer import DualTransformer, FusionConfig
from shortcast.runtime.engines import Engine, Tensors

ENCODER = EncoderConfig(
    frames_per_chunk=4, height=32, width=24, stem_channels=(8, 12), hidden_channels=(6, 5), pool_grid=(4, 3), embedding_dim=10
)
FUSION = FusionConfig(visual_dim=10, audio_dim=7, width=16, feedforward=16, dropout=0.9)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads spin at every small operator, which costs minutes where other work runs beside the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def zeros(engine: Engine, **sizes: int) -> Tensors:
    return {spec.name: np.zeros([sizes[d] if isinstance(d, str) else d for d in spec.shape], spec.dtype) for spec in engine.inputs}


@pytest.fixture
def visual() -> ConvLSTMEncoder:
    torch.manual_seed(0)
    return ConvLSTMEncoder(ENCODER)


@pytest.fixture
def fusion() -> DualTransformer:
    torch.manual_seed(0)
    return DualTransformer(FUSION)


def test_the_visual_engine_has_the_names_and_shapes_of_its_graph(visual: ConvLSTMEncoder) -> None:
    engine = visual_engine(visual)
    assert [str(spec) for spec in engine.inputs] == [
        "frames: uint8 (batch, 4, 32, 24, 3)",
        "frame_mask: float32 (batch, 4)",
        "h0: float32 (batch, 6, 8, 6)",
        "c0: float32 (batch, 6, 8, 6)",
        "h1: float32 (batch, 5, 8, 6)",
        "c1: float32 (batch, 5, 8, 6)",
    ]
    assert [spec.name for spec in engine.outputs] == ["embedding", "h0_out", "c0_out", "h1_out", "c1_out"]


def test_the_fusion_engine_has_the_names_of_its_graph(fusion: DualTransformer) -> None:
    engine = fusion_engine(fusion)
    assert [spec.name for spec in engine.inputs] == ["visual", "audio", "visual_mask", "audio_mask", "chunk_mask"]
    assert [spec.name for spec in engine.outputs] == ["score", "head_scores", "quantiles", "class_logits", "chunk_weights"]


def test_outputs_are_what_the_signature_says(visual: ConvLSTMEncoder, fusion: DualTransformer) -> None:
    sizes = {"batch": 3, "chunks": 5}
    for engine in (visual_engine(visual), fusion_engine(fusion)):
        outputs = engine.run(zeros(engine, **sizes))
        for spec in engine.outputs:
            assert outputs[spec.name].dtype == spec.dtype
            assert outputs[spec.name].shape == tuple(sizes.get(dim, dim) for dim in spec.shape)


def test_outputs_are_the_models_own(visual: ConvLSTMEncoder) -> None:
    engine = visual_engine(visual)
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(values.shape).astype(np.float32) for name, values in zeros(engine, batch=2).items()}
    feeds["frames"] = rng.integers(0, 256, feeds["frames"].shape, dtype=np.uint8)
    feeds["frame_mask"] = np.ones((2, 4), np.float32)
    tensors = {name: torch.from_numpy(values) for name, values in feeds.items()}
    with torch.inference_mode():
        embedding, state = visual(tensors["frames"], tensors["frame_mask"], tuple(tensors[name] for name in ("h0", "c0", "h1", "c1")))
    outputs = engine.run(feeds)
    np.testing.assert_array_equal(outputs["embedding"], embedding)
    for name, values in zip(("h0_out", "c0_out", "h1_out", "c1_out"), state, strict=True):
        np.testing.assert_array_equal(outputs[name], values)


def test_read_only_and_strided_feeds_are_taken(visual: ConvLSTMEncoder) -> None:
    engine = visual_engine(visual)
    feeds = zeros(engine, batch=1)
    expected = engine.run(feeds)["embedding"]
    feeds["frames"] = np.broadcast_to(np.uint8(0), feeds["frames"].shape)
    feeds["h0"] = np.zeros((1, 6, 8, 12), np.float32)[..., ::-2]
    np.testing.assert_array_equal(engine.run(feeds)["embedding"], expected)


def test_the_engine_keeps_the_weights_it_was_made_from(fusion: DualTransformer) -> None:
    engine = fusion_engine(fusion)
    feeds = zeros(engine, batch=1, chunks=2)
    before = engine.run(feeds)["score"]
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(engine.run(feeds)["score"], before)


def test_dropout_is_off_and_the_model_stays_in_training(fusion: DualTransformer) -> None:
    engine = fusion_engine(fusion.train())
    feeds = {name: values + 1 for name, values in zeros(engine, batch=1, chunks=6).items()}
    np.testing.assert_array_equal(engine.run(feeds)["score"], engine.run(feeds)["score"])
    assert fusion.training


def test_feeds_that_do_not_fit_are_refused(visual: ConvLSTMEncoder) -> None:
    engine = visual_engine(visual)
    feeds = zeros(engine, batch=1)
    with pytest.raises(EngineError, match=r"expected frames: uint8 \(batch, 4, 32, 24, 3\), got float32"):
        engine.run({**feeds, "frames": feeds["frames"].astype(np.float32)})


def test_a_closed_engine_does_not_run(visual: ConvLSTMEncoder) -> None:
    with visual_engine(visual) as engine:
        feeds = zeros(engine, batch=1)
    with pytest.raises(EngineError, match="closed"):
        engine.run(feeds)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_an_error(visual: ConvLSTMEncoder) -> None:
    with pytest.raises(EngineError, match="no CUDA device"):
        visual_engine(visual, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(visual: ConvLSTMEncoder) -> None:
    on_cpu, on_cuda = visual_engine(visual), visual_engine(visual, device="cuda")
    feeds = zeros(on_cpu, batch=2)
    for name, values in on_cuda.run(feeds).items():
        np.testing.assert_allclose(values, on_cpu.run(feeds)[name], atol=1e-5)
