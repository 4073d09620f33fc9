"""Processes timed from outside."""

import sys

import pytest

from shortcast.benchmarks.counted import run_counted


def test_what_a_process_says_and_costs() -> None:
    found = run_counted([sys.executable, "-c", "print(sum(range(3_000_000)))"])
    assert found.said == "4499998500000\n"
    assert found.core_s > 0
    assert found.wall_s > 0
    assert found.peak_rss_mib > 1


def test_memory_is_that_of_the_process() -> None:
    small, large = (
        run_counted([sys.executable, "-c", f"x = bytearray({size}); x[::4096] = b'1' * len(x[::4096])"]) for size in (1, 200 << 20)
    )
    assert large.peak_rss_mib - small.peak_rss_mib > 150


def test_memory_of_who_starts_it_is_not_counted() -> None:
    held = bytearray(300 << 20)
    held[::4096] = b"1" * len(held[::4096])
    assert run_counted([sys.executable, "-c", ""]).peak_rss_mib < 100


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit, match="no-such-command failed with exit code 127"):
        run_counted(["no-such-command"])


def test_a_process_that_fails_is_named() -> None:
    with pytest.raises(SystemExit, match="failed with exit code 3"):
        run_counted([sys.executable, "-c", "raise SystemExit(3)"])
