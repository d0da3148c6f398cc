"""The judge of one component: two planes of evidence, one state.

The fast plane judges every tick and catches what happens; the slow plane judges means over many ticks and catches what
creeps, against a baseline of many days. The component's evidence is the higher of the two, 1 being the calibrated
limit. A channel that is missing or stuck is left out, not blamed.

Pure and deterministic; blocks of any size give the same states; ``state``/``load`` carry everything across a restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import restored
from edge_agent.detection.healthy.model import HealthyModel
from edge_agent.detection.healthy.plane_settings import PlaneEvidence, PlaneSettings, PlaneSetup
from edge_agent.detection.input.sensor_health import ChannelHealth, ChannelRanges
from edge_agent.detection.judging.plane import Plane, load_plane
from edge_agent.detection.judging.segment import JudgedMeans, Segment, Standing
from edge_agent.detection.judging.states import ALARMS, StateTracker
from edge_agent.detection.recursion import CHUNK
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.tuning import FAST_PLANE, LEAST_TRIMMED, SLOW_PLANE
from fleet_core.telemetry import DetectionState

MAX_MEANS = 64


class ComponentJudge:
    """Judges the ticks of one component.

    ``itself``: the channel that each regime is, -1 for a regime of the whole asset. ``fall_share`` (channels,): see
    ``baseline.fit_baseline``. ``tracker``: the state to go on with, a new one when there is none. ``fast`` and ``slow``
    are the planes, ``evidence`` the higher of theirs; ``means`` what the slow plane saw, for whoever takes it out.
    """

    def __init__(
        self,
        channels: int,
        itself: tuple[int, ...],
        settings: DetectionSettings,
        fall_share: FloatArray | None = None,
        tracker: StateTracker | None = None,
    ) -> None:
        self._settings = settings
        self._context = [channel for channel in itself if channel >= 0]
        learn = settings.learn_ticks
        fast = PlaneSettings(settings.detectors, learn, settings.learn_span_h, settings.learn_ticks_at_most, FAST_PLANE)
        slow = PlaneSettings(settings.slow_detectors, learn, 0.0, learn, SLOW_PLANE)
        self._fast_setup = PlaneSetup(channels, itself, fast, settings, fall_share)
        self._slow_setup = PlaneSetup(channels, itself, slow, settings, fall_share)
        self.tracker = StateTracker(settings) if tracker is None else tracker
        self.health = ChannelHealth(channels)
        self.fast = Plane(self._fast_setup)
        self.slow = Plane(self._slow_setup)
        self.means: deque[JudgedMeans] = deque(maxlen=MAX_MEANS)
        self.evidence = 0.0
        self._pending: list[tuple[FloatArray, FloatArray, IntArray]] = []
        self._pending_rows = 0
        self._crept = np.zeros(2)
        """The slow plane's evidence of the last complete mean, and what of it is believed."""

    @property
    def learned_fraction(self) -> float:
        """0..1 of the learning period; 1 when learnt."""
        return self.fast.learner.learned_fraction

    @property
    def model(self) -> HealthyModel | None:
        """What healthy is, tick by tick."""
        return self.fast.model

    @property
    def leading(self) -> Plane:
        """The plane whose evidence is the higher."""
        return self.slow if self.slow.evidence > self.fast.evidence else self.fast

    def standing(self) -> Standing | None:
        """How the component stands; None before a row was judged by an own baseline."""
        plane = self.leading
        if self.model is None or plane.model is None or plane.judged is None:
            return None
        return Standing(
            state=self.tracker.state,
            evidence=self.evidence,
            ticks=self.model,
            model=plane.model,
            judged=plane.judged,
            digest=plane.learner.digest,
            creeps=plane is self.slow,
            missing=self.health.missing,
            stuck=self.health.stuck,
        )

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
                    health.learnt(self._ranges())
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
            self.health.learnt(self._ranges())
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
        self,
        start: int,
        times_us: IntArray,
        rows: FloatArray,
        regimes: FloatArray,
        fast: PlaneEvidence,
        raise_ticks: int,
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
                self.means.append(JudgedMeans(ends[seen], means[seen], mean_regimes[seen], slow.evidence, judged))
                for value in zip(slow.evidence, slow.believed, strict=True):
                    done += 1
                    course[:, done * width - 1 - pending :] = np.array(value)[:, None]
            self._crept = course[:, -1]
        self._pending = [(all_rows[cut:], all_regimes[cut:], all_times[cut:])]
        self._pending_rows -= cut
        return course

    def _ranges(self) -> ChannelRanges:
        assert self.fast.learner.ranges is not None
        return self.fast.learner.ranges

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        parts = (np.concatenate(parts) for parts in zip(*self._pending, strict=True)) if self._pending else None
        rows, regimes, times_us = parts if parts is not None else (None, None, None)
        return {
            "tracker": self.tracker.memory(),
            "health": self.health.state(),
            "fast": self.fast.state(),
            "slow": self.slow.state(),
            "evidence": self.evidence,
            "crept": {"evidence": float(self._crept[0]), "believed": float(self._crept[1])},
            "pending": {"rows": rows, "regimes": regimes, "times_us": times_us},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state``. Raises ValueError, TypeError, KeyError when it is of other channels, or is
        none."""
        setup = self._fast_setup
        self.tracker.load(state["tracker"])
        self.health.load(state["health"])
        self.fast = load_plane(setup, state["fast"])
        self.slow = load_plane(self._slow_setup, state["slow"])
        if (self.fast.model is None) != (self.tracker.state is DetectionState.LEARNING):
            raise ValueError("a state that does not go with what is learnt")
        self.evidence = restored.evidence(state["evidence"])
        self._crept = np.array([restored.evidence(state["crept"][name]) for name in ("evidence", "believed")])
        pending = state["pending"]
        self._pending, self._pending_rows = [], 0
        if pending["rows"] is not None:
            rows = restored.readings(pending["rows"], None, setup.channels)
            regimes = restored.readings(pending["regimes"], len(rows), setup.regimes)
            if len(rows) >= self._settings.slow_ticks:
                raise ValueError("rows for a whole mean that was not taken")
            self._pending = [(rows, regimes, restored.times(pending["times_us"], len(rows)))]
            self._pending_rows = len(rows)


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
