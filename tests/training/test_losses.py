"""Every loss against its closed form, its derivative, and the centre that it must find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from shortcast.errors import DataError
from shortcast.training.losses import LOSSES, Loss, pinball

ERRORS = torch.linspace(-12, 12, 481, dtype=torch.float64)
SAMPLE = torch.tensor([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 60.0], dtype=torch.float64)
"""Skewed: its mean is far from its median."""


@pytest.mark.parametrize(
    ("loss", "error", "value"),
    [
        (Loss("mse"), -3.0, 9.0),
        (Loss("mae"), -3.0, 3.0),
        (Loss("huber"), 0.5, 0.125),
        (Loss("huber"), -3.0, 2.5),
        (Loss("huber", 2.0), 3.0, 4.0),
        (Loss("log-cosh"), 2.0, math.log(math.cosh(2.0))),
        (Loss("tukey"), 2.0, 4.685**2 / 6 * (1 - (1 - (2 / 4.685) ** 2) ** 3)),
        (Loss("tukey", 3.0), 50.0, 1.5),
        (Loss("student-t"), 3.0, 2 * math.log(4.0)),
        (Loss("student-t", 1.0), 1.0, math.log(2.0)),
        (Loss("pinball", 0.9), -2.0, 1.8),
        (Loss("pinball", 0.9), 2.0, 0.2),
    ],
)
def test_values(loss: Loss, error: float, value: float) -> None:
    assert loss.value(torch.tensor(error, dtype=torch.float64)).item() == pytest.approx(value)


@pytest.mark.parametrize("name", LOSSES)
def test_influence_is_the_derivative(name: str) -> None:
    loss, error = Loss(name), ERRORS.clone().requires_grad_()
    loss.value(error).sum().backward()  # type: ignore[no-untyped-call]
    smooth = ERRORS != 0  # absolute errors have a kink there
    assert error.grad is not None
    torch.testing.assert_close(loss.influence(ERRORS)[smooth], error.grad[smooth])
    assert loss.influence(torch.zeros(1)).item() == 0 == loss.value(torch.zeros(1)).item()
    assert (loss.value(ERRORS) >= 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_float32_stays_finite_far_out(name: str) -> None:
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = Loss(name).value(far)
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert value.dtype == torch.float32 == Loss(name).influence(far).dtype
    assert torch.isfinite(value).all()
    assert torch.isfinite(far.grad).all()


def test_how_hard_a_far_clip_pulls() -> None:
    pull = {name: Loss(name).influence(torch.tensor([1.0, 10.0, 100.0])).tolist() for name in LOSSES}
    assert pull["mse"] == [2, 20, 200]
    assert pull["huber"] == pull["mae"] == [1, 1, 1]
    assert pull["log-cosh"][2] == 1
    assert pull["tukey"][1:] == [0, 0]
    assert pull["student-t"] == pytest.approx([1, 40 / 103, 400 / 10003])


def test_bounds_of_the_influence_that_lets_go() -> None:
    error = torch.linspace(-50, 50, 20001, dtype=torch.float64)
    # Where the derivative is flat: sqrt(degrees of freedom) for Student's t, cut / sqrt(5) for Tukey's biweight.
    assert Loss("student-t").influence(error).max().item() == pytest.approx(4 / (2 * math.sqrt(3)), rel=1e-4)
    assert Loss("tukey").influence(error).max().item() == pytest.approx(4.685 / math.sqrt(5) * 0.8**2, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "centre"),
    [
        (Loss("mse"), SAMPLE.mean().item()),
        (Loss("mae"), 0.25),
        (Loss("pinball"), 0.25),
        (Loss("pinball", 0.8), 1.0),
        (Loss("tukey", 20.0), SAMPLE[:-1].mean().item()),  # beyond its cut a value is not there
        (Loss("student-t", 1e8), SAMPLE.mean().item()),  # t becomes normal
    ],
)
def test_each_finds_its_centre(loss: Loss, centre: float) -> None:
    guesses = torch.linspace(-2, 10, 12001, dtype=torch.float64)
    best = guesses[loss.value(guesses[:, None] - SAMPLE).mean(dim=1).argmin()].item()
    assert best == pytest.approx(centre, abs=0.01)


@pytest.mark.parametrize("name", ["huber", "log-cosh", "tukey", "student-t"])
def test_robust_centres_hardly_move_with_the_outlier(name: str) -> None:
    guesses = torch.linspace(-2, 10, 12001, dtype=torch.float64)

    def centre(sample: torch.Tensor) -> float:
        return guesses[Loss(name).value(guesses[:, None] - sample).mean(dim=1).argmin()].item()

    assert abs(centre(SAMPLE) - centre(SAMPLE[:-1])) < 0.3 < abs(SAMPLE.mean() - SAMPLE[:-1].mean())


def test_weights_count() -> None:
    predicted, target = torch.tensor([1.0, 5.0]), torch.tensor([0.0, 0.0])
    assert Loss("mse").mean(predicted, target).item() == 13
    assert Loss("mse").mean(predicted, target, torch.tensor([3.0, 1.0])).item() == 7
    assert Loss("mse").each(predicted, torch.tensor(1.0)).tolist() == [0, 16]


def test_the_pinball_loss_is_least_at_the_quantile() -> None:
    sample = torch.from_numpy(np.random.default_rng(0).normal(size=4001).astype(np.float32))
    guesses = torch.linspace(-3, 3, 601)
    for level in (0.05, 0.5, 0.95):
        losses = pinball(guesses[:, None, None], sample[None, :, None], [level]).mean(dim=(1, 2))
        assert float(guesses[losses.argmin()]) == pytest.approx(float(sample.quantile(level)), abs=0.02)
    assert pinball(torch.tensor([1.0, 1.0]), torch.tensor([3.0]), [0.25, 0.75]).tolist() == pytest.approx([0.5, 1.5])


@pytest.mark.parametrize(
    ("name", "parameter", "words"),
    [
        ("l1", None, "huber, mse"),
        ("mse", 2.0, "takes no parameter"),
        ("huber", 0.0, "delta is above 0"),
        ("student-t", float("nan"), "degrees of freedom is above 0"),
        ("pinball", 1.0, "above 0 and below 1"),
    ],
)
def test_a_loss_that_does_not_exist_is_refused(name: str, parameter: float | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Loss(name, parameter)


def test_a_loss_is_read_from_text() -> None:
    assert Loss.parse("tukey") == Loss("tukey")
    assert Loss.parse("student-t:4") == Loss("student-t", 4.0)
    for text, words in (("huber:", "cannot be read"), ("huber:much", "cannot be read"), ("huber:-1", "above 0"), ("l1:2", "unknown")):
        with pytest.raises(DataError, match=words):
            Loss.parse(text)
