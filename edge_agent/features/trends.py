"""Where each channel is heading, at several time constants at once: exponentially weighted straight lines.

For every channel and time constant a line is fitted to all rows so far, a row's weight falling by e each time
constant. Five weighted sums are enough to carry on from, so rows may come one by one or in blocks (the same result to
rounding), at any spacing, with gaps (NaN) of their own per channel. Pure, bounded memory, restartable by ``state``.

A slope is NaN until a channel has been seen for ``MIN_SPAN`` of the time constant: before that it is noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_SCALES = 8
MIN_SPAN = 0.5
MIN_ROWS = 4
MIN_SPREAD = 1e-4
"""Weighted variance of time, in squared time constants: below it one moment has all the weight and no slope."""
CHUNK_SPAN = 20.0
"""Time constants (of the shortest) in one vectorised stretch: its weights grow by e each, and must not overflow."""
CHUNK_ROWS = 256
US_PER_HOUR = 3_600_000_000


class Trends:
    """Slopes of ``channels`` channels at ``scales_h`` time constants (hours, 1..8 of them, > 0).

    ``_sums`` is (5, channels, scales): weighted sums of 1, u, u^2, x, u x, where u is the time since ``_time_us`` in
    time constants and x the distance from ``_centre`` (what keeps a large offset from eating the digits).
    """

    def __init__(self, channels: int, scales_h: Sequence[float]) -> None:
        if not 1 <= len(scales_h) <= MAX_SCALES or not all(0 < each < math.inf for each in scales_h):
            raise ValueError(f"1..{MAX_SCALES} time constants above zero are needed")
        self._scales_us = np.array(scales_h, dtype=np.float64) * US_PER_HOUR
        self._sums = np.zeros((5, channels, len(scales_h)))
        self._centre = np.full(channels, np.nan)
        self._first_us = np.zeros(channels, dtype=np.int64)
        self._rows = np.zeros(channels, dtype=np.int64)
        self._time_us = 0

    def run(self, times_us: IntArray, rows: FloatArray) -> FloatArray:
        """Take rows (n, channels) at ``times_us`` (n,), in order; slopes per hour (n, channels, scales).

        A time that steps back counts as no time passed. Values that are not finite are missing.
        """
        slopes = np.full((len(rows), *self._sums.shape[1:]), np.nan)
        if not len(rows):
            return slopes
        if not self._rows.any():
            self._time_us = int(times_us[0])
        times_us = np.maximum(np.maximum.accumulate(times_us), self._time_us)
        limit_us = CHUNK_SPAN * float(self._scales_us.min())
        start = 0
        while start < len(rows):
            end = int(np.searchsorted(times_us, times_us[start] + limit_us, side="right"))
            end = min(max(end, start + 1), start + CHUNK_ROWS)
            slopes[start:end] = self._stretch(times_us[start:end], np.asarray(rows[start:end], dtype=np.float64))
            start = end
        return slopes

    def levels(self) -> FloatArray:
        """Exponentially weighted means (channels, scales); NaN where nothing was seen."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._centre[:, None] + self._sums[3] / self._sums[0]

    def state(self) -> dict[str, Any]:
        """Arrays and numbers to carry on from."""
        return {
            "scales_us": self._scales_us,
            "sums": self._sums,
            "centre": self._centre,
            "first_us": self._first_us,
            "rows": self._rows,
            "time_us": self._time_us,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take a ``state`` back. Raises ValueError when it is of other channels or time constants, KeyError."""
        if state["sums"].shape != self._sums.shape or not np.array_equal(state["scales_us"], self._scales_us):
            raise ValueError("trends of other channels or time constants")
        self._sums, self._centre = state["sums"].copy(), state["centre"].copy()
        self._first_us, self._rows = state["first_us"].copy(), state["rows"].copy()
        self._time_us = int(state["time_us"])

    def _stretch(self, times_us: IntArray, rows: FloatArray) -> FloatArray:
        seen = np.isfinite(rows)
        self._move_to(int(times_us[0]))
        self._recentre(rows, seen)
        values = np.where(seen, rows - self._centre, 0.0)[:, :, None]
        elapsed = (times_us - times_us[0])[:, None] / self._scales_us
        weights = np.where(seen[:, :, None], np.exp(elapsed)[:, None, :], 0.0)
        moments = np.empty((5, *weights.shape))
        ages = elapsed[:, None, :]
        moments[0] = weights
        np.multiply(weights, ages, out=moments[1])
        np.multiply(moments[1], ages, out=moments[2])
        np.multiply(weights, values, out=moments[3])
        np.multiply(moments[1], values, out=moments[4])
        np.cumsum(moments, axis=1, out=moments)
        moments += self._sums[:, None]
        self._sums = moments[:, -1] * np.exp(-elapsed[-1])
        self._shift(elapsed[-1])
        self._time_us = int(times_us[-1])
        first_seen = (self._rows == 0) & seen.any(axis=0)
        self._first_us[first_seen] = times_us[seen.argmax(axis=0)][first_seen]
        counts = self._rows + np.cumsum(seen, axis=0)
        self._rows = counts[-1]
        span_us = (times_us[:, None] - self._first_us)[:, :, None]
        ready = (span_us >= MIN_SPAN * self._scales_us) & (counts >= MIN_ROWS)[:, :, None]
        return np.where(ready, self._slopes(moments), np.nan)

    def _slopes(self, moments: FloatArray) -> FloatArray:
        total, age, square, value, product = moments
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = square - age * age / total
            slope = (product - age * value / total) / spread
            return np.where(spread > MIN_SPREAD * total, slope, np.nan) * (US_PER_HOUR / self._scales_us)

    def _move_to(self, time_us: int) -> None:
        elapsed = (time_us - self._time_us) / self._scales_us
        self._sums = self._sums * np.exp(-elapsed)
        self._shift(elapsed)
        self._time_us = time_us

    def _shift(self, elapsed: FloatArray) -> None:
        """Count time from ``elapsed`` (scales,) time constants later."""
        total, age, square, value, product = self._sums
        self._sums = np.stack(
            (
                total,
                age - elapsed * total,
                square - elapsed * (2 * age - elapsed * total),
                value,
                product - elapsed * value,
            )
        )

    def _recentre(self, rows: FloatArray, seen: NDArray[np.bool_]) -> None:
        """Count values from where a channel lately was, or from its first value."""
        fresh = np.isnan(self._centre) & seen.any(axis=0)
        if fresh.any():
            firsts = np.take_along_axis(rows, seen.argmax(axis=0)[None], axis=0)[0]
            self._centre = np.where(fresh, firsts, self._centre)
        with np.errstate(invalid="ignore", divide="ignore"):
            step = self._sums[3, :, 0] / self._sums[0, :, 0]
        step = np.where(np.isfinite(step), step, 0.0)
        self._centre = self._centre + step
        self._sums[3] -= step[:, None] * self._sums[0]
        self._sums[4] -= step[:, None] * self._sums[1]
