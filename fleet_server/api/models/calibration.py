"""Answers about live calibration: how forecasts have kept their promise, by cohort."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime

from fleet_server.api.models.base import Answer, Asked, operational, public


class ReliabilityBin(Answer):
    """Forecasts that told about the same: the mean of what they told, and the share that failed (95 % interval)."""

    said: float = operational()
    seen: float = operational()
    low: float = operational()
    high: float = operational()
    lives: int = operational()


class CohortCalibration(Answer):
    """One component type in one asset class under one model; figures of the components the caller may see.

    A life is one component from its first forecast to its failure or, ``censored``, to its repair. ``coverage`` is the
    share of lives that ended inside the 80 % interval, with a 95 % confidence sequence. ``drift`` is what a bet on
    broken promises would have won: from ``drift_alarm`` on the cohort is recalibrated or abstains. Figures are null
    while nothing is known. ``verdict`` is over the whole fleet; ``early`` and ``late`` are its stretch of intervals.
    """

    component_type: str = operational()
    asset_class: str = operational()
    model_version: str = operational()
    lives: int = operational()
    failures: int = operational()
    censored: int = operational()
    prognoses: int = operational()
    withheld: int = operational()
    coverage: float | None = operational()
    coverage_low: float | None = operational()
    coverage_high: float | None = operational()
    drift: float = operational()
    drift_alarm: float = public()
    brier: float | None = operational()
    base_brier: float | None = operational()
    base_rate: float | None = operational()
    horizon_h: float = public()
    reliability: list[ReliabilityBin] = operational()
    log_error: float | None = operational()
    pinball_h: float | None = operational()
    modes_judged: int = operational()
    modes_right: int = operational()
    verdict: str = operational()
    since: datetime | None = operational()
    early: float = operational()
    late: float = operational()


class CorrectionRequest(Asked):
    """What is known of an ended case's component now. ``failed_at`` empty: when its indicator tells."""

    failed: bool = operational()
    failed_at: AwareDatetime | None = operational(None)
    failure_mode: str = operational("unknown", max_length=64)
    note: str = operational("", max_length=2000)


class CalibrationAnswer(Answer):
    window_days: int = public()
    window_lives: int = public()
    cohorts: list[CohortCalibration] = operational()
