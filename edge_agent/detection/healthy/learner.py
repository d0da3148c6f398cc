"""What a plane learns: the rows of the learning period, and more of them as weeks go by, into a healthy model.

Learning ends when so many rows have passed, and the configured span where that is within reach; the model is fitted
again at ``REFITS`` times the learning period for as long as the plane hands over healthy rows. Each decision is noted.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.fitting import learn
from edge_agent.detection.healthy.model import HealthyModel
from edge_agent.detection.healthy.plane_settings import Course, PlaneSettings
from edge_agent.detection.healthy.rows import Rows
from edge_agent.detection.input.sensor_health import ranges
from edge_agent.detection.recursion import CHUNK, Smoother
from edge_agent.detection.settings import DetectionSettings

US_PER_HOUR = 3_600_000_000
DAY_US = 24 * US_PER_HOUR
REFITS = (2, 4, 7, 14)
LEAST_ALARM_US = DAY_US // 24
KEPT_NOTES = 20
MONTH_US = 30.44 * DAY_US
RATE_RANGE = (1e-7, 1e-3)
"""False alarms per row: below the first no tail of a few hundred rows says anything."""


class Learner:
    """Learns rows (n, channels).

    ``itself``: the channel each regime is, -1 for none. ``fall_share``: see ``baseline.fit_baseline``.
    """

    def __init__(
        self,
        channels: int,
        itself: tuple[int, ...],
        own: PlaneSettings,
        settings: DetectionSettings,
        fall_share: FloatArray | None = None,
    ) -> None:
        self._channels = channels
        self._itself = itself
        self._regimes = len(itself)
        self._own = own
        self._fall_share = fall_share
        self._settings = settings
        self._smoother = Smoother((settings.smoothing,))
        self.forget()

    def forget(self) -> None:
        """Drop everything learnt."""
        self.model: HealthyModel | None = None
        self.digest = ""
        self.learnt_rows = 0
        self.learnt_us = (0, 0)
        self.range: tuple[FloatArray, ...] = ()
        self.notes: list[tuple[int, str]] = []
        self.noted = 0
        self._lagged = np.full(self._regimes, np.nan)
        self._rows = Rows()
        self._first_us = 0
        self._period = 0
        self._since_fit = 0
        self._daily = False

    @property
    def learned_fraction(self) -> float:
        """0..1 of the learning period; 1 when learnt."""
        if self.model is not None:
            return 1.0
        return min(1.0, len(self._rows) / max(1, self._needed_rows()))

    def _learn(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> Course:
        for index in range(len(rows)):
            self._rows.extend(rows[index : index + 1], regimes[index : index + 1], times_us[index : index + 1])
            self._first_us = self._first_us or int(times_us[index])
            if len(self._rows) >= self._own.learn_rows and len(self._rows) >= self._needed_rows():
                self._fit(self._rows, "learnt")
                return self._silence(index + 1)
        return self._silence(len(rows))

    def _silence(self, count: int) -> Course:
        return Course(np.zeros(count), np.zeros(count), np.zeros((count, self._channels)))

    def _needed_rows(self) -> int:
        """Rows of the learning period at the cadence seen: the configured span where it is within reach."""
        own = self._own
        rows = len(self._rows)
        if rows < 16:
            return own.learn_rows
        interval_us = float(np.median(np.diff(self._rows.times_us)))  # a gap must not make rows look longer
        # a share of slack: a day of 1440 rows has 1439 intervals, and clocks are not exact
        self._daily = self._settings.learn_span_h > 0 and 1.02 * interval_us * own.longest_learn_rows >= DAY_US
        by_span = int(np.ceil(own.learn_span_h * US_PER_HOUR / max(1.0, interval_us)))
        return max(own.learn_rows, by_span if by_span <= own.longest_learn_rows else own.learn_rows)

    def _rows_to_refit(self) -> int:
        kept = len(self._rows)
        if not kept:
            return CHUNK
        stop = self._own.keeps_rows if self._own.keeps_rows > kept else kept + CHUNK
        for each in REFITS:
            if each * self._period > kept:
                return min(stop, each * self._period) - kept
        return stop - kept

    def _fit(self, kept: Rows, why: str) -> None:
        rows, regimes, times_us = kept.tables()
        # the median step: gaps in the recording must not make rows look longer than they are
        step_us = float(np.median(np.diff(times_us))) if len(times_us) > 1 else 0.0
        rate = float(np.clip(self._settings.false_alarms_per_month * step_us / MONTH_US, *RATE_RANGE))
        own = self._own
        beyond = own.beyond_seen if self._daily else 0.0
        self.model = learn(
            rows,
            regimes,
            times_us,
            self._itself,
            self._settings,
            own.detectors,
            rate,
            own.alone,
            beyond,
            self._fall_share,
        )
        if not why.startswith("refitted"):
            self._period, self._since_fit = len(rows), 0
            self._lagged = lag(regimes)[-1] if self._regimes else self._lagged
        if self._daily:
            self.model.raise_ticks = max(self.model.raise_ticks, round(LEAST_ALARM_US / max(1.0, step_us)))
        self.digest = self.model.digest()
        self.learnt_rows = len(rows)
        self.learnt_us = (int(times_us[0]), int(times_us[-1]))
        self.range = ranges(rows)
        self._note(int(times_us[-1]), f"{why} from {len(rows)} rows")

    def _note(self, time_us: int, text: str) -> None:
        """Keep what was decided, the newest few; ``noted`` counts them all."""
        self.notes = [*self.notes[-KEPT_NOTES + 1 :], (time_us, text)]
        self.noted += 1
