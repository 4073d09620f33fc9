"""Rules that fail a comparison, as `--fail-if 'p99>+5%'` states them, and whether they are met, not met, or cannot be told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .compare import Compared, Comparison, established
from .quantities import NAMES
from .ratio import LEVEL

_ONE_SIDED = (1 - LEVEL) / 2
"""Beyond one end of an interval."""
_GRAMMAR = re.compile(rf"\s*({'|'.join(NAMES)})\s*([<>])\s*([+-])\s*(\d+(?:\.\d+)?)\s*%\s*")

State = Literal["met", "not met", "undecided"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A change that is not accepted."""

    text: str
    quantity: str
    above: bool
    """Met by more than the bound; else by less."""
    bound: float
    """Of B over A: 1.05 for +5 %."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A rule held against one comparison, or against what there is none for."""

    rule: str
    where: str
    state: State
    why: str


def parse_rule(text: str) -> Rule:
    """Reads METRIC(>|<)(+|-)N%, such as `p99>+5%` or `throughput<-10%`.

    Raises:
        ValueError: it is of another form; the message says which forms there are.
    """
    found = _GRAMMAR.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r}: expected METRIC>+N% or METRIC<-N%, such as p99>+5%; metrics are {', '.join(NAMES)}")
    quantity, direction, sign, size = found.groups()
    bound = 1 + float(f"{sign}{size}") / 100
    if bound <= 0:
        raise ValueError(f"{text!r}: nothing can fall by 100 % or more")
    return Rule(text.strip(), quantity, direction == ">", bound)


def judge(rules: Sequence[Rule], compared: Compared) -> list[Judgement]:
    """Holds every rule against every comparison of its metric.

    Met: the interval's near end is beyond the bound, also with all judgements at hand (Benjamini-Hochberg). Not met: its far end is within
    the bound. Undecided: the bound is inside the interval, or there is none, or A has a case that B has not.
    """
    pairs = [(rule, one) for rule in rules for one in compared.comparisons if one.quantity == rule.quantity]
    beyond = established([_chance_within(rule, one) for rule, one in pairs], _ONE_SIDED)
    found = [_judgement(rule, one, met) for (rule, one), met in zip(pairs, beyond, strict=True)]
    judged = {rule.quantity for rule, _ in pairs}
    found += [Judgement(rule.text, rule.quantity, "undecided", "nothing was compared") for rule in rules if rule.quantity not in judged]
    return found + [Judgement(rule.text, case, "undecided", "B has no figures of it") for rule in rules for case in compared.only_in_a]


def _chance_within(rule: Rule, one: Comparison) -> float:
    """Of what was found, were the true ratio just at the bound: small is evidence that it is beyond."""
    if one.ratio is None:
        return 1.0
    return one.ratio.chance_above(rule.bound) if rule.above else one.ratio.chance_below(rule.bound)


def _judgement(rule: Rule, one: Comparison, met: bool) -> Judgement:
    where = f"{one.name}, {one.case}"
    if one.ratio is None:
        return Judgement(rule.text, where, "undecided", one.verdict)
    ends = one.ratio.interval()
    said = "one run on a side" if ends is None else f"B is {one.ratio.estimate:.3f} of A, 95 % interval {ends[0]:.3f} to {ends[1]:.3f}"
    if met:
        return Judgement(rule.text, where, "met", said)
    cleared = one.ratio.chance_below(rule.bound) if rule.above else one.ratio.chance_above(rule.bound)
    return Judgement(rule.text, where, "not met" if cleared <= _ONE_SIDED else "undecided", said)
