"""Health of the channels themselves: a sensor that is missing or stuck is left out, not read as a fault.

Stuck: the very same value far longer than it ever stood still while learning, by a channel that used to move, and
within the range it was learnt in (a stand-still outside it may well be the machine, not the sensor).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STUCK_FACTOR = 4
STUCK_LEAST_TICKS = 12
STILL_SHARE = 0.25


class ChannelHealth:
    """Watches the channels of one component. ``missing`` and ``stuck`` are boolean arrays (channels,)."""

    def __init__(self, channels: int) -> None:
        self._last: FloatArray = np.full(channels, np.nan)
        self._run: FloatArray = np.zeros(channels)
        self._limit: FloatArray = np.full(channels, np.inf)
        self._low: FloatArray = np.full(channels, -np.inf)
        self._high: FloatArray = np.full(channels, np.inf)
        self.missing = np.zeros(channels, dtype=bool)
        self.stuck = np.zeros(channels, dtype=bool)

    def check(self, row: FloatArray) -> FloatArray:
        """The row with stuck channels made NaN, as missing ones are."""
        self._run = np.where(row == self._last, self._run + 1, 0.0)
        self._last = row
        self.missing = np.isnan(row)
        self.stuck = (self._run >= self._limit) & (row >= self._low) & (row <= self._high)
        return np.where(self.stuck, np.nan, row)

    def learnt(self, rows: list[FloatArray]) -> None:
        """Learn from healthy rows how long each channel may stand still, and its range."""
        table = np.array(rows)
        run = longest = np.zeros(table.shape[1])
        for before, after in itertools.pairwise(table):
            run = np.where(after == before, run + 1, 0.0)
            longest = np.maximum(longest, run)
        moves = longest < STILL_SHARE * len(table)
        self._limit = np.where(moves, np.maximum(STUCK_LEAST_TICKS, STUCK_FACTOR * longest), np.inf)
        self._low, self._high = np.fmin.reduce(table, axis=0), np.fmax.reduce(table, axis=0)

    def state(self) -> dict[str, Any]:
        return {
            name: getattr(self, name).astype(float)
            for name in ("_last", "_run", "_limit", "_low", "_high", "missing", "stuck")
        }

    def load(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value > 0 if name in ("missing", "stuck") else value)
