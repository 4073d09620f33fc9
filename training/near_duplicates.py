"""Clips that show the same pictures: copies that were re-encoded, scaled, cut, padded or a little edited.

Every clip gets a fingerprint, four perceptual hashes a second: the signs of the 63 lowest frequencies of the letterbox-cropped picture
against their median (the DCT hash of Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"). Two clips are
near-duplicates where at least 40 % of the shorter one's hashes lie within 10 bits of one of the other's. Flat pictures (black, white,
fades) would match each other everywhere and are left out. Sound has no say: many clips share a song.

Pairs are looked for among clips with an equal third of a hash somewhere, so the cost grows with what is alike and not with the square
of the clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct  # type: ignore[import-untyped]

from .dataset import ClipFeatures, FeatureStore, ReadyClip

HASHES_PER_S = 4
MOST_BITS = 10
"""Hashes of 63 bits that differ in no more than this are of one picture."""
SHARE = 0.4
"""Of the shorter clip's hashes, from where on two clips are near-duplicates."""
FEWEST_HASHES = 4
"""A clip with fewer pictures that are not flat is nobody's near-duplicate (but of a file with the same bytes)."""

_FLAT = 5.0
"""Standard deviation of a picture's grey levels, of 255, below which its hash is noise."""
_BLACK = 24
_BAR = 0.02
"""A row or column is part of a letterbox bar where fewer pixels than this share are ever brighter than `_BLACK`."""
_SMALLEST_PX = 8
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_GRID, _FREQUENCIES = 32, 8
_BANDS = 3
_SHORT = 24
"""Hashes (6 s), below which one band in common is enough for a closer look."""
_NEIGHBOURS = 64
"""A picture that very many clips show is compared with so many of them; links chain, so the rest are found all the same."""

Fingerprint = NDArray[np.uint8]
"""uint8 (K, 8): K hashes of 63 bits, and a bit that is 0."""


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two near-duplicates."""

    first: str
    second: str
    similarity: float
    """Share of the shorter clip's pictures that the other has too; 1 for equal files."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Clips that near-duplicates link, directly or through others."""

    clips: tuple[str, ...]
    """Ids in the order given."""
    similarity: float
    """Of the least similar pair that was found in it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def near_duplicates(
    clips: Sequence[ReadyClip], store: FeatureStore, *, fps: Fraction, on_clip: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Cluster, ...]:
    """Finds the near-duplicates among clips whose features are in a store.

    Args:
        clips: what to compare.
        store: where their features are.
        fps: of the pictures in the store.
        on_clip: called after every clip with (done, total).

    Raises:
        DataError: an entry of the store cannot be read.
    """
    prints: dict[str, Fingerprint] = {}
    for done, clip in enumerate(clips, start=1):
        if clip.sha256 not in prints:
            prints[clip.sha256] = fingerprint(store.load(clip.sha256), fps)
        on_clip(done, len(clips))
    by_file: dict[str, list[str]] = defaultdict(list)
    for clip in clips:
        by_file[clip.sha256].append(clip.id)
    equal = (NearPair(ids[0], other, 1.0) for ids in by_file.values() for other in ids[1:])
    alike = near_pairs({ids[0]: prints[sha256] for sha256, ids in by_file.items()})
    return clusters_of([clip.id for clip in clips], [*equal, *alike])


def cluster_names(clusters: Iterable[Cluster]) -> dict[str, str]:
    """The name of its cluster (the first clip's id) by clip id, as `training.splits` takes it."""
    return {clip: cluster.clips[0] for cluster in clusters for clip in cluster.clips}


def fingerprint(features: ClipFeatures, fps: Fraction) -> Fingerprint:
    """The hashes of a clip's pictures, without those that are flat."""
    step = max(1, round(fps / HASHES_PER_S))
    shown = features.frame_mask.reshape(-1)[step - 1 :: step]
    pictures = features.frames.reshape(-1, *features.frames.shape[2:])[step - 1 :: step][shown]
    if not len(pictures):
        return np.zeros((0, 8), dtype=np.uint8)
    grey = _without_bars(pictures.astype(np.float32) @ _LUMA)
    rich = grey[grey.std(axis=(1, 2)) >= _FLAT]
    low = _lowest_frequencies(rich.shape[1]) @ rich @ _lowest_frequencies(rich.shape[2]).T
    levels = low.reshape(len(rich), _FREQUENCIES**2)[:, 1:]  # without the mean brightness
    return np.packbits(levels > np.median(levels, axis=1, keepdims=True), axis=1)


def near_pairs(prints: Mapping[str, Fingerprint]) -> list[NearPair]:
    """Every pair of near-duplicates, by fingerprint of each clip id; in a large cluster, enough pairs to link it."""
    known = [(clip, hashes) for clip, hashes in prints.items() if len(hashes) >= FEWEST_HASHES]
    hashes = [found for _, found in known]
    found = []
    for first, pairs in groupby(_candidates(hashes), key=lambda pair: pair[0]):
        others = [other for _, other in pairs]
        for other, similarity in zip(others, _similarities(hashes[first], [hashes[other] for other in others]), strict=True):
            if similarity >= SHARE:
                found.append(NearPair(known[first][0], known[other][0], similarity))
    return found


def clusters_of(ids: Sequence[str], pairs: Iterable[NearPair]) -> tuple[Cluster, ...]:
    """Connected components of at least two clips, in the order of `ids`."""
    home = {clip: clip for clip in ids}
    lowest: dict[str, float] = {}

    def root(clip: str) -> str:
        while home[clip] != clip:
            home[clip] = clip = home[home[clip]]
        return clip

    for pair in pairs:
        one, other = root(pair.first), root(pair.second)
        home[other] = one
        lowest[one] = min(pair.similarity, lowest.get(one, 1.0), lowest.get(other, 1.0))
    members: dict[str, list[str]] = defaultdict(list)
    for clip in ids:
        members[root(clip)].append(clip)
    return tuple(Cluster(tuple(clips), lowest[name]) for name, clips in members.items() if len(clips) > 1)


def _without_bars(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cuts off what is black in every picture: float32 (K, H, W) -> (K, H', W')."""
    bright = grey.max(axis=0) > _BLACK
    spans = []
    for axis in (1, 0):
        inside = np.flatnonzero(bright.mean(axis=axis) >= _BAR)
        if len(inside) < _SMALLEST_PX:
            return grey
        spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return np.asarray(grey[:, spans[0], spans[1]])


def _lowest_frequencies(pixels: int) -> NDArray[np.float32]:
    """Float32 (8, pixels): area scaling to 32 samples, then the first 8 rows of their DCT-II."""
    edges = np.linspace(0, pixels, _GRID + 1)
    ends = np.minimum(edges[1:, None], np.arange(1, pixels + 1)) - np.maximum(edges[:-1, None], np.arange(pixels))
    scaling = np.maximum(ends, 0) * (_GRID / pixels)
    return np.asarray(dct(np.eye(_GRID), axis=0, norm="ortho")[:_FREQUENCIES] @ scaling, dtype=np.float32)


def _candidates(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs of clips with bands of hashes in common, each once, in order: two bands, or one where a clip is short.

    Two unrelated clips of 30 s share one band in some 2 % of all cases by chance.
    """
    if len(prints) < 2:
        return
    lengths = np.array([len(hashes) for hashes in prints])
    owner = np.repeat(np.arange(len(prints)), lengths)
    bits = np.unpackbits(np.concatenate(prints), axis=1)
    places = 1 << np.arange(-(-64 // _BANDS), dtype=np.int64)
    found: list[NDArray[np.int64]] = []
    for band in range(_BANDS):
        part = bits[:, band::_BANDS]
        keys = part @ places[: part.shape[1]]
        found += _with_equal_keys(keys, owner, len(prints))
    pairs, shared = np.unique(np.concatenate(found), return_counts=True)
    first, second = np.divmod(pairs, len(prints))
    worth = (shared > 1) | (np.minimum(lengths[first], lengths[second]) < _SHORT)
    yield from zip(first[worth].tolist(), second[worth].tolist(), strict=True)


def _with_equal_keys(keys: NDArray[np.int64], owner: NDArray[np.int64], clips: int) -> Iterator[NDArray[np.int64]]:
    """Pairs `first * clips + second` of different owners of a key, first < second; of a key with many owners, neighbours only."""
    held = np.unique(keys * clips + owner)
    key, clip = held // clips, held % clips
    for distance in range(1, _NEIGHBOURS + 1):
        same = np.flatnonzero(key[distance:] == key[:-distance])
        yield clip[same] * clips + clip[same + distance]
        if not len(same):
            return


def _similarities(one: Fingerprint, others: Sequence[Fingerprint]) -> list[float]:
    """For every other clip, the share of the shorter one's hashes that the longer one has too."""
    starts = np.cumsum([0, *(len(other) for other in others[:-1])])
    agree = _signs(one) @ _signs(np.concatenate(others)).T
    same = agree >= 64 - 2 * MOST_BITS  # each bit that differs takes 2 off the product of signs
    of_one = np.logical_or.reduceat(same, starts, axis=1)
    of_others = np.add.reduceat(same.any(axis=0), starts, dtype=np.int32)
    lengths = np.array([len(other) for other in others])
    return [float(share) for share in np.where(lengths < len(one), of_others / lengths, of_one.mean(axis=0))]


def _signs(hashes: Fingerprint) -> NDArray[np.float32]:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
