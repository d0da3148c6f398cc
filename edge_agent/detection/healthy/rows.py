"""Rows kept for learning, and whether a deviation still grows. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import restored
from edge_agent.detection.tuning import GROWING, STEADILY_GROWING

FIRST_ROOM = 64


class KeptRows:
    """Rows (n, channels) kept for learning, with their regimes (n, regimes) and times (n,): tables that grow by half,
    so that weeks of rows cost their bytes and no object each."""

    def __init__(self) -> None:
        self._count = 0
        self._tables: tuple[FloatArray, FloatArray, IntArray] | None = None

    def extend(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> None:
        """Copy them in."""
        stop = self._count + len(rows)
        if self._tables is None or stop > len(self._tables[0]):
            room = max(FIRST_ROOM, stop, self._count + self._count // 2)
            grown = (
                np.empty((room, rows.shape[1])),
                np.empty((room, regimes.shape[1])),
                np.empty(room, dtype=np.int64),
            )
            if self._tables is not None:
                for new, old in zip(grown, self._tables, strict=True):
                    new[: self._count] = old[: self._count]
            self._tables = grown
        for table, added in zip(self._tables, (rows, regimes, times_us), strict=True):
            table[self._count : stop] = added
        self._count = stop

    def join(self, other: KeptRows) -> None:
        """Take the other's rows over; it holds none afterwards."""
        if len(other):
            self.extend(*other.tables())
        other._count, other._tables = 0, None

    def __len__(self) -> int:
        return self._count

    @property
    def times_us(self) -> IntArray:
        """Their times (n,)."""
        return self.tables()[2]

    def tables(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Rows, regimes and times, as views: not to be changed, nor kept over an ``extend``."""
        if self._tables is None:
            return np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0, dtype=np.int64)
        rows, regimes, times_us = self._tables
        return rows[: self._count], regimes[: self._count], times_us[: self._count]

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        rows, regimes, times_us = self.tables()
        return {"rows": rows, "regimes": regimes, "times_us": times_us.astype(float)}


def load_rows(state: Mapping[str, Any], channels: int, regimes: int) -> KeptRows:
    """Rows from their ``state``. Raises ValueError, TypeError, KeyError when they are not of so many channels and
    regimes."""
    kept = KeptRows()
    count = len(restored.table(state["rows"], None, None))
    if count:
        kept.extend(
            restored.readings(state["rows"], count, channels),
            restored.readings(state["regimes"], count, regimes),
            restored.times(state["times_us"], count),
        )
    return kept


def growing(norms: list[float]) -> bool:
    """Does a deviation still grow? Judged on the later two thirds, after the accumulation's own rise."""
    third = len(norms) // 3
    later = float(np.median(norms[2 * third :])) / max(1e-9, float(np.median(norms[third : 2 * third])))
    if later > GROWING:
        return True
    parts = [float(np.median(part)) for part in np.array_split(norms[third:], 4)]
    steadily = all(after > before for before, after in itertools.pairwise(parts))
    return steadily and parts[-1] > STEADILY_GROWING * parts[0]
