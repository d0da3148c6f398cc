"""Health of the channels themselves: a sensor that is missing, stuck or spikes is left out, not read as a fault.

Missing: nothing was read, or what is no reading (``input.readings``): NaN, infinite, a sentinel as large as its type.
Stuck: the very same value far longer than it ever stood still while learning, by a channel that used to move, and
within the range it was learnt in (a stand-still outside it may well be the machine, not the sensor). Spike: one reading
far from the two before it, farther than healthy readings ever stepped; the next one decides whether it was the
beginning of something, so a true jump is heard one reading late.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.restored import readings, table
from edge_agent.detection.tuning import LEAST_STEPS, SPIKE_FACTOR, STILL_SHARE, STUCK_FACTOR, STUCK_LEAST_TICKS

_NUMBERS = ("_last", "_run", "_limit", "_low", "_high", "_jump", "_raw", "spikes")
_FLAGS = ("missing", "stuck", "spiking")


class ChannelRanges(NamedTuple):
    """What healthy channels (channels,) did: ticks one may stand ``still`` (infinite if it often does), ``low``est and
    ``high``est value, and the ``jump`` wider than any but the rarest step (infinite if nothing is known)."""

    still: FloatArray
    low: FloatArray
    high: FloatArray
    jump: FloatArray


class ChannelHealth:
    """Watches the channels of one component. ``missing`` and ``stuck`` are boolean arrays (channels,)."""

    def __init__(self, channels: int) -> None:
        self._last: FloatArray = np.full(channels, np.nan)
        self._run: FloatArray = np.zeros(channels)
        self._limit: FloatArray = np.full(channels, np.inf)
        self._low: FloatArray = np.full(channels, -np.inf)
        self._high: FloatArray = np.full(channels, np.inf)
        self._jump: FloatArray = np.full(channels, np.inf)
        self._raw: FloatArray = np.full((2, channels), np.nan)
        self.spikes: FloatArray = np.zeros(channels)
        self.spiking = np.zeros(channels, dtype=bool)
        self.missing = np.zeros(channels, dtype=bool)
        self.stuck = np.zeros(channels, dtype=bool)

    def copy(self) -> ChannelHealth:
        """As it stands now; neither changes with the other, for nothing is changed in place."""
        copied = object.__new__(ChannelHealth)
        copied.__dict__.update(self.__dict__)
        return copied

    def check(self, rows: FloatArray) -> FloatArray:
        """The rows (n, channels) with spikes held back and stuck channels made NaN, as missing ones are."""
        rows = self._without_spikes(rows)
        same = rows == np.concatenate((self._last[None], rows[:-1]))
        if not same.any():
            run = np.zeros_like(rows)
        elif len(rows) == 1:
            run = np.where(same, self._run + 1, 0.0)
        else:
            # the run of equal values ends at the last row that differed; -1: still the one from before the block
            index = np.arange(len(rows))[:, None]
            differed = np.maximum.accumulate(np.where(same, -1, index), axis=0)
            run = np.where(differed >= 0, index - differed, self._run + index + 1.0)
        self._run, self._last = run[-1], rows[-1]
        self.missing = np.isnan(rows[-1])
        if not (run >= self._limit).any():
            self.stuck = np.zeros_like(self.stuck)
            return rows
        stuck = (run >= self._limit) & (rows >= self._low) & (rows <= self._high)
        self.stuck = stuck[-1]
        return np.where(stuck, np.nan, rows)

    def jumped(self, before: FloatArray, row: FloatArray) -> bool:
        """Is a row farther from one before it than healthy readings ever stepped, or is a channel gone?"""
        # written so that a missing value counts
        return not bool((np.abs(row - before) <= self._jump).all())

    def _without_spikes(self, rows: FloatArray) -> FloatArray:
        raw = np.concatenate((self._raw, rows))
        self._raw = raw[-2:]
        steps = np.abs(raw[1:] - raw[:-1])
        far = steps > self._jump
        if not far[1:].any():
            self.spiking = np.zeros_like(self.spiking)
            return rows
        spikes = far[1:] & ~far[:-1] & (np.abs(raw[2:] - raw[:-2]) > self._jump)
        self.spiking = spikes[-1]
        self.spikes = self.spikes + spikes.sum(axis=0)  # not in place: a shallow copy must stay as it was
        return np.where(spikes, raw[1:-1], rows)

    def learnt(self, healthy: ChannelRanges) -> None:
        """Judge by the ranges of healthy rows from now on."""
        self._limit, self._low, self._high, self._jump = healthy

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name).astype(float) for name in (*_NUMBERS, *_FLAGS)}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``. Raises ValueError, KeyError when it is of other channels."""
        channels = len(self._last)
        taken: dict[str, Any] = {name: table(state[name], channels) for name in _NUMBERS if name != "_raw"}
        taken["_raw"] = readings(state["_raw"], 2, channels)
        for name, value in taken.items():
            setattr(self, name, value)
        self.missing, self.stuck, self.spiking = (table(state[name], channels) > 0 for name in _FLAGS)


def ranges(rows: FloatArray) -> ChannelRanges:
    """The ranges of healthy rows (n, channels)."""
    same = rows[1:] == rows[:-1]
    index = np.arange(len(same))[:, None]
    differed = np.maximum.accumulate(np.where(same, -1, index), axis=0)
    longest = np.where(same, index - differed, 0).max(axis=0, initial=0)
    moves = longest < STILL_SHARE * len(rows)
    limit = np.where(moves, np.maximum(STUCK_LEAST_TICKS, STUCK_FACTOR * longest), np.inf)
    steps = np.abs(np.diff(rows, axis=0))
    known = np.isfinite(steps).sum(axis=0) >= LEAST_STEPS
    jump = np.full(rows.shape[1], np.inf)
    jump[known] = SPIKE_FACTOR * np.nanquantile(steps[:, known], 0.995, axis=0)
    low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
    return ChannelRanges(limit, low, high, np.where(jump > 0, jump, np.inf))
