"""Memory plans: bytes are counted, a budget is kept, and a plan says what it is."""

from __future__ import annotations

import pytest
import torch

from shortcast.errors import DataError
from shortcast.training.memory import MemoryPlan, parse_size, peak_bytes, plan_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 * 2**30), ("800MB", 800_000_000), ("1.5 gb", 1_500_000_000), ("512 KiB", 524_288), ("1000", 1000)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "2 apples", "-1GB", "0", "GiB", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="800MB"):
        parse_size(text)


def test_bytes_are_counted_while_they_live() -> None:
    x = torch.zeros(100)

    def work() -> None:
        for _ in range(3):
            y = x + 1  # 400 bytes, given back in every round
            y += 1
            _view = y[:50].reshape(5, 10)
            z = y * 2  # 400 more
            del y, z, _view

    assert peak_bytes(work, held=[x, x[:3]]) == 3 * 400


def test_what_waits_for_the_backward_pass_counts_and_what_does_not_is_gone() -> None:
    weight = torch.zeros(1000, requires_grad=True)

    def forward(steps: int) -> torch.Tensor:
        y = weight
        for _ in range(steps):
            y = y.exp()
        return y

    with_graph = peak_bytes(lambda: forward(10), held=[])
    with torch.no_grad():
        without = peak_bytes(lambda: forward(10), held=[])
    assert (with_graph, without) == (10 * 4000, 2 * 4000)


def test_gradients_and_moments_count() -> None:
    layer = torch.nn.Linear(1000, 1, bias=False)
    optimiser = torch.optim.AdamW(layer.parameters())

    def update() -> None:
        layer(torch.ones(1, 1000)).sum().backward()
        optimiser.step()

    assert peak_bytes(update, held=list(layer.parameters())) >= 4 * 4000


def line(rows: int, steps: int) -> int:
    """1000 bytes at rest; 500 an example, or 200 with gradient checkpointing."""
    return 1000 + rows * (200 if steps else 500)


@pytest.mark.parametrize(
    ("budget", "accumulate", "steps", "peak"),
    [
        (5000, 1, 0, 5000),
        (4999, 2, 0, 3000),
        (2999, 3, 0, 2500),
        (2499, 4, 0, 2000),
        (1999, 8, 0, 1500),
        (1499, 4, 4, 1400),
        (1200, 8, 4, 1200),
    ],
)
def test_the_largest_micro_batch_that_fits_is_taken_and_checkpointing_only_at_need(
    budget: int, accumulate: int, steps: int, peak: int
) -> None:
    plan = plan_memory(budget, batch=8, checkpointing=(0, 4), peak_of=line)
    assert plan == MemoryPlan(budget, 8, accumulate, steps, peak)
    assert plan.micro_batch * accumulate >= 8


def test_a_budget_that_is_too_small_is_refused_and_the_smallest_that_does_named() -> None:
    with pytest.raises(DataError, match=r"takes 1\.2 MB"):
        plan_memory(10**6, batch=8, checkpointing=(0, 4), peak_of=lambda rows, steps: 1000 * line(rows, steps))


def test_a_batch_of_one_is_measured_once() -> None:
    measured: list[int] = []

    def peak_of(rows: int, _steps: int) -> int:
        measured.append(rows)
        return 10

    assert plan_memory(10, batch=1, checkpointing=(0,), peak_of=peak_of).accumulate == 1
    assert measured == [1]


def test_a_plan_is_a_sentence() -> None:
    assert str(MemoryPlan(800_000_000, 4, 2, 4, 612_340_000)) == (
        "batches of 4 in parts of 2, 4 frames at a time recomputed: an update holds 612.3 MB of 800.0 MB"
    )
    assert str(MemoryPlan(2 * 2**30, 4, 1, 0, 10**9)) == "batches of 4 whole: an update holds 1000.0 MB of 2147.5 MB"
