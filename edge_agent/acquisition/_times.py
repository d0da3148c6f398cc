"""Reads the times of recordings, in the many ways people write them, as microseconds. Pure; failure is BadInput.

``05/01/2026`` may be May or January. The reader of a file decides this once for the whole file (``day_comes_first``),
from what the file's own dates allow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from fleet_core.errors import BadInput
from fleet_core.telemetry import EARLIEST_US, LATEST_US, to_us

RELATIVE_EPOCH_S = 1_600_000_000
"""The start of a recording whose times only count from that start: placed in 2020, so that the times are believable."""
MAX_TIME = 64

_CLOCK = r"(?:(?:[ T,:]|, )[ ]*(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?([AaPp])[Mm])?)?\Z"
_DOTTED = re.compile(r"(\d{4})\.(\d\d?)\.(\d\d?)\.(\d\d?)\.(\d\d?)\.(\d\d?)\Z")
_DOTTED_DAY_FIRST = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4}|\d\d)" + _CLOCK)
_YEAR_FIRST = re.compile(r"(\d{4})[/-](\d\d?)[/-](\d\d?)" + _CLOCK)
_EITHER_FIRST = re.compile(r"(\d\d?)([/-])(\d\d?)\2(\d{4}|(?<=/)\d\d)" + _CLOCK)
_MONTH_NAMED = re.compile(r"(\d\d?)[ /-]([A-Za-z]{3})[a-z]*[ /-](\d{4})" + _CLOCK)
_MONTH_LEADS = re.compile(r"([A-Za-z]{3})[a-z]*\.? +(\d\d?),? +(\d{4})" + _CLOCK)
_YEAR_LAST = re.compile(r"([A-Za-z]{3} +\d\d?)( \d\d?:\d\d:\d\d)( \d{4})\Z")
_MONTHLY = re.compile(r"(\d{4})[/-](\d\d)\Z")
_DIGITS = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?\Z")
_CLOCK_ALONE = re.compile(r"\d\d?:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AaPp][Mm])?\Z")
_WEEKDAY = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +")
_ZONE = re.compile(
    r"(?<=\d) ?(?:(?P<word>Z|UTC|GMT|[ECMP][SD]T|CET|CEST|MEZ|MESZ)|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))?"
    r"(?:\[[\w/+-]+\])?\Z"
)
_AMERICAN = (("E", -5), ("C", -6), ("M", -7), ("P", -8))
_ZONE_HOURS = {"CET": 1, "MEZ": 1, "CEST": 2, "MESZ": 2}
_ZONE_HOURS |= {f"{name}{kind}T": hours + (kind == "D") for name, hours in _AMERICAN for kind in "SD"}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UNITS = ((1e6, 4e9), (1e3, 4e12), (1.0, 4e15), (1e-3, 4e18))
"""Microseconds in a unit, and the largest count of it that is an epoch: s, ms, us, ns."""


def parse_time_us(text: str, day_first: bool = False, earliest_us: int = EARLIEST_US) -> int:
    """A time as written in a recording. Raises BadInput.

    ISO 8601, ``2026/01/05 10:32[:39[.5]]``, ``12.02.2004 10:32[:39]``, ``02/12/2004 10:32 [AM]`` (``day_first``:
    ``12/02/2004``), ``05-Jan-2026``, ``[Mon] Jan 5[,] 2026``, ``2004.02.12.10.32.39``, ``20260105103239``, or a number:
    an epoch in s, ms, us or ns by its size, or seconds from the recording's start. A time without a zone is UTC.
    Raises BadInput also for a time before ``earliest_us``.
    """
    if len(text) > MAX_TIME:
        raise BadInput("time", f"{text[:40]!r} is not a time")
    text = text.strip()
    moment = _of_digits(text)
    if moment is None:
        try:
            time_us = _epoch_us(float(text))
        except ValueError:
            time_us = to_us(_written(text, day_first))
    else:
        time_us = to_us(moment)
    if not earliest_us <= time_us <= LATEST_US:
        raise BadInput("time", f"{text[:40]!r} is not a believable time")
    return time_us


def is_clock(text: str) -> bool:
    """Is this a time of day without a date?"""
    return len(text) <= MAX_TIME and _CLOCK_ALONE.match(text.strip()) is not None


def clock_s(text: str) -> float:
    """Seconds of the day of a time of day without a date (``is_clock``). Raises BadInput."""
    return parse_time_us(f"2020-01-01 {text.strip()}") / 1e6 % 86_400.0


def is_ambiguous(text: str) -> bool:
    """Is this a date whose first number may be the day or the month?"""
    return len(text) <= MAX_TIME and _EITHER_FIRST.match(text.strip()) is not None


def day_comes_first(texts: Iterable[str]) -> bool:
    """Is the first number of a recording's ambiguous dates the day?

    A number above 12 decides. Without one the reading under which the dates lie closer together counts. When both lie
    equally close custom decides: month first between slashes, day first between dashes.
    """
    dates: set[tuple[int, int, int]] = set()
    dashes = False
    for text in texts:
        found = _EITHER_FIRST.match(text.strip()) if len(text) <= MAX_TIME else None
        if found is None:
            continue
        first, second, year = int(found[1]), int(found[3]), int(found[4])
        if max(first, second) > 12:
            return first > 12
        dashes = found[2] == "-"
        dates.add((year, first, second))
    if not dates:
        return False
    by_month = [372 * year + 31 * first + second for year, first, second in dates]
    by_day = [372 * year + 31 * second + first for year, first, second in dates]
    spans = max(by_month) - min(by_month), max(by_day) - min(by_day)
    return spans[1] < spans[0] if spans[0] != spans[1] else dashes


def _of_digits(text: str) -> datetime | None:
    found = _DIGITS.match(text)
    try:
        if found is None:
            return None
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def _epoch_us(number: float) -> int:
    if not math.isfinite(number):
        raise BadInput("time", "not a finite number")
    for unit_us, limit in _UNITS:
        if abs(number) <= limit:
            time_us = round(number * unit_us)
            return time_us if time_us >= EARLIEST_US else time_us + RELATIVE_EPOCH_S * 1_000_000
    raise BadInput("time", f"{number:g} is not a believable time")


def _written(text: str, day_first: bool) -> datetime:
    try:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = _not_iso(_WEEKDAY.sub("", text, count=1), day_first)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadInput("time", f"{text[:40]!r} is not a time") from None


def _not_iso(text: str, day_first: bool) -> datetime:
    """Raises ValueError."""
    zone = _ZONE.search(text)
    ahead = timedelta()
    if zone is not None and ":" in text[: zone.start()]:
        text = text[: zone.start()]
        hours = int(zone["hours"] or 0) + int(zone["minutes"] or 0) / 60
        ahead = timedelta(hours=-hours if zone["sign"] == "-" else hours + _ZONE_HOURS.get(zone["word"] or "", 0))
    text = _YEAR_LAST.sub(r"\1\3\2", text)
    if found := _DOTTED_DAY_FIRST.match(text):
        moment = _moment(found[3], found[2], found[1], found.groups()[3:])
    elif found := _DOTTED.match(text):
        moment = _moment(found[1], found[2], found[3], (*found.groups()[3:], None, None))
    elif found := _YEAR_FIRST.match(text):
        moment = _moment(found[1], found[2], found[3], found.groups()[3:])
    elif found := _EITHER_FIRST.match(text):
        # A number above 12 is no month, whatever was decided for the file.
        day_first = int(found[1]) > 12 or (day_first and int(found[3]) <= 12)
        day, month = (found[1], found[3]) if day_first else (found[3], found[1])
        moment = _moment(found[4], month, day, found.groups()[4:])
    elif found := _MONTH_NAMED.match(text):
        moment = _moment(found[3], _MONTHS.index(found[2].lower()) + 1, found[1], found.groups()[3:])
    elif found := _MONTHLY.match(text):
        moment = _moment(found[1], found[2], "1", (None,) * 5)
    elif found := _MONTH_LEADS.match(text):
        moment = _moment(found[3], _MONTHS.index(found[1].lower()) + 1, found[2], found.groups()[3:])
    else:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment - ahead


def _moment(year: str, month: str | int, day: str, clock: tuple[str | None, ...]) -> datetime:
    """``clock``: hour, minute, second, fraction, A or P; None where not written. Raises ValueError."""
    hour, minute, second = (int(part or 0) for part in clock[:3])
    if clock[4]:
        if not 1 <= hour <= 12:
            raise ValueError("no such hour")
        hour = hour % 12 + (12 if clock[4] in "Pp" else 0)
    fraction_us = int((clock[3] or "").ljust(6, "0")[:6])
    return datetime(
        int(year if len(year) == 4 else "20" + year), int(month), int(day), hour, minute, second, fraction_us, UTC
    )
