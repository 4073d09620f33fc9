"""Counts, times and lengths as people's files write them: `1.2M`, `1,234`, epoch seconds or milliseconds, ISO 8601, `20240131`.

Nothing is guessed in silence: every value comes as a `Reading`, whose note says when it was hidden, rounded, ambiguous or not readable.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Generic, Literal, TypeVar

Note = Literal["hidden", "rounded", "ambiguous", "unreadable"]
Value = TypeVar("Value", covariant=True)

HIDDEN = frozenset({"", "-", "--", "n/a", "na", "nan", "none", "null", "nil", "undefined", "hidden", "private", "unavailable", "unknown"})
"""What files write, in any case, where a number isn't shown."""
UNITS = {
    "": 1,
    "k": 10**3,
    "tsd": 10**3,
    "m": 10**6,
    "mn": 10**6,
    "mio": 10**6,
    "b": 10**9,
    "bn": 10**9,
    "万": 10**4,
    "億": 10**8,
    "亿": 10**8,
}
"""`12.3K`, as web pages round counts, and what some other languages write."""

_NUMBER = re.compile(r"(?P<digits>[\d.,]*\d)(?P<power>e[+-]?\d{1,3})?\s*(?P<unit>[a-z万億亿]*)\.?", re.IGNORECASE)
_SPACED = re.compile(r"(?<=\d)[\s'\u2019](?=\d{3}(?!\d))")
_COMMAS = re.compile(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}(?:\.\d+)?")
_POINTS = re.compile(r"[1-9]\d{0,2}(?:\.\d{3}){2,}(?:,\d+)?|[1-9]\d{0,2}\.\d{3},\d+")
_ONE_POINT = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_DECIMAL = re.compile(r"\d*\.?\d+")
_DECIMAL_COMMA = re.compile(r"\d+,\d{1,2}")

_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800
"""2000 and 2100: an epoch outside isn't one."""
_DAYS = ("%Y%m%d", "%Y%m%dT%H%M%SZ", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S")
_ISO_LENGTH = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2}(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Reading(Generic[Value]):
    """What a file's value was read as."""

    value: Value | None
    note: Note | None = None
    """`hidden`: there, but empty; `rounded`: written with a unit; `ambiguous`: could mean another number; None: plain, or not there."""


ABSENT: Reading[Any] = Reading(None)
"""The file says nothing about it."""


def parse_count(found: object) -> Reading[float]:
    """A count of views, likes and so on.

    A lone point before exactly three digits (`1.234`) is read as thousands and noted as ambiguous: counts are whole. -1 is how some
    sources write a hidden count.

    Args:
        found: int, float, string or None.

    Returns:
        The count, whole where it is whole; a value of None comes with the note `hidden` or `unreadable`.
    """
    if _is_hidden(found) or found in (-1, "-1"):
        return Reading(None, "hidden")
    if isinstance(found, str):
        return _parse_written(found)
    number = None if isinstance(found, bool) else parse_number(found)
    return Reading(_whole(number)) if number is not None and number >= 0 else Reading(None, "unreadable")


def parse_time(found: object) -> Reading[datetime]:
    """A moment as aware UTC; a time without a zone is taken as UTC.

    Args:
        found: epoch seconds, milliseconds or microseconds (number or string), ISO 8601, `YYYYMMDD`, or None. 0 counts as hidden.

    Returns:
        The moment; a value of None comes with the note `hidden` or `unreadable`. `03/04/2024` is not read: it has two meanings.
    """
    if _is_hidden(found) or found in (0, "0"):
        return Reading(None, "hidden")
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        return Reading(None, "unreadable")
    text = str(found).strip()
    moment = _day(text) or _epoch(text) or _iso(text)
    return Reading(moment) if moment else Reading(None, "unreadable")


def parse_duration(found: object) -> Reading[float]:
    """A length in seconds, from a number of seconds, ISO 8601 (`PT1M5S`) or a clock (`1:05`); negative ones are unreadable."""
    if _is_hidden(found):
        return Reading(None, "hidden")
    seconds = _seconds(found)
    return Reading(seconds) if seconds is not None else Reading(None, "unreadable")


def parse_number(found: object) -> float | None:
    """A plain number or a flag (true is 1.0) as a float; None for everything else, NaN and infinity included."""
    if isinstance(found, str):
        flag = parse_flag(found) if found.strip().lower() in ("true", "false") else None
        if flag is not None:
            return float(flag)
        if not re.fullmatch(r"[+-]?\d*\.?\d+(?:e[+-]?\d{1,3})?", found.strip(), re.IGNORECASE):
            return None
    elif not isinstance(found, (int, float)) or abs(found) > sys.float_info.max:
        return None
    number = float(found)
    return number if math.isfinite(number) else None


def parse_flag(found: object) -> bool | None:
    """True or False from a boolean, 0 or 1, or the words for them; None for everything else."""
    word = str(found).strip().lower()
    return True if word in ("true", "yes", "y", "1", "1.0") else False if word in ("false", "no", "n", "0", "0.0") else None


def _is_hidden(found: object) -> bool:
    if isinstance(found, str):
        return found.strip().lower() in HIDDEN
    return found is None or (isinstance(found, float) and math.isnan(found))


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _parse_written(found: str) -> Reading[float]:
    match = _NUMBER.fullmatch(_SPACED.sub("", found.strip()))
    unit = UNITS.get(match["unit"].lower()) if match else None
    if match is None or unit is None:
        return Reading(None, "unreadable")
    digits = match["digits"]
    plain = _plain(digits, with_unit=unit > 1)
    if plain is None:
        return Reading(None, "unreadable")
    # Rounded to nine decimals, because 1.2 * 10**6 and the like must be whole.
    number = round(float(plain + (match["power"] or "")) * unit, 9)
    if not math.isfinite(number):
        return Reading(None, "unreadable")
    ambiguous = _ONE_POINT.fullmatch(digits) if unit == 1 else _COMMAS.fullmatch(digits)
    return Reading(_whole(number), "ambiguous" if ambiguous else "rounded" if unit > 1 else None)


def _plain(digits: str, *, with_unit: bool) -> str | None:
    """Digits with marks between thousands, as Python writes them."""
    if _COMMAS.fullmatch(digits):
        return digits.replace(",", "")
    if _POINTS.fullmatch(digits):
        return digits.replace(".", "").replace(",", ".")
    if not with_unit and _ONE_POINT.fullmatch(digits):
        return digits.replace(".", "")
    if _DECIMAL_COMMA.fullmatch(digits):
        return digits.replace(",", ".")
    return digits if _DECIMAL.fullmatch(digits) else None


def _day(text: str) -> datetime | None:
    for form in _DAYS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
    return None


def _epoch(text: str) -> datetime | None:
    number = parse_number(text)
    for per_second in (1, 10**3, 10**6):
        if number is not None and _EARLIEST_S <= number / per_second < _LATEST_S:
            return datetime.fromtimestamp(number / per_second, tz=timezone.utc)
    return None


def _iso(text: str) -> datetime | None:
    # Python 3.10 reads neither `Z` nor the word `UTC`.
    if parse_number(text) is not None:
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"\s*(?:Z|UTC)$", "+00:00", text, flags=re.IGNORECASE))
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def _seconds(found: object) -> float | None:
    number = None if isinstance(found, bool) else parse_number(found)
    if number is not None:
        return number if number >= 0 else None
    text = found.strip() if isinstance(found, str) else ""
    if (iso := _ISO_LENGTH.fullmatch(text)) and any(iso.groups()):
        days, hours, minutes, seconds = (float(part or 0) for part in iso.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return (hours * 60 + minutes) * 60 + seconds
    return None
