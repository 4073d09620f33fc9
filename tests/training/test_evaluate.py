"""A small model on made features: nothing is decoded, everything is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcast.errors import CheckpointError, DataError
from shortcast.models.autoencoder import ConvLSTMAutoencoder, DecoderConfig
from shortcast.models.checkpoint import Checkpoint, save_checkpoint
from shortcast.models.convlstm import EncoderConfig
from shortcast.models.dual_transformer import DualTransformer, FusionConfig
from shortcast.runtime.contract import Contract, PictureContract
from shortcast.runtime.intervals import ConformalIntervals, IntervalMargin
from shortcast.runtime.target import Target
from shortcast.training.baseline_file import FittedBaselines, save_baselines
from shortcast.training.baselines import Constant
from shortcast.training.clips import ClipRow, write_manifest
from shortcast.training.dataset import ClipFeatures, FeatureStore, ReadyClip, file_sha256
from shortcast.training.evaluate import EvaluateOptions, evaluate_checkpoint
from shortcast.training.evaluation_report import EvaluationReport
from shortcast.training.metrics import REGRESSION_METRICS
from shortcast.training.overlap import TRAINED_CLIPS_FILE, TrainedClips
from shortcast.training.run import ProgressEvent, run_identity

CONTRACT = Contract(picture=PictureContract(fps=Fraction(2), height=32, width=16))
TARGET = Target("views", "log1p", 6.0, 2.0, (100.0, 400.0, 1600.0))
INTERVALS = ConformalIntervals(0.9, (IntervalMargin(1, 0.5, 20), IntervalMargin(None, 0.25, 20)))


RUN_CONFIG = {"split": {"train": ["c0", "c4"], "val": ["c1"], "test": []}}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def features(seed: int) -> ClipFeatures:
    """Two to four chunks of noise; the second clip has no pictures in its first chunk."""
    rng = np.random.default_rng(seed)
    chunks = 2 + seed % 3
    mask = np.ones((chunks, 4), dtype=bool)
    mask[0] = seed != 1
    sound = rng.normal(size=(chunks, 384)).astype(np.float32)
    frames = rng.integers(0, 256, size=(chunks, 4, 32, 16, 3), dtype=np.uint8)
    return ClipFeatures(frames, mask, np.zeros(chunks, dtype=np.int64), sound, np.ones(chunks, dtype=bool), 2.0 * np.arange(1, chunks + 1))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips whose features are in the cache beside them, two to an author, and one that is not there."""
    folder = tmp_path_factory.mktemp("clips")
    store = FeatureStore(folder / "features", CONTRACT)
    rows = []
    for index in range(12):
        path = folder / f"c{index}.mp4"
        path.write_bytes(b"clip %d" % index)
        store.save(file_sha256(path), features(index))
        split = ("train", "val", "test", "test")[index % 4]
        rows.append(ClipRow(f"c{index}", path, split, f"author {index // 2}", {"views": 3 ** (index + 1)}))
    rows.append(ClipRow("gone", folder / "gone.mp4", "test", None, {"views": 5}))
    return write_manifest(folder / "manifest.jsonl", rows)


@pytest.fixture(scope="module")
def checkpoint(manifest: Path) -> Path:
    encoder = EncoderConfig(
        frames_per_chunk=4, height=32, width=16, stem_channels=(4, 4, 4), hidden_channels=(4, 4), pool_grid=(2, 1), embedding_dim=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = DecoderConfig(hidden_channels=4, head_channels=4, coarse_windows=2, coarse_hidden=8)
        autoencoder = ConvLSTMAutoencoder.from_configs(encoder, decoder)
        fusion = DualTransformer(FusionConfig(visual_dim=8, width=8, heads=2, layers=1, feedforward=8))
    card = {
        "source": "noise made by a test",
        "manifest_sha256": file_sha256(manifest),
        "seed": 3,
        "run_sha256": run_identity(RUN_CONFIG),
        "split": {"kind": "given by the manifest", "train": 3, "val": 3, "test": 7},
    }
    out = manifest.parent / "model"
    save_checkpoint(Checkpoint(autoencoder, fusion, CONTRACT, TARGET, card, INTERVALS), out)
    return out


@pytest.fixture(scope="module")
def options(manifest: Path) -> EvaluateOptions:
    return EvaluateOptions(resamples=30, examples=2, features_dir=manifest.parent / "features", jobs=1, threads=1)


@pytest.fixture(scope="module")
def report(checkpoint: Path, manifest: Path, options: EvaluateOptions) -> EvaluationReport:
    return evaluate_checkpoint(checkpoint, manifest, options=options)


def test_the_test_part_is_measured_and_what_could_not_be_read_is_named(report: EvaluationReport) -> None:
    assert [clip.id for clip in report.clips] == ["c2", "c3", "c6", "c7", "c10", "c11"]
    assert [clip.id for clip in report.failed] == ["gone"]
    assert (report.part, report.split, report.authors) == ("test", "given by the manifest", 3)
    assert report.trained_on == "noise made by a test"
    assert (report.overlap.learned_from, report.overlap.chosen_by) == (0, 0)


def test_figures_are_those_of_the_clips(report: EvaluationReport) -> None:
    truth, predicted = (np.array([getattr(clip, name) for clip in report.clips]) for name in ("truth_z", "predicted_z"))
    model = next(figures for figures in report.predictors if figures.predictor == "pictures and sound")
    assert set(model.metrics) == set(REGRESSION_METRICS)
    assert model.metrics["mse"].estimate == pytest.approx(((truth - predicted) ** 2).mean())
    assert report.figures.whole_clip[0].mse == pytest.approx(((truth - predicted) ** 2).mean())
    assert [clip.truth for clip in report.clips] == pytest.approx([3.0 ** (int(clip.id[1:]) + 1) for clip in report.clips])
    assert all(clip.low <= clip.high for clip in report.clips)
    assert report.by_seconds[-1].clips_still_running == 0
    assert report.by_seconds[-1].mse == model.metrics["mse"]
    assert len(report.calibration) == 5
    predicted, conformal = (
        [row for row in report.coverage if row.intervals == kind] for kind in ("as predicted", "with the conformal margin")
    )
    assert conformal[-1].mean_width == pytest.approx(predicted[-1].mean_width + 2 * 0.25)
    widths = np.diff(TARGET.standardise([[clip.low, clip.high] for clip in report.clips]), axis=1)
    assert widths.mean() == pytest.approx(conformal[-1].mean_width)
    assert {row.percent for row in report.outliers} == {0, 1, 5, 10}


def test_pictures_of_a_clip_are_shown_as_they_are_beside_what_is_redrawn(report: EvaluationReport) -> None:
    first = report.reconstructions[0]
    assert [one.clip for one in report.reconstructions] == ["c2", "c11"]
    assert np.array_equal(first.original, features(2).frames[0, 1::2])
    assert first.redrawn.shape == first.original.shape == (2, 32, 16, 3)
    assert first.mse == pytest.approx(((first.original / 255 - first.redrawn / 255) ** 2).mean(), abs=1e-2)


def test_a_chunk_without_pictures_is_no_example(checkpoint: Path, manifest: Path, options: EvaluateOptions) -> None:
    found = evaluate_checkpoint(checkpoint, manifest, part="val", options=options)
    assert [clip.id for clip in found.clips] == ["c1", "c5", "c9"]
    assert (found.overlap.learned_from, found.overlap.chosen_by) == (0, 3)
    assert (found.reconstructions[0].start_s, found.reconstructions[0].end_s) == (2.0, 4.0)


def test_all_clips_of_the_training_manifest_are_said_to_overlap(checkpoint: Path, manifest: Path, options: EvaluateOptions) -> None:
    found = evaluate_checkpoint(checkpoint, manifest, part="all", options=options)
    assert (len(found.clips), found.split) == (12, "not split")
    assert (found.overlap.learned_from, found.overlap.chosen_by) == (3, 3)


def other_manifest(manifest: Path, tmp_path: Path) -> Path:
    rows = [ClipRow(f"c{index}", manifest.parent / f"c{index}.mp4", None, None, {"views": 9 + index}) for index in range(2)]
    return write_manifest(tmp_path / "other.jsonl", rows)


def test_overlap_with_another_manifest_is_unknown_without_the_run(
    checkpoint: Path, manifest: Path, options: EvaluateOptions, tmp_path: Path
) -> None:
    found = evaluate_checkpoint(checkpoint, other_manifest(manifest, tmp_path), part="all", options=options)
    assert found.overlap.known_from.startswith("unknown")
    assert (found.overlap.learned_from, found.overlap.chosen_by) == (None, None)


def test_overlap_with_another_manifest_is_told_by_the_ids_of_the_run(
    checkpoint: Path, manifest: Path, options: EvaluateOptions, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(RUN_CONFIG))
    found = evaluate_checkpoint(checkpoint, other_manifest(manifest, tmp_path), part="all", options=replace(options, run_dir=run))
    assert (found.overlap.learned_from, found.overlap.chosen_by) == (1, 1)
    assert found.overlap.known_from.startswith("clip ids")


def test_renamed_training_clips_are_found_by_their_content(
    checkpoint: Path, manifest: Path, options: EvaluateOptions, tmp_path: Path
) -> None:
    known = tmp_path / "model"
    shutil.copytree(checkpoint, known)
    trained = TrainedClips.of([ReadyClip("c1", file_sha256(manifest.parent / "c1.mp4"), 1, 2.0)], [])
    (known / TRAINED_CLIPS_FILE).write_bytes(trained.dumps())
    rows = [ClipRow(f"new {index}", manifest.parent / f"c{index}.mp4", None, None, {"views": 9 + index}) for index in range(3)]
    found = evaluate_checkpoint(known, write_manifest(tmp_path / "renamed.jsonl", rows), part="all", options=options)
    assert (found.overlap.learned_from, found.overlap.chosen_by) == (1, 0)


@pytest.fixture
def run_dir(checkpoint: Path, manifest: Path, tmp_path: Path) -> Path:
    """The checkpoint's own run, with two baselines."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(RUN_CONFIG))
    baselines = (Constant("the training mean", 0.0), Constant("the training median", 0.25))
    save_baselines(run, FittedBaselines(run_identity(RUN_CONFIG), 3, baselines))
    return run


def test_the_runs_baselines_stand_beside_the_model(checkpoint: Path, manifest: Path, options: EvaluateOptions, run_dir: Path) -> None:
    found = evaluate_checkpoint(checkpoint, manifest, options=replace(options, run_dir=run_dir, outliers=(20.0,)))
    names = ["pictures and sound", "pictures alone", "sound alone", "the training mean", "the training median"]
    assert [figures.predictor for figures in found.predictors] == names * 2
    why = {one.predictor: one.why for one in found.absent}
    assert [*why][:2] == ["trained on pictures alone", "trained on sound alone"]
    assert [*why][-3:] == ["small3d", "r3d_18", "swin3d_t"]
    assert "--ablations" in why["trained on sound alone"]
    assert "--video-baseline small3d" in why["small3d"]
    truth = np.array([clip.truth_z for clip in found.clips])
    median = found.predictors[4]
    assert median.kind == "fitted on the training split"
    assert median.metrics["mse"].estimate == pytest.approx(((truth - 0.25) ** 2).mean())
    model = found.predictors[0].metrics["mse"].estimate
    assert model is not None
    assert median.model_less["mse"].estimate == pytest.approx(model - ((truth - 0.25) ** 2).mean())
    assert found.outlier_errors is not None
    assert {row.predictor for row in found.outlier_errors.rows} == {*names}


def _no_baselines(run: Path) -> None:
    (run / "baselines.json").unlink()


def _other_baselines(run: Path) -> None:
    save_baselines(run, FittedBaselines("f" * 64, 3, ()))


def _other_run(run: Path) -> None:
    (run / "config.json").write_text(json.dumps({**RUN_CONFIG, "more": 1}))


def _no_run(run: Path) -> None:
    (run / "config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_no_baselines, "has no baselines.json"),
        (_other_baselines, "baselines.json is that of another run"),
        (_other_run, "config.json is that of another run"),
        (_no_run, "there is no training run at"),
    ],
)
def test_baselines_that_are_not_this_models_are_absent_and_it_is_said_why(
    checkpoint: Path, manifest: Path, options: EvaluateOptions, run_dir: Path, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(run_dir)
    found = evaluate_checkpoint(checkpoint, manifest, options=replace(options, run_dir=run_dir))
    assert len(found.predictors) == 8
    assert why in found.absent[0].why


def test_parts_of_the_clips_are_counted(checkpoint: Path, manifest: Path, options: EvaluateOptions) -> None:
    found = evaluate_checkpoint(checkpoint, manifest, part="all", options=replace(options, by=("author",)))
    parts = {(part.by, part.name): part for part in found.subsets}
    assert (parts["author", "author 0"].clips, parts["author", "author 0"].metrics) == (2, {})
    assert sum(part.clips for part in found.subsets if part.by == "length") == 12


def test_the_json_has_a_version_and_is_plain(report: EvaluationReport) -> None:
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["format"] == 2
    assert plain["bootstrap"] == {"resamples": 30, "level": 0.95, "seed": 0}
    assert plain["clips"][0]["id"] == "c2"
    assert {"figures", "predictors", "by_seconds", "calibration", "outliers", "overlap", "card"} <= set(plain)


def test_progress_counts_reading_and_embedding(checkpoint: Path, manifest: Path, options: EvaluateOptions) -> None:
    events: list[ProgressEvent] = []
    evaluate_checkpoint(checkpoint, manifest, part="train", options=options, progress=events.append)
    last = {event.stage: (event.done, event.total) for event in events}
    assert last == {"features": (3, 3), "embed": (3, 3)}


def test_what_cannot_be_evaluated_is_refused(checkpoint: Path, manifest: Path, options: EvaluateOptions, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected train, val, test, all"):
        evaluate_checkpoint(checkpoint, manifest, part="tset", options=options)
    with pytest.raises(CheckpointError):
        evaluate_checkpoint(tmp_path / "none", manifest, options=options)
    with pytest.raises(DataError, match="cannot be read"):
        evaluate_checkpoint(checkpoint, tmp_path / "none.jsonl", options=options)
    with pytest.raises(DataError, match="--by colour: no evaluated clip has that column; the first has views"):
        evaluate_checkpoint(checkpoint, manifest, options=replace(options, by=("colour",)))
    with pytest.raises(DataError, match="expected percentages between 0 and 100, got 100"):
        replace(options, outliers=(1.0, 100.0))
    gone = write_manifest(tmp_path / "gone.jsonl", [ClipRow("x", tmp_path / "x.mp4", None, None, {"views": 5})])
    with pytest.raises(DataError, match="no clip of all can be read; the first that failed, 'x'"):
        evaluate_checkpoint(checkpoint, gone, part="all", options=options)
    nameless = write_manifest(tmp_path / "nameless.jsonl", [ClipRow("x", tmp_path / "x.mp4", None, None, {"plays": 5})])
    with pytest.raises(DataError, match="no column 'views'"):
        evaluate_checkpoint(checkpoint, nameless, part="all", options=options)
