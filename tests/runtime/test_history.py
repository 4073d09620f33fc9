"""The window over a clip: what is shown step by step is what is shown at once, and it never grows."""

import numpy as np
import pytest

from shortcast.runtime.history import History, fold

D = 5


def clip(chunks: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(chunks)
    present = draw.random(chunks) > 0.3
    return draw.normal(size=(chunks, D)).astype(np.float32) * present[:, None], present


@pytest.mark.parametrize("window", [None, 1, 2, 3, 8, 50])
def test_step_by_step_is_at_once(window: int | None) -> None:
    embeddings, present = clip(20)
    history = History(D, window)
    for index, (row, there) in enumerate(zip(embeddings, present, strict=True), start=1):
        history.add(row if there else None)
        shown, mask = history.shown()
        expected, expected_mask = fold(embeddings[:index], present[:index], window)
        np.testing.assert_allclose(shown, expected, atol=1e-6)
        np.testing.assert_array_equal(mask, expected_mask)
        assert len(shown) == (index if window is None else min(index, window))


def test_a_window_of_one_is_the_mean_of_what_is_there() -> None:
    embeddings, present = clip(9)
    shown, mask = fold(embeddings, present, 1)
    np.testing.assert_allclose(shown[0], embeddings[present].mean(axis=0), atol=1e-6)
    assert mask.tolist() == [True]


def test_the_last_chunks_are_shown_as_they_are() -> None:
    embeddings, present = clip(9)
    shown, mask = fold(embeddings, present, 4)
    np.testing.assert_array_equal(shown[1:], embeddings[-3:])
    np.testing.assert_array_equal(mask[1:], present[-3:])


def test_a_modality_that_was_never_there_stays_absent() -> None:
    nothing = np.zeros((6, D), dtype=np.float32)
    shown, mask = fold(nothing, np.zeros(6, dtype=bool), 3)
    assert not mask.any()
    assert not shown.any()
