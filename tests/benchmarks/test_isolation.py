"""Runs in processes of their own, around a real engine that is right, wrong, slow, hungry, forgetful, dead or stuck."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shortcast.benchmarks.contenders import Contender
from shortcast.benchmarks.isolation import Finished, run_task
from shortcast.benchmarks.recording import RunRule
from shortcast.benchmarks.results import Scenario, Scope
from shortcast.benchmarks.runner import _answers_from_memory
from shortcast.benchmarks.task import Load, Task
from shortcast.benchmarks.warmup import WarmUpRule
from shortcast.errors import EngineError


@pytest.fixture(scope="module")
def task(demo: Path, short: Path) -> Iterator[Task]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield task_of(demo, short)


@pytest.fixture(scope="module")
def right(task: Task) -> Finished:
    """What the others are held against."""
    return of(task, "right")


def task_of(bundle: Path, clip: Path) -> Task:
    return Task(
        bundle=str(bundle),
        contender=Contender("fake_contender:right", "fp32", "ctranslate2 float32"),
        scope="engine",
        scenario="single-stream",
        threads=1,
        clips=(str(clip),),
        seed=1,
        proof_clips=1,
        warm_up=WarmUpRule(most_s=0.5),
        rule=RunRule(least_s=0.3, least_samples=3, most_s=20.0),
        load=Load(bound_ms=60_000.0, period_s=30.0, search_s=1.0),
    )


def of(task: Task, function: str) -> Finished:
    return run_task(replace(task, contender=replace(task.contender, backend=f"fake_contender:{function}")), timeout_s=300)


def test_a_slow_and_hungry_engine_shows_as_it_is(task: Task, right: Finished) -> None:
    slow = of(task, "slow")
    assert right.answer.parity.passed
    assert slow.answer.parity.passed
    (visual,) = [series.values for series in slow.answer.series if series.name == "visual"]
    assert min(visual) >= 40.0
    more = slow.memory.peak_rss_bytes - right.memory.peak_rss_bytes
    assert 48 << 20 < more < 96 << 20
    assert slow.answer.cold.first_ms > 40.0
    assert min(right.answer.cold.import_ms, right.answer.cold.load_ms) > 0
    names = [name for name, _ in slow.memory.marks]
    assert names == ["import", "load-graphs", "load-sound", "first", "proof", "inputs", "warm-up", "timed"]


@pytest.mark.parametrize("function", ["wrong", "not_a_number"])
def test_wrong_values_are_not_timed(task: Task, function: str) -> None:
    answer = of(task, function).answer
    assert not answer.parity.passed
    assert (answer.series, answer.warm_up) == ((), None)


def test_an_engine_that_keeps_answers_is_found_out(task: Task, right: Finished) -> None:
    assert _answers_from_memory(right) == ""
    assert "it keeps answers" in _answers_from_memory(of(task, "keeps_answers"))


@pytest.mark.parametrize(("function", "says"), [("crashes", "ended by SIGSEGV"), ("nothing", "does not load")])
def test_a_child_that_fails_is_one_sentence(task: Task, function: str, says: str) -> None:
    with pytest.raises(EngineError, match=says) as caught:
        of(task, function)
    assert "\n" not in str(caught.value)


def test_a_child_that_hangs_is_ended(task: Task) -> None:
    stuck = replace(task, contender=replace(task.contender, backend="fake_contender:hangs"))
    with pytest.raises(EngineError, match="was ended after 8 s without an answer"):
        run_task(stuck, timeout_s=8)


def test_torch_is_seen_where_it_is_and_only_there(task: Task, right: Finished) -> None:
    assert right.answer.outcome["torch_in_process"] == 0.0
    assert of(task, "brings_torch").answer.outcome["torch_in_process"] == 1.0


@pytest.mark.parametrize(
    ("scope", "scenario", "series"),
    [
        ("stage", "single-stream", {"decode", "features", "audio", "visual", "fusion"}),
        ("file", "single-stream", {"clip", "media", "answer"}),
        ("file", "offline", {"answer", "finished", "media"}),
        ("file", "server", {"answer", "tried_rate", "tried_p99", "tried_proved"}),
        ("file", "live", {"answer", "age", "tried_streams", "tried_misses"}),
    ],
)
def test_every_scope_and_scenario_gives_its_series(task: Task, scope: Scope, scenario: Scenario, series: set[str]) -> None:
    load = Load(bound_ms=60_000.0, period_s=1.5, search_s=1.0)
    lean = Contender("onnxruntime", "fp32", "ctranslate2 float32")
    done = run_task(replace(task, contender=lean, scope=scope, scenario=scenario, load=load), timeout_s=300).answer
    assert done.parity.passed
    assert {one.name for one in done.series} - {"age"} == series - {"age"}
    assert done.wall_s > 0
    assert done.cpu_s > 0
    assert done.chunks > 0
