"""The runner, with runs whose outcome is scripted: what becomes a row with numbers, with labels, or with a reason."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from shortcast.benchmarks import runner
from shortcast.benchmarks.isolation import Finished
from shortcast.benchmarks.plan import Wishes
from shortcast.benchmarks.results import ColdStart, Environment, MachineState, Parity, Results, Series, WarmUp
from shortcast.benchmarks.task import Answer, Task
from shortcast.errors import EngineError
from shortcast.runtime.bundle import Bundle

STATE = MachineState(None, None, None, None)


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Nothing is looked at but the runs; their tasks are kept."""
    machine = SimpleNamespace(look=lambda: STATE)
    monkeypatch.setattr(runner, "Machine", lambda **_: machine)
    monkeypatch.setattr(runner, "labels_of", lambda before, after: {"SHARED": "others were busy"})
    monkeypatch.setattr(runner, "describe_environment", lambda **_: Environment({}))
    monkeypatch.setattr(runner, "measure_limits", lambda *_, **__: None)
    return []


def answer(fake: ModuleType, values: tuple[float, ...] = (10.0,) * 50, *, error: float = 1e-6, settled: bool = True) -> Finished:
    parity = Parity("id", 1, error, 1e-3, 0, error <= 1e-3)
    warm_up = WarmUp(15, 1.0, settled)
    series = (Series("visual", "ms", values), Series("clip", "ms", values))
    measured = Answer(parity, ColdStart(1, 2, 3), warm_up, 1.0, 1.0, 3, 21, 40.0, series, {"torch_in_process": 0.0}, None, {})
    return Finished(measured, fake.some_run().memory)


def results(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, tasks: list[Task], run: Callable[[Task], Finished], **wished: Any
) -> Results:
    def run_task(task: Task, **_: object) -> Finished:
        tasks.append(task)
        return run(task)

    monkeypatch.setattr(runner, "run_task", run_task)
    wishes = Wishes(**{"backends": ("onnxruntime",), "precisions": ("fp32", "int8"), "repeats": 3, **wished})
    return runner.Benchmark(Bundle.open(demo), (sample,), wishes).run(command="shortcast bench")


def test_every_contender_is_proved_before_any_is_timed(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, outcomes: list[Task], fake: ModuleType
) -> None:
    found = results(monkeypatch, demo, sample, outcomes, lambda _: answer(fake))
    assert [task.scenario for task in outcomes[:2]] == [None, None]
    assert {task.contender.precision for task in outcomes[:2]} == {"fp32", "int8"}
    assert all(task.proof_clips is None for task in outcomes[:2])
    assert all(task.scenario and task.proof_clips == 1 for task in outcomes[2:])
    assert all(len(row.runs) == 3 and row.parity and row.labels == {"SHARED": "others were busy"} for row in found.rows)
    orders = [run.order for row in found.rows for run in row.runs]
    assert sorted(orders) == list(range(len(orders)))
    assert orders != sorted(orders)


def test_wrong_values_get_one_row_and_no_number(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, outcomes: list[Task], fake: ModuleType
) -> None:
    wrong = results(
        monkeypatch, demo, sample, outcomes, lambda task: answer(fake, error=0.2 if task.contender.precision == "int8" else 0.0)
    )
    refused = [row for row in wrong.rows if row.case.precision == "int8"]
    assert len(refused) == 1
    assert (refused[0].runs, refused[0].labels) == ((), {})
    assert refused[0].refusal == "its scores are not the reference's: off by 0.2, allowed 0.001"
    assert all(task.scenario is None for task in outcomes if task.contender.precision == "int8")


def test_a_contender_that_turns_wrong_later_loses_its_numbers(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, outcomes: list[Task], fake: ModuleType
) -> None:
    found = results(monkeypatch, demo, sample, outcomes, lambda _: answer(fake, error=0.2 if len(outcomes) > 9 else 0.0))
    assert any("not the reference's" in row.refusal and not row.runs for row in found.rows)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({}, {}),
        ({"values": (10.0,) * 40 + (12.0,) * 10}, {"UNSTABLE": "times of visual differ by 20% between its last windows"}),
        ({"settled": False}, {"UNSTABLE": "times had not settled after 15 calls of warm-up"}),
    ],
)
def test_what_was_not_stable_says_so(
    monkeypatch: pytest.MonkeyPatch,
    demo: Path,
    sample: Path,
    outcomes: list[Task],
    fake: ModuleType,
    change: dict[str, Any],
    label: dict[str, str],
) -> None:
    monkeypatch.setattr(runner, "labels_of", lambda before, after: {})
    found = results(monkeypatch, demo, sample, outcomes, lambda _: answer(fake, **change))
    for row in found.rows:
        assert list(row.labels) == list(label)
        assert all(f"Run {run}: {why}" in row.labels[one] for one, why in label.items() for run in (1, 2, 3))
    quick = results(monkeypatch, demo, sample, outcomes, lambda _: answer(fake, **change), quick=True)
    assert all([*row.labels] == ["QUICK", *label] for row in quick.rows)


def test_a_run_that_fails_leaves_its_case_without_numbers(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, outcomes: list[Task], fake: ModuleType
) -> None:
    def run(task: Task) -> Finished:
        if task.scope == "engine" and len(outcomes) > 7:
            raise EngineError("its process was ended by SIGSEGV")
        return answer(fake)

    found = results(monkeypatch, demo, sample, outcomes, run, precisions=("fp32",))
    said = {row.case.scope: row for row in found.rows if row.case.scenario == "single-stream"}
    assert said["file"].runs
    failed = [row for row in found.rows if row.refusal]
    assert all(row.refusal == "its process was ended by SIGSEGV" and row.runs == () for row in failed)


def test_without_time_every_case_says_so(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, outcomes: list[Task], fake: ModuleType
) -> None:
    found = results(monkeypatch, demo, sample, outcomes, lambda _: answer(fake), budget_s=1e-9)
    assert all("out of time" in row.refusal for row in found.rows)
    assert len(found.rows) > 2


def test_an_answer_from_memory_is_no_measurement(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, outcomes: list[Task], fake: ModuleType
) -> None:
    def run(task: Task) -> Finished:
        finished = answer(fake)
        audit = (Series("audit unique visual", "ms, audit", (10.0,) * 9), Series("audit same visual", "ms, audit", (1.0,) * 9))
        return replace(finished, answer=replace(finished.answer, series=(*finished.answer.series, *audit)))

    found = results(monkeypatch, demo, sample, outcomes, run)
    assert all("it keeps answers" in row.refusal for row in found.rows)
