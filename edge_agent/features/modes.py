"""In which operating mode a machine runs, found from its load and speed; and when it merely stands still.

A mode is a place in the space of regimes where the machine stays for a while: ``DWELL_ROWS`` rows in succession within
one radius. A ramp passes through places without staying, so it founds no mode; its rows are assigned to the nearest
one as not known. Modes are at most ``MAX_MODES`` and never move or renumber: once all are taken, other places stay
unknown. ``learnt`` of them were found while learning, so that a caller can tell a new mode from a familiar one.

Radii come from the learning period: four times the noise from row to row, a tenth of the range, or 3 % of the level,
whichever is largest. Pure, causal (a block equals its rows one by one), restartable by ``state``; NaN is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

MAX_MODES = 8
DWELL_ROWS = 12
NOISE_RADII, RANGE_SHARE, LEVEL_SHARE = 4.0, 0.1, 0.03
STOP_SHARE = 0.08
"""Of the running level: what a channel may still show at standstill (offsets, hum)."""
STOP_ROWS = 2
STEADY_RATIO = 4.0
"""A running level must stand this far above the channel's own spread to tell running from standing."""


class Modes:
    """Operating modes over ``regimes`` regime vitals. Before ``fit`` nothing is known."""

    def __init__(self, regimes: int) -> None:
        self.learnt = 0
        self._radius = np.full(regimes, np.nan)
        self._centres = np.empty((0, regimes))
        self._stay = np.empty((0, regimes))

    @property
    def count(self) -> int:
        return len(self._centres)

    def fit(self, regimes: FloatArray) -> None:
        """Radii and modes of the learning period's regimes (n, regimes), in order of time; forgets what was before."""
        self._radius = np.array([_radius(regimes[:, index]) for index in range(regimes.shape[1])])
        self._centres = np.empty((0, regimes.shape[1]))
        self._stay = np.empty((0, regimes.shape[1]))
        self.assign(regimes)
        self.learnt = self.count

    def assign(self, regimes: FloatArray) -> tuple[IntArray, BoolArray]:
        """Nearest mode (n,) of each row of regimes (n, regimes), -1 without any, and whether it is within reach.

        Rows out of reach that stay together found a mode; it is known from the row that completes the dwell.
        """
        modes, known = np.full(len(regimes), -1, dtype=np.intp), np.zeros(len(regimes), dtype=bool)
        start = 0
        while start < len(regimes):
            mode, near = self._nearest(regimes[start:])
            founded = self._found(regimes[start:], near)
            end = len(regimes) if founded is None else start + founded
            modes[start:end], known[start:end] = mode[: end - start], near[: end - start]
            start = end
        return modes, known

    def state(self) -> dict[str, Any]:
        """Arrays and numbers to carry on from."""
        return {"learnt": self.learnt, "radius": self._radius, "centres": self._centres, "stay": self._stay}

    def load(self, state: dict[str, Any]) -> None:
        """Take a ``state`` back. Raises ValueError when it is of other regimes, KeyError."""
        if state["radius"].shape != self._radius.shape:
            raise ValueError("modes of other regimes")
        self.learnt = int(state["learnt"])
        self._radius, self._centres, self._stay = (state[name].copy() for name in ("radius", "centres", "stay"))

    def _nearest(self, regimes: FloatArray) -> tuple[IntArray, BoolArray]:
        if not self.count or not np.isfinite(self._radius).any():
            return np.full(len(regimes), -1, dtype=np.intp), np.zeros(len(regimes), dtype=bool)
        away = np.stack([_distance(regimes, centre, self._radius) for centre in self._centres], axis=1)
        nearest = away.argmin(axis=1)
        seen = np.isfinite(regimes).any(axis=1)
        return np.where(seen, nearest, -1), seen & (away[np.arange(len(away)), nearest] <= 1.0)

    def _found(self, regimes: FloatArray, near: BoolArray) -> int | None:
        """Follow rows that are near no mode; found one where they stay. The index of the row that completes it."""
        if self.count >= MAX_MODES or not np.isfinite(self._radius).any():
            return None
        complete = np.asarray(np.isfinite(regimes).all(axis=1))
        for index in np.flatnonzero(~near | (np.arange(len(near)) == 0)):
            row = regimes[index]
            if near[index] or (index > 0 and near[index - 1]):
                self._stay = self._stay[:0]  # a visit to a known mode ends the stay
            if near[index] or not complete[index]:
                continue
            if len(self._stay) and _distance(row[None], self._stay.mean(axis=0), self._radius)[0] > 0.5:
                self._stay = self._stay[:0]
            self._stay = np.vstack((self._stay, row))
            if len(self._stay) >= DWELL_ROWS:
                self._centres = np.vstack((self._centres, np.median(self._stay, axis=0)))
                self._stay = self._stay[:0]
                return int(index)
        if len(near) and near[-1]:
            self._stay = self._stay[:0]
        return None


class Stops:
    """Standstill told from channels that show activity: speed, current, flow, vibration (never temperatures).

    Conservative: a row is a stop only when *every* channel that told running from standing while learning is within
    ``STOP_SHARE`` of nothing for ``STOP_ROWS`` rows on end, so a single dead sensor among several stops nothing. The
    caller decides whether one channel alone is worth believing (a speed is; a request rate is not).
    """

    def __init__(self, channels: int) -> None:
        self._limit = np.full(channels, np.nan)
        self._still = 0

    @property
    def usable(self) -> int:
        """How many channels tell running from standing."""
        return int(np.isfinite(self._limit).sum())

    def fit(self, rows: FloatArray) -> None:
        """Running levels from the learning period's rows (n, channels); a channel without a steady one is left out."""
        self._limit = np.array([_stop_limit(rows[:, index]) for index in range(rows.shape[1])])
        self._still = 0

    def run(self, rows: FloatArray) -> BoolArray:
        """Whether the machine stands still (n,), for rows (n, channels) in order of time."""
        usable = np.isfinite(self._limit)
        if not usable.any() or not len(rows):
            return np.zeros(len(rows), dtype=bool)
        values, seen = np.abs(rows[:, usable]), np.isfinite(rows[:, usable])
        quiet = ((values <= self._limit[usable]) | ~seen).all(axis=1) & (2 * seen.sum(axis=1) > usable.sum())
        # length of the run of quiet rows that ends at each row, the earlier block's included
        index = np.arange(1, len(rows) + 1)
        last_loud = np.maximum.accumulate(np.where(quiet, 0, index))
        length = index - last_loud + np.where(last_loud == 0, self._still, 0)
        self._still = min(int(length[-1]), STOP_ROWS)
        return length >= STOP_ROWS

    def state(self) -> dict[str, Any]:
        """Arrays and numbers to carry on from."""
        return {"limit": self._limit, "still": self._still}

    def load(self, state: dict[str, Any]) -> None:
        """Take a ``state`` back. Raises ValueError when it is of other channels, KeyError."""
        if state["limit"].shape != self._limit.shape:
            raise ValueError("stops of other channels")
        self._limit, self._still = state["limit"].copy(), int(state["still"])


def _distance(regimes: FloatArray, centre: FloatArray, radius: FloatArray) -> FloatArray:
    """Largest distance (n,) over the regimes, in radii; a missing value is not away."""
    away = np.abs(regimes - centre) / radius
    return np.where(np.isfinite(away), away, 0.0).max(axis=1, initial=0.0)


def _radius(column: FloatArray) -> float:
    finite = column[np.isfinite(column)]
    if finite.size < DWELL_ROWS:
        return float("nan")
    low, middle, high = np.quantile(finite, (0.02, 0.5, 0.98))
    noise = float(np.median(np.abs(np.diff(finite)))) * 1.4826 / 2**0.5
    return max(NOISE_RADII * noise, RANGE_SHARE * float(high - low), LEVEL_SHARE * abs(float(middle)), 1e-12)


def _stop_limit(column: FloatArray) -> float:
    """What still counts as nothing; NaN when the running level cannot be told from nothing."""
    finite = np.abs(column[np.isfinite(column)])
    if finite.size < DWELL_ROWS:
        return float("nan")
    low, running, high = np.quantile(finite, (0.25, 0.5, 0.75))
    spread = max(float(high - low) / 1.349, 1e-12)
    return STOP_SHARE * float(running) if running >= STEADY_RATIO * spread else float("nan")
