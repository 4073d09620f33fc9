"""`shortcast score --until-settled`: clips are left once they are settled; what that promises, and what it saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .runtime.bundle import Bundle
from .runtime.early import Savings, Until, UntilSettled, stop_of
from .runtime.score_rows import class_key
from .runtime.scorer import Scorer
from .terminal import say


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """That clips are left once they are settled."""

    until: Until
    watts_per_core: float | None

    def __str__(self) -> str:
        return f"until the {self.until.kind} is settled at {self.until.confidence:g}"

    def check(self, bundle: Bundle, *, both: bool) -> None:
        """Says what the bundle promises.

        Args:
            bundle: what clips are scored with.
            both: pictures and sound are used.

        Raises:
            DataError: it has no settling table, or cannot promise so much.
        """
        stop = stop_of(bundle, self.until)
        moved = "" if stop.row.moved_z is None else f", and 9 in 10 of them moved by at most {stop.row.moved_z:.2f} standardised units"
        settling = bundle.manifest.settling
        say(
            f"of clips that stop early at least {100 * stop.at_least:.1f} % keep their {_name(self.until, bundle)}: {stop.row.kept} of "
            f"{stop.row.stopped} did when the bundle was calibrated{moved}"
            + (f" ({settling.provenance['source']})" if settling and settling.provenance.get("source") else "")
        )
        if not both:
            say("that was measured with pictures and sound; with one of them left out it is not known to hold")

    def watch(self, scorer: Scorer) -> UntilSettled:
        """Scores until a clip is settled, and counts what that saves."""
        return UntilSettled(scorer, self.until)

    def report(self, savings: Savings) -> None:
        """Says what stopping early saved."""
        if savings.clips:
            say(" ".join(part for part in (*_saved(savings), *_energy(savings, self.watts_per_core)) if part))


def _name(until: Until, bundle: Bundle) -> str:
    return "interval" if until.kind == "interval" else class_key(bundle.manifest.target.classes)


def _saved(savings: Savings) -> Iterator[str]:
    whole_s = savings.seen_s + savings.unread_s
    yield f"settled early: {savings.settled} of {savings.clips} clips; {savings.unread_s:.1f} s of {whole_s:.1f} s not read"
    yield f"({savings.unread_s / whole_s:.0%})" if whole_s else ""
    if savings.undeclared:
        yield f"and what is left of {savings.undeclared} whose length nobody declares"
    if savings.unread_s and savings.core_s is not None and savings.core_s_per_s is not None:
        yield f"- about {savings.core_s:.1f} core-seconds, at the {savings.core_s_per_s:.3f} for a second of media that this run took"


def _energy(savings: Savings, watts_per_core: float | None) -> Iterator[str]:
    """Joules where the machine counts them or the user says what a core takes; never a guess."""
    if not savings.unread_s:
        return
    if watts_per_core is not None and savings.core_s is not None:
        yield f"- about {savings.core_s * watts_per_core:.0f} J, at {watts_per_core:g} W for a busy core as given"
    elif watts_per_core is None and savings.joules is not None and savings.joules_per_s is not None:
        yield f"- about {savings.joules:.0f} J, at the {savings.joules_per_s:.2f} J that the processor counted for each (whole machine)"
