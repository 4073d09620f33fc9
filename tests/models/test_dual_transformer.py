from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shortcast.errors import CheckpointError
from shortcast.models.dual_transformer import DualTransformer, FusionConfig, FusionOutput, masked_softmax, modality_dropout

CONFIG = FusionConfig(visual_dim=6, audio_dim=9, width=16, heads=4, layers=2, feedforward=24)
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def fusion() -> DualTransformer:
    """Every parameter drawn, so that no head or gate is at a zero start that would hide a fault."""
    torch.manual_seed(0)
    model = DualTransformer(CONFIG).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def clips(batch: int, chunks: int, *, seed: int = 1) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    visual, audio = (torch.randn(batch, chunks, dim, generator=generator) for dim in (CONFIG.visual_dim, CONFIG.audio_dim))
    seen, heard = ((torch.rand(batch, chunks, generator=generator) > 0.3).float() for _ in range(2))
    return visual, audio, seen, heard, torch.ones(batch, chunks)


def assert_rows_close(a: FusionOutput, b: FusionOutput, chunks: int, *, atol: float = 1e-6) -> None:
    """The first `chunks` rows of both agree, and so do the weights over those chunks."""
    for name in ("score", "head_scores", "quantiles", "class_logits"):
        torch.testing.assert_close(getattr(a, name)[:, :chunks], getattr(b, name)[:, :chunks], atol=atol, rtol=0)
    torch.testing.assert_close(a.chunk_weights[:, :chunks, :chunks], b.chunk_weights[:, :chunks, :chunks], atol=atol, rtol=0)


@torch.no_grad()
def test_shapes(fusion: DualTransformer) -> None:
    shapes = [tuple(t.shape) for t in fusion(*clips(2, 7))]
    assert shapes == [(2, 7), (2, 7, 3), (2, 7, 5), (2, 7, 4), (2, 7, 7)]


@torch.no_grad()
@pytest.mark.parametrize("chunks", [1, 2, 5, 11])
def test_a_prefix_scores_as_it_does_inside_the_whole_clip(fusion: DualTransformer, chunks: int) -> None:
    inputs = clips(2, 12)
    prefix = fusion(*(t[:, :chunks] for t in inputs))
    assert_rows_close(prefix, fusion(*inputs), chunks)


@torch.no_grad()
@pytest.mark.parametrize("pad", [0.0, 1e3, float("nan")])
def test_padding_changes_nothing_bit_for_bit(fusion: DualTransformer, pad: float) -> None:
    visual, audio, seen, heard, exists = clips(2, 8)
    exists[0, 5:] = 0
    plain = fusion(visual, audio, seen, heard, exists)
    visual[0, 5:], audio[0, 5:], seen[0, 5:], heard[0, 5:] = pad, pad, 1, 0
    for a, b in zip(plain, fusion(visual, audio, seen, heard, exists), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_a_padded_clip_scores_as_the_clip_alone(fusion: DualTransformer) -> None:
    inputs = clips(2, 8)
    inputs[4][0, 5:] = 0
    padded = fusion(*inputs)
    alone = fusion(*(t[:1, :5] for t in inputs))
    assert_rows_close(FusionOutput(*(t[:1] for t in padded)), alone, 5)
    assert padded.chunk_weights[0, :, 5:].eq(0).all()


@torch.no_grad()
def test_missing_chunks_of_a_modality_do_not_matter(fusion: DualTransformer) -> None:
    visual, audio, seen, heard, exists = clips(2, 8)
    plain = fusion(visual, audio, seen, heard, exists)
    altered = fusion(visual + 7 * (1 - seen[..., None]), audio.masked_fill(heard[..., None] == 0, float("inf")), seen, heard, exists)
    assert all(torch.equal(a, b) for a, b in zip(plain, altered, strict=True))


@torch.no_grad()
def test_a_row_of_a_batch_equals_a_batch_of_one(fusion: DualTransformer) -> None:
    inputs = clips(3, 6)
    whole = fusion(*inputs)
    for i in range(3):
        alone = fusion(*(t[i : i + 1] for t in inputs))
        assert_rows_close(FusionOutput(*(t[i : i + 1] for t in whole)), alone, 6)


@torch.no_grad()
def test_everything_is_finite_when_no_chunk_is_real(fusion: DualTransformer) -> None:
    inputs = clips(2, 5)
    inputs[4].zero_()
    output = fusion(*inputs)
    assert all(t.isfinite().all() for t in output)
    assert output.chunk_weights.eq(0).all()


@torch.no_grad()
def test_chunk_weights_are_causal_and_sum_to_one(fusion: DualTransformer) -> None:
    weights = fusion(*clips(2, 9)).chunk_weights
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 9), atol=1e-6, rtol=0)
    assert weights.triu(1).eq(0).all()
    assert weights.ge(0).all()


@torch.no_grad()
def test_quantiles_never_cross(fusion: DualTransformer) -> None:
    for seed in range(5):
        assert fusion(*clips(4, 9, seed=seed)).quantiles.diff(dim=-1).ge(0).all()


ORDINAL = replace(CONFIG, classes=5, class_head="ordinal")


@torch.no_grad()
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_ordinal_logits_are_log_probabilities_of_cumulative_odds(classes: int) -> None:
    torch.manual_seed(0)
    fusion = DualTransformer(replace(ORDINAL, classes=classes)).double().eval()
    nn.init.normal_(fusion.classify.latent.weight, std=3.0)
    nn.init.normal_(fusion.classify.cuts)
    logits = fusion(*(t.double() for t in clips(3, 6))).class_logits
    assert logits.shape == (3, 6, classes)
    torch.testing.assert_close(logits.exp().sum(dim=-1), torch.ones(3, 6, dtype=torch.float64))
    at_most = logits.exp().cumsum(dim=-1)[..., :-1]
    odds = torch.logit(at_most)
    torch.testing.assert_close(odds - odds[:1, :1], (odds - odds[:1, :1])[..., :1].expand_as(odds))  # proportional: one shift for all
    assert odds.diff(dim=-1).gt(0).all()
    assert odds[..., 0].std() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("latent", [-1e4, -50.0, 50.0, 1e4])
def test_ordinal_logits_stay_finite_and_ordered_far_out(latent: float) -> None:
    head = DualTransformer(ORDINAL).classify
    head.latent.weight.fill_(latent / CONFIG.width)
    logits = head(torch.ones(1, 1, CONFIG.width))[0, 0]
    assert logits.isfinite().all()
    assert logits.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(logits.argsort(), torch.arange(5) if latent > 0 else torch.arange(4, -1, -1))


@torch.no_grad()
@pytest.mark.parametrize("head", ["softmax", "ordinal"])
@pytest.mark.parametrize("classes", [2, 4, 9, 100])
def test_before_training_every_class_is_as_likely(head: str, classes: int) -> None:
    logits = DualTransformer(replace(CONFIG, classes=classes, class_head=head)).eval()(*clips(2, 3)).class_logits
    torch.testing.assert_close(torch.softmax(logits, dim=-1), torch.full((2, 3, classes), 1 / classes), atol=1e-5, rtol=0)


@pytest.mark.parametrize("classes", [2, 5])
def test_an_ordinal_head_learns_classes_in_their_order(classes: int) -> None:
    torch.manual_seed(0)
    head = DualTransformer(replace(ORDINAL, classes=classes)).classify
    features = torch.randn(400, CONFIG.width)
    ranked = features[:, 0].contiguous()
    truth = torch.bucketize(ranked, torch.quantile(ranked, torch.arange(1, classes) / classes))
    optimiser = torch.optim.Adam(head.parameters(), lr=0.2)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(features), truth).backward()
        optimiser.step()
    assert (head(features).argmax(dim=-1) == truth).float().mean() > 0.9


@torch.no_grad()
def test_a_modality_has_no_say_until_it_was_present(fusion: DualTransformer) -> None:
    visual, audio, seen, heard, exists = clips(1, 6)
    heard[:, :3], heard[:, 3:], seen[:] = 0, 1, 1
    before = fusion(visual, audio, seen, heard, exists)
    fusion.heads[1][-1].bias += 100
    after = fusion(visual, audio, seen, heard, exists)
    assert torch.equal(before.score[:, :3], after.score[:, :3])
    assert (after.score - before.score)[:, 3:].gt(1).all()


@torch.no_grad()
def test_the_score_lies_between_the_heads(fusion: DualTransformer) -> None:
    output = fusion(*clips(3, 8))
    assert (output.score <= output.head_scores.amax(dim=-1) + 1e-6).all()
    assert (output.score >= output.head_scores.amin(dim=-1) - 1e-6).all()


@torch.no_grad()
def test_both_modalities_and_their_order_matter(fusion: DualTransformer) -> None:
    visual, audio, _, _, exists = clips(1, 6)
    score = fusion(visual, audio, exists, exists, exists).score[:, -1]
    for other in ((visual + torch.randn(6), audio), (visual, audio + torch.randn(9)), (visual.roll(2, dims=1), audio)):
        assert (fusion(*other, exists, exists, exists).score[:, -1] - score).abs() > 1e-4


@torch.no_grad()
def test_a_clip_far_longer_than_the_cap_scores_finitely(fusion: DualTransformer) -> None:
    output = fusion(*clips(1, 300))
    assert all(t.isfinite().all() for t in output)


def test_the_first_head_has_no_recency_bias_and_the_others_do() -> None:
    slopes = DualTransformer(CONFIG).slopes
    assert slopes.tolist() == [0.0, 2.0**-4, 2.0**-6, 2.0**-8]


def test_standardised_inputs_have_mean_0_and_deviation_1_but_where_they_hardly_vary(fusion: DualTransformer) -> None:
    generator = torch.Generator().manual_seed(4)
    visual = torch.randn(200, fusion.config.visual_dim, generator=generator) * torch.linspace(0.5, 9.0, fusion.config.visual_dim) + 2.0
    audio = torch.randn(200, fusion.config.audio_dim, generator=generator)
    audio[:, 0] = 500.0
    fusion.standardise_inputs(visual, audio)
    seen, heard = fusion.visual.norm(visual), fusion.audio.norm(audio)
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(seen.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(dim=0, correction=0), torch.ones(seen.shape[1]), atol=1e-4, rtol=0)
    assert heard[:, 0].abs().max() < 1


def test_a_modality_that_no_clip_has_leaves_its_input_norm_alone() -> None:
    fusion = DualTransformer(CONFIG)
    fusion.standardise_inputs(torch.randn(3, fusion.config.visual_dim), torch.zeros(0, fusion.config.audio_dim))
    assert torch.equal(fusion.audio.norm.deviation, torch.ones(fusion.config.audio_dim))
    assert not torch.equal(fusion.visual.norm.deviation, torch.ones(fusion.config.visual_dim))


def test_a_linear_start_scores_as_the_linear_model_does_on_every_prefix() -> None:
    torch.manual_seed(0)
    fusion = DualTransformer(CONFIG).eval()
    visual, audio, seen, heard, exists = clips(3, 6)
    fusion.standardise_inputs(visual.flatten(0, 1), audio.flatten(0, 1))
    weights = [torch.randn(size + 1) for size in (CONFIG.visual_dim, CONFIG.audio_dim, CONFIG.visual_dim + CONFIG.audio_dim)]
    fusion.start_linear(*weights)
    with torch.no_grad():
        heads = fusion(visual, audio, torch.ones_like(seen), torch.ones_like(heard), exists).head_scores
        v, a = fusion.visual.norm(visual), fusion.audio.norm(audio)
    for k in range(6):
        means = v[:, : k + 1].mean(dim=1), a[:, : k + 1].mean(dim=1)
        rows = (*means, torch.cat(means, dim=1))
        expected = torch.stack([row @ weight[:-1] + weight[-1] for row, weight in zip(rows, weights, strict=True)], dim=1)
        torch.testing.assert_close(heads[:, k], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, ORDINAL], ids=["softmax", "ordinal"])
def test_every_parameter_gets_a_gradient(config: FusionConfig) -> None:
    torch.manual_seed(0)
    fusion = DualTransformer(config)
    nn.init.normal_(fusion.gate.weight, std=0.1)
    output = fusion(*clips(4, 6))
    sum((t * torch.randn_like(t)).sum() for t in output).backward()
    assert [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    dead = [name for name, p in fusion.named_parameters() if p.grad.abs().max() == 0]
    assert dead == []


def test_masked_softmax_is_zero_where_nothing_may_be_attended_to() -> None:
    weights = masked_softmax(torch.randn(3, 4) * 50, torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]))
    assert weights.sum(dim=-1).tolist() == pytest.approx([1, 0, 1])
    assert weights[0, 2:].eq(0).all()


def test_modality_dropout_takes_one_modality_and_never_the_only_one() -> None:
    seen, heard = torch.ones(4000, 3), torch.ones(4000, 3)
    heard[:1000], seen[1000:2000] = 0, 0
    dropped_seen, dropped_heard = modality_dropout(seen, heard, 0.4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dropped_seen[:2000], seen[:2000])
    assert torch.equal(dropped_heard[:2000], heard[:2000])
    lost_seen, lost_heard = dropped_seen[2000:].sum(dim=1) == 0, dropped_heard[2000:].sum(dim=1) == 0
    assert not (lost_seen & lost_heard).any()
    assert lost_seen.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert lost_heard.float().mean().item() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.5, 0.25, 0.75), (0.0, 0.5), (0.25, 0.5, 0.5)])
def test_impossible_quantile_levels_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(CheckpointError, match="quantile"):
        FusionConfig(quantile_levels=levels)


@pytest.mark.parametrize(("change", "words"), [({"classes": 1}, "2 to 100 classes"), ({"class_head": "probit"}, "softmax, ordinal")])
def test_an_impossible_classifier_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        replace(CONFIG, **change)


def test_a_width_that_does_not_divide_into_heads_is_refused() -> None:
    with pytest.raises(CheckpointError, match="heads"):
        FusionConfig(width=30, heads=4)
