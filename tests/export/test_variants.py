"""Reduced precisions of the demo's own graphs; how fast they are is told here, not measured."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from shortcast.errors import GateError
from shortcast.export import variants
from shortcast.export.calibration import Calibration
from shortcast.export.speed import SpeedComparison
from shortcast.export.variants import make_variant, measurable, measurable_bundle
from shortcast.runtime.bundle import Bundle, graph_file
from shortcast.runtime.engines import Tensors
from shortcast.runtime.golden import Golden, load_golden


@pytest.fixture
def golden(demo: Path) -> Golden:
    return load_golden(demo / "golden" / "golden.npz")


@pytest.fixture
def root(demo: Path, tmp_path: Path) -> Path:
    """A bundle's directory with the float32 graphs alone."""
    (tmp_path / "onnx").mkdir()
    for graph in ("visual", "fusion"):
        shutil.copyfile(demo / graph_file(graph), tmp_path / graph_file(graph))
    return tmp_path


@pytest.fixture
def calibration(golden: Golden) -> Calibration:
    """Three golden chunks, each from a state of zeros, and random embeddings."""
    states = {name: np.zeros_like(values[:1]) for name, values in golden.states.items()}
    visual: list[Tensors] = [
        {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32), **states} for chunk in golden.chunks[:3]
    ]
    rng, ones = np.random.default_rng(0), np.ones((1, 4), np.float32)
    fusion: Tensors = {
        "visual": rng.normal(size=(1, 4, 128)).astype(np.float32),
        "audio": rng.normal(size=(1, 4, 384)).astype(np.float32),
        "visual_mask": ones,
        "audio_mask": ones,
        "chunk_mask": ones,
    }
    return Calibration(tuple(visual), (fusion,))


def say_how_fast(monkeypatch: pytest.MonkeyPatch, **of_float32: float) -> None:
    """Pretends that int8 takes so much of float32's time, by graph."""

    def told(reference: Path, *_: object, **__: object) -> SpeedComparison:
        return SpeedComparison((10.0,) * 10, (10.0 * of_float32[reference.name.split(".")[0]],) * 10, threads=1)

    monkeypatch.setattr(variants, "measure_speed", told)


def test_float16_is_made_of_both_graphs_and_says_what_it_left(root: Path, calibration: Calibration, golden: Golden) -> None:
    variant = make_variant(root, "fp16", calibration, golden.chunks[:2], say=pytest.fail)
    assert variant.graphs == {"visual": "fp16", "fusion": "fp16"}
    kept = variant.reports["visual"]["conversion"]["kept"]
    assert [node["reason"] for node in kept] == ["a head, the last product before embedding"]
    assert 1 < variant.reports["visual"]["largest_number"] < 10_000
    (embedding,) = (row for row in variant.reports["visual"]["drift"] if row["output"] == "embedding")
    assert embedding["steps"] == variants.DRIFT_CHUNKS
    assert 0 < embedding["free_max"] < 0.01 * embedding["scale"]


def test_int8_is_kept_where_it_is_faster(root: Path, calibration: Calibration, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    say_how_fast(monkeypatch, visual=0.5, fusion=1.2)
    said: list[str] = []
    variant = make_variant(root, "int8", calibration, golden.chunks[:2], say=said.append)
    assert variant.graphs == {"visual": "int8", "fusion": "fp32"}
    assert variant.reports["visual"]["speed"]["ratio"] == pytest.approx(0.5)
    assert len(said) == 1
    assert "fusion" in said[0]
    assert "1.20 of its time" in said[0]
    assert sorted(path.name for path in (root / "onnx").iterdir()) == ["fusion.fp32.onnx", "visual.fp32.onnx", "visual.int8.onnx"]


def test_int8_that_is_faster_nowhere_is_refused(
    root: Path, calibration: Calibration, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_how_fast(monkeypatch, visual=1.0, fusion=1.2)
    with pytest.raises(GateError, match=r"int8 pays for neither graph.*visual.*fusion"):
        make_variant(root, "int8", calibration, golden.chunks[:2], say=pytest.fail)
    assert sorted(path.name for path in (root / "onnx").iterdir()) == ["fusion.fp32.onnx", "visual.fp32.onnx"]


def test_a_float16_graph_is_measured_with_its_rounding_spelt_out(demo: Path) -> None:
    with measurable(demo / graph_file("visual", "fp16")) as spelt_out:
        assert spelt_out != demo / graph_file("visual", "fp16")
        assert not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in onnx.load(spelt_out).graph.initializer)
    with measurable(demo / graph_file("visual")) as itself:
        assert itself == demo / graph_file("visual")


def test_a_bundle_to_measure_is_a_whole_bundle(demo: Path) -> None:
    with measurable_bundle(demo, "fp16") as copy:
        assert Bundle.open(copy).manifest.variants == Bundle.open(demo).manifest.variants
    assert not copy.exists()
    with measurable_bundle(demo, "int8") as itself:
        assert itself == demo
