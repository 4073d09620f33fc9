"""The exporter on a trained model: a bundle that proves itself, or none."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shortcast.errors import BundleError, CheckpointError, MediaError, ParityError
from shortcast.export import exporter
from shortcast.export.exporter import ExportOptions, export_bundle
from shortcast.export.manifest import write_manifest
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.golden import load_golden, save_golden
from shortcast.runtime.proof import PrecisionProof, save_proof_clips
from shortcast.runtime.verify import VerifyOptions, verify

if TYPE_CHECKING:
    from tests.conftest import Trained


CHECKS = {
    "preprocessing",
    "golden visual",
    "golden fusion",
    "golden visual batch",
    "golden sound",
    "stream equals batch",
    "decisions",
}


def test_the_bundle_says_what_it_is(trained: "Trained") -> None:
    bundle = Bundle.open(trained.bundle)
    proof = bundle.parity_report()["fp32"]
    assert {row.check.split(",")[0] for row in proof.rows} == {"visual", "fusion", *CHECKS}
    assert all(row.passed for row in proof.rows)
    assert {stage.stage for stage in proof.stages} == {"visual", "sound", "fusion", "all"}
    visual = bundle.manifest.graphs["visual"]["fp32"]
    assert visual.declared == "fp32"
    assert {name for name in visual.weight_bytes if name.startswith("float")} == {"float32"}
    assert bundle.manifest.provenance["versions"]["torch"]
    assert len(bundle.manifest.provenance["checkpoint_sha256"]) == 64


def test_nothing_of_the_exporting_machine_is_in_the_graphs(trained: "Trained") -> None:
    for graph in (trained.bundle / "onnx").iterdir():
        assert str(Path(__file__).parents[2]).encode() not in graph.read_bytes()


def test_verify_agrees_and_has_no_empty_check(trained: "Trained") -> None:
    proof = verify(Bundle.open(trained.bundle))
    assert all(row.passed for row in proof.rows)
    assert {row.check.split(",")[0] for row in proof.rows} == CHECKS
    assert proof.decision
    assert proof.decision.clips == len(Bundle.open(trained.bundle).proof_clips()) >= 3
    assert PrecisionProof.from_json(json.loads(json.dumps(proof.to_json()))) == proof


def test_without_sound_the_stages_that_need_no_weights_are_verified(trained: "Trained") -> None:
    proof = verify(Bundle.open(trained.bundle), VerifyOptions(sound=False))
    assert {row.check.split(",")[0] for row in proof.rows} == CHECKS - {"golden sound", "stream equals batch", "decisions"}
    assert proof.decision is None


@pytest.mark.parametrize(
    ("array", "check"),
    [("visual", "golden visual"), ("audio", "golden sound"), ("fusion.score", "golden fusion"), ("mel", "preprocessing")],
)
def test_verify_finds_outputs_that_are_not_the_golden_ones(trained: "Trained", tmp_path: Path, array: str, check: str) -> None:
    """The golden data is altered and the hashes made right again, as if another machine had computed something else."""
    copy = rewritten(trained.bundle, tmp_path / "copy.shortcast", array)
    failed = {row.check.split(",")[0] for row in verify(Bundle.open(copy)).rows if not row.passed}
    assert check in failed


@pytest.mark.parametrize(("array", "stage"), [("visual", "visual"), ("audio", "sound"), ("z", "all")])
def test_the_stage_that_brings_an_error_in_is_named(trained: "Trained", tmp_path: Path, array: str, stage: str) -> None:
    """A reference that heard or saw something else: the score is off, and the blame falls where it belongs."""
    copy = Path(shutil.copytree(trained.bundle, tmp_path / "copy.shortcast"))
    clips = Bundle.open(copy).proof_clips()
    changed = [replace(clip, **{array: getattr(clip, array) + np.float32(0.5)}) for clip in clips]
    save_proof_clips(changed, copy / "golden" / "clips.npz")
    write_manifest(Bundle.open(trained.bundle).manifest, copy)
    proof = verify(Bundle.open(copy))
    errors = {error.stage: error.worst for error in proof.stages}
    alone = {name: error for name, error in errors.items() if name != "all"}
    if stage == "all":
        assert {row.check for row in proof.rows if not row.passed} >= {"decisions"}
        assert min(alone.values()) > 0.4
    else:
        # The reference's score was made from the true embeddings, so every mixture that uses the altered ones is off; this stage is not.
        assert alone[stage] == min(alone.values())
        assert alone[stage] < 1e-3 < max(alone.values())


def rewritten(bundle: Path, copy: Path, array: str) -> Path:
    shutil.copytree(bundle, copy)
    golden = load_golden(copy / "golden" / "golden.npz")
    name, _, part = array.partition(".")
    values: Any = getattr(golden, name)
    changed = {**values, part: values[part] + np.float32(0.01)} if part else values + np.float32(0.01)
    save_golden(replace(golden, **{name: changed}), copy / "golden" / "golden.npz")
    write_manifest(Bundle.open(bundle).manifest, copy)
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
    assert all(row["tolerance"]["reason"] for proof in report["proofs"] for row in proof["rows"])
