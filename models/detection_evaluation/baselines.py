"""Plain detectors for comparison: methods that anybody gets from a library or a textbook, on the same rows.

A detector learns from the first ``learn`` rows (from which the device learnt, too) or continuously, is causal, has one
setting for everything, and returns a score 0..1 and an alarm for each row. The packages come with the extra
``evaluate`` and are imported when first used; without them a BadConfig says what to install.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet_core.errors import BadConfig
from models.detection_evaluation.judging import DetectorRun, FloatArray

Detector = Callable[[FloatArray, int], DetectorRun]

GAUSS_WINDOW = 6400
GAUSS_STEP = 100
GAUSS_LIMIT = 3.0
PCA_VARIANCE = 0.9
PCA_CONFIDENCE = 0.99
QUANTILE = 0.995
"""Alarm limit where no textbook gives one: this quantile of the scores over the learning rows."""
SEED = 1
SMALL = 1e-9


def optional(module: str) -> Any:
    """A module of the extra ``evaluate``. Raises BadConfig when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise BadConfig(
            f"{module.split('.')[0]} is needed to compare and plot: pip install 'forestall[evaluate]' "
            "(or leave out with --no-baselines and without --out)"
        ) from None


def windowed_gaussian(values: FloatArray, learn: int) -> DetectorRun:
    """A normal distribution per channel over the last 6400 rows, renewed every 100; alarm beyond 3 sigma."""
    rows = filled(values)
    farthest = np.zeros(len(rows))
    for start in range(GAUSS_STEP, len(rows), GAUSS_STEP):
        past = rows[max(0, start - GAUSS_WINDOW) : start]
        spread = np.maximum(past.std(axis=0), SMALL)
        block = slice(start, start + GAUSS_STEP)
        farthest[block] = (np.abs(rows[block] - past.mean(axis=0)) / spread).max(axis=1)
    # Any rising function would do, because NAB chooses the threshold. A tail probability would end in ties at 1.
    return DetectorRun(farthest / (farthest + GAUSS_LIMIT), farthest > GAUSS_LIMIT, min(learn, len(rows)))


def pca_t2_q(values: FloatArray, learn: int) -> DetectorRun:
    """Principal components of the learning rows (90 % of variance); T squared and Q beyond their 99 % limits."""
    stats = optional("scipy.stats")
    rows, learn = filled(values), min(learn, len(values))
    mean, spread = rows[:learn].mean(axis=0), np.maximum(rows[:learn].std(axis=0), SMALL)
    scaled = np.clip((rows - mean) / spread, -1e6, 1e6)
    _, singular, axes = np.linalg.svd(scaled[:learn], full_matrices=False)
    variance = singular**2 / max(1, learn - 1)
    kept = int(np.searchsorted(np.cumsum(variance) / max(variance.sum(), SMALL), PCA_VARIANCE)) + 1
    kept = min(kept, len(variance), max(1, learn - 2))
    projected = scaled @ axes[:kept].T
    t2 = (projected**2 / np.maximum(variance[:kept], SMALL)).sum(axis=1)
    q = ((scaled - projected @ axes[:kept]) ** 2).sum(axis=1)
    t2_limit = kept * (learn**2 - 1) / (learn * (learn - kept)) * stats.f.ppf(PCA_CONFIDENCE, kept, learn - kept)
    ratio = np.maximum(t2 / t2_limit, q / _q_limit(variance[kept:], stats.norm.ppf(PCA_CONFIDENCE)))
    return _from_first_judged(ratio / (1.0 + ratio), 0.5, learn)


def isolation_forest(values: FloatArray, learn: int) -> DetectorRun:
    """scikit-learn's isolation forest on the learning rows."""
    rows, learn = filled(values), min(learn, len(values))
    forest = optional("sklearn.ensemble").IsolationForest(random_state=SEED).fit(rows[:learn])
    score = -np.asarray(forest.score_samples(rows), dtype=np.float64)
    return _from_first_judged(score, float(np.quantile(score[:learn], QUANTILE)), learn)


def half_space_trees(values: FloatArray, learn: int) -> DetectorRun:
    """river's half-space trees on values scaled to the range seen so far; they go on learning."""
    rows, learn = filled(values), min(learn, len(values))
    trees = optional("river.anomaly").HalfSpaceTrees(seed=SEED)
    scaler = optional("river.preprocessing").MinMaxScaler()
    score = np.zeros(len(rows))
    for index, row in enumerate(rows.tolist()):
        named = dict(enumerate(row))
        scaler.learn_one(named)
        scaled = scaler.transform_one(named)
        score[index] = trees.score_one(scaled)
        trees.learn_one(scaled)
    return _from_first_judged(score, float(np.quantile(score[:learn], QUANTILE)), learn)


BASELINES: dict[str, Detector] = {
    "windowed Gaussian": windowed_gaussian,
    "half-space trees": half_space_trees,
    "PCA T2+Q": pca_t2_q,
    "isolation forest": isolation_forest,
}


def filled(values: FloatArray) -> FloatArray:
    """Rows (n, c) with each missing value held at the last one known (before the first: 0)."""
    known = np.isfinite(values)
    place = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    held = np.take_along_axis(values, np.maximum(place, 0), axis=0)
    return np.where(place >= 0, held, 0.0)


def _q_limit(rest: FloatArray, quantile: float) -> float:
    """Jackson and Mudholkar's limit for the squared residual, from the variances (m,) that were left out."""
    first, second, third = (float((rest**power).sum()) for power in (1, 2, 3))
    if first <= SMALL or second <= 0:
        return SMALL
    bend = 1.0 - 2.0 * first * third / (3.0 * second**2)
    if abs(bend) < SMALL:
        return first
    inner = 1.0 + quantile * np.sqrt(2.0 * second * bend**2) / first + second * bend * (bend - 1.0) / first**2
    return float(max(SMALL, first * max(inner, 0.0) ** (1.0 / bend)))


def _from_first_judged(score: NDArray[Any], limit: float, learn: int) -> DetectorRun:
    judged = np.arange(len(score)) >= learn
    bounded = np.where(judged, np.clip(score, 0.0, 1.0), 0.0)
    return DetectorRun(bounded, judged & (score > limit), learn)
