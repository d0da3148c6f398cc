"""Is the machine merely standing still? Told from what it is asked to do; then there is nothing to judge or learn.

While the component learns, each *activity* (a vital of the whole asset that by its name is a load or a speed) shows its
running level. One that stayed clear of nothing all the while tells standstill later: it is near nothing when it shows
less than ``STANDSTILL_SHARE`` of its running level. Where standstill was part of learning no activity stayed clear of
nothing: it is a mode the baseline knows, and is judged as any other.

A row is at standstill when every activity read is near nothing and, where the component has *witnesses* (its current,
vibration, flow, ...), half of those read have fallen clearly below all they showed while learning, so that a broken
speed sensor, or a shaft that is blocked while the current flows, stops nothing. A load alone is not believed without
a witness.

Rows at standstill are passed over, and as many after it as it lasted, ``SETTLE_US`` at most, in which the machine warms
up again. Of running rows no more than ``SETTLE_PER_DAY_US`` of a day are passed over, however often it stops. Pure,
causal; a block gives what its rows one by one would.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import restored
from edge_agent.detection.tuning import (
    DAY_US,
    SETTLE_PER_DAY_US,
    SETTLE_US,
    STANDSTILL_CLEAR,
    STANDSTILL_SHARE,
    US_PER_HOUR,
    WITNESS_FALLEN,
)

SPEED_WORDS = frozenset(("speed", "rpm"))
ACTIVITY_WORDS = SPEED_WORDS | {"load", "duty", "throttle"}
OTHER_WORDS = frozenset(
    "fan blower wind cpu gpu disk memory network link request requests temperature".split()  # noqa: SIM905 words in names
)
"""Whose load or speed says nothing of whether a machine is meant to run; a fan that stands is broken."""
WITNESS_WORDS = frozenset(("current", "power", "torque", "flow", "vibration", "acceleration"))
SHAPES = frozenset(("kurtosis", "crest", "skewness", "factor", "frequency", "temperature"))
"""Of a witness, but not its strength."""

LOW, MIDDLE = 0.01, 0.5
LEAST_ROWS = 24
KEPT_ROWS = 512
TOLD_US = US_PER_HOUR
"""Stops shorter than this are no news."""
LONG_US = 7 * DAY_US


def is_activity(name: str) -> bool:
    """Does a vital's name say whether the machine runs?"""
    return bool(_words(name) & ACTIVITY_WORDS) and not _words(name) & OTHER_WORDS


def is_witness(name: str) -> bool:
    """Does a vital's name say that it falls to about nothing when the machine stands?"""
    words = _words(name)
    return bool(words & WITNESS_WORDS) and not words & (SHAPES | OTHER_WORDS)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z]+", name.lower()))


class Standstill:
    """Of one component. ``activities`` names the vitals that may tell; ``witnesses``: how many columns confirm it."""

    def __init__(self, activities: Sequence[str], witnesses: int) -> None:
        self._activities = len(activities)
        self._witnesses = witnesses
        believable = witnesses or any(_words(name) & SPEED_WORDS for name in activities)
        self.possible = bool(activities) and bool(believable)
        self._limit: FloatArray | None = None
        self._fallen: FloatArray = np.full(self._witnesses, np.nan)
        self._kept: list[FloatArray] = []
        self._every, self._skipped = 1, 0
        self._since_us = self._running_us = self._told_us = 0
        self._settled_day, self._settled_us, self._last_us = 0, 0, 0

    @property
    def learning(self) -> bool:
        """Does it still take rows to learn from?"""
        return self.possible and self._limit is None

    @property
    def since_us(self) -> int:
        """Since when rows are passed over; 0 while they are judged."""
        return self._since_us

    def take(self, activity: FloatArray, witness: FloatArray) -> None:
        """One row (activities,), (witnesses,) of the learning period."""
        self._skipped += 1
        if self._skipped < self._every:
            return
        self._skipped = 0
        self._kept.append(np.abs(np.concatenate((activity, witness))))
        if len(self._kept) > KEPT_ROWS:
            self._kept, self._every = self._kept[1::2], 2 * self._every

    def learnt(self) -> None:
        """Learning is over, as soon as there are rows enough."""
        if len(self._kept) < LEAST_ROWS:
            return
        table = np.stack(self._kept)
        enough = (~np.isnan(table)).sum(axis=0) >= LEAST_ROWS
        low, middle = np.full((2, table.shape[1]), np.nan)
        if enough.any():
            low[enough], middle[enough] = np.nanquantile(table[:, enough], (LOW, MIDDLE), axis=0)
        limit = STANDSTILL_SHARE * middle[: self._activities]
        tells = (low[: self._activities] > STANDSTILL_CLEAR * limit) & (limit > 0)
        self._limit = limit if tells.any() else np.full(self._activities, np.nan)
        self._fallen = WITNESS_FALLEN * low[self._activities :]
        self._kept = []

    def run(self, times_us: IntArray, activity: FloatArray, witness: FloatArray) -> tuple[np.ndarray, dict[int, str]]:
        """Which rows (n,) are passed over, and what is to be said at which row; activity (n, activities), witness (n,
        witnesses) as read."""
        held, news = np.zeros(len(times_us), dtype=bool), dict[int, str]()
        still = self._still(activity, witness)
        if not self._since_us and not still.any():
            return held, news
        for row, (time_us, stands) in enumerate(zip(times_us.tolist(), still.tolist(), strict=True)):
            if not stands and not self._since_us:
                continue
            held[row] = self._step(time_us, stands)
            if text := self._say(time_us, bool(held[row])):
                news[row] = text
        return held, news

    def _still(self, activity: FloatArray, witness: FloatArray) -> np.ndarray:
        if self._limit is None or np.isnan(self._limit).all():
            return np.zeros(len(activity), dtype=bool)
        seen = ~np.isnan(activity) & ~np.isnan(self._limit)
        with np.errstate(invalid="ignore"):
            near_nothing = (np.abs(activity) <= self._limit) | ~seen
            fallen = np.abs(witness) <= self._fallen
        usable = ~np.isnan(self._limit)
        still = near_nothing.all(axis=1) & (2 * seen.sum(axis=1) > usable.sum())
        witnesses = (~np.isnan(witness) & ~np.isnan(self._fallen)).sum(axis=1)
        confirmed: np.ndarray = still & (2 * fallen.sum(axis=1) >= witnesses)
        return confirmed

    def _step(self, time_us: int, stands: bool) -> bool:
        """Is this row passed over? Called from the first row at standstill to the first one judged again."""
        if stands:
            self._since_us = self._since_us or time_us
            self._running_us, self._last_us = 0, time_us
            return True
        if not self._running_us:
            self._running_us = time_us
        if time_us // DAY_US != self._settled_day:
            self._settled_day, self._settled_us = time_us // DAY_US, 0
        lasted_us = min(self._running_us - self._since_us, SETTLE_US)
        settling = time_us - self._running_us < lasted_us and self._settled_us < SETTLE_PER_DAY_US
        self._settled_us += time_us - self._last_us
        self._last_us = time_us
        if not settling:
            self._since_us = self._running_us = 0
        return settling

    def _say(self, time_us: int, held: bool) -> str:
        if not held:
            told, self._told_us = self._told_us, 0
            return "runs again and has settled: judged again" if told else ""
        lasted_us = time_us - self._since_us
        due_us = TOLD_US if not self._told_us else LONG_US
        if lasted_us < due_us or self._told_us >= due_us:
            return ""
        self._told_us = due_us
        if due_us == LONG_US:
            return f"has not run steadily for {LONG_US // DAY_US} days: nothing is judged until it does"
        return "stands still: neither judged nor learnt until it runs again"

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        return {
            "limit": self._limit,
            "fallen": self._fallen,
            "kept": np.stack(self._kept) if self._kept else np.zeros((0, self._activities + self._witnesses)),
            "keeps_every": self._every,
            "skipped": self._skipped,
            "since_us": self._since_us,
            "running_us": self._running_us,
            "told_us": self._told_us,
            "settled_day": self._settled_day,
            "settled_us": self._settled_us,
            "last_us": self._last_us,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state``, before anything was taken. Raises ValueError, TypeError, KeyError when it is of
        other channels."""
        limit = state["limit"]
        self._limit = None if limit is None else restored.readings(limit, self._activities)
        self._fallen = restored.readings(state["fallen"], self._witnesses)
        self._kept = list(restored.readings(state["kept"], None, self._activities + self._witnesses))
        self._every, self._skipped = restored.whole(state["keeps_every"], 1), restored.whole(state["skipped"])
        self._since_us, self._running_us = restored.time_us(state["since_us"]), restored.time_us(state["running_us"])
        self._told_us, self._last_us = restored.time_us(state["told_us"]), restored.time_us(state["last_us"])
        self._settled_day, self._settled_us = (
            restored.time_us(state["settled_day"]),
            restored.time_us(state["settled_us"]),
        )
