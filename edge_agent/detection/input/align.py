"""Asynchronous channels into ticks: one row of values per component and moment.

The channels that report often (the fast ones, found by counting) pace the ticks: a row closes when all of them have
reported, or when one reports again before the others did. Slower channels are held at their last value for up to
three of their own periods, then they are missing (NaN). Where learning must span many hours of dense samples,
``min_tick_us`` makes ticks longer and each value the mean over its tick. Cadences are inferred, never configured.

A sample not newer than the last one of its channel is late: dropped and counted. When nothing but late samples
arrive for a while, the clock was set back, and the aligner follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.detection import restored
from edge_agent.detection.input.readings import LARGEST_READING

HOLD_PERIODS = 3.0
FAST_SHARE = 0.5
COUNT_DECAY = 0.9
LATE_LIMIT = 3
SKEW_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """One tick: the time of its newest sample and one reading per channel, NaN where missing."""

    time_us: int
    row: NDArray[np.float64]


class Aligner:
    """Aligns the channels (by index) of one component. Pure: same samples, same frames."""

    def __init__(self, channels: int, min_tick_us: int) -> None:
        self._channels = channels
        self._min_tick_us = min_tick_us
        self._sums = [0.0] * channels
        self._counts = [0] * channels
        self._finite = [0] * channels
        self._values = [math.nan] * channels
        self._times = [0] * channels
        self._periods = [0.0] * channels
        self._weights = [0.0] * channels
        self._fast = list(range(channels))
        self._closed_us = 0
        self._newest_us = 0
        self._frames = 0
        self._late_in_a_row = 0
        self.late = 0

    def add(self, channel: int, time_us: int, value: float) -> list[Frame]:
        """Take one sample; the rows it closes (none, one, or two while the cadences are still unknown)."""
        if time_us <= self._times[channel] and not self._follow_clock(channel, time_us):
            return []
        self._late_in_a_row = 0
        frames: list[Frame] = []
        again = self._counts[channel] or self._next_tick(channel, time_us)
        if again and time_us > self._newest_us and self._waited(time_us):
            frames.append(self._close())
        self._put(channel, time_us, value)
        if self._waited(time_us) and self._complete():
            frames.append(self._close())
        return frames

    def add_row(self, time_us: int, values: list[float]) -> Frame | None:
        """Take one sample of every channel at once, the same as one by one; None where that would not close one row."""
        last_us = self._newest_us
        in_step = self._times.count(last_us) == self._channels and len(self._fast) == self._channels
        if not in_step or time_us <= last_us or any(self._counts) or not self._waited(time_us):
            return None
        step, weight = float(time_us - last_us), self._weights[0]
        if self._periods.count(step) != self._channels:  # else the steps below would leave them as they are
            self._periods = [each + 0.1 * (min(step, 4 * each) - each) if each else step for each in self._periods]
        if COUNT_DECAY * weight + 1 != weight or self._weights.count(weight) != self._channels:
            self._weights = [COUNT_DECAY * each + 1 for each in self._weights]
        self._times = [time_us] * self._channels
        self._values = [value if abs(value) <= LARGEST_READING else math.nan for value in values]  # no call: a hot path
        self._closed_us = self._newest_us = time_us
        self._frames += 1
        self._late_in_a_row = 0
        return Frame(time_us, np.array(self._values))

    def state(self) -> dict[str, Any]:
        own = {name: value for name, value in self.__dict__.items() if name not in ("_channels", "_min_tick_us")}
        return {name: list(value) if isinstance(value, list) else value for name, value in own.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``. Raises ValueError, TypeError, KeyError when it is of other channels."""
        channels = self._channels

        def listed(name: str, kind: Callable[[Any], Any]) -> list[Any]:
            return [kind(value) for value in restored.items(state[name], channels)]

        times = listed("_times", restored.time_us)
        closed_us, newest_us = (restored.time_us(state[name]) for name in ("_closed_us", "_newest_us"))
        fast = [restored.whole(channel, 0, channels - 1) for channel in restored.items(state["_fast"])]
        # a row never closes behind a time that is not a sample's
        if not fast or sorted(set(fast)) != fast or not closed_us <= newest_us or newest_us != max(0, *times):
            raise ValueError("times or paces that contradict each other")
        periods, weights = (listed(name, _not_negative) for name in ("_periods", "_weights"))
        self._sums, self._values = listed("_sums", restored.reading), listed("_values", restored.reading)
        self._counts, self._finite = listed("_counts", restored.whole), listed("_finite", restored.whole)
        self._times, self._periods, self._weights, self._fast = times, periods, weights, fast
        self._closed_us, self._newest_us = closed_us, newest_us
        self._frames, self.late = restored.whole(state["_frames"]), restored.whole(state["late"])
        self._late_in_a_row = restored.whole(state["_late_in_a_row"])

    def _put(self, channel: int, time_us: int, value: float) -> None:
        if self._times[channel]:
            step = float(time_us - self._times[channel])
            period = self._periods[channel]
            # a silence must not stretch the period at once, or a dropped-out channel would be held ever longer
            self._periods[channel] = step if not period else period + 0.1 * (min(step, 4 * period) - period)
        self._times[channel] = time_us
        self._newest_us = max(self._newest_us, time_us)
        self._counts[channel] += 1
        if abs(value) <= LARGEST_READING:
            self._sums[channel] += value
            self._finite[channel] += 1

    def _waited(self, time_us: int) -> bool:
        return time_us - self._closed_us >= self._min_tick_us

    def _next_tick(self, channel: int, time_us: int) -> bool:
        """Does a row stand open that this sample comes too late for? Else one lost sample would skew all later rows."""
        period = self._periods[channel]
        opened = any(self._counts[each] for each in self._fast)
        return opened and 0 < SKEW_SHARE * period < time_us - self._newest_us

    def _complete(self) -> bool:
        counts = self._counts
        return 0 not in counts or all(counts[channel] for channel in self._fast)

    def _close(self) -> Frame:
        time_us = self._newest_us
        row = np.empty(self._channels)
        # a channel that reported once only may be much slower than the others
        unknown = HOLD_PERIODS * max(self._periods)
        for channel in range(self._channels):
            seen = self._counts[channel] > 0
            if seen:
                finite = self._finite[channel]
                self._values[channel] = self._sums[channel] / finite if finite else math.nan
            elif time_us - self._times[channel] > HOLD_PERIODS * max(
                self._periods[channel] or unknown, self._min_tick_us
            ):
                self._values[channel] = math.nan
            row[channel] = self._values[channel]
            self._weights[channel] = COUNT_DECAY * self._weights[channel] + seen
            self._sums[channel], self._counts[channel], self._finite[channel] = 0.0, 0, 0
        self._closed_us = time_us
        self._frames += 1
        if self._frames >= 2:
            least = FAST_SHARE * max(self._weights)
            self._fast = [channel for channel, weight in enumerate(self._weights) if weight >= least]
        return Frame(time_us, row)

    def _follow_clock(self, channel: int, time_us: int) -> bool:
        self.late += 1
        self._late_in_a_row += 1
        if self._late_in_a_row < LATE_LIMIT * self._channels + 2:
            return False
        self._times = [min(each, time_us - 1) for each in self._times]
        self._closed_us = self._newest_us = time_us - 1
        return True


def _not_negative(value: Any) -> float:
    return restored.number(value, 0.0)
