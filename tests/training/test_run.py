"""The run directory: states are whole, configurations are held to, the log agrees with the states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shortcast.errors import DataError
from shortcast.training.run import RunDirectory, State, module_tensors, optimiser_tensors, restore_module, restore_optimiser

CONFIG = {"seed": 1, "options": {"epochs": 3, "lr": 0.1}}


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    assert run.load_state("autoencoder") is None
    run.save_state("autoencoder", State({"a": torch.arange(3.0)[::2], "step": torch.tensor(4.0)}, {"epoch": 2, "history": [0.5, None]}))
    state = run.load_state("autoencoder")
    assert state is not None
    assert state.meta == {"epoch": 2, "history": [0.5, None]}
    assert torch.equal(state.tensors["a"], torch.tensor([0.0, 2.0]))
    assert state.tensors["step"].shape == ()


def test_a_kill_while_writing_leaves_the_state_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    run.save_state("autoencoder", State({"a": torch.zeros(1)}, {"epoch": 1}))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.save_state("autoencoder", State({"a": torch.ones(1)}, {"epoch": 2}))
    state = run.load_state("autoencoder")
    assert state is not None
    assert state.meta["epoch"] == 1


def test_another_configuration_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    RunDirectory.open(tmp_path / "run", CONFIG)
    RunDirectory.open(tmp_path / "run", CONFIG)
    with pytest.raises(DataError, match=r"options\.epochs: 3 -> 4.*--no-resume"):
        RunDirectory.open(tmp_path / "run", {"seed": 1, "options": {"epochs": 4, "lr": 0.1}})


def test_no_resume_forgets_states_and_log_and_keeps_features(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    run.save_state("regressor", State({"a": torch.zeros(1)}, {}))
    run.log({"epoch": 1})
    (run.path / "features").mkdir()
    again = RunDirectory.open(tmp_path / "run", {"seed": 2}, resume=False)
    assert again.load_state("regressor") is None
    assert sorted(file.name for file in again.path.iterdir()) == ["config.json", "features"]


def test_a_state_that_is_not_one_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    (run.path / "regressor.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match="--no-resume"):
        run.load_state("regressor")


def test_the_log_is_made_to_agree_with_the_states(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    run.log({"stage": "a", "epoch": 1})
    with (run.path / "log.jsonl").open("a") as half_a_line:
        half_a_line.write('{"epo')
    run.save_state("a", State({"w": torch.zeros(1)}, {"history": [{"epoch": 1}, {"epoch": 2}]}))
    run.rewrite_log("a", "not begun")
    run.log({"stage": "b", "epoch": 1})
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [("a", 1), ("a", 2), ("b", 1)]


def test_a_path_that_is_a_file_is_a_clean_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        RunDirectory.open(tmp_path / "run", CONFIG)


def _step(model: torch.nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    model(x).square().mean().backward()
    optimiser.step()


def test_adamw_goes_on_from_a_state_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run", CONFIG)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    _step(model, optimiser, 1)
    run.save_state("x", State(module_tensors(model, "model") | optimiser_tensors(optimiser), {}))
    _step(model, optimiser, 2)

    state = run.load_state("x")
    assert state is not None
    again = torch.nn.Linear(3, 2)
    fresh = torch.optim.AdamW(again.parameters(), lr=0.1)
    restore_module(again, state.tensors, "model")
    restore_optimiser(fresh, state.tensors)
    _step(again, fresh, 2)
    assert torch.equal(again.weight, model.weight)


def test_seconds_add_up_over_processes_and_are_forgotten_with_the_run(tmp_path: Path) -> None:
    assert RunDirectory.open(tmp_path, {}).add_seconds("embed", 1.5) == 1.5
    again = RunDirectory.open(tmp_path, {})
    assert again.add_seconds("embed", 2.0) == 3.5
    assert again.add_seconds("regressor", 1.0) == 1.0
    assert RunDirectory.open(tmp_path, {}, resume=False).add_seconds("embed", 1.0) == 1.0
