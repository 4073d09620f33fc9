import os
from pathlib import Path

import pytest

from shortcast.runtime.cpu import available_cpus


@pytest.mark.parametrize(("text", "cpus"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("nonsense", None)])
def test_quota_of_cgroup_version_2(tmp_path: Path, text: str, cpus: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cpus(tmp_path) == (cpus or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("quota", "cpus"), [("50000", 1), ("-1", None)])
def test_quota_of_cgroup_version_1(tmp_path: Path, quota: str, cpus: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == (cpus or len(os.sched_getaffinity(0)))


def test_no_control_group_at_all(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == len(os.sched_getaffinity(0))
