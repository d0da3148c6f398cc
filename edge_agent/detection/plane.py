"""One plane of a component: the same learning and judging at one resolution of time.

A component is judged on two planes: tick by tick, and on means over many ticks (``judge``). Each plane learns its own
healthy model, follows healthy drift while nothing is suspicious, and accumulates its own evidence (1 at the limit).

* It never follows a drift that shows: it is fitted again on more rows only while nothing suspicious stands. What was
  decided is kept in ``notes``.
* Where days are within reach (a day takes no more rows than may be learnt from at first), the baseline is young
  until it has seen some weeks: what rises and subsides by itself within days (a nightly job, the first hot noon, a
  weekend) is experience and is learnt from; only what is far beyond the limit, or stands and grows, is believed.
* Where they are not, a step within one learning period after learning is on probation: it more often says that the
  asset was still settling (a machine restarted, a bearing run in) than that it fails. The alarm waits on trial: a
  deviation that grows is a fault and is let through; one that stands still is the new normal and is learnt anew, twice
  at most.

A block is judged at once and remembered stretch by stretch, each of rows that are all quiet or all suspicious; where
something changes how rows are judged (a fit, more room, a trial) it ends. So blocks of any size give the same states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.detection.baseline import FloatArray, IntArray, lag
from edge_agent.detection.learn import Judged, load_model
from edge_agent.detection.learner import DAY_US, REFITS, US_PER_HOUR, Learner
from edge_agent.detection.plane_settings import Course
from edge_agent.detection.recursion import CHUNK
from edge_agent.detection.rows import Rows, Trial, growing, load_rows

PATIENCE_US = 60 * US_PER_HOUR
CLEARLY_BEYOND = 1.35
SUBSIDED_ROWS = 16
LEAST_EPISODE = 24
ROOM_FROM, ROOM_BEYOND, MOST_ROOM = 0.8, 1.25, 3.0
SPOILED_BY = 0.5
MAX_RELEARNS = 2


class Plane(Learner):
    """Judges the rows of one component at one resolution. Arguments: see ``Learner``."""

    def forget(self) -> None:
        """Drop everything learnt."""
        super().forget()
        self.judged: Judged | None = None
        self.evidence = 0.0
        self._now_us = 0
        self._alarm_us = 0
        self._relearns = 0
        self._alarm_rows = 0
        self._trial: Trial | None = None
        self._episode = Rows()
        self._episode_us = 0
        self._calm_rows = 0
        self._convicted = False
        self._peak = 0.0
        self.room = 1.0

    @property
    def young(self) -> bool:
        """Has it still to see what weeks are like?"""
        return self._daily and self._now_us - self._first_us < self._own.young_days * DAY_US

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

    def _on_probation(self) -> bool:
        return self._own.probation and self._since_fit < self._period and self._relearns < MAX_RELEARNS

    @property
    def _suspicion(self) -> float:
        """From which evidence on rows are an episode: sooner while they may be learnt from."""
        return SPOILED_BY if len(self._rows) or self._on_probation() else ROOM_FROM

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

    def _collect(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray, highest: float) -> None:
        """More healthy rows for later fits, as long as nothing suspicious stands."""
        now_us = int(times_us[-1])
        if self.evidence >= self._suspicion:
            self._peak = max(self._peak, highest) if self._episode_us else highest
            self._episode_us = self._episode_us or now_us
            self._calm_rows = 0
        elif self._episode_us:
            self._calm_rows += len(rows)
        if self._episode_us and self._calm_rows >= SUBSIDED_ROWS:
            self._episode_us = 0
            self._convicted = False
            self._subsided(now_us)
            if len(self._rows) and len(self._episode):
                self._rows.join(self._episode)
                self._note(now_us, "what rose and subsided by itself is learnt as experience")
        if not len(self._rows):
            return
        if self._episode_us:
            self._weigh_episode(rows, regimes, times_us)
            return
        self._rows.extend(rows, regimes, times_us)
        due = next((each for each in REFITS if each * self._period > self.learnt_rows), 0) * self._period
        if due and len(self._rows) >= due:
            self._fit(self._rows, "refitted")
        if len(self._rows) >= min(REFITS[-1] * self._period, self._own.keeps_rows):
            self._rows = Rows()

    def _subsided(self, now_us: int) -> None:
        """A grown baseline has met something new that went as it came: give it room, so that it alarms once at most."""
        if not self._daily or self.young or self.model is None or not ROOM_FROM <= self._peak < self._own.far_beyond:
            return
        room = min(ROOM_BEYOND * self._peak, MOST_ROOM / self.room)
        if room > 1.01:
            self.room *= room
            self.model.gain *= room
            self.evidence /= room
            self._note(now_us, f"what rose and subsided by itself is experience: limits {room:.2f} times as wide")

    def _weigh_episode(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> None:
        """What stands longer than patience lasts is a fault if it grows, and the new normal if it stands still."""
        now_us = int(times_us[-1])
        if self.young and now_us - self._episode_us <= PATIENCE_US:
            self._episode.extend(rows, regimes, times_us)
            return
        believed = self._peak >= self._own.far_beyond * self._settings.alarm
        if (
            self.young
            and not believed
            and self._relearns < MAX_RELEARNS
            and len(self._episode) >= LEAST_EPISODE
            and not growing(self._episode_norms())
        ):
            self._rows.join(self._episode)
            self._episode_us, self.evidence = 0, 0.0
            self._relearns += 1
            self._fit(self._rows, "refitted: what stood still through the first weeks is part of healthy;")
            return
        self._convicted = self.young
        self._note(now_us, "baseline fixed: suspicious rows are not learnt from")
        self._rows, self._episode = Rows(), Rows()

    def _episode_norms(self) -> list[float]:
        """How far each row of the episode stands from healthy, as one number."""
        assert self.model is not None
        rows, regimes, times_us = self._episode.tables()
        deviation = np.nan_to_num(self.model.baseline.deviation(rows, regimes, lag(regimes), times_us))
        norms: list[float] = np.sqrt(np.sqrt(np.square(deviation).sum(axis=1))).tolist()
        return norms

    def _probation(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray, judged: Judged) -> None:
        if self._trial is None:
            on_probation = self._own.probation and self._since_fit <= self._period and self._relearns < MAX_RELEARNS
            self._alarm_rows = self._alarm_rows + 1 if self.evidence >= self._settings.alarm else 0
            assert self.model is not None
            if not on_probation or self._alarm_rows < self.model.raise_ticks:
                return
            self._trial = Trial()
        critical = self.evidence >= self._settings.critical
        fault = self._trial.take(rows, regimes, times_us, judged.deviation[-1], critical, self._period)
        if fault:
            self._release(int(times_us[-1]))
        elif fault is not None:
            self._relearn(self._trial)

    def _release(self, time_us: int) -> None:
        self._note(time_us, "deviation soon after learning grows: a fault, not settling")
        self._trial = None
        self._relearns = MAX_RELEARNS

    def _relearn(self, trial: Trial) -> None:
        self.model = None
        self._rows, self._trial, self._episode = trial.rows, None, Rows()
        self._episode_us = self._calm_rows = 0
        self._relearns += 1
        self._alarm_rows = 0
        self.evidence = 0.0
        self._fit(self._rows, "deviation soon after learning stood still: learnt anew")

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
