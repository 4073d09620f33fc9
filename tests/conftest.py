"""Fixtures that several folders share: where the media is, and one model taken the whole way from made clips to a bundle."""

import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Tests run side by side, one a CPU: threads of PyTorch and scikit-learn that wait for each other would spin on the others' CPUs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _own_start_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between starts stays out of the user's cache, and out of other runs of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHORTCAST_CACHE", str(tmp_path_factory.mktemp("start-cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips, speech and labels; a clone without them skips, visibly."""
    if not SHARED.is_dir():
        message = "the real clips of ../shared/data are not here"
        pytest.fail(message) if os.environ.get("SHORTCAST_REQUIRE_SHARED") else pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def sample() -> Path:
    return ROOT / "samples" / "sample.mp4"


@pytest.fixture(scope="session")
def short(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two chunks of the sample, the same packets: for tests of what happens around scoring."""
    import av

    path = tmp_path_factory.mktemp("short") / "short.mp4"
    with av.open(str(sample)) as whole, av.open(str(path), "w") as cut:
        streams = [*whole.streams.video, *whole.streams.audio]
        copies = {stream.index: cut.add_stream_from_template(stream) for stream in streams}
        for packet in whole.demux(streams):
            if packet.dts is not None and packet.pts * packet.time_base < 4:
                packet.stream = copies[packet.stream.index]
                cut.mux(packet)
    return path


@pytest.fixture(scope="session")
def demo() -> Path:
    return ROOT / "samples" / "demo.shortcast"


@pytest.fixture(scope="session")
def trt() -> Any:
    """TensorRT-RTX; a machine without it skips, visibly."""
    try:
        import tensorrt_rtx
    except ImportError:
        message = 'TensorRT-RTX is not here: pip install "shortcast[tensorrt-rtx]"'
        pytest.fail(message) if os.environ.get("SHORTCAST_REQUIRE_TENSORRT_RTX") else pytest.skip(message)
    return tensorrt_rtx


@dataclass(frozen=True)
class FakeGpu:
    """A GPU that is not there: see `fake_gpu.py`."""

    fake: ModuleType
    cuda: Any
    tensorrt: Any
    tensorrt_rtx: Any

    def trt(self, flavour: str) -> Any:
        return getattr(self, flavour)


@pytest.fixture(scope="session")
def fake_gpu_module(trt: Any) -> ModuleType:
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    spec = importlib.util.spec_from_file_location("fake_gpu", ROOT / "tests" / "fake_gpu.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_gpu"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(fake_gpu_module: ModuleType, trt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    """A fake GPU with fakes of both TensorRTs on it, in place of the real modules."""
    cuda = fake_gpu_module.FakeCuda()
    plain = fake_gpu_module.FakeTensorRT(cuda, trt, "tensorrt", "10.16.1.11")
    rtx = fake_gpu_module.FakeTensorRT(cuda, trt, "tensorrt_rtx", "1.7.1.116")
    for name, module in (("cuda.bindings.runtime", cuda), ("tensorrt", plain), ("tensorrt_rtx", rtx)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return FakeGpu(fake_gpu_module, cuda, plain, rtx)


@pytest.fixture(scope="session")
def bundle_with_engines(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The demo bundle with engines for the fake GPU; made once for each flavour and set of precisions."""
    made: dict[tuple[object, ...], Path] = {}

    def make(flavour: str = "tensorrt", precisions: tuple[str, ...] = ("fp32", "fp16"), version: str = "", gpu: str = "Fake GPU") -> Path:
        key = (flavour, precisions, version, gpu)
        if key not in made:
            path = tmp_path_factory.mktemp("engines") / "demo.shortcast"
            shutil.copytree(demo, path)
            add_engines(path, flavour, precisions, version, gpu)
            made[key] = path
        return made[key]

    return make


def add_engines(path: Path, flavour: str, precisions: tuple[str, ...], version: str, gpu: str) -> None:
    from shortcast.export.manifest import write_manifest
    from shortcast.runtime.bundle import Bundle
    from shortcast.runtime.engine_cache import write_engine
    from shortcast.runtime.engine_record import Attestation, EngineKey, EngineRecord, Profile, this_platform

    rtx = flavour == "tensorrt_rtx"
    manifest = Bundle.open(path).manifest
    for precision in precisions:
        for graph, dims in (("visual", {}), ("fusion", {"chunks": (1, 32, 256)})):
            onnx = path / "onnx" / f"{graph}.{precision}.onnx"
            plan = b"fake plan of " + str(onnx).encode()
            key = EngineKey(
                graph=graph,
                precision=precision,
                onnx_sha256=hashlib.sha256(onnx.read_bytes()).hexdigest(),
                profiles=(Profile.of(batch=(1, 1, 8), **dims),),
                flags=("strongly_typed",),
                flavour=flavour,
                version=version or ("1.7.1.116" if rtx else "10.16.1.11"),
                gpu="" if rtx else gpu,
                compute_capabilities=("8.6", "8.9") if rtx else ("8.9",),
                platform=this_platform(),
            )
            half = 10 if precision == "fp16" else 0
            record = EngineRecord(
                key=key,
                plan="engine.plan",
                bytes=len(plan),
                sha256=hashlib.sha256(plan).hexdigest(),
                network=Attestation("network", half, 10, 0, 4, ()),
                engine=None,
                seconds=0.5,
                log=(),
            )
            write_engine(path / "engines", plan, record)
    write_manifest(manifest, path)


@dataclass(frozen=True)
class Trained:
    """A model trained for a moment on a handful of made clips: every part is real, only its figures are poor."""

    manifest: Path
    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The exporter gets a graph it has traced before where it asks for the same weights: PyTorch takes half a minute for each.

    A length strategy leaves no trace in the graph; were that to change, scores would differ from PyTorch's and tests would fail.
    `export_visual` and `export_fusion` themselves, which tests/export/test_onnx.py is about, trace every time.
    """
    from shortcast.export import exporter

    folder, traced = tmp_path_factory.mktemp("traced"), {}

    def once(export: Callable[[Any, Path], Any]) -> Callable[[Any, Path], Any]:
        def export_or_copy(module: Any, path: Path) -> Any:
            config = replace(module.config, strategy="pad") if hasattr(module.config, "strategy") else module.config
            weights = hashlib.sha256(repr((type(module), config)).encode())
            for name, value in module.state_dict().items():
                weights.update(name.encode() + value.numpy().tobytes())
            key = weights.hexdigest()
            if key not in traced:
                traced[key] = export(module, folder / f"{key}.onnx")
            shutil.copy(traced[key].path, path)
            return replace(traced[key], path=path)

        return export_or_copy

    with pytest.MonkeyPatch.context() as patch:
        for name in ("export_visual", "export_fusion"):
            patch.setattr(exporter, name, once(getattr(exporter, name)))
        yield


@pytest.fixture(scope="session")
def trained(traced_once: None, tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Trained:
    from shortcast.export.exporter import ExportOptions, export_bundle
    from shortcast.training.fit_autoencoder import AutoencoderOptions
    from shortcast.training.fit_regressor import RegressorOptions
    from shortcast.training.synth import synthesise
    from shortcast.training.train import train
    from shortcast.training.train_options import TrainOptions

    folder = tmp_path_factory.mktemp("trained")
    manifest = synthesise(folder / "clips", clips=20, seed=3, jobs=2)
    options = TrainOptions(
        autoencoder=AutoencoderOptions(epochs=1, chunks_per_epoch=32, validation_chunks=8),
        regressor=RegressorOptions(epochs=6),
    )
    train(manifest, folder / "model", options=options)
    export_bundle(folder / "model", folder / "model.shortcast", ExportOptions(golden_clip=sample))
    return Trained(manifest, folder / "model", folder / "model.shortcast")
