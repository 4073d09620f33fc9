"""Settling tables of made clips: exact counts where they are known, and whether what they promise is kept by clips of another draw."""

from contextlib import suppress

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.settling import KINDS, SettlingRule
from shortcast.runtime.settling_fit import ClipPath, FollowedPaths, fit_settling, lengths_of

EVEN = {"class": 2, "interval": 2}


def a_path(classes: list[int], sure: float = 0.8, z: list[float] | None = None, half: float = 1.0) -> ClipPath:
    """A clip of two classes with as many chunks of 2 s."""
    probabilities = np.array([[sure, 1 - sure] if named == 0 else [1 - sure, sure] for named in classes])
    scores = np.array(z if z is not None else [0.0] * len(classes))
    return ClipPath(scores, np.stack([scores - half, scores + half], axis=1), probabilities, 2.0 * np.arange(1, len(classes) + 1))


def drawn(clips: int, draw: np.random.Generator) -> list[ClipPath]:
    """Clips whose score is a running mean of noise, as a score of alike chunks is, and whose classes are its sign."""
    paths = []
    for length in draw.integers(1, 13, size=clips):
        z = draw.normal() + np.cumsum(draw.normal(size=length)) / np.arange(1, length + 1)
        high = 1 / (1 + np.exp(-3 * z))
        paths.append(ClipPath(z, np.stack([z - 1, z + 1], axis=1), np.stack([1 - high, high], axis=1), 2.0 * np.arange(1, length + 1)))
    return paths


def test_a_rule_stops_at_the_first_firm_chunk_and_never_at_the_last() -> None:
    paths = [a_path([0, 0, 0, 0, 1]), a_path([0, 1, 1, 1]), a_path([0, 1]), a_path([0]), a_path([1, 1, 0], sure=0.51)]
    followed = FollowedPaths(paths, SettlingRule("class", 2, ()))
    found = followed.stop(1.0)
    assert [(clip.index, clip.early) for clip in found] == [(1, True), (2, True), (1, False), (0, False), (2, False)]
    assert [clip.kept for clip in found] == [False, True, True, True, True]
    assert [clip.unread_s for clip in found] == [6.0, 2.0, 0.0, 0.0, 0.0]
    assert np.isneginf(followed.peaks()[[2, 3]]).all()


def test_an_interval_is_kept_within_a_fifth_of_its_width() -> None:
    still, moves = a_path([0] * 4, z=[0.0, 0.0, 0.0, 0.39]), a_path([0] * 4, z=[0.0, 0.0, 0.0, 0.41])
    found = FollowedPaths([still, moves], SettlingRule("interval", 2, ())).stop(-0.01)
    assert [(clip.index, clip.kept) for clip in found] == [(1, True), (1, False)]
    assert [clip.moved_z for clip in found] == pytest.approx([0.39, 0.41])


def test_rows_count_what_is_known_to_happen() -> None:
    """Of 60 firm clips 6 flip, and of 40 less firm ones 20; all have 5 chunks of 2 s."""
    paths = [a_path([0, 0, 0, 0, int(number < 6)], sure=0.9) for number in range(60)]
    paths += [a_path([0, 0, 0, 0, int(number < 20)], sure=0.6) for number in range(40)]
    made = fit_settling(paths, {"source": "made"}, patience=EVEN, rows=10)
    rows = next(rule.rows for rule in made.rules if rule.kind == "class")
    assert made.clips == 100
    # Each is firmest after 4 chunks, which are the two thresholds; the firm ones pass the lower of them after 2.
    assert [(row.stopped, row.kept, row.unread) for row in rows] == [(60, 54, pytest.approx(0.12)), (100, 74, pytest.approx(0.44))]


def test_thresholds_fall_in_even_steps_and_do_not_look_at_how_clips_ended() -> None:
    paths = drawn(400, np.random.default_rng(0))
    turned = [
        ClipPath(p.z, p.interval_z, np.vstack([p.class_probabilities[:-1], p.class_probabilities[-1:, ::-1]]), p.end_s) for p in paths
    ]
    for first, second in zip(fit_settling(paths, {}).rules, fit_settling(turned, {}).rules, strict=True):
        assert [row.threshold for row in first.rows] == [row.threshold for row in second.rows]
        assert [row.stopped for row in first.rows] == [row.stopped for row in second.rows]
        steps = np.diff([0, *(row.stopped for row in first.rows)])
        assert steps.max() - steps.min() <= 1
        assert [row.unread for row in first.rows] == sorted(row.unread for row in first.rows)


def test_clips_of_another_draw_keep_what_was_promised() -> None:
    """Over many calibrations a promise is broken no more often than the certainty of 95 % allows, and not because nothing ever stops."""
    draw = np.random.default_rng(1)
    later = drawn(2000, draw)
    followed = {rule.kind: FollowedPaths(later, rule) for rule in fit_settling(later, {}).rules}
    kept: dict[tuple[str, float], list[float]] = {(kind, confidence): [] for kind in KINDS for confidence in (0.75, 0.88)}
    for _ in range(40):
        made = fit_settling(drawn(250, draw), {})
        for (kind, confidence), shares in kept.items():
            with suppress(DataError):
                stopped = followed[kind].stop(made.stop(kind, confidence).row.threshold)
                shares.append(float(np.mean([clip.kept for clip in stopped if clip.early])))
    assert [len(shares) >= 30 for (kind, _), shares in kept.items() if kind == "class"] == [True, True]
    for (_, confidence), shares in kept.items():
        assert sum(share < confidence for share in shares) <= 5  # of 40 draws of 5 %, more than 5 are one in seventy


def test_moves_are_those_of_nine_in_ten() -> None:
    paths = [a_path([0, 0, 0], z=[0.0, 0.0, number / 10]) for number in range(1, 20)]
    (row,) = next(rule.rows for rule in fit_settling(paths, {}, patience=EVEN).rules if rule.kind == "class")
    assert (row.stopped, row.moved_z) == (19, 1.8)
    (row,) = next(rule.rows for rule in fit_settling(paths[:8], {}, patience=EVEN).rules if rule.kind == "class")
    assert (row.stopped, row.moved_z) == (8, None)


def test_clips_too_short_to_stop_make_a_rule_of_no_rows() -> None:
    made = fit_settling([a_path([0]), a_path([0, 1])], {})
    assert [rule.rows for rule in made.rules] == [(), ()]
    with pytest.raises(DataError, match="too short or too few"):
        made.stop("class", 0.5)


def test_lengths_are_said() -> None:
    assert lengths_of([a_path([0]), a_path([0, 0, 0]), a_path([0] * 9)]) == {"shortest_s": 2.0, "median_s": 6.0, "longest_s": 18.0}
