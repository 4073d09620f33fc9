"""Decision parity: known changes to known decisions."""

import numpy as np
import pytest

from shortcast.runtime.decision import DecisionGate, DecisionParity, Decisions, compare_decisions

GATE = DecisionGate(score=0.01, spearman=0.999, margin_z=0.02, margin_probability=0.1, reason="for the test")
Z = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
CLASSES = np.array([[0.9, 0.1], [0.8, 0.2], [0.52, 0.48], [0.3, 0.7], [0.1, 0.9]])


def compared(z: np.ndarray, classes: np.ndarray = CLASSES) -> DecisionParity:
    return compare_decisions(Decisions(Z, CLASSES), Decisions(z, classes), GATE)


def failed(found: DecisionParity) -> set[str]:
    return {row.output.split(" (")[0] for row in found.rows(GATE) if not row.passed}


def test_equal_decisions_differ_in_nothing() -> None:
    found = compared(Z)
    assert (found.worst_score_error, found.largest_rank_change, found.reordered_pairs, found.class_changes) == (0, 0, 0, 0)
    assert found.spearman == pytest.approx(1)
    assert not failed(found)


def test_swapping_the_ends_is_a_rank_change_of_four() -> None:
    found = compared(Z[[4, 1, 2, 3, 0]])
    assert found.largest_rank_change == 4
    assert found.reordered_pairs == 7  # each end against the three between, and the ends against each other
    assert found.spearman == pytest.approx(-0.6)  # 1 - 6 (16 + 16) / (5 (25 - 1))
    assert failed(found) == {"score", "1 - rank correlation", "pairs reordered"}


def test_near_ties_may_change_places() -> None:
    near = Decisions(np.array([0.0, 0.01, 1.0]), CLASSES[:3])
    found = compare_decisions(near, Decisions(np.array([0.005, 0.004, 1.0]), CLASSES[:3]), GATE)
    assert found.largest_rank_change == 1
    assert found.reordered_pairs == 0


def test_scores_that_fall_together_are_reordered() -> None:
    assert compared(np.zeros(5)).reordered_pairs == 10


def test_a_class_that_was_nearly_another_may_change_and_a_clear_one_may_not() -> None:
    nearly = CLASSES.copy()
    nearly[2] = nearly[2, ::-1]
    found = compared(Z, nearly)
    assert (found.class_changes, found.class_changes_outside_margin) == (1, 0)
    assert not failed(found)
    clearly = CLASSES.copy()
    clearly[0] = clearly[0, ::-1]
    found = compared(Z, clearly)
    assert found.class_changes_outside_margin == 1
    assert failed(found) == {"classes changed"}


@pytest.mark.parametrize("z", [np.array([0.0, 1.0]), np.zeros(4)])
def test_too_few_clips_or_equal_scores_have_no_rank_correlation_and_no_row_for_it(z: np.ndarray) -> None:
    same = Decisions(z, CLASSES[: len(z)])
    found = compare_decisions(same, same, GATE)
    assert found.spearman is None
    assert len(list(found.rows(GATE))) == 3


def test_ties_have_their_mean_rank() -> None:
    tied = Decisions(np.array([1.0, 1.0, 2.0]), CLASSES[:3])
    apart = Decisions(np.array([1.0, 1.5, 2.0]), CLASSES[:3])
    assert compare_decisions(tied, apart, GATE).spearman == pytest.approx(np.sqrt(0.75))


def test_round_trip() -> None:
    found = compared(Z[::-1])
    assert DecisionParity.from_json(found.to_json()) == found
