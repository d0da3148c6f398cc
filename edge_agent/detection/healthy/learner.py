"""What a plane learns: the rows of the learning period, and more of them as weeks go by, into a healthy model.

Learning ends when so many rows have passed, and the configured span where that is within reach; the model is fitted
again at ``REFITS`` times the learning period for as long as the plane hands over healthy rows. What was decided is kept
in ``decisions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import restored
from edge_agent.detection.healthy.baseline import lag
from edge_agent.detection.healthy.decisions import Decision, DecisionKind
from edge_agent.detection.healthy.fitting import fit_model
from edge_agent.detection.healthy.model import HealthyModel, load_model
from edge_agent.detection.healthy.plane_settings import PlaneSetup
from edge_agent.detection.healthy.rows import KeptRows, load_rows
from edge_agent.detection.input.sensor_health import ChannelRanges, ranges
from edge_agent.detection.recursion import CHUNK
from edge_agent.detection.sustained import raise_ticks_of_days
from edge_agent.detection.tuning import (
    DAY_US,
    MAX_RELEARNS,
    MONTH_US,
    RATE_RANGE,
    REFITS,
    US_PER_HOUR,
)

KEPT_DECISIONS = 20


@dataclass
class Learner:
    """Learns rows (n, channels) under regimes (n, regimes).

    ``model``, ``digest``, ``learnt_rows``, ``learnt_us`` (first, last) and ``ranges`` tell of the newest fit;
    ``ranges`` is not kept over a restart, as it is asked for at once. ``kept``: the rows for the next fit; none when
    nothing more is learnt. ``lagged`` (regimes,): the regimes' lagged course at the newest row. ``first_us``: the first
    row ever learnt. ``period_rows``: rows of the learning period. ``since_learnt_rows``: rows judged since it ended.
    ``daily``: is a day within reach of the learning period? ``relearns``: how often what stood still became healthy.
    ``decided`` counts all decisions of this run, of which the newest ``KEPT_DECISIONS`` stand in ``decisions``.
    """

    setup: PlaneSetup
    model: HealthyModel | None = None
    digest: str = ""
    learnt_rows: int = 0
    learnt_us: tuple[int, int] = (0, 0)
    ranges: ChannelRanges | None = None
    kept: KeptRows = field(default_factory=KeptRows)
    lagged: FloatArray = field(default_factory=lambda: np.zeros(0))
    first_us: int = 0
    period_rows: int = 0
    since_learnt_rows: int = 0
    daily: bool = False
    relearns: int = 0
    decisions: list[Decision] = field(default_factory=list)
    decided: int = 0

    def __post_init__(self) -> None:
        if not self.lagged.size:
            self.lagged = np.full(self.setup.regimes, np.nan)

    @property
    def learned_fraction(self) -> float:
        """0..1 of the learning period; 1 when learnt."""
        if self.model is not None:
            return 1.0
        return min(1.0, len(self.kept) / max(1, self._needed_rows()))

    def learn(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> int:
        """Take rows of the learning period until it ends; how many were taken."""
        least_rows = self.setup.own.learn_rows
        for index in range(len(rows)):
            self.kept.extend(rows[index : index + 1], regimes[index : index + 1], times_us[index : index + 1])
            self.first_us = self.first_us or int(times_us[index])
            if len(self.kept) >= least_rows and len(self.kept) >= self._needed_rows():
                self._fit(DecisionKind.LEARNT, "learnt")
                return index + 1
        return len(rows)

    def learn_more(self, rows: FloatArray, regimes: FloatArray, times_us: IntArray) -> None:
        """Take more healthy rows; fit again when there are enough of them, and stop at the last such time."""
        self.kept.extend(rows, regimes, times_us)
        due = next((times for times in REFITS if times * self.period_rows > self.learnt_rows), 0) * self.period_rows
        if due and len(self.kept) >= due:
            self._fit(DecisionKind.REFITTED, "refitted")
        if len(self.kept) >= min(REFITS[-1] * self.period_rows, self.setup.own.keeps_rows):
            self.kept = KeptRows()

    def learn_experience(self, episode: KeptRows, now_us: int) -> None:
        """Take the rows of an episode that subsided by itself."""
        self.kept.join(episode)
        self.decide(DecisionKind.EXPERIENCE, now_us, "what rose and subsided by itself is learnt as experience")

    def learn_standing(self, episode: KeptRows) -> None:
        """Take the rows of an episode that stood still through the first weeks: it is part of healthy."""
        self.kept.join(episode)
        self.relearns += 1
        self._fit(DecisionKind.REFITTED, "refitted: what stood still through the first weeks is part of healthy;")

    def learn_anew(self, rows: KeptRows) -> None:
        """Learn from these rows alone: the asset settled elsewhere soon after learning."""
        self.model = None
        self.kept = rows
        self.relearns += 1
        self._fit(DecisionKind.RELEARNT, "deviation soon after learning stood still: learnt anew")

    def stop(self, now_us: int) -> None:
        """Learn nothing more: something suspicious stands."""
        self.decide(DecisionKind.FIXED, now_us, "baseline fixed: suspicious rows are not learnt from")
        self.kept = KeptRows()

    def end_trials(self, now_us: int) -> None:
        """What rose soon after learning is a fault; what follows is no longer put on trial."""
        self.decide(DecisionKind.FAULT, now_us, "deviation soon after learning grows: a fault, not settling")
        self.relearns = MAX_RELEARNS

    def decide(self, kind: DecisionKind, at_us: int, text: str) -> None:
        """Keep what was decided."""
        self.decisions = [*self.decisions[-KEPT_DECISIONS + 1 :], Decision(kind, at_us, text)]
        self.decided += 1

    def rows_to_refit(self) -> int:
        """How many rows may be judged before a fit is due: no block reaches beyond it."""
        kept = len(self.kept)
        if not kept:
            return CHUNK
        keeps = self.setup.own.keeps_rows
        stop = keeps if keeps > kept else kept + CHUNK
        for times in REFITS:
            if times * self.period_rows > kept:
                return min(stop, times * self.period_rows) - kept
        return stop - kept

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "model": None if self.model is None else self.model.state(),
            "digest": self.digest,
            "learnt_rows": self.learnt_rows,
            "learnt_first_us": self.learnt_us[0],
            "learnt_last_us": self.learnt_us[1],
            "kept": self.kept.state(),
            "lagged": self.lagged,
            "first_us": self.first_us,
            "period_rows": self.period_rows,
            "since_learnt_rows": self.since_learnt_rows,
            "daily": self.daily,
            "relearns": self.relearns,
            "decisions": [
                {"kind": decision.kind.value, "at_us": decision.at_us, "text": decision.text}
                for decision in self.decisions
            ],
        }

    def _needed_rows(self) -> int:
        """Rows of the learning period at the cadence seen: the configured span where it is within reach."""
        own = self.setup.own
        rows = len(self.kept)
        if rows < 16:
            return own.learn_rows
        interval_us = float(np.median(np.diff(self.kept.times_us)))  # a gap must not make rows look longer
        # a share of slack: a day of 1440 rows has 1439 intervals, and clocks are not exact
        self.daily = self.setup.settings.learn_span_h > 0 and 1.02 * interval_us * own.longest_learn_rows >= DAY_US
        by_span = int(np.ceil(own.learn_span_h * US_PER_HOUR / max(1.0, interval_us)))
        return max(own.learn_rows, by_span if by_span <= own.longest_learn_rows else own.learn_rows)

    def _fit(self, kind: DecisionKind, why: str) -> None:
        rows, regimes, times_us = self.kept.tables()
        # the median step: gaps in the recording must not make rows look longer than they are
        step_us = float(np.median(np.diff(times_us))) if len(times_us) > 1 else 0.0
        rate = float(np.clip(self.setup.settings.false_alarms_per_month * step_us / MONTH_US, *RATE_RANGE))
        self.model = fit_model(self.setup, rows, regimes, times_us, rate, self.daily)
        if kind is not DecisionKind.REFITTED:
            self.period_rows, self.since_learnt_rows = len(rows), 0
            self.lagged = lag(regimes)[-1] if self.setup.regimes else self.lagged
        if self.daily:
            self.model.raise_ticks = raise_ticks_of_days(self.model.raise_ticks, step_us)
        self.digest = self.model.digest()
        self.learnt_rows = len(rows)
        self.learnt_us = (int(times_us[0]), int(times_us[-1]))
        self.ranges = ranges(rows)
        self.decide(kind, int(times_us[-1]), f"{why} from {len(rows)} rows")


def load_learner(setup: PlaneSetup, state: Mapping[str, Any]) -> Learner:
    """A learner from its ``state``. Raises ValueError, TypeError, KeyError when it is of other channels, or is none."""
    model = state["model"]
    channels, regimes = setup.channels, setup.regimes
    return Learner(
        setup,
        model=None if model is None else load_model(model, setup.own.detectors, channels, regimes),
        digest=restored.text(state["digest"]),
        learnt_rows=restored.whole(state["learnt_rows"]),
        learnt_us=(restored.time_us(state["learnt_first_us"]), restored.time_us(state["learnt_last_us"])),
        kept=load_rows(state["kept"], channels, regimes),
        lagged=restored.readings(state["lagged"], regimes),
        first_us=restored.time_us(state["first_us"]),
        period_rows=restored.whole(state["period_rows"]),
        since_learnt_rows=restored.whole(state["since_learnt_rows"]),
        daily=restored.flag(state["daily"]),
        relearns=restored.whole(state["relearns"]),
        decisions=[
            Decision(DecisionKind(each["kind"]), restored.time_us(each["at_us"]), restored.text(each["text"]))
            for each in restored.items(state["decisions"])
        ],
    )
