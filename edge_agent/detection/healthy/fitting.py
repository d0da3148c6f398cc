"""Learning what healthy is: rows of the learning period in, a model with calibrated thresholds out.

Three layers are calibrated on the same out-of-sample rehearsal of the learning period (``calibrate``): each
detector's statistics, given room for channels that wander; and the fused, accumulated evidence, whose own healthy
tail may tighten the limit (``gain``) where the detectors' separate limits turned out needlessly wide.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import fusion
from edge_agent.detection.healthy.baseline import fit_baseline, lag
from edge_agent.detection.healthy.calibrate import Threshold, persistence, rehearse, scarcity, tail_threshold
from edge_agent.detection.healthy.model import HealthyModel, Tables, build_detectors, first_votes
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.settings import DetectionSettings

FOLDS = 6
KNOWN_VALUES = 128
"""Of a channel that appeared in the later half of what is learnt from, so many values are needed to judge it."""
LEAST_GAIN = 0.8
REMEMBERED = 4096
FARTHEST_US = 28 * 86_400_000_000
"""What weeks have shown needs no room for months: by then experience has given it."""
MOST_PERSISTENCE = 2
"""An alarm waits for the evidence's own correlation time, at most this many times ``raise_ticks``."""


def learn(
    rows: FloatArray,
    regimes: FloatArray,
    times_us: IntArray,
    own: tuple[int, ...],
    settings: DetectionSettings,
    tables: Tables,
    rate: float,
    alone: float,
    beyond: float = 0.0,
    fall_share: FloatArray | None = None,
) -> HealthyModel:
    """Fit and calibrate on healthy rows (n, channels) in order of time; the memories stand where the rows end.

    ``own``, ``fall_share``: see ``baseline.fit_baseline``. ``rate``: false alarms per row to calibrate to.
    ``alone``: see ``fusion.between``. ``beyond``: see ``calibrate.tail_threshold``.
    """
    rows = _without_newcomers(rows)
    lagged = lag(regimes)
    detectors = build_detectors(tables, rows.shape[1])
    span_us = max(1, int(times_us[-1] - times_us[0]))
    horizon = max(1.0, min(settings.horizon, FARTHEST_US / span_us))
    rehearsal = rehearse(rows, regimes, lagged, times_us, own, list(detectors.values()), FOLDS, horizon, fall_share)
    scarce = scarcity(rows)
    thresholds: dict[str, Threshold] = {}
    for (name, detector), statistics in zip(detectors.items(), rehearsal.statistics, strict=True):
        each = tail_threshold(statistics, rate / statistics.shape[1], beyond)
        room = np.array([float(np.median(scarce))])
        if detector.per_channel:
            room = np.tile(rehearsal.wander * scarce, statistics.shape[1] // rows.shape[1])
        if beyond:
            room = room * detector.room(len(rows))
        thresholds[name] = Threshold(each.typical, np.maximum(each.limit * room, each.typical + 1e-6))
    joined = [
        fusion.within(each.ratio(statistics), np.array([0]))
        for each, statistics in zip(thresholds.values(), rehearsal.statistics, strict=True)
    ]
    course = Smoother((settings.smoothing,)).run(
        np.zeros((1, 1)), fusion.between(np.concatenate(joined, axis=1), alone, first_votes(detectors))[:, None]
    )[:, 0, 0]
    limit = float(tail_threshold(course[:, None], rate, beyond).limit[0])
    gain = min(1.0, max(LEAST_GAIN, limit * float(np.median(rehearsal.wander * scarce))))
    raise_ticks = min(MOST_PERSISTENCE * settings.raise_ticks, max(settings.raise_ticks, persistence(course)))
    baseline = fit_baseline(rows, regimes, lagged, times_us, own, fall_share)
    healthy = np.nan_to_num(baseline.deviation(rows, regimes, lagged, times_us))
    for detector in detectors.values():
        detector.fit(healthy, rehearsal.wander)
        detector.memory = np.zeros_like(detector.memory)
        detector.run(healthy[-REMEMBERED:])
    return HealthyModel(baseline, detectors, thresholds, gain, raise_ticks, alone)


def _without_newcomers(rows: FloatArray) -> FloatArray:
    """Rows (n, channels) without the few values of a channel that has only just appeared: no limit is known for it."""
    seen = np.isfinite(rows)
    new = (seen.argmax(axis=0) > len(rows) // 2) & (seen.sum(axis=0) < KNOWN_VALUES)
    return np.where(new, np.nan, rows) if new.any() else rows
