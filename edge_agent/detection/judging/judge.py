"""The judge of one component: two planes of evidence, one state.

The fast plane judges every tick and catches what happens; the slow plane judges means over many ticks and catches what
creeps, against a baseline of many days. The component's evidence is the higher of the two, 1 being the calibrated
limit. A channel that is missing or stuck is left out, not blamed.

Pure and deterministic; blocks of any size give the same states; ``state``/``load`` carry everything across a restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy.model import HealthyModel, Judged
from edge_agent.detection.healthy.plane_settings import Course, PlaneSettings
from edge_agent.detection.input.sensor_health import ChannelHealth
from edge_agent.detection.judging.plane import Plane
from edge_agent.detection.judging.states import ALARMS, StateTracker
from edge_agent.detection.recursion import CHUNK
from edge_agent.detection.settings import DetectionSettings
from fleet_core.telemetry import DetectionState

MAX_SLOWLY = 64
LEAST_TRIMMED = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows judged together: one state all along, or a single row.

    ``evidence`` (n,) is what the state follows, ``shown`` (n,) what the score tells (on trial the first is held below
    the alarm); ``channels`` and ``deviation`` (n, channels) where it comes from, None while learning; ``passed`` the
    states passed through at the last row, in order. ``start``: the first row's place in the block.
    """

    start: int
    times_us: IntArray
    rows: FloatArray
    evidence: FloatArray
    shown: FloatArray
    channels: FloatArray | None
    deviation: FloatArray | None
    passed: list[DetectionState]


@dataclass(frozen=True, slots=True)
class Slowly:
    """Means the slow plane has judged together: ``times_us`` and ``evidence`` (n,), tables (n, columns); ``judged`` is
    None while it learns."""

    times_us: IntArray
    rows: FloatArray
    regimes: FloatArray
    evidence: FloatArray
    judged: Judged | None


class ComponentJudge:
    """Judges the ticks of one component.

    ``itself``: the channel each regime is, -1 for one of the whole asset. ``fall_share``: see
    ``baseline.fit_baseline``.
    """

    def __init__(
        self,
        channels: int,
        itself: tuple[int, ...],
        settings: DetectionSettings,
        fall_share: FloatArray | None = None,
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._regimes = len(itself)
        self._context = [channel for channel in itself if channel >= 0]
        self.tracker = StateTracker(settings)
        fast = PlaneSettings(
            settings.detectors, settings.learn_ticks, settings.learn_span_h, settings.learn_ticks_at_most
        )
        slow = PlaneSettings(
            settings.slow_detectors,
            settings.learn_ticks,
            0.0,
            settings.learn_ticks,
            young_days=23.0,  # by then it has been fitted to three weeks
            far_beyond=8.0,
            beyond_seen=1.05,
            alone=1.0,
            probation=False,
            stand_h=16.0,
        )
        self.fast = Plane(channels, itself, fast, settings, fall_share)
        self.slow = Plane(channels, itself, slow, settings, fall_share)
        self.slowly: deque[Slowly] = deque(maxlen=MAX_SLOWLY)
        """What the slow plane saw, for whoever takes it out."""
        self.forget()

    def forget(self) -> None:
        """Drop everything learnt; the state becomes ``learning`` (the tracker's part is the caller's event)."""
        self.health = ChannelHealth(self._channels)
        self.fast.forget()
        self.slow.forget()
        self.evidence = 0.0
        self._pending: list[tuple[FloatArray, FloatArray, IntArray]] = []
        self._pending_rows = 0
        self._crept = np.zeros(2)

    @property
    def learned_fraction(self) -> float:
        """0..1 of the learning period; 1 when learnt."""
        return self.fast.learned_fraction

    @property
    def model(self) -> HealthyModel | None:
        """What healthy is, tick by tick."""
        return self.fast.model

    @property
    def leading(self) -> Plane:
        """The plane whose evidence is the higher."""
        return self.slow if self.slow.evidence > self.fast.evidence else self.fast

    def run(self, times_us: IntArray, rows: FloatArray, regimes: FloatArray) -> Iterator[Segment]:
        """Judge rows (n, channels) under regimes (n, regimes), in segments. Rows without any value are passed over."""
        start = 0
        while start < len(rows):
            # row by row while learning: what is stuck is known from the row after the one learning ends at
            stop = start + (CHUNK if self.fast.model is not None else 1)
            health = self.health.copy()
            checked = self.health.check(rows[start:stop])
            places = np.flatnonzero(~np.isnan(checked).all(axis=1))
            done = 0
            while done < len(places):
                todo = places[done:]
                if todo[-1] - todo[0] >= len(todo):  # a segment has no hole
                    todo = todo[: int(np.flatnonzero(np.diff(todo) > 1)[0]) + 1]
                each = slice(start, stop) if len(todo) == len(checked) else start + todo
                model = self.fast.model
                for segment in self._judge(start + int(todo[0]), times_us[each], checked[todo], regimes[each]):
                    yield segment
                    done += len(segment.times_us)
                if self.fast.model is not model and done < len(places):
                    # what is stuck or wild in the rows to come is for the new fit to say
                    stop = start + int(places[done])
                    health.check(rows[start:stop])
                    health.learnt(*self.fast.range)
                    self.health = health
                    break
            start = stop

    def _judge(self, start: int, times_us: IntArray, rows: FloatArray, regimes: FloatArray) -> Iterator[Segment]:
        """Judge as many of the rows, of which the first stands at ``start`` in its block, as go together."""
        before = self.fast.model
        fast = self.fast.run(rows, regimes, times_us)
        count = len(fast.evidence)
        times_us, rows, regimes = times_us[:count], rows[:count], regimes[:count]
        if self.fast.model is not None and self.fast.model is not before:
            self.health.learnt(*self.fast.range)
        passed: list[DetectionState] = []
        if before is None:
            if self.fast.model is not None:
                self.tracker.learned()
                passed = [self.tracker.state]
            quiet = np.zeros(count)
            yield Segment(start, times_us, rows, quiet, quiet, None, None, passed)
            return
        assert self.fast.judged is not None and self.fast.model is not None
        channels, deviation = fast.channels, self.fast.judged.deviation
        # while the slow plane learns, the state decides which rows it learns from
        together = self.slow.model is not None or self.tracker.quiet(float(fast.believed.max()))
        crept = self._creeping(times_us, rows, regimes) if together else np.empty((2, 0))
        if not together:
            yield from self._one_by_one(start, times_us, rows, regimes, fast, before.raise_ticks)
            return
        shown, held = np.maximum(fast.evidence, crept[0]), np.maximum(fast.believed, crept[1])
        self.tracker.raise_ticks = before.raise_ticks
        row = 0
        while row < count:
            stop = row + self.tracker.steady(held[row : count - 1])
            passed = []
            if stop == count - 1:  # a new fit is in force from the last row on
                self.tracker.raise_ticks = self.fast.model.raise_ticks
                stop += self.tracker.steady(held[stop:])
            if stop == row:
                stop += 1
                passed = self.tracker.take(float(held[row]))
            each = slice(row, stop)
            self.evidence = float(shown[stop - 1])
            told = (held[each], shown[each], channels[each], deviation[each])
            yield Segment(start + row, times_us[each], rows[each], *told, passed)
            row = stop

    def _one_by_one(
        self, start: int, times_us: IntArray, rows: FloatArray, regimes: FloatArray, fast: Course, raise_ticks: int
    ) -> Iterator[Segment]:
        """Judge rows whose state decides, row by row, what the slow plane learns."""
        assert self.fast.judged is not None and self.fast.model is not None
        channels, deviation = fast.channels, self.fast.judged.deviation
        self.tracker.raise_ticks = raise_ticks
        for row in range(len(rows)):
            one = slice(row, row + 1)
            crept = self._creeping(times_us[one], rows[one], regimes[one])
            if row == len(rows) - 1:
                self.tracker.raise_ticks = self.fast.model.raise_ticks
            shown, held = np.maximum(fast.evidence[one], crept[0]), np.maximum(fast.believed[one], crept[1])
            self.evidence = float(shown[0])
            passed = self.tracker.take(float(held[0]))
            yield Segment(start + row, times_us[one], rows[one], held, shown, channels[one], deviation[one], passed)

    def _creeping(self, times_us: IntArray, rows: FloatArray, regimes: FloatArray) -> FloatArray:
        """The slow plane's evidence, and what of it is believed (2, n), at each row: of the last complete mean."""
        width = self._settings.slow_ticks
        pending = self._pending_rows
        self._pending.append((rows, regimes, times_us))
        self._pending_rows += len(rows)
        course = np.repeat(self._crept[:, None], len(rows), axis=1)
        whole = self._pending_rows // width
        if not whole:
            return course
        all_rows, all_regimes, all_times = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        cut = whole * width
        if not (self.slow.model is None and self.tracker.state in ALARMS):
            means, mean_regimes = _means(all_rows[:cut], width), _means(all_regimes[:cut], width)
            # what an asset is asked to do may creep as it likes
            means[:, self._context] = np.nan
            ends = all_times[width - 1 : cut : width]
            done = 0
            while done < whole:
                learnt = self.slow.model is not None
                slow = self.slow.run(means[done:], mean_regimes[done:], ends[done:])
                seen = slice(done, done + len(slow.evidence))
                judged = self.slow.judged if learnt else None
                self.slowly.append(Slowly(ends[seen], means[seen], mean_regimes[seen], slow.evidence, judged))
                for value in zip(slow.evidence, slow.believed, strict=True):
                    done += 1
                    course[:, done * width - 1 - pending :] = np.array(value)[:, None]
            self._crept = course[:, -1]
        self._pending = [(all_rows[cut:], all_regimes[cut:], all_times[cut:])]
        self._pending_rows -= cut
        return course

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        return {
            "tracker": [str(self.tracker.state), self.tracker.counters(), self.tracker.raise_ticks],
            "health": self.health.state(),
            "fast": self.fast.state(),
            "slow": self.slow.state(),
            "evidence": self.evidence,
            "crept": self._crept,
            "pending": [list(part) for part in self._pending],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``."""
        tracked, counters, self.tracker.raise_ticks = state["tracker"]
        self.tracker.load(tracked, counters)
        self.health.load(state["health"])
        self.fast.load(state["fast"])
        self.slow.load(state["slow"])
        self.evidence, self._crept = state["evidence"], state["crept"]
        self._pending = [(rows, regimes, times.astype(np.int64)) for rows, regimes, times in state["pending"]]
        self._pending_rows = sum(len(rows) for rows, _, _ in self._pending)


def _means(rows: FloatArray, width: int) -> FloatArray:
    """Means (n / width, columns) over ``width`` rows each, of what is there; NaN where nothing is.

    The highest and the lowest are left out where at least ``LEAST_TRIMMED`` are there: one spike says nothing of what
    creeps.
    """
    parts = rows.reshape(len(rows) // width, width, rows.shape[1])
    if width >= LEAST_TRIMMED and np.isfinite(rows).all():
        return (parts.sum(axis=1) - parts.max(axis=1) - parts.min(axis=1)) / (width - 2)
    seen = ~np.isnan(parts)
    counts = seen.sum(axis=1)
    trimmed = counts >= LEAST_TRIMMED
    highest, lowest = np.where(seen, parts, -np.inf).max(axis=1), np.where(seen, parts, np.inf).min(axis=1)
    sums = np.where(seen, parts, 0.0).sum(axis=1)
    sums[trimmed] -= highest[trimmed] + lowest[trimmed]
    counts = counts - 2 * trimmed
    means: FloatArray = sums / np.where(counts > 0, counts, np.nan)
    return means
