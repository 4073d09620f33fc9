"""What a child process is told to do and what it answers: plain JSON, so that nothing but values crosses between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .contenders import Contender
from .recording import RunRule
from .results import ColdStart, Parity, Scenario, Scope, Series, WarmUp
from .warmup import WarmUpRule


@dataclass(frozen=True, slots=True)
class Load:
    """What open loops are held to."""

    bound_ms: float
    """Of the 99th percentile, for `server`."""
    period_s: float
    """From chunk to chunk, for `live`."""
    search_s: float
    """Time for finding the largest rate or number of streams."""


@dataclass(frozen=True, slots=True)
class Task:
    """One process's work."""

    bundle: str
    contender: Contender
    scope: Scope
    scenario: Scenario | None
    """None: only the proof."""
    threads: int
    clips: tuple[str, ...]
    seed: int
    proof_clips: int | None
    """Proof clips to score first; None takes all."""
    warm_up: WarmUpRule
    rule: RunRule
    load: Load
    whisper: str | None = None
    spawned_s: float = 0.0
    """When the process was started, by the clock all processes share."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Task:
        """Reads what `to_json` wrote."""
        parts = {
            "contender": Contender(**plain["contender"]),
            "clips": tuple(plain["clips"]),
            "warm_up": WarmUpRule(**plain["warm_up"]),
            "rule": RunRule(**plain["rule"]),
            "load": Load(**plain["load"]),
        }
        return cls(**{**plain, **parts})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process measured; of a proof alone, only the parity counts."""

    parity: Parity
    cold: ColdStart
    warm_up: WarmUp | None
    wall_s: float
    cpu_s: float
    clips: int
    chunks: int
    media_s: float
    series: tuple[Series, ...]
    outcome: dict[str, float]
    peak_rss_bytes: int | None
    parts: dict[str, dict[str, int]]
    """For each phase of loading, what the engines themselves say of the memory it took."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Answer:
        """Reads what `to_json` wrote."""
        parts = {
            "parity": Parity(**plain["parity"]),
            "cold": ColdStart(**plain["cold"]),
            "warm_up": WarmUp(**plain["warm_up"]) if plain["warm_up"] else None,
            "series": tuple(Series(**{**series, "values": tuple(series["values"])}) for series in plain["series"]),
        }
        return cls(**{**plain, **parts})
