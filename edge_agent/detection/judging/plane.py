"""One plane of a component: the same learning and judging at one resolution of time.

A component is judged on two planes: tick by tick, and on means over many ticks (``judge``). Each plane has a learner,
which keeps its healthy model; an episode tracker, which says what may be learnt from; and a probation for steps soon
after learning. It accumulates its own evidence (1 at the limit) and says which part of it is believed: while a baseline
is young, only what lies far beyond the limit, or stands and grows; on the slow plane, what has stood for hours.

A block is judged at once and remembered stretch by stretch, each of rows that are all quiet or all suspicious; where
something changes how rows are judged (a fit, more room, a trial) it ends. So blocks of any size give the same states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import restored
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.decisions import DecisionKind
from edge_agent.detection.healthy.experience import EpisodeTracker, load_episodes
from edge_agent.detection.healthy.learner import Learner, load_learner
from edge_agent.detection.healthy.model import HealthyModel, JudgedRows
from edge_agent.detection.healthy.plane_settings import PlaneEvidence, PlaneSetup
from edge_agent.detection.healthy.probation import Probation, Trial, TrialResult, load_probation
from edge_agent.detection.healthy.rows import growing
from edge_agent.detection.recursion import CHUNK, Smoother
from edge_agent.detection.sustained import believed
from edge_agent.detection.tuning import (
    DAY_US,
    LEAST_EPISODE_ROWS,
    MAX_RELEARNS,
    ROOM_FROM,
    SPOILED_BY,
    SUBSIDED_ROWS,
)


class Plane:
    """Judges the rows of one component at one resolution.

    ``evidence`` is the accumulated one of the newest row; ``judged`` what was judged last, None before.
    """

    def __init__(self, setup: PlaneSetup) -> None:
        self._channels, self._regimes = setup.channels, setup.regimes
        self._tuning = setup.own.tuning
        self._settings = setup.settings
        self._smoother = Smoother((setup.settings.smoothing,))
        self.learner = Learner(setup)
        self.episode = EpisodeTracker()
        self.probation = Probation()
        self.evidence = 0.0
        self.judged: JudgedRows | None = None
        self._now_us = 0
        self._below_alarm_us = 0
        """The newest row whose evidence was below the alarm level."""

    @property
    def model(self) -> HealthyModel | None:
        """What healthy is; None while it is learnt for the first time."""
        return self.learner.model

    @property
    def young(self) -> bool:
        """Has it still to see what weeks are like?"""
        seen_us = self._now_us - self.learner.first_us
        return self.learner.daily and seen_us < self._tuning.young_days * DAY_US

    def run(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> PlaneEvidence:
        """Judge rows (n, channels), or as many of the first of them as go together (fewer rows out than in)."""
        learner = self.learner
        model = learner.model
        if model is None:
            taken = learner.learn(rows, regimes, times_us)
            return PlaneEvidence(np.zeros(taken), np.zeros(taken), np.zeros((taken, self._channels)))
        count = min(len(rows), CHUNK, learner.rows_to_refit())
        if self.young:
            grown_us = learner.first_us + int(self._tuning.young_days * DAY_US)
            count = max(1, min(count, int(np.searchsorted(times_us, grown_us))))
        rows, regimes, times_us = rows[:count], regimes[:count], times_us[:count]
        lagged = lag(regimes, learner.lagged) if self._regimes else regimes
        if self._alone:
            return self._single(rows[:1], regimes[:1], lagged[:1], times_us[:1])
        memories = model.memories()
        judged = model.run(rows, regimes, lagged, times_us)
        course = self._accumulate(judged)
        believed = self._stretches(course, rows, regimes, times_us)
        done = len(believed)
        if done < count and model is learner.model:
            model.take_memories(memories)
            if not done:
                return self._single(rows[:1], regimes[:1], lagged[:1], times_us[:1])
            model.run(rows[:done], regimes[:done], lagged[:done], times_us[:done])  # for its memories
        return self._answer(judged, course, believed, lagged)

    @property
    def _alone(self) -> bool:
        """Must rows be judged one by one?"""
        return self.probation.trial is not None or (self.evidence >= SPOILED_BY and self._on_probation())

    def _on_probation(self) -> bool:
        learner = self.learner
        soon = learner.since_learnt_rows < learner.period_rows
        return self._tuning.probation and soon and learner.relearns < MAX_RELEARNS

    @property
    def _suspicion(self) -> float:
        """From which evidence on rows are an episode: sooner while they may be learnt from."""
        return SPOILED_BY if len(self.learner.kept) or self._on_probation() else ROOM_FROM

    def _stretches(self, course: FloatArray, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> FloatArray:
        """Take what was judged by one model, stretch by stretch, until something changes how rows are judged; what of
        the evidence of these rows is believed (fewer rows out than in)."""
        learner, model = self.learner, self.learner.model
        assert model is not None
        limit, believed, start = model.evidence_limit, [course[:0]], 0
        while start < len(course) and not self._alone and learner.model is model and model.evidence_limit == limit:
            most = min(len(course), start + learner.rows_to_refit())
            together = self._alike(course[start:most], times_us[start:most])
            if not together:
                break
            each = slice(start, start + together)
            learner.since_learnt_rows += together
            believed.append(self._take(course[each], rows[each], regimes[each], times_us[each]))
            start += together
        return np.concatenate(believed)

    def _single(self, rows: FloatArray, regimes: FloatArray, lagged: FloatArray, times_us: IntArray) -> PlaneEvidence:
        """Judge a row that must be judged alone."""
        learner = self.learner
        assert learner.model is not None
        judged = learner.model.run(rows, regimes, lagged, times_us)
        course = self._accumulate(judged)
        learner.since_learnt_rows += 1
        self.evidence = float(course[-1])
        self._try(rows, regimes, times_us, judged)
        if not learner.since_learnt_rows:  # learnt anew
            course = np.array([0.0])
        believed = self._take(course, rows, regimes, times_us)
        return self._answer(judged, course, believed, lagged)

    def _alike(self, course: FloatArray, times_us: IntArray) -> int:
        """How many of the rows from the first on can be judged together: all quiet, or all suspicious and no longer on
        probation; 0 when the first must be judged alone."""
        episode = self.episode
        suspicious = course >= self._suspicion
        if suspicious[0] and self._on_probation():
            return 0
        changes = np.flatnonzero(suspicious != suspicious[0])
        alike = int(changes[0]) if changes.size else len(course)
        if episode.stands and not suspicious[0]:
            alike = min(alike, SUBSIDED_ROWS - episode.calm_rows)
        elif suspicious[0] and not episode.stands:
            alike = 1  # when it began is kept to the row
        elif suspicious[0] and len(episode.rows):
            alike = max(1, min(alike, int(np.searchsorted(times_us, episode.patient_until_us, side="right"))))
        return alike

    def _accumulate(self, judged: JudgedRows) -> FloatArray:
        course: FloatArray = self._smoother.run(np.array([[self.evidence]]), judged.evidence[:, None])[:, 0, 0]
        return course

    def _take(self, course: FloatArray, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> FloatArray:
        """Remember rows that go together; what of their evidence is believed (n,)."""
        self.evidence = float(course[-1])
        self._now_us = int(times_us[-1])
        in_episode = self.episode.stands
        if self.probation.trial is None:
            self._learn_from(rows, regimes, times_us, float(course.max()))
        in_episode |= self.episode.stands
        return self._believed(course, times_us, in_episode)

    def _answer(
        self, judged: JudgedRows, course: FloatArray, believed: FloatArray, lagged: FloatArray
    ) -> PlaneEvidence:
        """The answer for the first rows of what was judged, those whose evidence is believed or not."""
        count = len(believed)
        self.judged = judged.first(count)
        if self._regimes:
            self.learner.lagged = lagged[count - 1]
        return PlaneEvidence(course[:count], believed, self.judged.channels)

    def _believed(self, course: FloatArray, times_us: IntArray, in_episode: bool) -> FloatArray:
        """The part of the evidence (n,) that may raise an alarm: see ``sustained``."""
        unproven = self.young and in_episode and not self.episode.convicted
        part, self._below_alarm_us = believed(
            course,
            times_us,
            self._below_alarm_us,
            self._settings.alarm,
            on_trial=self.probation.trial is not None,
            far_beyond=self._tuning.far_beyond if unproven else None,
            stand_h=self._tuning.stand_h,
        )
        return part

    # -- what is learnt from judged rows

    def _learn_from(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray, highest: float) -> None:
        """Follow episodes, and hand the learner what is healthy as long as nothing suspicious stands."""
        now_us = int(times_us[-1])
        learner, episode = self.learner, self.episode
        if episode.see(self.evidence >= self._suspicion, highest, len(rows), now_us):
            self._make_room(now_us)
            if len(learner.kept) and len(episode.rows):
                learner.learn_experience(episode.rows, now_us)
        if not len(learner.kept):
            return
        if episode.stands:
            self._weigh(rows, regimes, times_us)
        else:
            learner.learn_more(rows, regimes, times_us)

    def _make_room(self, now_us: int) -> None:
        """A grown baseline has met something new that went as it came: give it room, so that it alarms once at most."""
        learner = self.learner
        if not learner.daily or self.young or learner.model is None:
            return
        room = self.episode.room_asked(self._tuning.far_beyond)
        if room > 1.0:
            self.episode.room *= room
            learner.model.widen(room)
            self.evidence /= room
            text = f"what rose and subsided by itself is experience: limits {room:.2f} times as wide"
            learner.decide(DecisionKind.WIDENED, now_us, text)

    def _weigh(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> None:
        """What stands longer than patience lasts is a fault if it grows, and the new normal if it stands still."""
        now_us = int(times_us[-1])
        learner, episode = self.learner, self.episode
        if self.young and now_us <= episode.patient_until_us:
            episode.rows.extend(rows, regimes, times_us)
            return
        believed = episode.peak >= self._tuning.far_beyond * self._settings.alarm
        if (
            self.young
            and not believed
            and learner.relearns < MAX_RELEARNS
            and len(episode.rows) >= LEAST_EPISODE_ROWS
            and not growing(self._episode_norms())
        ):
            episode.began_us, self.evidence = 0, 0.0
            learner.learn_standing(episode.rows)
            return
        episode.convicted = self.young
        learner.stop(now_us)
        episode.drop_rows()

    def _episode_norms(self) -> list[float]:
        """How far each row of the episode stands from healthy, as one number."""
        assert self.learner.model is not None
        rows, regimes, times_us = self.episode.rows.tables()
        deviation = np.nan_to_num(self.learner.model.baseline.deviation(rows, regimes, lag(regimes), times_us))
        norms: list[float] = np.sqrt(np.sqrt(np.square(deviation).sum(axis=1))).tolist()
        return norms

    def _try(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray, judged: JudgedRows) -> None:
        """Put a step soon after learning on trial, and do as the trial finds."""
        learner, probation = self.learner, self.probation
        assert learner.model is not None
        if probation.trial is None:
            soon = learner.since_learnt_rows <= learner.period_rows and learner.relearns < MAX_RELEARNS
            probation.alarm_rows = probation.alarm_rows + 1 if self.evidence >= self._settings.alarm else 0
            if not (self._tuning.probation and soon) or probation.alarm_rows < learner.model.raise_ticks:
                return
            probation.trial = Trial()
        critical = self.evidence >= self._settings.critical
        result = probation.trial.take(rows, regimes, times_us, judged.deviation[-1], critical, learner.period_rows)
        if result is TrialResult.FAULT:
            learner.end_trials(int(times_us[-1]))
            probation.trial = None
        elif result is TrialResult.SETTLED:
            settled = probation.trial.rows
            self.probation = Probation()
            self.episode.end()
            self.evidence = 0.0
            learner.learn_anew(settled)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        judged = self.judged
        return {
            "learner": self.learner.state(),
            "episode": self.episode.state(),
            "probation": self.probation.state(),
            "evidence": self.evidence,
            "now_us": self._now_us,
            "below_alarm_us": self._below_alarm_us,
            "judged": None if judged is None else judged.newest(),
        }


def load_plane(setup: PlaneSetup, state: Mapping[str, Any]) -> Plane:
    """A plane from its ``state``. Raises ValueError, TypeError, KeyError when it is of other channels, or is none."""
    plane = Plane(setup)
    channels, regimes = setup.channels, setup.regimes
    plane.learner = load_learner(setup, state["learner"])
    plane.episode = load_episodes(state["episode"], channels, regimes)
    plane.probation = load_probation(state["probation"], channels, regimes)
    plane.evidence = restored.evidence(state["evidence"])
    plane._now_us, plane._below_alarm_us = (restored.time_us(state[name]) for name in ("now_us", "below_alarm_us"))
    if (judged := state["judged"]) is not None:
        detectors = None if plane.model is None else len(plane.model.names)
        plane.judged = JudgedRows(
            evidence=restored.sized(judged["evidence"], 1),
            detectors=restored.sized(judged["detectors"], 1, detectors),
            channels=restored.sized(judged["channels"], 1, channels),
            deviation=restored.sized(judged["deviation"], 1, channels),
        )
    return plane
