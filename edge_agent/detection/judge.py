"""The judge of one component: learns what is healthy, weighs each tick against it, moves the state.

Three safeguards around the learnt baseline:

* It never follows a drift: it is fitted again on more rows (at two and four learning periods) only if nothing
  suspicious was seen since it was learnt.
* Probation: a step within one learning period after learning more often says that the asset was still settling
  (a machine restarted, a bearing run in) than that it fails. The alarm then waits on trial, as ``watch``: a deviation
  that grows is a fault and is let through; one that stands still is the new normal and is learnt anew, twice at most.
* A channel that is missing or stuck is left out, not blamed.

Pure and deterministic; ``state``/``load`` carry everything across a restart.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.detection import fuse
from edge_agent.detection.baseline import FloatArray, next_lag
from edge_agent.detection.health import ChannelHealth
from edge_agent.detection.learn import HealthyModel, Reading, learn, load_model
from edge_agent.detection.settings import DetectionSettings
from fleet_core.telemetry import DetectionState

MAX_ROWS = 1200
SPOILED_BY = 0.5
MAX_RELEARNS = 2
TRIAL_SHARE = 0.25
GROWING = 1.3
STEADILY_GROWING = 1.15
BROKEN_OUT = 2.0
US_PER_HOUR = 3_600_000_000


@dataclass
class _Trial:
    """Rows since a suspected step and how far each stood from healthy."""

    rows: list[FloatArray] = field(default_factory=list)
    regimes: list[FloatArray] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    settled_at: float = 0.0


class ComponentJudge:
    """Judges the ticks of one component. ``evidence`` is 1 at the calibrated limit."""

    def __init__(self, channels: int, regimes: int, settings: DetectionSettings) -> None:
        self._settings = settings
        self._channels = channels
        self._regimes = regimes
        self.tracker = fuse.StateTracker(settings)
        self.forget()

    def forget(self) -> None:
        """Drop everything learnt; the state becomes ``learning`` (the tracker's part is the caller's event)."""
        self.model: HealthyModel | None = None
        self.reading: Reading | None = None
        self.health = ChannelHealth(self._channels)
        self.evidence = 0.0
        self.model_digest = ""
        self._lagged = np.full(self._regimes, np.nan)
        self._rows: list[FloatArray] = []
        self._regime_rows: list[FloatArray] = []
        self._first_us = 0
        self._span_us = 0
        self._period = 0
        self._since_fit = 0
        self._relearns = 0
        self._alarm_ticks = 0
        self._trial: _Trial | None = None

    @property
    def learned_fraction(self) -> float:
        """0..1 of the learning period; 1 when learnt."""
        if self.model is not None:
            return 1.0
        span_us = self._settings.learn_span_h * US_PER_HOUR
        by_span = self._span_us / span_us if span_us else 1.0
        return min(1.0, len(self._rows) / self._settings.learn_ticks, by_span)

    def tick(self, time_us: int, row: FloatArray, regime: FloatArray) -> list[DetectionState]:
        """Judge one row (channels,) under a regime (regimes,); the states passed through at this tick."""
        row = self.health.check(row)
        self._lagged = next_lag(self._lagged, regime)
        if np.isnan(row).all():
            return []
        if self.model is None:
            return self._learn(time_us, row, regime)
        self.reading = self.model.step(row, regime, self._lagged)
        self.evidence += self._settings.smoothing * (self.reading.evidence - self.evidence)
        self._since_fit += 1
        self._probation(row, regime, self.reading)
        if self._trial is None:
            self._collect(row, regime)
        return self.tracker.take(self.judged_evidence)

    @property
    def judged_evidence(self) -> float:
        """The evidence the state follows: held below the alarm while on trial. The score follows ``evidence``."""
        return min(self.evidence, 0.99 * self._settings.alarm) if self._trial is not None else self.evidence

    def _learn(self, time_us: int, row: FloatArray, regime: FloatArray) -> list[DetectionState]:
        self._first_us = self._first_us or time_us
        self._span_us = max(self._span_us, time_us - self._first_us)
        self._rows.append(row)
        self._regime_rows.append(regime)
        if len(self._rows) > MAX_ROWS:  # samples far denser than the span allows for: keep the newest
            del self._rows[0], self._regime_rows[0]
        # n ticks span n - 1 intervals: the tick that would complete the span counts
        interval_us = self._span_us / max(1, len(self._rows) - 1)
        enough_span = self._span_us + interval_us >= self._settings.learn_span_h * US_PER_HOUR
        if len(self._rows) < self._settings.learn_ticks or not enough_span:
            return []
        self._period = len(self._rows)
        self._fit(self._rows, self._regime_rows)
        self.tracker.learned()
        return [self.tracker.state]

    def _fit(self, rows: list[FloatArray], regimes: list[FloatArray]) -> None:
        previous, self.model = self.model, learn(rows, regimes, self._settings)
        if previous is not None:
            self.model.take_memories(previous)
        self.tracker.raise_ticks = self.model.raise_ticks
        self.health.learnt(rows)
        self.model_digest = self.model.digest()

    def _collect(self, row: FloatArray, regime: FloatArray) -> None:
        """More healthy rows for a second and a third fit, as long as nothing was suspicious."""
        if not self._rows:
            return
        if self.evidence >= SPOILED_BY or len(self._rows) >= MAX_ROWS:
            self._rows, self._regime_rows = [], []
            return
        self._rows.append(row)
        self._regime_rows.append(regime)
        if len(self._rows) == 2 * self._period:
            self._fit(self._rows, self._regime_rows)
        elif len(self._rows) == 4 * self._period:
            self._fit(self._rows, self._regime_rows)
            self._rows, self._regime_rows = [], []

    def _probation(self, row: FloatArray, regime: FloatArray, reading: Reading) -> None:
        if self._trial is None:
            on_probation = self._since_fit <= self._period and self._relearns < MAX_RELEARNS
            self._alarm_ticks = self._alarm_ticks + 1 if self.evidence >= self._settings.alarm else 0
            if not on_probation or self._alarm_ticks < self.tracker.raise_ticks:
                return
            self._trial = _Trial()
        trial = self._trial
        trial.rows.append(row)
        trial.regimes.append(regime)
        squares = reading.deviation * reading.deviation
        norms = trial.norms
        norms.append(float(squares @ squares) ** 0.25)
        count, verdict_at = len(norms), max(12, int(self._period * TRIAL_SHARE))
        if count < verdict_at:
            run_away = count >= 6 and float(np.median(norms[-3:])) > BROKEN_OUT * float(np.median(norms[:3]))
            if run_away and self.evidence >= self._settings.critical:
                self._release()
        elif count == verdict_at:
            trial.settled_at = float(np.median(norms[-count // 3 :]))
            if growing(norms):
                self._release()
        elif count > verdict_at and float(np.median(norms[-5:])) > BROKEN_OUT * trial.settled_at:
            self._release()
        elif count >= self._period:
            self._relearn(trial)

    def _release(self) -> None:
        self._trial = None
        self._relearns = MAX_RELEARNS

    def _relearn(self, trial: _Trial) -> None:
        self.model = None
        self._rows, self._regime_rows = trial.rows, trial.regimes
        self._trial = None
        self._relearns += 1
        self._since_fit = 0
        self._alarm_ticks = 0
        self.evidence = 0.0
        self._period = len(self._rows)
        self._fit(self._rows, self._regime_rows)

    def state(self) -> dict[str, Any]:
        """Everything, for a snapshot."""
        trial = self._trial
        return {
            "tracker": [str(self.tracker.state), self.tracker.counters()],
            "model": None if self.model is None else self.model.state(),
            "digest": self.model_digest,
            "health": self.health.state(),
            "reading": None
            if self.reading is None
            else [self.reading.evidence, self.reading.detectors, self.reading.channels, self.reading.deviation],
            "lagged": self._lagged,
            "rows": np.array(self._rows).reshape(len(self._rows), self._channels),
            "regimes": np.array(self._regime_rows).reshape(len(self._rows), self._regimes),
            "numbers": [self._first_us, self._span_us, self._period, self._since_fit, self._relearns],
            "alarm_ticks": self._alarm_ticks,
            "evidence": self.evidence,
            "trial": None
            if trial is None
            else [np.array(trial.rows), np.array(trial.regimes), trial.norms, trial.settled_at],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a ``state``."""
        self.tracker.load(*state["tracker"])
        self.model = None if state["model"] is None else load_model(state["model"], self._settings, self._channels)
        if self.model is not None:
            self.tracker.raise_ticks = self.model.raise_ticks
        self.model_digest = state["digest"]
        self.health.load(state["health"])
        self.reading = None if state["reading"] is None else Reading(*state["reading"])
        self._lagged = state["lagged"]
        self._rows, self._regime_rows = list(state["rows"]), list(state["regimes"])
        self._first_us, self._span_us, self._period, self._since_fit, self._relearns = state["numbers"]
        self._alarm_ticks, self.evidence = state["alarm_ticks"], state["evidence"]
        trial = state["trial"]
        self._trial = None if trial is None else _Trial(list(trial[0]), list(trial[1]), trial[2], trial[3])


def growing(norms: list[float]) -> bool:
    """Does a deviation still grow? Judged on the later two thirds, after the accumulation's own rise."""
    third = len(norms) // 3
    later = float(np.median(norms[2 * third :])) / max(1e-9, float(np.median(norms[third : 2 * third])))
    if later > GROWING:
        return True
    parts = [float(np.median(part)) for part in np.array_split(norms[third:], 4)]
    steadily = all(after > before for before, after in itertools.pairwise(parts))
    return steadily and parts[-1] > STEADILY_GROWING * parts[0]
