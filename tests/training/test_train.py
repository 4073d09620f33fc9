"""From a manifest to a checkpoint, on a dozen tiny clips: whole, stopped and resumed, and with everything a user can get wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from shortcast.errors import CheckpointError, DataError
from shortcast.models.autoencoder import DecoderConfig
from shortcast.models.checkpoint import load_checkpoint
from shortcast.models.convlstm import EncoderConfig
from shortcast.models.dual_transformer import FusionConfig
from shortcast.models.video_baselines import VideoConfig
from shortcast.runtime.contract import Contract, PictureContract
from shortcast.runtime.intervals import ConformalIntervals
from shortcast.training.ablations import variants
from shortcast.training.baseline_file import load_baselines
from shortcast.training.clips import ClipRow, write_manifest
from shortcast.training.compute import Compute
from shortcast.training.cross_validate import FoldOptions
from shortcast.training.dataset import file_sha256
from shortcast.training.evaluate import EvaluateOptions, evaluate_checkpoint
from shortcast.training.fit_autoencoder import AutoencoderOptions
from shortcast.training.fit_regressor import RegressorOptions
from shortcast.training.fit_video_baseline import VideoBaselineOptions
from shortcast.training.overlap import TrainedClips
from shortcast.training.run import ProgressEvent
from shortcast.training.studies import LENGTH, ONE_MODALITY
from shortcast.training.train import train
from shortcast.training.train_options import TrainOptions
from shortcast.training.video_comparison import VideoPlan

OPTIONS = TrainOptions(
    seed=5,
    source="grey clips made by a test",
    contract=Contract(picture=PictureContract(fps=Fraction(2), height=32, width=16)),
    encoder=EncoderConfig(
        frames_per_chunk=4, height=32, width=16, stem_channels=(4, 4, 4), hidden_channels=(4, 4), pool_grid=(2, 1), embedding_dim=8
    ),
    decoder=DecoderConfig(hidden_channels=4, head_channels=4, coarse_windows=2, coarse_hidden=8),
    fusion=FusionConfig(width=8, heads=2, layers=1, feedforward=8),
    autoencoder=AutoencoderOptions(epochs=2, chunks_per_epoch=8, batch=2, validation_chunks=4),
    regressor=RegressorOptions(epochs=3, batch=4),
    jobs=1,
    threads=1,
)


def write_clip(path: Path, shade: int) -> None:
    """Two to four seconds of a grey that drifts, without sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=5, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 32, 64, "yuv420p"
        for index in range(10 + shade % 11):
            picture = np.full((64, 32, 3), min(255, shade + index), dtype=np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))


def rows(folder: Path) -> list[ClipRow]:
    splits = ("train",) * 8 + ("val",) * 2 + ("test",) * 2
    return [
        ClipRow(f"c{index}", folder / f"c{index}.mp4", split, None, {"views": 100 * (index + 1) ** 2}) for index, split in enumerate(splits)
    ]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for index, row in enumerate(rows(folder)):
        write_clip(row.path, 20 + 17 * index)
    (folder / "c3.mp4").write_bytes(b"no clip")
    return write_manifest(folder / "manifest.jsonl", rows(folder))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TrainOptions:
    """The tests' runs share one cache of decoded clips."""
    return replace(OPTIONS, features_dir=tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def whole(manifest: Path, options: TrainOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "model"
    train(manifest, out, options=options)
    return out


def test_the_checkpoint_loads_and_its_card_says_what_it_is(whole: Path) -> None:
    checkpoint = load_checkpoint(whole)
    card = checkpoint.card
    assert card["source"] == "grey clips made by a test"
    assert card["split"] == {"kind": "given by the manifest", "train": 7, "val": 2, "test": 2}
    assert card["clips_left_out"] == 1
    assert [line["epoch"] for line in card["autoencoder"]["history"]] == [1, 2]
    assert set(card["autoencoder"]["baselines"]) == {"mean_frame", "copy_last"}
    assert [metrics["space"] for metrics in card["held_out"]["whole_clip"]] == ["standardised log1p(views)", "views"]
    assert card["held_out"]["clips"] == 2
    assert checkpoint.contract.sound.whisper_sha256
    assert checkpoint.target.name == "views"
    assert checkpoint.intervals == ConformalIntervals(0.9, ())  # two validation clips are too few to calibrate on
    assert card["held_out"]["coverage"] == []


def test_the_baselines_are_in_the_run_and_their_held_out_figures_in_the_card(whole: Path) -> None:
    card = load_checkpoint(whole).card
    fitted = load_baselines(whole.with_name("model.run"))
    assert fitted is not None
    assert (fitted.clips, fitted.run_sha256) == (7, card["run_sha256"])
    assert [one["predictor"] for one in card["baselines"]] == [one.name for one in fitted.baselines]
    mean = card["baselines"][0]
    assert mean["predictor"] == "the training mean"
    assert mean["metrics"][0]["mse"] == pytest.approx(card["held_out"]["train_mean_baseline"][0]["mse"])


def test_variants_are_trained_beside_the_model_and_found_again(whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(manifest, out, options=replace(options, ablations=True))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    card = load_checkpoint(out).card
    wanted = variants(load_checkpoint(out).fusion.config)
    assert list(card["ablations"]) == [variant.name for variant in wanted]
    told = {one["predictor"]: one for one in card["baselines"] if one["kind"] in (ONE_MODALITY, LENGTH)}
    assert set(told) == {variant.predictor for variant in wanted}
    found = evaluate_checkpoint(out, manifest, options=EvaluateOptions(resamples=2, features_dir=options.features_dir, jobs=1, threads=1))
    for variant in wanted:
        figures = next(one for one in found.predictors if one.predictor == variant.predictor)
        assert figures.kind == variant.kind
        assert figures.metrics["mse"].estimate == pytest.approx(told[variant.predictor]["metrics"][0]["mse"], rel=1e-5)
        assert figures.model_less
    assert [one.predictor for one in found.networks] == ["pictures and sound", *told]
    assert all(len(one.history) == 3 and one.parameters > 0 for one in found.networks)
    assert found.lengths[0].whole == found.predictors[0].metrics["mse"]
    (tmp_path / "model.run" / "ablation-sound" / "config.json").write_text("{}")
    absent = evaluate_checkpoint(
        out, manifest, options=EvaluateOptions(resamples=2, features_dir=options.features_dir, jobs=1, threads=1)
    ).absent
    assert "not the one that the model's card names" in next(one.why for one in absent if one.predictor == "trained on sound alone")


def test_video_networks_are_trained_beside_the_model_and_found_again(
    whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path
) -> None:
    plan = VideoPlan(VideoConfig(frames=2, height=16, width=16), VideoBaselineOptions(epochs=1))
    out = tmp_path / "model"
    train(manifest, out, options=replace(options, videos=(plan,)))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    told = load_checkpoint(out).card["baselines"][-1]
    assert told["predictor"] == "small3d"
    looked_at = EvaluateOptions(resamples=2, features_dir=options.features_dir, jobs=1, threads=1)
    found = evaluate_checkpoint(out, manifest, options=looked_at)
    network = next(figures for figures in found.predictors if figures.predictor == "small3d")
    assert network.metrics["mse"].estimate == pytest.approx(told["metrics"][0]["mse"], rel=1e-5)
    assert [one.predictor for one in found.absent][-2:] == ["r3d_18", "swin3d_t"]
    assert [(one.predictor, one.shown) for one in found.networks[1:]] == [("small3d", "2 frames of 16x16 pixels")]
    (tmp_path / "model.run" / "video-small3d" / "config.json").write_text("{}")
    other = next(one for one in evaluate_checkpoint(out, manifest, options=looked_at).absent if one.predictor == "small3d")
    assert "not the one that the model's card names" in other.why


def test_the_content_of_the_clips_is_beside_the_checkpoint(whole: Path, manifest: Path) -> None:
    trained = TrainedClips.read(whole)
    assert trained is not None
    assert [len(trained.train), len(trained.val)] == [7, 2]
    assert file_sha256(manifest.parent / "c0.mp4")[:16] in trained.train


def test_the_target_is_fitted_on_the_training_clips_that_could_be_read(whole: Path, manifest: Path) -> None:
    train_rows = [row for row in rows(manifest.parent) if row.split == "train" and row.id != "c3"]
    log_views = np.log1p([row.value("views") for row in train_rows])
    target = load_checkpoint(whole).target
    assert (target.mean, target.std) == pytest.approx((log_views.mean(), log_views.std()))


def test_ties_make_fewer_classes_than_were_asked_for_and_the_card_says_so(
    whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path
) -> None:
    assert load_checkpoint(whole).card["classes"] == {"asked_for": 4, "sizes": [2, 2, 1, 2]}
    tied = [replace(row, columns={"views": max(0, int(row.id[1:]) - 4)}) for row in rows(manifest.parent)]
    spoilt = write_manifest(tmp_path / "manifest.jsonl", tied)
    fusion = replace(options.fusion, classes=5, class_head="ordinal")
    train(spoilt, tmp_path / "model", options=replace(options, fusion=fusion))
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.card["classes"] == {"asked_for": 5, "sizes": [4, 1, 2]}  # of 0, 0, 0, 0, 1, 2, 3
    assert (checkpoint.fusion.config.classes, checkpoint.fusion.config.class_head) == (3, "ordinal")
    assert len(checkpoint.card["held_out"]["classes"]["confusion"]) == 3


def test_the_run_directory_has_configuration_and_log(whole: Path) -> None:
    run = whole.with_name("model.run")
    config = json.loads((run / "config.json").read_text())
    assert config["options"]["seed"] == 5
    assert config["split"]["test"] == ["c10", "c11"]
    assert [clip["id"] for clip in config["clips_left_out"]] == ["c3"]
    stages = [json.loads(line)["stage"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert stages == ["autoencoder"] * 2 + ["regressor"] * 3


def card_without_times(checkpoint: Path) -> dict[str, object]:
    card = load_checkpoint(checkpoint).card
    return {key: value for key, value in card.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("stage", "done"), [("features", 4), ("autoencoder", 6), ("embed", 3), ("regressor", 2)], ids=lambda value: str(value)
)
def test_stopped_anywhere_it_goes_on_and_ends_the_same(
    whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path, stage: str, done: int
) -> None:
    def stop(event: ProgressEvent) -> None:
        if (event.stage, event.done) == (stage, done):
            raise KeyboardInterrupt

    out = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(manifest, out, options=options, progress=stop)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.part"))
    report = train(manifest, out, options=options)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert card_without_times(out) == card_without_times(whole)
    assert len((report.run_dir / "log.jsonl").read_text().splitlines()) == 5


def test_stages_report_their_progress(manifest: Path, options: TrainOptions, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    train(manifest, tmp_path / "model", options=options, progress=events.append)
    assert list(dict.fromkeys(event.stage for event in events)) == ["features", "compare", "autoencoder", "embed", "regressor"]
    for stage, total in (("features", 12), ("compare", 11), ("autoencoder", 8), ("embed", 11), ("regressor", 3)):
        mine = [event for event in events if event.stage == stage]
        assert mine[0].done == 0
        assert (mine[-1].done, mine[-1].total) == (total, total)


def test_a_finished_run_directory_with_other_options_is_refused(whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path) -> None:
    other = replace(options, seed=6, run_dir=whole.with_name("model.run"))
    with pytest.raises(DataError, match=r"options\.seed: 5 -> 6"):
        train(manifest, tmp_path / "other", options=other)


def test_how_much_memory_is_taken_does_not_decide_the_run_and_precision_does() -> None:
    less = replace(OPTIONS.autoencoder, accumulate=2, checkpoint_steps=4)
    assert replace(OPTIONS, autoencoder=less).decisive() == OPTIONS.decisive()
    coarser = replace(OPTIONS.autoencoder, compute=Compute("cpu", "bf16"))
    assert replace(OPTIONS, autoencoder=coarser).decisive() != OPTIONS.decisive()
    assert replace(OPTIONS, autoencoder=replace(less, backprop_chunks=2)).decisive() != OPTIONS.decisive()


def test_a_stopped_run_has_every_epoch_of_its_log_in_tensorboard_once(manifest: Path, options: TrainOptions, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(event: ProgressEvent) -> None:
        if (event.stage, event.done) == ("regressor", 2):
            raise KeyboardInterrupt

    options = replace(options, tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "model", options=options, progress=stop)
    report = train(manifest, tmp_path / "model", options=options)
    found = EventAccumulator(str(report.run_dir / "tensorboard"))
    found.Reload()
    steps = {tag: [event.step for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert steps["autoencoder/validation/reconstruct"] == [1, 2]
    assert steps["regressor/validation_mse"] == [1, 2, 3]


def test_tensorboard_that_is_not_installed_is_an_error_before_any_work(
    manifest: Path, options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(DataError, match="tensorboard"):
        train(manifest, tmp_path / "model", options=replace(options, tensorboard=True))
    assert not (tmp_path / "model.run").exists()


def test_a_memory_budget_is_kept_and_said_and_one_that_is_ample_changes_nothing(
    whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path
) -> None:
    said: list[str] = []
    for name, budget in (("tight", 500_000), ("ample", 10**9)):
        train(manifest, tmp_path / name, options=replace(options, memory_budget=budget), say=said.append)
    plans = [sentence for sentence in said if "an update holds" in sentence]
    assert [plan.split(":")[0] for plan in plans] == ["autoencoder", "regressor"] * 2
    assert ["in parts of 1" in plan for plan in plans] == [True, False, False, False]
    tight, unlimited = load_checkpoint(tmp_path / "tight").card, load_checkpoint(whole).card
    assert tight["options"]["autoencoder"]["accumulate"] == 2
    last = [card["autoencoder"]["history"][-1]["validation"]["reconstruct"] for card in (tight, unlimited)]
    assert last[0] == pytest.approx(last[1], rel=1e-3)
    assert (tmp_path / "ample" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match="too small"):
        train(manifest, tmp_path / "other", options=replace(options, memory_budget=1000))


def test_a_checkpoint_is_not_replaced_unasked_and_nothing_is_decoded_first(whole: Path, manifest: Path, options: TrainOptions) -> None:
    def fail(_event: ProgressEvent) -> None:
        raise AssertionError("work was begun")

    with pytest.raises(CheckpointError, match="--force"):
        train(manifest, whole, options=options, progress=fail)


def test_copies_are_kept_together_once_they_were_seen_and_evaluation_splits_alike(
    manifest: Path, options: TrainOptions, tmp_path: Path
) -> None:
    some = [replace(row, split=None, id=f"{row.id}{twin}") for row in rows(manifest.parent) for twin in ("", "b") if row.id != "c3"]
    doubled = write_manifest(tmp_path / "manifest.jsonl", some)
    said: list[str] = []
    out = tmp_path / "model"
    report = train(doubled, out, options=replace(options, split="duplicate"), say=said.append)
    assert [cluster.clips for cluster in report.near_duplicates] == [(row.id, f"{row.id}b") for row in some[::2]]
    split = json.loads((report.run_dir / "config.json").read_text())["split"]
    assert all({f"{clip}b" for clip in split[part] if not clip.endswith("b")} <= {*split[part]} for part in ("train", "val", "test"))
    assert said[0] == f"split grouped by duplicate: {len(split['train'])} train, {len(split['val'])} val, {len(split['test'])} test clips"
    assert said[1] == "no near-duplicate cluster is on two sides of the split"
    assert said[2].startswith("features of these clips take ")
    evaluated = evaluate_checkpoint(
        out, doubled, options=EvaluateOptions(resamples=2, features_dir=options.features_dir, jobs=1, threads=1)
    )
    assert [clip.id for clip in evaluated.clips] == split["test"]


def test_folds_go_on_where_they_were_stopped_and_leave_the_final_model_as_it_is(
    whole: Path, manifest: Path, options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shortcast.training.train.FoldOptions", partial(FoldOptions, resamples=2))

    def stop(event: ProgressEvent) -> None:
        if (event.stage, event.done) == ("fold 2/2 regressor", 1):
            raise KeyboardInterrupt

    folded = replace(options, folds=2)
    out = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(manifest, out, options=folded, progress=stop)
    trained: list[ProgressEvent] = []
    report = train(manifest, out, options=folded, progress=trained.append)
    assert not [event for event in trained if event.stage == "fold 1/2 regressor" and 0 < event.done < event.total]
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    written = json.loads((report.run_dir / "folds" / "report.json").read_text())
    assert sorted(clip["id"] for clip in written["out_of_fold"]) == sorted(row.id for row in rows(manifest.parent) if row.id != "c3")
    assert load_checkpoint(out).card["cross_validation"] == {key: value for key, value in written.items() if key != "out_of_fold"}
    without_a_stop = train(manifest, tmp_path / "again", options=folded)
    assert without_a_stop.cross_validation == report.cross_validation


def test_more_folds_than_groups_are_refused_before_anything_is_read(manifest: Path, options: TrainOptions, tmp_path: Path) -> None:
    def fail(_event: ProgressEvent) -> None:
        raise AssertionError("work was begun")

    with pytest.raises(DataError, match="13 folds of 12 groups"):
        train(manifest, tmp_path / "model", options=replace(options, folds=13), progress=fail)


def test_threads_are_given_back(manifest: Path, options: TrainOptions, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train(manifest, tmp_path / "model", options=options)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def _no_such_column(row: ClipRow) -> ClipRow:
    return replace(row, columns={"plays": 3})


def _constant(row: ClipRow) -> ClipRow:
    return replace(row, columns={"views": 7})


def _unreadable_test_split(row: ClipRow) -> ClipRow:
    return replace(row, path=row.path.with_name("nowhere.mp4")) if row.split == "test" else row


@pytest.mark.parametrize(
    ("change", "message"),
    [(_no_such_column, "no column 'views'"), (_constant, "constant"), (_unreadable_test_split, "no clip of the test split")],
)
def test_what_cannot_be_trained_on_is_refused(
    change: Callable[[ClipRow], ClipRow], message: str, manifest: Path, options: TrainOptions, tmp_path: Path
) -> None:
    spoilt = write_manifest(tmp_path / "manifest.jsonl", [change(row) for row in rows(manifest.parent)])
    with pytest.raises(DataError, match=message):
        train(spoilt, tmp_path / "model", options=options)
    assert not (tmp_path / "model").exists()


def test_a_manifest_that_is_not_there_is_a_clean_error(options: TrainOptions, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        train(tmp_path / "none.jsonl", tmp_path / "model", options=options)
