"""The exporter on a trained model: a bundle that proves itself, or none."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shortcast.errors import BundleError, CheckpointError, MediaError, ParityError
from shortcast.export import exporter
from shortcast.export.exporter import ExportOptions, export_bundle
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.golden import load_golden, save_golden
from shortcast.runtime.verify import verify

if TYPE_CHECKING:
    from tests.conftest import Trained


def test_the_bundle_says_what_it_is(trained: "Trained") -> None:
    bundle = Bundle.open(trained.bundle)
    assert {row.check.split(",")[0] for row in bundle.parity_report()} == {"visual", "fusion"}
    assert all(row.passed for row in bundle.parity_report())
    visual = bundle.manifest.graphs["visual"]["fp32"]
    assert visual["precision"]["declared"] == "fp32"
    floats = {name: count for name, count in visual["precision"]["measured"].items() if name.startswith("float")}
    assert set(floats) == {"float32"}
    assert bundle.manifest.provenance["versions"]["torch"]
    assert len(bundle.manifest.provenance["checkpoint_sha256"]) == 64


def test_nothing_of_the_exporting_machine_is_in_the_graphs(trained: "Trained") -> None:
    for graph in (trained.bundle / "onnx").iterdir():
        assert str(Path(__file__).parents[2]).encode() not in graph.read_bytes()


def test_verify_agrees_and_has_no_empty_check(trained: "Trained") -> None:
    rows = list(verify(Bundle.open(trained.bundle)))
    assert all(row.passed for row in rows)
    assert {row.check.split(",")[0] for row in rows} == {"golden visual", "golden fusion", "golden sound", "golden stream equals batch"}


@pytest.mark.parametrize(("array", "check"), [("visual", "golden visual"), ("audio", "golden sound"), ("fusion.score", "golden fusion")])
def test_verify_finds_outputs_that_are_not_the_golden_ones(trained: "Trained", tmp_path: Path, array: str, check: str) -> None:
    """The golden data is altered and the hashes made right again, as if another machine had computed something else."""
    copy = rewritten(trained.bundle, tmp_path / "copy.shortcast", array)
    failed = {row.check.split(",")[0] for row in verify(Bundle.open(copy)) if not row.passed}
    assert check in failed


def rewritten(bundle: Path, copy: Path, array: str) -> Path:
    import shutil
    from dataclasses import replace

    from shortcast.runtime.bundle import describe_file

    shutil.copytree(bundle, copy)
    golden = load_golden(copy / "golden" / "golden.npz")
    name, _, part = array.partition(".")
    values: Any = getattr(golden, name)
    changed = {**values, part: values[part] + np.float32(0.01)} if part else values + np.float32(0.01)
    save_golden(replace(golden, **{name: changed}), copy / "golden" / "golden.npz")
    manifest = Bundle.open(bundle).manifest
    files = tuple(describe_file(copy, file.path, file.role) for file in manifest.files)
    (copy / "manifest.json").write_text(replace(manifest, files=files).with_id().dumps())
    return copy


def test_a_model_that_exports_wrongly_leaves_no_bundle(
    trained: "Trained", sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is made from other weights than the reference: parity must notice, and nothing may be left."""
    real = exporter.export_fusion

    def export_something_else(fusion: Any, path: Path) -> Any:
        from copy import deepcopy

        other = deepcopy(fusion)
        other.heads[2][0].bias.data += 0.5
        return real(other, path)

    monkeypatch.setattr(exporter, "export_fusion", export_something_else)
    with pytest.raises(ParityError, match="fusion") as caught:
        export_bundle(trained.checkpoint, tmp_path / "bad.shortcast", ExportOptions(golden_clip=sample))
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_not_replaced_without_force(trained: "Trained", sample: Path) -> None:
    before = Bundle.open(trained.bundle).manifest.id
    with pytest.raises(BundleError, match="--force"):
        export_bundle(trained.checkpoint, trained.bundle, ExportOptions(golden_clip=sample))
    assert Bundle.open(trained.bundle).manifest.id == before


@pytest.mark.parametrize("missing", ["checkpoint", "clip"])
def test_a_failed_export_leaves_nothing_and_keeps_what_was_there(trained: "Trained", sample: Path, tmp_path: Path, missing: str) -> None:
    out = tmp_path / "old.shortcast"
    out.mkdir()
    (out / "kept").touch()
    checkpoint = tmp_path / "none" if missing == "checkpoint" else trained.checkpoint
    clip = tmp_path / "none.mp4" if missing == "clip" else sample
    with pytest.raises((CheckpointError, MediaError)):
        export_bundle(checkpoint, out, ExportOptions(golden_clip=clip, force=True))
    assert [path.name for path in tmp_path.iterdir()] == ["old.shortcast"]
    assert (out / "kept").exists()


def test_the_parity_report_is_plain_json(trained: "Trained") -> None:
    report = json.loads((trained.bundle / "reports" / "parity.json").read_text())
    assert all(row["tolerance"]["reason"] for row in report["rows"])
