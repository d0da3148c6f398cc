"""Learning what healthy is: rows of the learning period in, a model with calibrated thresholds out.

Two layers are calibrated on the same out-of-sample rehearsal of the learning period (``calibrate``): each
detector's statistics, given room for channels that wander; and the fused, accumulated evidence, whose own healthy
tail may tighten its limit where the detectors' separate limits turned out needlessly wide. How a limit is multiplied:
``alarm_limit``.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import fusion
from edge_agent.detection.alarm_limit import alarm_limit
from edge_agent.detection.healthy.baseline import fit_baseline, lag
from edge_agent.detection.healthy.calibrate import Threshold, rehearse, scarcity, tail_threshold
from edge_agent.detection.healthy.model import HealthyModel, build_detectors, first_votes
from edge_agent.detection.healthy.plane_settings import PlaneSetup
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.sustained import raise_ticks
from edge_agent.detection.tuning import FARTHEST_US, FOLDS, KNOWN_VALUES, LEAST_EVIDENCE_LIMIT

REMEMBERED = 4096


def fit_model(
    setup: PlaneSetup, rows: FloatArray, regimes: FloatArray, times_us: IntArray, rate: float, daily: bool
) -> HealthyModel:
    """Fit and calibrate on healthy rows (n, channels) in order of time; the memories stand where the rows end.

    ``rate``: false alarms per row to calibrate to. ``daily``: have the rows seen days go by, or will they soon?
    """
    settings, own, fall_share = setup.settings, setup.own, setup.fall_share
    beyond = own.tuning.beyond_seen if daily else 0.0
    rows = _without_newcomers(rows)
    lagged = lag(regimes)
    detectors = build_detectors(own.detectors, rows.shape[1])
    span_us = max(1, int(times_us[-1] - times_us[0]))
    horizon = max(1.0, min(settings.horizon, FARTHEST_US / span_us))
    rehearsal = rehearse(
        rows, regimes, lagged, times_us, setup.itself, list(detectors.values()), FOLDS, horizon, fall_share
    )
    scarce = scarcity(rows)
    thresholds: dict[str, Threshold] = {}
    for (name, detector), statistics in zip(detectors.items(), rehearsal.statistics, strict=True):
        each = tail_threshold(statistics, rate / statistics.shape[1], beyond)
        copies = statistics.shape[1] // rows.shape[1]
        limit = alarm_limit(
            each.limit,
            wander=np.tile(rehearsal.wander, copies) if detector.per_channel else 1.0,
            scarcity=np.tile(scarce, copies) if detector.per_channel else float(np.median(scarce)),
            stretches=detector.room(len(rows)) if beyond else 1.0,
        )
        thresholds[name] = Threshold(each.typical, np.maximum(limit, each.typical + 1e-6))
    joined = [
        fusion.within(each.ratio(statistics), np.array([0]))
        for each, statistics in zip(thresholds.values(), rehearsal.statistics, strict=True)
    ]
    fused = fusion.between(np.concatenate(joined, axis=1), own.tuning.alone, first_votes(detectors))
    course = Smoother((settings.smoothing,)).run(np.zeros((1, 1)), fused[:, None])[:, 0, 0]
    tail = float(tail_threshold(course[:, None], rate, beyond).limit[0])
    evidence_limit = min(1.0, max(LEAST_EVIDENCE_LIMIT, alarm_limit(tail, rehearsal.wander, scarce)))
    ticks = raise_ticks(course, settings.raise_ticks)
    baseline = fit_baseline(rows, regimes, lagged, times_us, setup.itself, fall_share)
    healthy = np.nan_to_num(baseline.deviation(rows, regimes, lagged, times_us))
    for detector in detectors.values():
        detector.fit(healthy, rehearsal.wander)
        detector.memory = np.zeros_like(detector.memory)
        detector.run(healthy[-REMEMBERED:])
    return HealthyModel(baseline, detectors, thresholds, evidence_limit, ticks, own.tuning.alone)


def _without_newcomers(rows: FloatArray) -> FloatArray:
    """Rows (n, channels) without the few values of a channel that has only just appeared: no limit is known for it."""
    seen = np.isfinite(rows)
    new = (seen.argmax(axis=0) > len(rows) // 2) & (seen.sum(axis=0) < KNOWN_VALUES)
    return np.where(new, np.nan, rows) if new.any() else rows
