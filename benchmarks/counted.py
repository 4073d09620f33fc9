"""A process, timed from outside and counted by the system: what scripts that compare commands have in common.

A command is started by a launcher, a Python that has loaded next to nothing. Linux carries the high-water mark of the process that starts
another over to it (`getrusage(2)`: `ru_maxrss` survives `execve`), so a command started from a process that has torch loaded would seem to
have needed all that. What the launcher itself takes, about 10 MiB, is the least that can be told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass

_LAUNCHER = """
import os, sys, time
report, command = int(sys.argv[1]), sys.argv[2:]
started = time.perf_counter()
try:
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, report)])
except OSError:
    sys.exit(127)
_, status, usage = os.wait4(process, 0)
wall_s = time.perf_counter() - started
os.write(report, b'[%r, %r, %r]' % (wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""


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


def run_counted(command: Sequence[str], *, accepted: Container[int] = (0,)) -> Counted:
    """Runs a command to its end.

    Args:
        command: the program and its arguments.
        accepted: exit codes that are no failure.

    Raises:
        SystemExit: it fails; the sentence names it.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading) as report:
        try:
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(writing), *command]
            done = subprocess.run(launcher, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, pass_fds=[writing], check=False)
        finally:
            os.close(writing)
        counts = report.read()
    if done.returncode not in accepted:
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}")
    wall_s, core_s, peak_rss_mib = json.loads(counts)
    return Counted(done.stdout, wall_s, core_s, peak_rss_mib)
