"""The dual Transformer's trainer and the evaluation, on made embeddings that follow a known rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcast.errors import DataError
from shortcast.models.dual_transformer import DualTransformer, FusionConfig, FusionOutput
from shortcast.runtime.history import History, fusion_feeds
from shortcast.runtime.target import Target
from shortcast.training.compute import Compute
from shortcast.training.evaluation import evaluate, predict
from shortcast.training.fit_regressor import RegressorOptions, fit_regressor, plan_regressor, prefix_losses, regressor_loss
from shortcast.training.labelled import EmbeddedClip, FusionInputs, LabelledClips, collate, prefixes, scored_rows
from shortcast.training.losses import LOSSES
from shortcast.training.run import ProgressEvent, RunDirectory

FUSION = FusionConfig(visual_dim=6, audio_dim=5, width=16, heads=2, layers=1, feedforward=16)
OPTIONS = RegressorOptions(epochs=5, batch=16, learning_rate=3e-3)
TARGET = Target("views", "log1p", 9.0, 1.2, (4000.0, 8100.0, 18000.0))


def made_clips(count: int, seed: int) -> LabelledClips:
    """Noisy chunk embeddings around a clip's own two factors, whose sum is the target; one clip in six has no sound."""
    draw = np.random.default_rng(seed)
    clips, z = [], []
    for index in range(count):
        seen, heard = draw.normal(size=2)
        chunks = int(draw.integers(1, 7))
        visual = draw.normal(size=(chunks, 6)) * 0.5
        audio = draw.normal(size=(chunks, 5)) * 0.5
        visual[:, 0] += seen
        audio[:, 0] += heard
        sounds = index % 6 > 0
        clips.append(
            EmbeddedClip(
                visual.astype(np.float32),
                np.ones(chunks, dtype=bool),
                (audio * sounds).astype(np.float32),
                np.full(chunks, sounds),
                np.arange(1.0, chunks + 1) * 2,
            )
        )
        z.append((seen + heard * sounds) * 0.7 + draw.normal() * 0.2)
    return LabelledClips(clips, np.array(z), TARGET.class_of(TARGET.restore(z)))


def new_model(seed: int = 0) -> DualTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DualTransformer(FUSION)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> DualTransformer:
    options = RegressorOptions(epochs=40, batch=32, learning_rate=5e-3)
    model = new_model()
    run = RunDirectory.open(tmp_path_factory.mktemp("run"), {})
    fit_regressor(model, made_clips(300, 1), made_clips(60, 2), options=options, seed=3, run=run)
    return model


def test_it_learns_what_both_modalities_say(fitted: DualTransformer) -> None:
    found = evaluate(fitted, made_clips(200, 4), TARGET)
    r2 = [metrics[0].r2 or 0.0 for metrics in (found.whole_clip, found.pictures_alone, found.sound_alone, found.train_mean_baseline)]
    whole, pictures, sound, baseline = r2
    assert whole > 0.6
    assert whole > pictures + 0.1 > 0.2
    assert whole > sound + 0.1 > 0.2
    assert baseline <= 0
    assert found.classes.accuracy > found.majority_class_accuracy + 0.1
    assert 0.75 < found.interval.coverage < 0.99
    assert found.whole_clip[1].space == "views"


def test_more_seconds_say_more(fitted: DualTransformer) -> None:
    found = evaluate(fitted, made_clips(200, 4), TARGET)
    assert [part.seconds for part in found.by_seconds] == [2, 4, 8]
    assert [part.clips_still_running for part in found.by_seconds] == sorted(
        (part.clips_still_running for part in found.by_seconds), reverse=True
    )
    assert found.by_seconds[0].metrics.mse > found.by_seconds[-1].metrics.mse > 0
    assert found.whole_clip[0].mse <= found.by_seconds[-1].metrics.mse + 0.05


def test_a_prediction_does_not_depend_on_the_clips_beside_it(fitted: DualTransformer) -> None:
    clips = made_clips(40, 5).clips
    together = predict(fitted, clips)
    for clip, prediction in zip(clips[:5], together, strict=False):
        (alone,) = predict(fitted, [clip])
        np.testing.assert_allclose(alone.score, prediction.score, atol=1e-5)
        assert prediction.score.shape == clip.end_s.shape
        assert prediction.quantiles.shape == (len(clip.end_s), 5)


def test_masking_a_modality_takes_it_away(fitted: DualTransformer) -> None:
    (clip, *_) = made_clips(3, 5).clips[1:]
    other = replace(clip, audio=-clip.audio)
    (before,), (after,) = predict(fitted, [clip], sound=False), predict(fitted, [other], sound=False)
    np.testing.assert_array_equal(before.score, after.score)
    assert not np.allclose(predict(fitted, [clip])[0].score, predict(fitted, [other])[0].score)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(tmp_path: Path, stop_after: int) -> None:
    train, val = made_clips(40, 1), made_clips(20, 2)

    def stop(event: ProgressEvent) -> None:
        if event.done == stop_after:
            raise KeyboardInterrupt

    whole = new_model()
    expected = fit_regressor(whole, train, val, options=OPTIONS, seed=1, run=RunDirectory.open(tmp_path / "whole", {}))
    run = RunDirectory.open(tmp_path / "stopped", {})
    with pytest.raises(KeyboardInterrupt):
        fit_regressor(new_model(), train, val, options=OPTIONS, seed=1, run=run, progress=stop)
    seen: list[ProgressEvent] = []
    resumed = new_model()
    found = fit_regressor(resumed, train, val, options=OPTIONS, seed=1, run=run, progress=seen.append)
    assert seen[0].done == stop_after
    assert found == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    model, run = new_model(), RunDirectory.open(tmp_path, {})
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit_regressor(model, made_clips(20, 1), made_clips(9, 2), options=replace(OPTIONS, epochs=1), seed=1, run=run)
    assert torch.equal(torch.rand(3), expected)


def test_training_stops_when_validation_stops_getting_better_and_keeps_the_best_weights(tmp_path: Path) -> None:
    options = RegressorOptions(
        epochs=60, patience=4, batch=8, learning_rate=2e-2, weight_decay=0.0, modality_dropout=0.0, late_start=0.0, input_noise=0.0
    )
    draw = np.random.default_rng(0)
    noise = replace(made_clips(24, 1), z=draw.normal(size=24))  # nothing to learn but the clips themselves
    val = replace(made_clips(24, 2), z=draw.normal(size=24))
    model = new_model()
    report = fit_regressor(model, noise, val, options=options, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert len(report.history) == report.best_epoch + 4 < 60
    best = report.history[report.best_epoch - 1]
    assert best.validation_loss == min(line.validation_loss for line in report.history)
    scores = np.array([prediction.score[-1] for prediction in predict(model, val.clips)])
    assert float(((scores - val.z) ** 2).mean()) == pytest.approx(best.validation_mse, rel=1e-5)


def batch_of(labelled: LabelledClips, rows: np.ndarray) -> tuple[FusionInputs, torch.Tensor, torch.Tensor]:
    return collate([labelled.clips[row] for row in rows]), *labelled.labels(rows)


def test_every_clip_counts_the_same_however_long_it_is_and_padding_counts_nothing() -> None:
    labelled = made_clips(8, 1)
    model = new_model().eval()

    def loss(rows: list[int]) -> float:
        batch, z, classes = batch_of(labelled, np.array(rows))
        with torch.no_grad():
            return regressor_loss(model(*batch), batch.chunk_mask, z, classes, levels=FUSION.quantile_levels, options=OPTIONS).item()

    assert len({len(clip.end_s) for clip in labelled.clips}) > 2
    assert loss(list(range(8))) == pytest.approx(np.mean([loss([row]) for row in range(8)]), rel=1e-5)


def test_a_clip_beside_a_longer_one_scores_and_costs_what_it_does_alone(fitted: DualTransformer) -> None:
    labelled = made_clips(40, 5)
    order = np.argsort([len(clip.end_s) for clip in labelled.clips])
    short, longest = order[:8], int(order[-1])

    def found(rows: list[int]) -> tuple[FusionOutput, float]:
        batch, z, quartile = batch_of(labelled, np.array(rows))
        with torch.no_grad():
            output = fitted(*batch)
            return output, regressor_loss(output, batch.chunk_mask, z, quartile, levels=FUSION.quantile_levels, options=OPTIONS).item()

    _, longest_loss = found([longest])
    for row in short.tolist():
        chunks = len(labelled.clips[row].end_s)
        assert chunks < len(labelled.clips[longest].end_s)
        (alone, loss), (beside, both) = found([row]), found([row, longest])
        torch.testing.assert_close(beside.score[:1, :chunks], alone.score, rtol=0, atol=1e-6)
        torch.testing.assert_close(beside.quantiles[:1, :chunks], alone.quantiles, rtol=0, atol=1e-6)
        torch.testing.assert_close(beside.class_logits[:1, :chunks], alone.class_logits, rtol=0, atol=1e-6)
        assert both == pytest.approx((loss + longest_loss) / 2, abs=1e-6)


def test_padding_gives_no_gradient_and_takes_none() -> None:
    labelled = made_clips(40, 5)
    lengths = [len(clip.end_s) for clip in labelled.clips]
    row, longest = int(np.argmin(lengths)), int(np.argmax(lengths))

    def gradients(rows: list[int]) -> dict[str, torch.Tensor]:
        model = new_model().eval()
        batch, z, quartile = batch_of(labelled, np.array(rows))
        loss = regressor_loss(model(*batch), batch.chunk_mask, z, quartile, levels=FUSION.quantile_levels, options=OPTIONS)
        loss.backward()  # type: ignore[no-untyped-call]
        return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

    one, other, both = gradients([row]), gradients([longest]), gradients([row, longest])
    for name, gradient in both.items():
        torch.testing.assert_close(gradient, (one[name] + other[name]) / 2, rtol=1e-4, atol=1e-6, msg=name)


def test_collate_pads_on_the_right() -> None:
    clips = made_clips(8, 1).clips
    batch = collate(clips)
    for row, clip in enumerate(clips):
        n = len(clip.end_s)
        assert batch.chunk_mask[row].tolist() == [1.0] * n + [0.0] * (batch.chunk_mask.shape[1] - n)
        np.testing.assert_array_equal(batch.visual[row, :n].numpy(), clip.visual)
        assert float(batch.visual[row, n:].abs().sum() + batch.audio_mask[row, n:].sum()) == 0


def test_a_clip_that_begins_late_has_lost_its_first_chunks() -> None:
    clip = next(clip for clip in made_clips(8, 1).clips if len(clip.end_s) > 2)
    late = clip.starting_at(2)
    np.testing.assert_array_equal(late.visual, clip.visual[2:])
    np.testing.assert_array_equal(late.end_s, clip.end_s[2:])


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains(name: str, tmp_path: Path) -> None:
    options = replace(OPTIONS, score_loss=name, epochs=3, late_start=0.0, input_noise=0.0, modality_dropout=0.0)
    report = fit_regressor(new_model(), made_clips(60, 1), made_clips(20, 2), options=options, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert report.history[-1].train_loss < report.history[0].train_loss


def test_the_loss_decides_what_is_learned_from_an_outlier() -> None:
    labelled = made_clips(8, 1)
    far = replace(labelled, z=np.where(np.arange(8) == 3, 100.0, labelled.z))
    pull = {}
    for name in ("mse", "huber", "student-t:4", "tukey"):
        model = new_model().eval()
        batch, z, classes = batch_of(far, np.arange(8))
        options = replace(OPTIONS, score_loss=name, quantile_weight=0.0, class_weight=0.0)
        regressor_loss(model(*batch), batch.chunk_mask, z, classes, levels=FUSION.quantile_levels, options=options).backward()
        pull[name] = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    assert pull["mse"] > 100 * pull["huber"] > 0
    assert pull["huber"] > pull["student-t:4"] > 0
    assert pull["huber"] > pull["tukey"] > 0


def test_micro_batches_give_the_gradients_of_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, torch.Tensor]] = []

    def keep(_parameters: object, _norm: float) -> None:
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", keep)
    monkeypatch.setattr("torch.optim.AdamW.step", lambda *_: None)
    for accumulate in (1, 3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = DualTransformer(replace(FUSION, dropout=0.0))
        options = replace(OPTIONS, epochs=1, accumulate=accumulate)
        run = RunDirectory.open(tmp_path / str(accumulate), {})
        fit_regressor(model, made_clips(20, 1), made_clips(20, 2), options=options, seed=1, run=run)
    whole, parts = found[:2], found[2:]
    assert len(parts) == 2
    for mine, theirs in zip(parts, whole, strict=True):
        for name, gradient in theirs.items():
            torch.testing.assert_close(mine[name], gradient, atol=1e-6, rtol=0)


def test_it_trains_in_bf16(tmp_path: Path) -> None:
    options = replace(OPTIONS, compute=Compute("cpu", "bf16"))
    reports = [
        fit_regressor(new_model(), made_clips(60, 1), made_clips(20, 2), options=each, seed=1, run=RunDirectory.open(tmp_path / name, {}))
        for name, each in (("bf16", options), ("fp32", OPTIONS))
    ]
    assert reports[0].history != reports[1].history
    assert reports[0].history[-1].validation_loss == pytest.approx(reports[1].history[-1].validation_loss, rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_what_the_cpu_trains_and_gives_the_model_back(tmp_path: Path) -> None:
    options, model = replace(OPTIONS, compute=Compute("cuda")), new_model()
    report = fit_regressor(model, made_clips(60, 1), made_clips(20, 2), options=options, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert report.history[-1].validation_loss < report.history[0].validation_loss
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_a_plan_keeps_the_regressor_within_its_budget() -> None:
    most = plan_regressor(new_model(), OPTIONS, 10**12, chunks=40)
    assert (most.accumulate, most.batch) == (1, 16)
    less = plan_regressor(new_model(), OPTIONS, most.peak_bytes // 2, chunks=40)
    assert less.peak_bytes <= most.peak_bytes // 2
    assert 1 < less.accumulate < 16
    with pytest.raises(DataError, match="too small"):
        plan_regressor(new_model(), OPTIONS, 10**4, chunks=40)


def test_options_are_checked() -> None:
    with pytest.raises(DataError, match="accumulate"):
        RegressorOptions(batch=4, accumulate=5)
    with pytest.raises(DataError, match="huber, mse"):
        RegressorOptions(score_loss="l1")


@pytest.mark.parametrize(("strategy", "window"), [("pad", 2), ("pool", 2), ("sequential", 2), ("sequential", 3)])
def test_every_length_strategy_scores_each_prefix_as_a_stream_of_it_is_scored(strategy: str, window: int, tmp_path: Path) -> None:
    model = DualTransformer(replace(FUSION, strategy=strategy, window_chunks=window))
    clips = made_clips(60, 1)
    report = fit_regressor(model, clips, made_clips(20, 2), options=replace(OPTIONS, epochs=2), seed=1, run=RunDirectory.open(tmp_path, {}))
    assert report.history[-1].validation_mse < float(made_clips(20, 2).z.var())
    shown = made_clips(12, 3).clips
    assert max(len(clip.end_s) for clip in shown) > 3
    for clip, said in zip(shown, predict(model, shown), strict=True):
        visual, audio = History(6, model.config.window), History(5, model.config.window)
        for chunk, score in enumerate(said.score):
            visual.add(clip.visual[chunk] if clip.visual_mask[chunk] else None)
            audio.add(clip.audio[chunk] if clip.audio_mask[chunk] else None)
            feeds = {name: torch.from_numpy(values) for name, values in fusion_feeds(visual.shown(), audio.shown()).items()}
            with torch.no_grad():
                assert float(model(**feeds).score[0, -1]) == pytest.approx(score, abs=1e-5)


def test_a_windowed_models_validation_loss_is_the_mean_over_prefixes_of_the_mean_over_clips(tmp_path: Path) -> None:
    model = DualTransformer(replace(FUSION, strategy="sequential", window_chunks=2))
    val = made_clips(20, 2)
    report = fit_regressor(model, made_clips(60, 1), val, options=replace(OPTIONS, epochs=1), seed=1, run=RunDirectory.open(tmp_path, {}))

    def clip_loss(row: int) -> float:
        shown = prefixes(val.clips[row], 2)
        assert sum(one.scored for one in shown) == len(val.clips[row].end_s)
        z, classes = val.labels(np.full(len(shown), row))
        with torch.no_grad():
            output = model(*collate([one.clip for one in shown]))
        each = prefix_losses(output, z, classes, levels=FUSION.quantile_levels, options=OPTIONS) * scored_rows(shown)
        return float(each.sum()) / len(val.clips[row].end_s)

    assert report.history[-1].validation_loss == pytest.approx(np.mean([clip_loss(row) for row in range(20)]), rel=1e-5)
