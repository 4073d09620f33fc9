"""Updates: micro-batches add up, fp16's scale is undone before clipping and comes back from a state."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from shortcast.training.compute import Compute
from shortcast.training.updates import Updates


class ScaledOnCpu(Compute):
    """A CPU whose gradients are scaled as fp16's are on CUDA."""

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", enabled=True, init_scale=1024.0, growth_interval=2)


@dataclass
class Schedule:
    learning_rate: float = 0.1
    weight_decay: float = 0.01
    warmup: float = 0.0
    gradient_clip: float = 0.5
    compute: Compute = field(default_factory=Compute)


DATA = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def new_model() -> torch.nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Linear(3, 1)


def update(updates: Updates, model: torch.nn.Module, number: int, *, parts: int = 1) -> None:
    updates.begin(number)
    for part in DATA.tensor_split(parts):
        updates.backward(model(part).square().sum() / len(DATA))
    updates.step()


def after(schedule: Schedule, *, parts: int = 1, updates: int = 3) -> torch.Tensor:
    model = new_model()
    made = Updates(model, schedule, total=4)
    for number in range(updates):
        update(made, model, number, parts=parts)
    return model.weight.detach()


def test_micro_batches_make_the_update_of_the_whole_batch() -> None:
    assert (after(Schedule()) - new_model().weight).abs().max() > 0.1
    torch.testing.assert_close(after(Schedule(), parts=4), after(Schedule()), atol=1e-6, rtol=0)


def test_a_scale_changes_neither_the_update_nor_the_clipping() -> None:
    torch.testing.assert_close(after(Schedule(compute=ScaledOnCpu())), after(Schedule()), atol=1e-6, rtol=0)


def test_an_update_whose_gradients_overflowed_is_left_out() -> None:
    model = new_model()
    updates = Updates(model, Schedule(compute=ScaledOnCpu()), total=4)
    updates.begin(0)
    updates.backward(model(DATA).sum() * float("inf"))
    updates.step()
    assert torch.equal(model.weight, new_model().weight)
    assert updates.tensors()["scaler.scale"] == 512.0


@pytest.mark.parametrize("compute", [Compute(), ScaledOnCpu()])
def test_it_goes_on_from_its_tensors_as_if_it_had_never_stopped(compute: Compute) -> None:
    model, schedule = new_model(), Schedule(compute=compute)
    updates = Updates(model, schedule, total=4)
    update(updates, model, 0)
    state = {name: tensor.clone() for name, tensor in updates.tensors().items()}
    again = new_model()
    again.load_state_dict(model.state_dict())
    resumed = Updates(again, schedule, total=4)
    resumed.restore(state)
    for number in (1, 2):
        update(updates, model, number)
        update(resumed, again, number)
    assert torch.equal(again.weight, model.weight)
    assert {name: tensor.tolist() for name, tensor in updates.tensors().items()} == {
        name: tensor.tolist() for name, tensor in resumed.tensors().items()
    }
