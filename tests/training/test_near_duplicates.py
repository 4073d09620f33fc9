"""Near-duplicates by pictures: edited copies of the sample are found, other clips and flat pictures are not, and clusters chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.filter
import numpy as np
import pytest
from numpy.typing import NDArray

from shortcast.runtime.chunks import read_chunks
from shortcast.runtime.contract import Contract
from shortcast.runtime.media import ReadOptions
from shortcast.training.dataset import ClipFeatures, FeatureStore, ReadyClip, features_of
from shortcast.training.near_duplicates import (
    MOST_BITS,
    Cluster,
    NearPair,
    cluster_names,
    clusters_of,
    fingerprint,
    near_duplicates,
    near_pairs,
)

CONTRACT = Contract()
FPS = CONTRACT.picture.fps
EDITS: dict[str, tuple[str, ...]] = {
    "re-encoded": (),
    "scaled": ("scale=iw/2:-2",),
    "begins 1 s later": ("trim=start=1", "setpts=PTS-STARTPTS"),
    "bars above and below": ("pad=iw:ih*1.3:0:ih*0.15",),
    "cropped": ("crop=iw*0.95:ih*0.95",),
    "captioned": ("drawbox=x=iw*0.1:y=ih*0.85:w=iw*0.8:h=ih*0.06:color=black:t=fill",),
}


def features(path: Path) -> ClipFeatures:
    with read_chunks(path, CONTRACT, options=ReadOptions(use_sound=False)) as stream:
        chunks = list(stream)
    return features_of(chunks, [None] * len(chunks), CONTRACT)


def edited(source: Path, target: Path, filters: tuple[str, ...]) -> Path:
    """Encodes a clip once more, at a low quality, through FFmpeg's filters."""
    with av.open(str(source)) as clip:
        rate = clip.streams.video[0].average_rate
        pictures = list(filtered(clip, filters))
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": "36", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = pictures[0].width // 2 * 2, pictures[0].height // 2 * 2, "yuv420p"
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base = number, 1 / Fraction(rate)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return target


def filtered(clip: av.container.InputContainer, filters: tuple[str, ...]) -> Iterator[av.VideoFrame]:
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(template=clip.streams.video[0])]
    nodes += [graph.add(*one.partition("=")[::2]) for one in (*filters, "format=yuv420p")]
    nodes.append(graph.add("buffersink"))
    for one, other in pairwise(nodes):
        one.link_to(other)
    graph.configure()
    for frame in [*clip.decode(video=0), None]:
        graph.vpush(frame)
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield graph.vpull()


def made(pictures: NDArray[np.uint8]) -> ClipFeatures:
    """uint8 (N, T, H, W, 3) as the features of a clip without sound."""
    chunks, frames = pictures.shape[:2]
    return ClipFeatures(
        frames=pictures,
        frame_mask=np.ones((chunks, frames), dtype=bool),
        epochs=np.zeros(chunks, dtype=np.int64),
        sound=np.zeros((chunks, 4), dtype=np.float32),
        sound_mask=np.zeros(chunks, dtype=bool),
        end_s=np.arange(1.0, chunks + 1) * 2,
    )


def scene(seed: int, chunks: int = 3) -> NDArray[np.uint8]:
    """Coarse coloured squares that change every half second: uint8 (chunks, 16, 160, 96, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (chunks * 4, 10, 6, 3), dtype=np.uint8)
    return np.repeat(np.repeat(np.repeat(coarse, 4, axis=0), 16, axis=1), 16, axis=2).reshape(chunks, 16, 160, 96, 3)


def linked(prints: Mapping[str, NDArray[np.uint8]]) -> set[frozenset[str]]:
    return {frozenset((pair.first, pair.second)) for pair in near_pairs(prints)}


@pytest.fixture(scope="module")
def others() -> dict[str, NDArray[np.uint8]]:
    """Forty clips that have nothing to do with each other."""
    return {f"other{seed}": fingerprint(made(scene(seed)), FPS) for seed in range(40)}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_found_and_nothing_else(edit: str, sample: Path, others: Mapping[str, NDArray[np.uint8]], tmp_path: Path) -> None:
    copy = edited(sample, tmp_path / "copy.mp4", EDITS[edit])
    prints = {**others, "sample": fingerprint(features(sample), FPS), "copy": fingerprint(features(copy), FPS)}
    assert linked(prints) == {frozenset(("sample", "copy"))}


def test_a_brighter_copy_is_found(sample: Path) -> None:
    clip = features(sample)
    brighter = made(np.clip(clip.frames * 1.1 + 12, 0, 255).astype(np.uint8))
    assert len(near_pairs({"sample": fingerprint(clip, FPS), "brighter": fingerprint(brighter, FPS)})) == 1


def test_real_copies_are_found(shared_data: Path) -> None:
    names = ("big_buck_bunny_small.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4", "fire2.mp4")
    prints = {name: fingerprint(features(shared_data / "clips" / "real" / name), FPS) for name in names}
    assert linked(prints) == {frozenset(names[:2]), frozenset(names[2:4])}


def test_flat_pictures_match_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 4, (2, 16, 160, 96, 3), dtype=np.uint8)
    assert fingerprint(made(noise), FPS).shape == (0, 8)
    half = np.concatenate([noise, scene(1, 2)]), np.concatenate([noise, scene(2, 2)])
    assert near_pairs({str(index): fingerprint(made(pictures), FPS) for index, pictures in enumerate(half)}) == []


def test_a_clip_without_pictures_has_no_hashes() -> None:
    clip = made(scene(0))
    clip.frame_mask[:] = False
    assert fingerprint(clip, FPS).shape == (0, 8)


def test_four_hashes_a_second_of_media_at_any_rate_of_the_grid() -> None:
    assert len(fingerprint(made(scene(0, 3)), Fraction(8))) == 3 * 2 * 4
    assert len(fingerprint(made(scene(0, 3)), Fraction(2))) == 3 * 16


def test_a_part_of_the_shorter_clip_decides() -> None:
    whole, part, third = scene(5, 10), scene(5, 10)[:3], np.concatenate([scene(5, 10)[:1], scene(6, 2)])
    prints = {name: fingerprint(made(pictures), FPS) for name, pictures in (("whole", whole), ("part", part), ("third", third))}
    (pair,) = near_pairs({name: prints[name] for name in ("whole", "part")})
    assert pair.similarity == 1
    assert near_pairs({name: prints[name] for name in ("whole", "third")}) == []


@pytest.mark.parametrize(("flipped", "found"), [(MOST_BITS, True), (MOST_BITS + 1, False)])
def test_hashes_are_the_same_up_to_so_many_bits(flipped: int, found: bool) -> None:
    one = fingerprint(made(scene(0)), FPS)
    bits = np.unpackbits(one, axis=1)
    bits[:, : 3 * flipped : 3] ^= 1  # leaves two thirds of every hash as they are, so that the pair is looked at
    assert bool(near_pairs({"one": one, "other": np.packbits(bits, axis=1)})) == found


def test_a_picture_that_very_many_clips_show_links_them_all() -> None:
    one = fingerprint(made(scene(0, 1)), FPS)
    ids = [f"c{index}" for index in range(300)]
    pairs = near_pairs(dict.fromkeys(ids, one))
    assert len(pairs) < 300 * 70
    assert clusters_of(ids, pairs) == (Cluster(tuple(ids), 1.0),)


def test_links_chain_and_the_weakest_is_told() -> None:
    pairs = [NearPair("b", "d", 0.9), NearPair("d", "a", 0.5), NearPair("e", "f", 0.7)]
    clusters = clusters_of("abcdef", pairs)
    assert clusters == (Cluster(("a", "b", "d"), 0.5), Cluster(("e", "f"), 0.7))
    assert cluster_names(clusters) == {"a": "a", "b": "a", "d": "a", "e": "e", "f": "e"}


def test_equal_files_are_near_duplicates_whatever_they_show(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, CONTRACT)
    for sha256, pictures in (("black", scene(0) * 0), ("one", scene(1)), ("two", scene(2))):
        store.save(sha256, made(pictures))
    clips = [ReadyClip(f"c{index}", sha256, 3, 6.0) for index, sha256 in enumerate(("one", "black", "two", "black", "one"))]
    seen: list[tuple[int, int]] = []
    clusters = near_duplicates(clips, store, fps=FPS, on_clip=lambda done, total: seen.append((done, total)))
    assert clusters == (Cluster(("c0", "c4"), 1.0), Cluster(("c1", "c3"), 1.0))
    assert seen == [(done, 5) for done in range(1, 6)]
    assert near_duplicates([], store, fps=FPS) == ()
