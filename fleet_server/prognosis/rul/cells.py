"""What a field of a table of lives says: a number, a date, yes or no. Pure; what says nothing is NaN or None."""

from __future__ import annotations

import math
from datetime import UTC, datetime

YES = frozenset(("true", "yes", "t", "y", "failed", "failure", "dead"))
NO = frozenset(("false", "no", "f", "n", "ok", "alive", "censored"))
BLANK = frozenset(("", "nan", "na", "n/a", "#n/a", "null", "none", "-", "?"))
MAX_READING = 1e30
"""A number beyond it is no reading: its square would not be one."""


def number(text: str, decimal_comma: bool = False) -> float:
    """The number, NaN for everything that is none or is beyond all readings."""
    try:
        value = float(text.replace(",", ".") if decimal_comma and text.count(",") == 1 else text)
    except ValueError:
        return math.nan
    return value if abs(value) <= MAX_READING else math.nan


def hours(text: str) -> float:
    """Hours since 1970 of an ISO date; NaN for everything else. Without a zone: UTC."""
    text = text.strip()
    if not (text[:4].isdigit() and text[4:5] in ("-", "/")):
        return math.nan
    try:
        moment = datetime.fromisoformat(text.replace("/", "-"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / 3600.0
    except (ValueError, OverflowError):
        return math.nan


def truth(text: str, decimal_comma: bool = False) -> bool | None:
    """Does it say yes? A missing field says no; None: neither."""
    word = text.strip().lower()
    value = number(word, decimal_comma)
    if value == 1.0 or word in YES:
        return True
    return False if value == 0.0 or word in NO or word in BLANK else None
