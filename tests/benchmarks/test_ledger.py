"""A ledger adds up, whatever is put into it."""

import random

import pytest

from shortcast.benchmarks.ledger import Level, ledger


def as_dict(entries):
    return {entry.what: entry.bytes for entry in entries}


def test_each_phase_answers_for_what_it_added() -> None:
    levels = [Level("start", 10), Level("import", 50), Level("load-graphs", 80), Level("load-sound", 180), Level("timed", 200)]
    entries = ledger(205, levels, {"load-graphs": {"graph weights": 12}})
    assert as_dict(entries) == {
        "interpreter": 10,
        "libraries": 40,
        "graph weights": 12,
        "sessions of the graphs": 18,
        "Whisper": 100,
        "work": 20,
        "rest": 5,
    }
    assert [entry.source for entry in entries] == ["difference", "difference", "engine", *["difference"] * 3, entries[-1].source]


def test_memory_given_back_later_is_taken_from_who_held_it() -> None:
    entries = ledger(70, [Level("start", 10), Level("import", 60), Level("load-graphs", 40), Level("timed", 70)])
    assert as_dict(entries) == {"interpreter": 10, "libraries": 30, "sessions of the graphs": 0, "work": 30, "rest": 0}


def test_an_engine_that_claims_more_than_is_resident_is_not_believed_silently() -> None:
    entries = ledger(20 << 20, [Level("load-graphs", 20 << 20)], {"load-graphs": {"weights": 15 << 20, "scratch": 10 << 20}})
    assert as_dict(entries) == {"weights": 15 << 20, "scratch": 5 << 20, "rest": 0}
    assert entries[1].source == "engine, of 10.0 MiB that it states"


def test_without_phases_everything_is_rest() -> None:
    assert as_dict(ledger(99, [])) == {"rest": 99}


@pytest.mark.parametrize("seed", range(20))
def test_it_sums_to_the_total_and_no_entry_is_negative(seed: int) -> None:
    chance = random.Random(seed)
    names = ["start", "import", "context", "load-graphs", "capture", "load-sound", "timed"]
    levels = [Level(name, chance.randrange(1000)) for name in names]
    parts = {name: {f"{name} {part}": chance.randrange(400) for part in range(chance.randrange(3))} for name in names}
    total = chance.randrange(1200)
    entries = ledger(total, levels, parts)
    assert sum(entry.bytes for entry in entries) == total
    assert min(entry.bytes for entry in entries) >= 0
    assert entries[-1].what == "rest"
