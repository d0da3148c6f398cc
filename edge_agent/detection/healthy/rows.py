"""Rows kept for learning, rows on trial, and whether a deviation still grows. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray

FIRST_ROOM = 64
GROWING = 1.3
STEADILY_GROWING = 1.15
LEAST_TRIAL = 12
TRIAL_SHARE = 0.25
BROKEN_OUT = 2.0


class Rows:
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

    def join(self, other: Rows) -> None:
        """Take the other's rows over."""
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

    def state(self) -> list[Any]:
        rows, regimes, times_us = self.tables()
        return [rows, regimes, times_us.astype(float)]


def load_rows(state: list[Any]) -> Rows:
    """Rows from their ``state``."""
    rows = Rows()
    if len(state[0]):
        rows.extend(state[0], state[1], state[2].astype(np.int64))
    return rows


@dataclass
class Trial:
    """Rows since a suspected step and how far each stood from healthy."""

    rows: Rows = field(default_factory=Rows)
    norms: list[float] = field(default_factory=list)
    settled_at: float = 0.0

    def take(
        self,
        rows: FloatArray,
        regimes: FloatArray,
        times_us: IntArray,
        deviation: FloatArray,
        critical: bool,
        period: int,
    ) -> bool | None:
        """Take one row (1, channels) and its ``deviation`` (channels,). Is it a fault? None: not yet known.

        ``critical``: is the evidence? ``period``: rows of the learning period; a trial lasts no longer.
        """
        self.rows.extend(rows, regimes, times_us)
        squares = deviation * deviation
        norms = self.norms
        norms.append(float(squares @ squares) ** 0.25)
        count, verdict_at = len(norms), max(LEAST_TRIAL, int(period * TRIAL_SHARE))
        if count < verdict_at:
            run_away = count >= 6 and float(np.median(norms[-3:])) > BROKEN_OUT * float(np.median(norms[:3]))
            return True if run_away and critical else None
        if count == verdict_at:
            self.settled_at = float(np.median(norms[-count // 3 :]))
            return True if growing(norms) else None
        if float(np.median(norms[-5:])) > BROKEN_OUT * self.settled_at:
            return True
        return False if count >= period else None


def growing(norms: list[float]) -> bool:
    """Does a deviation still grow? Judged on the later two thirds, after the accumulation's own rise."""
    third = len(norms) // 3
    later = float(np.median(norms[2 * third :])) / max(1e-9, float(np.median(norms[third : 2 * third])))
    if later > GROWING:
        return True
    parts = [float(np.median(part)) for part in np.array_split(norms[third:], 4)]
    steadily = all(after > before for before, after in itertools.pairwise(parts))
    return steadily and parts[-1] > STEADILY_GROWING * parts[0]
