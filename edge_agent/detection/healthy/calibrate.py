"""Thresholds from the asset's own healthy life: out-of-sample statistics and a tail fitted to them.

No textbook multiple of sigma appears here. The learning rows are cut into contiguous stretches; each stretch is
judged by models fitted on all the others while the detectors' memories run on through the cuts. The statistics so
obtained are what this asset's healthy life produces under a model that has not seen it, drifts and autocorrelation
included. Above their upper quantile an exponential tail (extreme-value theory's middle case; the statistics grow
linearly in the deviation) is fitted to the peaks of clusters, one excess per cluster, because neighbouring
exceedances are one event; few clusters widen the tail. The threshold is where the fitted tail meets the stated rate.
On a plane that sees days, where slow drifts are judged, the tail is Gaussian instead (exponential in the square), and
no threshold lies below ``PlaneTuning.beyond_seen`` times what healthy rows reached.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.alarm_limit import Threshold
from edge_agent.detection.detectors.api import Detector
from edge_agent.detection.healthy.baseline import distinct_values, fit_baseline
from edge_agent.detection.tuning import CLUSTER_GAP, SCARCITY, TAIL_QUANTILE, WINSORISED_SIGMAS


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The learning period judged out of sample: deviations (n, channels), statistics per detector (n, outputs)."""

    deviations: FloatArray
    statistics: tuple[FloatArray, ...]
    wander: FloatArray


def folds_of(count: int, folds: int) -> list[slice]:
    """``count`` rows cut into ``folds`` contiguous stretches of nearly equal length."""
    edges = np.linspace(0, count, folds + 1).astype(int)
    return [slice(int(low), int(high)) for low, high in itertools.pairwise(edges)]


def rehearse(
    rows: FloatArray,
    regimes: FloatArray,
    lagged: FloatArray,
    times_us: IntArray,
    own: tuple[int, ...],
    detectors: Sequence[Detector],
    folds: int,
    horizon: float,
    fall_share: FloatArray | None = None,
) -> Rehearsal:
    """Judge every learning row by models fitted without the row's stretch; leaves the memories where they ended."""
    parts: list[tuple[slice, FloatArray, FloatArray]] = []
    for held_out in folds_of(len(rows), folds):
        kept = np.ones(len(rows), dtype=bool)
        kept[held_out] = False
        baseline = fit_baseline(rows[kept], regimes[kept], lagged[kept], times_us[kept], own, fall_share)
        healthy, judged_part = (
            np.nan_to_num(baseline.deviation(rows[each], regimes[each], lagged[each], times_us[each]))
            for each in (kept, held_out)
        )
        parts.append((held_out, healthy, judged_part))
    judged = np.concatenate([part for _, _, part in parts])
    straying = wander(judged, horizon)
    statistics = []
    for detector in detectors:
        outcome: list[FloatArray] = []
        for _, healthy, part in parts:
            detector.fit(healthy, straying)
            outcome.append(detector.run(part))
        statistics.append(np.concatenate(outcome))
    return Rehearsal(judged, tuple(statistics), straying)


def scarcity(rows: FloatArray) -> FloatArray:
    """Room (>= 1, per channel) for a channel that showed fewer values than there were ticks: its tail is less known."""
    ticks = len(rows)
    values = np.array([max(1, distinct_values(column)) for column in rows.T])
    room: FloatArray = (1 + SCARCITY / np.sqrt(values)) / (1 + SCARCITY / np.sqrt(ticks))
    return room


def wander(judged: FloatArray, horizon: float) -> FloatArray:
    """By how much more (>= 1, per channel) a channel will stray over ``horizon`` learning periods than over one.

    A channel that only scatters about its level has a variogram that is flat; one that wanders (a temperature without
    control, a bearing running in) has one that rises with the lag. The rise seen between short and long lags of the
    learning period is carried on to the horizon, at most as a random walk would.
    """
    count = len(judged)
    short, long = max(1, count // 12), max(2, count // 3)
    clipped = np.clip(judged, -WINSORISED_SIGMAS, WINSORISED_SIGMAS)
    window = max(1, short // 2)
    sums = np.cumsum(np.vstack((np.zeros(clipped.shape[1]), clipped)), axis=0)
    smooth = (sums[window:] - sums[:-window]) / window
    near = _variogram(smooth, short) + 1e-3 / window
    far = _variogram(smooth, long) + 1e-3 / window
    slope = np.clip(np.log(far / near) / np.log(long / short), 0.0, 1.0)
    factor: FloatArray = (horizon * count / long) ** (slope / 2)
    return factor


def _variogram(values: FloatArray, lag: int) -> FloatArray:
    half_squares: FloatArray = 0.5 * np.mean((values[lag:] - values[:-lag]) ** 2, axis=0)
    return half_squares


def tail_threshold(statistics: FloatArray, rate: float, beyond: float = 0.0) -> Threshold:
    """Where the healthy tail of each statistic (n, outputs) is met with probability ``rate`` per tick and output.

    ``beyond`` > 0: the rows have seen days go by and are believed to the last of them: no limit lies below so many
    times what they reached.
    """
    typical = np.median(statistics, axis=0)
    start = np.quantile(statistics, TAIL_QUANTILE, axis=0)
    if beyond:
        # all is seen that months hold but the last of the tail, which is Gaussian: exponential in the square
        limit = np.array(
            [
                np.sqrt(_tail_limit(column * column, float(low * low), rate))
                for column, low in zip(statistics.T, start, strict=True)
            ]
        )
        limit = np.maximum(limit, typical + beyond * (statistics.max(axis=0) - typical))
    else:
        limit = np.array(
            [_tail_limit(column, float(low), rate) for column, low in zip(statistics.T, start, strict=True)]
        )
    return Threshold(typical, np.maximum(limit, typical + 1e-6))


def _tail_limit(statistics: FloatArray, start: float, rate: float) -> float:
    excesses = cluster_excesses(statistics, start)
    if not excesses.size:
        return 1.5 * start + 1e-6
    # an exponential's mean from its median: one outlier that slipped into the healthy rows does not move it
    mean_excess = max(float(np.median(excesses)) / np.log(2), 0.5 * float(excesses.mean()))
    mean_excess *= 1 + 1 / np.sqrt(excesses.size)
    share = excesses.size / statistics.size
    return start + mean_excess * max(1.0, float(np.log(share / rate)))


def cluster_excesses(statistics: FloatArray, start: float) -> FloatArray:
    """The highest excess over ``start`` of each cluster of exceedances (clusters lie ``CLUSTER_GAP`` rows apart)."""
    above = np.flatnonzero(statistics > start)
    if not above.size:
        return np.zeros(0)
    firsts = np.concatenate(([0], np.flatnonzero(np.diff(above) > CLUSTER_GAP) + 1))
    return np.asarray(np.maximum.reduceat(statistics[above], firsts) - start)
