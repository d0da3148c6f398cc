"""Values of a snapshot, checked as they are taken back: each is what its place asks for, or it is refused.

A snapshot is a file, and a file may be damaged or planted. What is not checked when it is restored fails at a later
tick, with the damage saved again by then. Every ``load`` of detection takes its values by these functions. They raise
ValueError, or TypeError where a value is of another kind; ``DAMAGED`` lists all that reading a damaged tree may raise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.input.readings import only_reading, only_readings
from edge_agent.detection.tuning import MOST_EVIDENCE

DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError)

MOST_WHOLE = 2**53
"""Beyond it a float64, which is what a snapshot keeps tables of times in, skips whole numbers."""
MOST_SIZE = 1e100
"""No statistic comes near it, and its square is finite still."""


def table(value: Any, *shape: int | None) -> FloatArray:
    """An array of this shape; None stands for any length."""
    if not isinstance(value, np.ndarray) or value.ndim != len(shape):
        raise ValueError("not a table of so many axes")
    if any(asked is not None and have != asked for have, asked in zip(value.shape, shape, strict=True)):
        raise ValueError("a table of another shape")
    return value


def sized(value: Any, *shape: int | None) -> FloatArray:
    """A ``table`` of finite numbers, none beyond ``MOST_SIZE``."""
    found = table(value, *shape)
    if not (np.abs(found) <= MOST_SIZE).all():
        raise ValueError("a table with numbers out of range")
    return found


def above_zero(value: Any, *shape: int | None) -> FloatArray:
    """A ``table`` of numbers above 0, which may be divided by; in a channel's unit, so that they may be of any size."""
    found = table(value, *shape)
    if not (found > 0).all():
        raise ValueError("a table with numbers that are not above 0")
    return found


def positive(value: Any, *shape: int | None) -> FloatArray:
    """A ``sized`` table of numbers above 0."""
    return above_zero(sized(value, *shape), *shape)


def readings(value: Any, *shape: int | None) -> FloatArray:
    """A ``table`` of readings, or of what was learnt in their unit; what is none is missing, as where samples enter."""
    return only_readings(table(value, *shape))


def times(value: Any, rows: int) -> IntArray:
    """Times (rows,) in microseconds."""
    found = table(value, rows)
    if not (np.abs(found) <= MOST_WHOLE).all():
        raise ValueError("times out of range")
    return found.astype(np.int64)


def whole(value: Any, least: int = 0, most: int = MOST_WHOLE) -> int:
    """A whole number, whether written as 3 or as 3.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError("not a whole number in range")
    if value != int(value):
        raise ValueError("not a whole number")
    return int(value)


def time_us(value: Any) -> int:
    """A time in microseconds; that of a recording may lie before 1970."""
    return whole(value, -MOST_WHOLE)


def number(value: Any, least: float = -MOST_SIZE, most: float = MOST_SIZE) -> float:
    """A finite number in range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError("not a number in range")
    return float(value)


def evidence(value: Any) -> float:
    """Evidence: 1 at the limit, and never beyond ``MOST_EVIDENCE`` but by rounding."""
    return number(value, 0.0, MOST_EVIDENCE * 1.01)


def reading(value: Any) -> float:
    """A reading, or a sum of readings, which is held to the same size; NaN where it is none."""
    return only_reading(value if isinstance(value, float) else number(value))


def flag(value: Any) -> bool:
    """True or false; the second layout wrote some as 1 and 0."""
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise ValueError("neither true nor false")
    return bool(value)


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def items(value: Any, length: int | None = None) -> list[Any]:
    """A list, of this length where one is given."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError("not a list of this length")
    return value


def record(value: Any) -> dict[str, Any]:
    """Values by name."""
    if not isinstance(value, dict):
        raise TypeError("not a record")
    return value
