"""One thing the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at."""

    topic: str
    state: str
    problem: str = ""
    """What is wrong and the command that mends it; empty where nothing is."""
