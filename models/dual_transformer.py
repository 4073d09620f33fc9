"""The dual Transformer: one causal branch for pictures, one for sound, cross-attention each way, and an ensemble of heads.

Each head is a linear score of the mean embedding so far plus what attention adds to it (wide and deep, Cheng et al. 2016, arXiv
1606.07792). A few hundred clips are enough to learn the first, and too few for the second: without the linear path, a ridge on the
same embeddings predicted better than the whole Transformer did.

Attention is written out by hand: `scaled_dot_product_attention` with a boolean mask exports to ONNX as something that differs from
PyTorch on fully masked rows. Recency is an ALiBi bias (Press et al. 2022, arXiv 2108.12409), so no position table limits a clip's
length; elapsed time enters once more as a capped feature, because how far a clip has run is itself informative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError

_LEAST_DEVIATION = 0.02
"""Of the typical feature's. One that varies less is not blown up to deviation 1: it would carry rounding errors, in float16 above all."""
_FARTHEST = 6.0
"""Deviations at which a standardised feature is cut: nothing a training clip showed lies so far out, and nothing linear follows it on."""

CLASS_HEADS = ("softmax", "ordinal")
STRATEGIES = ("pad", "pool", "sequential")
"""What is done with clips of different lengths; see `FusionConfig.strategy`."""
MOST_CLASSES = 100
LEAST_GAP = 0.01
"""Between two cut points of the ordinal head: no class vanishes, and the logarithm of its share stays exact enough."""

MASKED = -1e4
"""Logit of what may not be attended: exp underflows to 0 in float32, and the number still exists in float16."""


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """The dual Transformer's dimensions; they travel inside the checkpoint."""

    visual_dim: int = 128
    audio_dim: int = 384
    width: int = 64
    heads: int = 4
    layers: int = 2
    feedforward: int = 128
    quantile_levels: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    """Strictly increasing, with 0.5 among them."""
    position_cap: int = 90
    """Chunks after which elapsed time stops growing: 180 s of 2 s chunks."""
    dropout: float = 0.1
    classes: int = 4
    """K, the classes of the target."""
    class_head: str = "softmax"
    """`softmax`: a logit for each class. `ordinal`: one latent number and K - 1 rising cut points."""
    strategy: str = "sequential"
    """What the model is shown of a clip. `pad`: every chunk so far, padded in a batch to the longest clip. `pool`: their mean alone.
    `sequential`: the last `window_chunks`, the first of which stands for all before it; see `runtime.history`."""
    window_chunks: int = 32
    """For `sequential`: 64 s of 2 s chunks. Shorter clips are shown whole."""

    def __post_init__(self) -> None:
        if min(self.visual_dim, self.audio_dim, self.width, self.heads, self.layers, self.feedforward, self.position_cap) < 1:
            raise CheckpointError(f"fusion: every dimension is at least 1, got {self}")
        levels = self.quantile_levels
        if 0.5 not in levels or sorted(set(levels)) != list(levels) or levels[0] <= 0 or levels[-1] >= 1:
            raise CheckpointError(f"fusion: quantile levels rise inside (0, 1) and hold 0.5, got {levels}")
        if self.width % self.heads:
            raise CheckpointError(f"fusion: width {self.width} does not divide into {self.heads} heads")
        if not 2 <= self.classes <= MOST_CLASSES:
            raise CheckpointError(f"fusion: expected 2 to {MOST_CLASSES} classes, got {self.classes}")
        if self.class_head not in CLASS_HEADS:
            raise CheckpointError(f"fusion: class head {self.class_head!r} is unknown; it is one of {', '.join(CLASS_HEADS)}")
        if self.strategy not in STRATEGIES:
            raise CheckpointError(f"fusion: length strategy {self.strategy!r} is unknown; it is one of {', '.join(STRATEGIES)}")
        if self.window_chunks < 2:
            raise CheckpointError(f"fusion: a window holds 2 chunks at least, got {self.window_chunks}; `pool` shows one mean")

    @property
    def shown_of_a_clip(self) -> str:
        """The length strategy in words: `pad`, `pool`, or `sequential, 32 chunks`."""
        return f"sequential, {self.window_chunks} chunks" if self.strategy == "sequential" else self.strategy

    @property
    def window(self) -> int | None:
        """Most chunks that the model is shown at once; None: all."""
        return {"pad": None, "pool": 1, "sequential": self.window_chunks}[self.strategy]


class FusionOutput(NamedTuple):
    """Row k of every output depends on chunks 0..k alone. Scores and quantiles are in standardised units."""

    score: Tensor
    """float32 (B, N): the gated ensemble of the three heads."""
    head_scores: Tensor
    """float32 (B, N, 3): the visual, audio and fused heads."""
    quantiles: Tensor
    """float32 (B, N, Q): never crossing, one for each of `FusionConfig.quantile_levels`."""
    class_logits: Tensor
    """float32 (B, N, K): their softmax is the classes' probabilities; the ordinal head's are log probabilities already."""
    chunk_weights: Tensor
    """float32 (B, N, N): row k says how much chunks 0..k weighed; it sums to 1, or to 0 where no chunk so far is real."""


class DualTransformer(nn.Module):
    """Chunk embeddings of both modalities -> a score after every chunk."""

    slopes: Tensor

    def __init__(self, config: FusionConfig = FusionConfig()) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("slopes", _alibi_slopes(config.heads), persistent=False)
        self.visual = _Branch(config, config.visual_dim)
        self.audio = _Branch(config, config.audio_dim)
        self.visual_hears = _Attention(config)
        self.audio_sees = _Attention(config)
        self.merge = nn.Sequential(nn.Linear(2 * config.width, config.feedforward), nn.SiLU(), nn.Linear(config.feedforward, config.width))
        self.pools = nn.ModuleList(_CausalPool(config.width) for _ in range(3))
        self.heads = nn.ModuleList(_score_head(config) for _ in range(3))
        self.linear_visual = _LinearPath(config.visual_dim)
        self.linear_audio = _LinearPath(config.audio_dim)
        self.gate = nn.Linear(config.width, 3)
        self.spread = nn.Linear(config.width, len(config.quantile_levels))
        self.classify = _class_head(config)
        for layer in (self.gate, self.spread):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def standardise_inputs(self, visual: Tensor, audio: Tensor) -> None:
        """Sets the input norms so that every feature of these embeddings leaves them with mean 0 and deviation 1. For use before training.

        Args:
            visual: float32 (chunks, visual_dim), of the training clips. With no chunk, that modality's norm stays as it is.
            audio: float32 (chunks, audio_dim).
        """
        self.visual.norm.fit(visual)
        self.audio.norm.fit(audio)

    @torch.no_grad()
    def start_linear(self, visual: Tensor, audio: Tensor, fused: Tensor) -> None:
        """Puts linear scores in place that were fitted elsewhere, and silences what attention adds to them. For use before training.

        Args:
            visual: float32 (visual_dim + 1,), weights on the mean standardised embedding of a clip and a constant: the visual head's.
            audio: float32 (audio_dim + 1,), the audio head's.
            fused: float32 (visual_dim + audio_dim + 1,), the fused head's.
        """
        ours, theirs = torch.split(fused[:-1], [len(visual) - 1, len(audio) - 1])
        for path, own, shared in ((self.linear_visual, visual, ours), (self.linear_audio, audio, theirs)):
            path.weigh.weight.copy_(torch.stack((own[:-1], shared)))
            path.weigh.bias.copy_(torch.stack((own[-1], fused[-1] / 2)))
        for head in self.heads:
            last = head.get_submodule("3")
            nn.init.zeros_(last.get_parameter("weight"))
            nn.init.zeros_(last.get_parameter("bias"))

    def forward(self, visual: Tensor, audio: Tensor, visual_mask: Tensor, audio_mask: Tensor, chunk_mask: Tensor) -> FusionOutput:
        """Scores every prefix of a clip.

        Args:
            visual: float32 (B, N, visual_dim), embeddings of the chunks' pictures.
            audio: float32 (B, N, audio_dim), embeddings of the chunks' sound.
            visual_mask: float32 (B, N), 1 where the chunk has pictures; where it is 0 a learned null token stands in.
            audio_mask: float32 (B, N), 1 where the chunk has sound.
            chunk_mask: float32 (B, N), 1 where the chunk exists, 0 for padding on the right.
        """
        steps = _Steps.of(chunk_mask, self.slopes, self.config.position_cap)
        seen, heard = visual_mask * chunk_mask, audio_mask * chunk_mask
        visual, audio = self.visual.norm(visual), self.audio.norm(audio)
        v, a = self.visual(visual, seen, steps), self.audio(audio, heard, steps)
        v, a = v + self.visual_hears(v, a, steps), a + self.audio_sees(a, v, steps)
        streams = (v, a, self.merge(torch.cat((v, a), dim=-1)))
        masks = (steps.causal * seen[:, None], steps.causal * heard[:, None], steps.visible)
        pooled = [pool(stream, mask) for pool, stream, mask in zip(self.pools, streams, masks, strict=True)]
        deep = torch.cat([head(vector) for head, (vector, _) in zip(self.heads, pooled, strict=True)], dim=-1)
        head_scores = deep + self._linear(visual, audio, (seen, heard), masks)
        fused, chunk_weights = pooled[2]
        score = self._ensemble(fused, head_scores, masks)
        return FusionOutput(score, head_scores, self._quantiles(fused, score), self.classify(fused), chunk_weights)

    def _linear(self, visual: Tensor, audio: Tensor, present: tuple[Tensor, Tensor], masks: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The linear part of the visual, the audio and the fused head: float32 (B, N, 3)."""
        v, a = self.linear_visual(visual, present[0], masks[0]), self.linear_audio(audio, present[1], masks[1])
        return torch.stack((v[..., 0], a[..., 0], v[..., 1] + a[..., 1]), dim=-1)

    def _ensemble(self, fused: Tensor, head_scores: Tensor, masks: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """A convex combination in which a modality that was never present so far has no say."""
        present = torch.stack((masks[0].amax(dim=-1), masks[1].amax(dim=-1), torch.ones_like(masks[2][..., 0])), dim=-1)
        weights = torch.softmax(self.gate(fused).masked_fill(present <= 0, MASKED), dim=-1)
        return (weights * head_scores).sum(dim=-1)

    def _quantiles(self, fused: Tensor, score: Tensor) -> Tensor:
        """The median near the score, and positive gaps added up away from it on both sides: quantiles cannot cross."""
        middle = self.config.quantile_levels.index(0.5)
        raw = self.spread(fused)
        median = score[..., None] + raw[..., middle : middle + 1]
        below = median - torch.cumsum(F.softplus(raw[..., :middle].flip(-1)), dim=-1).flip(-1)
        above = median + torch.cumsum(F.softplus(raw[..., middle + 1 :]), dim=-1)
        return torch.cat((below, median, above), dim=-1)


def modality_dropout(
    visual_mask: Tensor, audio_mask: Tensor, probability: float, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Training only: takes one whole modality away from some clips, never both and never the only one a clip has.

    Args:
        visual_mask: float32 (B, N).
        audio_mask: float32 (B, N).
        probability: chance that a clip with both modalities loses one; which one is a fair coin.
        generator: source of the draws, on the CPU.

    Returns:
        The two masks, with the rows that were dropped at 0.
    """
    draws = torch.rand(2, len(visual_mask), 1, generator=generator).to(visual_mask.device)
    both = (visual_mask.amax(dim=1, keepdim=True) > 0) & (audio_mask.amax(dim=1, keepdim=True) > 0)
    hit, coin = both & (draws[0] < probability), draws[1] < 0.5
    return visual_mask.masked_fill(hit & coin, 0.0), audio_mask.masked_fill(hit & ~coin, 0.0)


class _Steps(NamedTuple):
    """Where each chunk stands and what it may look at; made from tensors alone, so that N stays dynamic in the graph."""

    causal: Tensor
    """float32 (B, N, N): 1 where key j is not after query k."""
    visible: Tensor
    """float32 (B, N, N): causal, and key j is a real chunk."""
    recency: Tensor
    """float32 (B, heads, N, N): ALiBi bias, 0 or negative."""
    elapsed: Tensor
    """float32 (B, N, 1): log1p of the capped chunk index."""

    @classmethod
    def of(cls, chunk_mask: Tensor, slopes: Tensor, cap: int) -> _Steps:
        index = torch.cumsum(torch.ones_like(chunk_mask), dim=1) - 1.0
        distance = index[:, :, None] - index[:, None, :]
        causal = (distance >= 0).to(torch.float32)
        recency = -slopes[None, :, None, None] * distance[:, None]
        return cls(causal, causal * chunk_mask[:, None], recency, torch.log1p(index.clamp(max=float(cap)))[..., None])


class _Branch(nn.Module):
    """One modality: project, put null tokens in, and run causal self-attention blocks."""

    def __init__(self, config: FusionConfig, features: int) -> None:
        super().__init__()
        self.norm = _Standardise(features)
        self.project = nn.Linear(features, config.width)
        self.null = nn.Parameter(torch.randn(config.width) * 0.02)
        self.elapsed = nn.Linear(1, config.width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))

    def forward(self, features: Tensor, present: Tensor, steps: _Steps) -> Tensor:
        """Standardised features float32 (B, N, D) and where they are present, (B, N) -> float32 (B, N, width)."""
        x: Tensor = torch.where(present[..., None] > 0, self.project(features), self.null) + self.elapsed(steps.elapsed)
        for block in self.blocks:
            x = block(x, steps)
        return x


class _Standardise(nn.Module):
    """Features less their mean, over their deviation, both of the training clips."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def fit(self, features: Tensor) -> None:
        """See `DualTransformer.standardise_inputs`."""
        if len(features) == 0:
            return
        deviation = features.std(dim=0, correction=0)
        typical = deviation.square().mean().sqrt()
        self.mean.copy_(features.mean(dim=0))
        self.deviation.copy_(torch.where(typical > 0, deviation.clamp(min=_LEAST_DEVIATION * typical), 1.0))

    def forward(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.deviation).clamp(-_FARTHEST, _FARTHEST)


class _LinearPath(nn.Module):
    """Two linear scores of a modality's mean embedding so far: one for its own head, one for the fused head."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(features, 2)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, features: Tensor, present: Tensor, rows: Tensor) -> Tensor:
        """Standardised features float32 (B, N, D), where they are present (B, N), and the rows' masks (B, N, N) -> (B, N, 2)."""
        each = torch.where(present[..., None] > 0, self.weigh(features), 0.0)
        total: Tensor = rows @ each
        return total / rows.sum(dim=-1, keepdim=True).clamp(min=1.0)


class _Block(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, config.feedforward),
            nn.SiLU(),
            nn.Linear(config.feedforward, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, steps: _Steps) -> Tensor:
        x = x + self.attention(x, x, steps)
        fed: Tensor = self.feedforward(x)
        return x + fed


class _Attention(nn.Module):
    """Causal multi-head attention of queries over keys, both normalised first."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.head_shape = (config.heads, config.width // config.heads)
        self.query_norm = nn.LayerNorm(config.width)
        self.key_norm = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, queries: Tensor, keys: Tensor, steps: _Steps) -> Tensor:
        """float32 (B, N, width) twice -> float32 (B, N, width)."""
        normed = self.key_norm(keys)
        q, k, v = self._split(self.query(self.query_norm(queries))), self._split(self.key(normed)), self._split(self.value(normed))
        logits = q @ k.transpose(-1, -2) * self.head_shape[1] ** -0.5 + steps.recency
        weights = masked_softmax(logits, steps.visible[:, None])
        mixed: Tensor = self.dropout(self.out((weights @ v).transpose(1, 2).flatten(2)))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], *self.head_shape).transpose(1, 2)


class _CausalPool(nn.Module):
    """Attention pooling: row k is a weighted mean of rows 0..k."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.weigh = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (B, N, width) and the rows' masks (B, N, N) -> pooled (B, N, width) and weights (B, N, N)."""
        normed = self.norm(x)
        weights = masked_softmax(self.weigh(normed).transpose(-1, -2), mask)
        return weights @ normed, weights


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis where mask is 1; exactly 0 elsewhere, and all 0 in a row with nothing to attend to."""
    weights = torch.softmax(logits.masked_fill(mask <= 0, MASKED), dim=-1)
    return weights * mask.amax(dim=-1, keepdim=True)


def _alibi_slopes(heads: int) -> Tensor:
    """Slopes 2^(-8 i / heads); the first head has none, so that one head can look back without bias."""
    slopes = torch.tensor([2.0 ** (-8.0 * i / heads) for i in range(1, heads + 1)])
    slopes[0] = 0.0
    return slopes


class _OrdinalHead(nn.Module):
    """Proportional odds (McCullagh 1980): P(class > k) = sigmoid(latent - cut_k), with cut points that rise.

    A class's probability is the difference of two sigmoids. It's taken as the product s(cut_k - latent) s(latent - cut_(k-1))
    (1 - exp(cut_(k-1) - cut_k)), which is the same number: logarithms stay exact where the difference would be 0.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.latent = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.latent.weight)
        cuts = torch.logit(torch.arange(1, classes) / classes)  # with the latent at 0 every class is as likely
        self.cuts = nn.Parameter(torch.cat((cuts[:1], torch.log(torch.expm1(cuts.diff() - LEAST_GAP)))))
        """float32 (K - 1,): the first cut point, and what softplus makes the gaps to the next ones of."""

    def forward(self, fused: Tensor) -> Tensor:
        """float32 (B, N, width) -> log probabilities (B, N, K)."""
        gaps = F.softplus(self.cuts[1:]) + LEAST_GAP
        cuts = torch.cat((self.cuts[:1], self.cuts[:1] + torch.cumsum(gaps, dim=0)))
        above = self.latent(fused) - cuts
        not_above, is_above = -F.softplus(above), -F.softplus(-above)
        between = not_above[..., 1:] + is_above[..., :-1] + torch.log1p(-torch.exp(-gaps))
        return torch.cat((not_above[..., :1], between, is_above[..., -1:]), dim=-1)


def _class_head(config: FusionConfig) -> nn.Module:
    """All classes as likely before training."""
    if config.class_head == "ordinal":
        return _OrdinalHead(config.width, config.classes)
    head = nn.Linear(config.width, config.classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _score_head(config: FusionConfig) -> nn.Sequential:
    return nn.Sequential(nn.Linear(config.width, config.width), nn.SiLU(), nn.Dropout(config.dropout), nn.Linear(config.width, 1))
