"""Ceilings of this machine, really measured, and floors worked out from known ones."""

from pathlib import Path

import pytest

from shortcast.benchmarks import ceilings as module
from shortcast.benchmarks.ceilings import cache_bytes, measure_ceilings
from shortcast.benchmarks.limits import floor_of, measure_limits
from shortcast.benchmarks.results import Ceiling, GraphCost, Limits
from shortcast.errors import EngineError
from shortcast.runtime.bundle import Bundle

KNOWN = (
    Ceiling("float32 product (a)", 2, 1e9, "FLOP/s", (1e9,)),
    Ceiling("float32 product (b)", 2, 2e9, "FLOP/s", (2e9,)),
    Ceiling("int8 product (b)", 2, 8e9, "FLOP/s", (8e9,)),
    Ceiling("copy within L2, 1 MiB", 2, 1e10, "B/s", (1e10,)),
    Ceiling("copy beyond the caches, 64 MiB", 2, 1e9, "B/s", (1e9,)),
)


@pytest.mark.parametrize(
    ("cost", "ms", "bound"),
    [
        (GraphCost("g", "fp32", 4_000_000, 50_000, 0, 50_000), 2.0, "compute"),
        (GraphCost("g", "fp16", 4_000_000, 50_000, 0, 50_000), 2.0, "compute"),
        (GraphCost("g", "int8", 4_000_000, 50_000, 0, 50_000), 0.5, "compute"),
        (GraphCost("g", "fp32", 1000, 50_000, 0, 50_000), 0.01, "memory"),
        (GraphCost("g", "fp32", 4_000_000, 900_000_000, 0, 100_000_000), 1000.0, "memory"),
    ],
    ids=["float32", "float16 is computed in float32", "int8", "fits in L2", "beyond the caches"],
)
def test_the_floor_is_the_larger_of_computing_and_moving(cost: GraphCost, ms: float, bound: str) -> None:
    floor = floor_of(cost, 2, Limits((cost,), KNOWN))
    assert floor is not None
    assert floor.ms == pytest.approx(ms)
    assert floor.bound == bound
    assert floor.times(3 * ms) == pytest.approx(3)


def test_without_a_ceiling_for_that_many_threads_there_is_no_floor() -> None:
    assert floor_of(GraphCost("g", "fp32", 1, 1, 1, 1), 4, Limits((), KNOWN)) is None


def test_the_machine_and_the_demo_bundle_are_measured(demo: Path) -> None:
    limits = measure_limits(Bundle.open(demo), ["fp32"], [1], quick=True)
    assert [ceiling.name.split(",")[0].split(" (")[0] for ceiling in limits.ceilings] == [
        "float32 product",
        "float32 product",
        "int8 product",
        "copy within L2",
        "copy beyond the caches",
    ]
    for ceiling in limits.ceilings:
        assert len(ceiling.samples) == 3
        assert ceiling.value == max(ceiling.samples)
        assert 1e8 < ceiling.value < 1e14
    floors = [floor_of(cost, 1, limits) for cost in limits.costs]
    assert len(floors) == 4
    assert all(floor is not None and floor.ms > 0 for floor in floors)


def test_the_callers_thread_settings_do_not_reach_the_measuring_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def run(command: list[str], env: dict[str, str], **_: object) -> object:
        seen.update(env)
        raise module.subprocess.CalledProcessError(1, command, "", "Traceback\nMemoryError: no")

    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(EngineError, match=r"could not be measured with 3 threads: MemoryError: no"):
        measure_ceilings([3])
    assert {seen[name] for name in module._THREAD_SETTINGS} == {"3"}


def test_caches_are_read_from_the_system(tmp_path: Path) -> None:
    caches = [(1, "Data", "32K"), (1, "Instruction", "64K"), (2, "Unified", "1024K"), (3, "Unified", "16M")]
    for index, (level, kind, size) in enumerate(caches):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", str(level)), ("type", kind), ("size", size)):
            (folder / name).write_text(text + "\n")
    assert [cache_bytes(level, sys_cpu=tmp_path) for level in (1, 2, 3, 4)] == [32 << 10, 1 << 20, 16 << 20, None]
