"""A process, timed from outside and counted by the system: what scripts that compare commands have in common."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True, slots=True)
class Counted:
    """A process that ended well."""

    said: str
    """Its stdout."""
    wall_s: float
    """From its start to its exit."""
    core_s: float
    """User and system time of all its threads, and of children it waited for."""
    peak_rss_mib: float


def run_counted(command: Sequence[str]) -> Counted:
    """Runs a command to its end.

    Raises:
        SystemExit: it fails; the sentence names it.
    """
    started = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    return Counted(said, wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
