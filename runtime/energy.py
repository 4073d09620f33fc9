"""Energy that the processor says it used: Linux's powercap counters (RAPL), where they may be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Joules of all processor packages since it was made. They are the whole machine's, whoever else works on it."""

    def __init__(self, root: Path = POWERCAP) -> None:
        """Reads the counters for the first time; `available` says whether there are any."""
        self._last = dict(_counters(root))
        self._root = root
        self._microjoules = 0

    @property
    def available(self) -> bool:
        """Whether this machine counts, and lets this user read it (mostly root alone may)."""
        return bool(self._last)

    def joules(self) -> float | None:
        """Since the start; None where nothing counts. Ask at least every few minutes: a counter that went round once is put right, twice
        is not.
        """
        now = dict(_counters(self._root))
        if not self._last or set(now) != set(self._last):
            return None
        for zone, microjoules in now.items():
            spent = microjoules - self._last[zone]
            self._microjoules += spent if spent >= 0 else spent + _number(zone / "max_energy_range_uj")
        self._last = now
        return self._microjoules / 1e6


def _counters(root: Path) -> Iterator[tuple[Path, int]]:
    """By package: zones like `intel-rapl:0` (AMD's too), and not the parts `intel-rapl:0:1` within them."""
    for zone in sorted(root.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:
            try:
                yield zone, _number(zone / "energy_uj")
            except (OSError, ValueError):
                continue


def _number(path: Path) -> int:
    return int(path.read_text())
