"""TensorBoard events mirror the log: every number once, however often the run was stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from shortcast.errors import DataError
from shortcast.training.run import RunDirectory, State
from shortcast.training.tensorboard import mirrored, require_tensorboard, scalars

pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")


def events(run: RunDirectory) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every tag of the event files, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def line(epoch: int) -> dict[str, object]:
    return {"stage": "autoencoder", "epoch": epoch, "train": {"reconstruct": 1.0 / epoch}, "spearman": None, "loss": epoch}


def test_a_log_line_is_flattened_to_tags() -> None:
    assert scalars(line(2)) == {"autoencoder/train/reconstruct": 0.5, "autoencoder/loss": 2.0}


def test_every_line_that_is_logged_becomes_events(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path, {})
    with mirrored(run):
        for epoch in (1, 2):
            run.log(line(epoch))
            assert events(run)["autoencoder/loss"][-1] == (epoch, epoch)  # at once, not when the run ends
    assert events(run) == {"autoencoder/loss": [(1, 1.0), (2, 2.0)], "autoencoder/train/reconstruct": [(1, 1.0), (2, 0.5)]}
    run.log(line(3))
    assert len(events(run)["autoencoder/loss"]) == 2


def test_a_run_that_goes_on_has_every_epoch_once(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path, {})
    with mirrored(run):
        run.log(line(1))
        run.log(line(2))  # killed before or after its state was saved: here before
    plain = {key: value for key, value in line(1).items() if key != "stage"}
    run.save_state("autoencoder", State({"w": torch.zeros(1)}, {"history": [plain]}))
    again = RunDirectory.open(tmp_path, {})
    again.rewrite_log("autoencoder")
    with mirrored(again):
        again.log(line(2))
        again.log(line(3))
    assert [step for step, _ in events(again)["autoencoder/loss"]] == [1, 2, 3]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(DataError, match=r"pip install 'shortcast\[tensorboard\]'"):
        require_tensorboard()
