"""Read one field of a table of lives as a number, a date, or yes and no. Pure; an unreadable field is NaN or None."""

from __future__ import annotations

import math
from datetime import UTC, datetime

YES = frozenset(("true", "yes", "t", "y", "failed", "failure", "dead"))
NO = frozenset(("false", "no", "f", "n", "ok", "alive", "censored"))
BLANK = frozenset(("", "nan", "na", "n/a", "#n/a", "null", "none", "-", "?"))
MAX_READING = 1e30
"""A number beyond this is a missing reading: sums of squares of such numbers would overflow."""


def number(text: str, decimal_comma: bool = False) -> float:
    """The field as a number; NaN when it is none, or is beyond ``MAX_READING``."""
    try:
        value = float(text.replace(",", ".") if decimal_comma and text.count(",") == 1 else text)
    except ValueError:
        return math.nan
    return value if abs(value) <= MAX_READING else math.nan


def hours(text: str) -> float:
    """The field as an ISO date, in hours since 1970 (UTC where it names no zone); NaN for every other field."""
    text = text.strip()
    if not (text[:4].isdigit() and text[4:5] in ("-", "/")):
        return math.nan
    try:
        moment = datetime.fromisoformat(text.replace("/", "-"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / 3600.0
    except (ValueError, OverflowError):
        return math.nan


def truth(text: str, decimal_comma: bool = False) -> bool | None:
    """Whether the field says yes: a missing field says no, None stands for a field that says neither."""
    word = text.strip().lower()
    value = number(word, decimal_comma)
    if value == 1.0 or word in YES:
        return True
    return False if value == 0.0 or word in NO or word in BLANK else None
