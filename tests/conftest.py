"""Fixtures that several folders share: where the media is, and one model taken the whole way from made clips to a bundle."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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
class Trained:
    """A model trained for a moment on a handful of made clips: every part is real, only its figures are poor."""

    manifest: Path
    checkpoint: Path
    bundle: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Trained:
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
