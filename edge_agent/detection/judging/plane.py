"""One plane of a component: the same learning and judging at one resolution of time.

A component is judged on two planes: tick by tick, and on means over many ticks (``judge``). Each plane learns its own
healthy model, follows healthy drift while nothing is suspicious (``experience``), and accumulates its own evidence (1
at the limit). While a baseline is young, only evidence far beyond the limit, or what stands and grows, is believed.

A block is judged at once and remembered stretch by stretch, each of rows that are all quiet or all suspicious; where
something changes how rows are judged (a fit, more room, a trial) it ends. So blocks of any size give the same states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.experience import PATIENCE_US, SPOILED_BY, SUBSIDED_ROWS, Experience
from edge_agent.detection.healthy.learner import DAY_US, US_PER_HOUR
from edge_agent.detection.healthy.model import Judged, load_model
from edge_agent.detection.healthy.plane_settings import Course
from edge_agent.detection.healthy.rows import Trial, load_rows
from edge_agent.detection.recursion import CHUNK

CLEARLY_BEYOND = 1.35


class Plane(Experience):
    """Judges the rows of one component at one resolution. Arguments: see ``Learner``."""

    def forget(self) -> None:
        """Drop everything learnt."""
        super().forget()
        self.judged: Judged | None = None
        self._alarm_us = 0

    def run(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> Course:
        """Judge rows (n, channels), or as many of the first of them as go together (fewer rows out than in)."""
        if self.model is None:
            return self._learn(rows, regimes, times_us)
        count = min(len(rows), CHUNK, self._rows_to_refit())
        if self.young:
            grown_us = self._first_us + int(self._own.young_days * DAY_US)
            count = max(1, min(count, int(np.searchsorted(times_us, grown_us))))
        rows, regimes, times_us = rows[:count], regimes[:count], times_us[:count]
        lagged = lag(regimes, self._lagged) if self._regimes else regimes
        if self._alone:
            return self._single(rows[:1], regimes[:1], lagged[:1], times_us[:1])
        model, memories = self.model, self.model.memories()
        judged = model.run(rows, regimes, lagged, times_us)
        course = self._accumulate(judged)
        believed = self._stretches(course, rows, regimes, times_us)
        done = len(believed)
        if done < count and model is self.model:
            model.take_memories(memories)
            if not done:
                return self._single(rows[:1], regimes[:1], lagged[:1], times_us[:1])
            model.run(rows[:done], regimes[:done], lagged[:done], times_us[:done])  # for its memories
        return self._judged(judged, course, believed, lagged)

    @property
    def _alone(self) -> bool:
        """Must rows be judged one by one?"""
        return self._trial is not None or (self.evidence >= SPOILED_BY and self._on_probation())

    def _stretches(self, course: FloatArray, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> FloatArray:
        """Take what was judged by one model, stretch by stretch, until something changes how rows are judged; what of
        the evidence of these rows is believed (fewer rows out than in)."""
        assert self.model is not None
        model, gain, believed, start = self.model, self.model.gain, [course[:0]], 0
        while start < len(course) and not self._alone and self.model is model and model.gain == gain:
            most = min(len(course), start + self._rows_to_refit())
            together = self._alike(course[start:most], times_us[start:most])
            if not together:
                break
            each = slice(start, start + together)
            self._since_fit += together
            believed.append(self._take(course[each], rows[each], regimes[each], times_us[each]))
            start += together
        return np.concatenate(believed)

    def _single(self, rows: FloatArray, regimes: FloatArray, lagged: FloatArray, times_us: IntArray) -> Course:
        """Judge a row that must be judged alone."""
        assert self.model is not None
        judged = self.model.run(rows, regimes, lagged, times_us)
        course = self._accumulate(judged)
        self._since_fit += 1
        self.evidence = float(course[-1])
        self._probation(rows, regimes, times_us, judged)
        if not self._since_fit:  # learnt anew
            course = np.array([0.0])
        believed = self._take(course, rows, regimes, times_us)
        return self._judged(judged, course, believed, lagged)

    def _alike(self, course: FloatArray, times_us: IntArray) -> int:
        """How many of the rows from the first on can be judged together: all quiet, or all suspicious and no longer on
        probation; 0 when the first must be judged alone."""
        suspicious = course >= self._suspicion
        if suspicious[0] and self._on_probation():
            return 0
        changes = np.flatnonzero(suspicious != suspicious[0])
        alike = int(changes[0]) if changes.size else len(course)
        if self._episode_us and not suspicious[0]:
            alike = min(alike, SUBSIDED_ROWS - self._calm_rows)
        elif suspicious[0] and not self._episode_us:
            alike = 1  # when it began is kept to the row
        elif suspicious[0] and len(self._episode):
            patient = int(np.searchsorted(times_us, self._episode_us + PATIENCE_US, side="right"))
            alike = max(1, min(alike, patient))
        return alike

    def _accumulate(self, judged: Judged) -> FloatArray:
        course: FloatArray = self._smoother.run(np.array([[self.evidence]]), judged.evidence[:, None])[:, 0, 0]
        return course

    def _take(self, course: FloatArray, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> FloatArray:
        """Remember rows that go together; what of their evidence is believed (n,)."""
        self.evidence = float(course[-1])
        self._now_us = int(times_us[-1])
        in_episode = bool(self._episode_us)
        if self._trial is None:
            self._collect(rows, regimes, times_us, float(course.max()))
        in_episode |= bool(self._episode_us)
        return self._believed(course, times_us, in_episode)

    def _judged(self, judged: Judged, course: FloatArray, believed: FloatArray, lagged: FloatArray) -> Course:
        """The answer for the first rows of what was judged, those whose evidence is believed or not."""
        count = len(believed)
        self.judged = judged.first(count)
        if self._regimes:
            self._lagged = lagged[count - 1]
        return Course(course[:count], believed, self.judged.channels)

    def _believed(self, course: FloatArray, times_us: IntArray, in_episode: bool) -> FloatArray:
        """The evidence (n,) that may raise an alarm: all of it, but for what is on trial or still to prove itself."""
        alarm = self._settings.alarm
        below = course < alarm
        if below.all():
            self._alarm_us = int(times_us[-1])
            return course
        since_us = np.maximum.accumulate(np.where(below, times_us, self._alarm_us))
        self._alarm_us = int(since_us[-1])
        if self._trial is not None:
            held = ~below
        elif self.young and in_episode and not self._convicted:
            held = course < self._own.far_beyond * alarm
        else:
            short = (CLEARLY_BEYOND * alarm - course) / ((CLEARLY_BEYOND - 1) * alarm)
            held = times_us - since_us < self._own.stand_h * US_PER_HOUR * short
        return np.where(held, np.minimum(course, 0.99 * alarm), course)

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        trial, judged = self._trial, self.judged
        return {
            "model": None if self.model is None else self.model.state(),
            "digest": self.digest,
            "judged": None
            if judged is None
            else [each[-1:] for each in (judged.evidence, judged.detectors, judged.channels, judged.deviation)],
            "lagged": self._lagged,
            "rows": self._rows.state(),
            "numbers": [self._period, self._since_fit, self._relearns, self._alarm_rows, self.learnt_rows],
            "learnt_us": list(self.learnt_us),
            "notes": [list(each) for each in self.notes],
            "evidence": self.evidence,
            "ages": [
                self._first_us,
                self._now_us,
                self._alarm_us,
                self._episode_us,
                self._calm_rows,
                int(self._daily),
                int(self._convicted),
                self._peak,
                self.room,
            ],
            "episode": self._episode.state(),
            "trial": None if trial is None else [trial.rows.state(), trial.norms, trial.settled_at],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``."""
        self.model = None if state["model"] is None else load_model(state["model"], self._own.detectors, self._channels)
        self.digest = state["digest"]
        self.judged = None if state["judged"] is None else Judged(*state["judged"])
        self._lagged = state["lagged"]
        self._rows = load_rows(state["rows"])
        self._period, self._since_fit, self._relearns, self._alarm_rows, self.learnt_rows = state["numbers"]
        self.learnt_us = (int(state["learnt_us"][0]), int(state["learnt_us"][1]))
        self.notes = [(int(when), str(what)) for when, what in state["notes"]]
        self.evidence = state["evidence"]
        (
            self._first_us,
            self._now_us,
            self._alarm_us,
            self._episode_us,
            self._calm_rows,
            daily,
            convicted,
            self._peak,
            self.room,
        ) = state["ages"]
        self._daily, self._convicted = bool(daily), bool(convicted)
        self._episode = load_rows(state["episode"])
        trial = state["trial"]
        self._trial = None if trial is None else Trial(load_rows(trial[0]), trial[1], trial[2])
