"""The engines of a bundle, built by TensorRT-RTX without a GPU."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shortcast.errors import BundleError, EngineError, GateError
from shortcast.export.engines import rebuild_engines, require_target
from shortcast.export.manifest import describe_graph, write_manifest
from shortcast.export.tensorrt import BuildOptions
from shortcast.export.trt_build import BuildProgress
from shortcast.runtime.bundle import Bundle, graph_file
from shortcast.runtime.signature import SIGNATURE

ADA = BuildOptions(target="tensorrt-rtx", precision="fp16", compute_capabilities=("8.9",))


def silent(*_: object) -> None:
    pass


@pytest.fixture
def bundle(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "copy.shortcast"))


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_engines_join_a_bundle_and_are_built_again_where_something_changed(trt: Any, bundle: Path) -> None:
    (bundle / SIGNATURE).write_text("of what the bundle was")
    said: list[str] = []
    seen: list[tuple[str, BuildProgress]] = []
    rebuild_engines(bundle, ADA, say=said.append, progress=lambda graph, now: seen.append((graph, now)))
    opened = Bundle.open(bundle)
    engines = dict(opened.engines())
    assert {record.key.graph: record.attestation.half_layers for record in engines.values()} == {"visual": 35, "fusion": 60}
    assert all(layer.reason for record in engines.values() for layer in record.attestation.float32_layers)
    assert {file.role for file in opened.manifest.files if file.path.startswith("engines/")} == {"engine"}
    assert {graph for graph, _ in seen} == {"visual", "fusion"}
    assert not (bundle / SIGNATURE).exists()
    assert [text.split(":")[0] for text in said[:2]] == ["built the fp16 visual engine", "built the fp16 fusion engine"]
    assert "sign the bundle again" in said[2]

    said.clear()
    rebuild_engines(bundle, replace(ADA, compute_capabilities=("8.6",)), say=said.append, progress=silent)
    assert all("compute capabilities: built for 8.9, wanted 8.6" in text for text in said)
    assert {record.key.compute_capabilities for _, record in Bundle.open(bundle).engines()} == {("8.6",)}
    assert [folder.name.split("-")[2] for folder in (bundle / "engines").iterdir()] == ["sm86"]

    plan = next((bundle / "engines").rglob("*.plan"))
    damaged = bytearray(plan.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    plan.write_bytes(damaged)
    with pytest.raises(BundleError, match=rf"{plan.name} was altered"):
        Bundle.open(bundle)


def test_a_graph_that_says_fp16_and_is_float32_makes_no_engine(trt: Any, bundle: Path) -> None:
    """Hashes and manifest agree with the file; only its types are not what its name says."""
    manifest = Bundle.open(bundle).manifest
    shutil.copyfile(bundle / graph_file("visual"), bundle / graph_file("visual", "fp16"))
    secretly = {**manifest.graphs["visual"], "fp16": describe_graph(bundle, "visual", "fp16", {})}
    write_manifest(replace(manifest, graphs={**manifest.graphs, "visual": secretly}), bundle)
    before = content(bundle)
    with pytest.raises(GateError, match=r"0 of 36"):
        rebuild_engines(bundle, ADA, say=pytest.fail, progress=silent)
    assert content(bundle) == before


def test_an_interrupted_build_leaves_the_bundle_as_it_was(trt: Any, bundle: Path) -> None:
    before = content(bundle)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild_engines(bundle, ADA, say=silent, progress=interrupt)
    assert content(bundle) == before
    assert os.listdir(bundle.parent) == [bundle.name]


def test_a_precision_the_bundle_does_not_hold(trt: Any, bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    graphs = {name: {"fp32": files["fp32"]} for name, files in manifest.graphs.items()}
    for name in graphs:
        (bundle / graph_file(name, "fp16")).unlink()
    (bundle / graph_file("visual", "int8")).unlink()
    write_manifest(replace(manifest, graphs=graphs, variants={"fp32": manifest.variants["fp32"]}), bundle)
    with pytest.raises((BundleError, EngineError), match="fp16"):
        rebuild_engines(bundle, ADA, say=pytest.fail, progress=silent)


def test_no_torch_is_needed(trt: Any, bundle: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from shortcast.export.engines import rebuild_engines\n"
        "from shortcast.export.tensorrt import BuildOptions\n"
        "options = BuildOptions(target='tensorrt-rtx', precision='fp32', compute_capabilities=('8.9',))\n"
        "rebuild_engines(Path(sys.argv[1]), options, say=print, progress=lambda *_: None)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 of 36 compute layers half" in done.stdout


def test_where_no_gpu_is_the_other_target_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match="tensorrt-rtx"):
        require_target("tensorrt")
