"""What of the rows a plane has judged is healthy, and learnt from: more of it, experience, the new normal. Pure.

* It never follows a drift that shows: it is fitted again on more rows only while nothing suspicious stands. What was
  decided is kept in ``notes``.
* Where days are within reach (a day takes no more rows than may be learnt from at first), the baseline is young
  until it has seen some weeks: what rises and subsides by itself within days (a nightly job, the first hot noon, a
  weekend) is experience and is learnt from; what stands and grows is not.
* Where they are not, a step within one learning period after learning is on probation: it more often says that the
  asset was still settling (a machine restarted, a bearing run in) than that it fails. The alarm waits on trial: a
  deviation that grows is a fault and is let through; one that stands still is the new normal and is learnt anew, twice
  at most.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.learner import DAY_US, REFITS, US_PER_HOUR, Learner
from edge_agent.detection.healthy.model import Judged
from edge_agent.detection.healthy.rows import Rows, Trial, growing

PATIENCE_US = 60 * US_PER_HOUR
SUBSIDED_ROWS = 16
LEAST_EPISODE = 24
ROOM_FROM, ROOM_BEYOND, MOST_ROOM = 0.8, 1.25, 3.0
SPOILED_BY = 0.5
MAX_RELEARNS = 2


class Experience(Learner):
    """Learns from judged rows. Arguments: see ``Learner``."""

    def forget(self) -> None:
        """Drop everything learnt."""
        super().forget()
        self.evidence = 0.0
        self._now_us = 0
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

    def _on_probation(self) -> bool:
        return self._own.probation and self._since_fit < self._period and self._relearns < MAX_RELEARNS

    @property
    def _suspicion(self) -> float:
        """From which evidence on rows are an episode: sooner while they may be learnt from."""
        return SPOILED_BY if len(self._rows) or self._on_probation() else ROOM_FROM

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
