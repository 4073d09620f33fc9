"""Counts, times and lengths, as every kind of file writes them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from shortcast.training.values import Note, Reading, parse_count, parse_duration, parse_flag, parse_number, parse_time


@pytest.mark.parametrize(
    ("found", "value", "note"),
    [
        (0, 0, None),
        (12.0, 12, None),
        ("173929.0", 173929, None),
        ("4394029", 4394029, None),
        ("1.2e+06", 1_200_000, None),
        ("1,234", 1234, None),
        ("1,234,567", 1_234_567, None),
        ("12,34,567", 1_234_567, None),
        ("1.234.567", 1_234_567, None),
        ("1 234 567", 1_234_567, None),
        ("1\u202f234", 1234, None),
        ("1'234", 1234, None),
        ("1.234", 1234, "ambiguous"),
        ("0.123", 0.123, None),
        ("12.5", 12.5, None),
        ("12.3K", 12_300, "rounded"),
        ("1.2M", 1_200_000, "rounded"),
        ("1.001m", 1_001_000, "rounded"),
        ("3 B", 3_000_000_000, "rounded"),
        ("1,2 Mio.", 1_200_000, "rounded"),
        ("1,234K", 1_234_000, "ambiguous"),
        ("5.6万", 56_000, "rounded"),
        (None, None, "hidden"),
        (" ", None, "hidden"),
        ("NaN", None, "hidden"),
        (float("nan"), None, "hidden"),
        ("Hidden", None, "hidden"),
        (-1, None, "hidden"),
        ("-1", None, "hidden"),
        (-5, None, "unreadable"),
        (float("inf"), None, "unreadable"),
        (True, None, "unreadable"),
        (10**400, None, "unreadable"),
        ("many", None, "unreadable"),
        ("12 parsecs", None, "unreadable"),
        ("1,23,4", None, "unreadable"),
        ("1e400", None, "unreadable"),
        ({"count": 3}, None, "unreadable"),
    ],
)
def test_counts(found: object, value: float | None, note: Note | None) -> None:
    read = parse_count(found)
    assert read == Reading(value, note)
    assert isinstance(read.value, int) or value is None or value != int(value), "a whole count is an int"


NOON = datetime(2024, 1, 31, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "found",
    [
        1706702400,
        1706702400.0,
        "1706702400",
        1706702400000,
        "1706702400000",
        "2024-01-31T12:00:00Z",
        "2024-01-31T12:00:00.000Z",
        "2024-01-31T13:00:00+01:00",
        "2024-01-31 12:00:00",
        "2024-01-31 12:00:00 UTC",
        "2024/01/31 12:00:00",
    ],
)
def test_one_moment_written_in_many_ways(found: object) -> None:
    assert parse_time(found) == Reading(NOON)


@pytest.mark.parametrize("found", ["20240131", 20240131, "2024-01-31", "2024/01/31"])
def test_days_are_midnight_utc(found: object) -> None:
    assert parse_time(found) == Reading(NOON.replace(hour=0))


@pytest.mark.parametrize(
    ("found", "note"),
    [
        (None, "hidden"),
        ("", "hidden"),
        (0, "hidden"),
        ("03/04/2024", "unreadable"),
        (12345, "unreadable"),
        ("soon", "unreadable"),
        (True, "unreadable"),
    ],
)
def test_what_is_no_moment_says_so(found: object, note: Note) -> None:
    assert parse_time(found) == Reading(None, note)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [(15, 15), ("15.5", 15.5), ("PT15S", 15), ("PT1M5S", 65), ("PT1H", 3600), ("P1DT1S", 86401), ("1:05", 65), ("1:00:05", 3605), (0, 0)],
)
def test_lengths(found: object, seconds: float) -> None:
    assert parse_duration(found) == Reading(seconds)


@pytest.mark.parametrize(
    ("found", "note"), [(None, "hidden"), (-3, "unreadable"), ("long", "unreadable"), ("P", "unreadable"), (True, "unreadable")]
)
def test_what_is_no_length_says_so(found: object, note: Note) -> None:
    assert parse_duration(found) == Reading(None, note)


@pytest.mark.parametrize(
    ("found", "number"),
    [("True", 1), (False, 0), ("3.5", 3.5), ("-2", -2), (7, 7), ("1,234", None), ("x", None), (float("nan"), None), (None, None)],
)
def test_plain_numbers(found: object, number: float | None) -> None:
    assert parse_number(found) == number


@pytest.mark.parametrize(("found", "flag"), [(True, True), ("false", False), (1, True), ("0", False), (None, None), ("maybe", None)])
def test_flags(found: object, flag: bool | None) -> None:
    assert parse_flag(found) is flag
