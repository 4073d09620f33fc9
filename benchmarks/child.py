"""One run in a process of its own: `python -m shortcast.benchmarks.child`, a task as JSON on stdin, events as JSON lines on stdout.

    {"mark": "load-graphs", "at_s": ...}    a phase begins
    {"answer": {...}}                       the last line, where all went well
    {"refusal": "one sentence"}             the last line, where it did not

When stdin ends the parent is gone, and so is this process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from time import monotonic
from typing import IO, Any

from ..errors import ShortcastError


def main() -> None:
    """Reads a task, does it, answers."""
    # Libraries print what they like; only events go where the parent reads.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    plain = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _tell(events, {"answer": _work(plain, events)})
    except ShortcastError as error:
        _tell(events, {"refusal": str(error)})
    events.close()
    # Native libraries' threads and caches need no tidy end, and some crash in it.
    os._exit(0)


def _work(plain: dict[str, Any], events: IO[str]) -> dict[str, Any]:
    def mark(name: str) -> None:
        _tell(events, {"mark": name, "at_s": monotonic()})

    mark("import")
    from .measuring import measure
    from .task import Task

    task = Task.from_json(plain)
    return measure(task, mark).to_json()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(130)


def _tell(events: IO[str], event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


if __name__ == "__main__":
    main()
