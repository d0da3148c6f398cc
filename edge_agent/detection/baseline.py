"""The healthy baseline of one component's channels: how raw values become deviations in robust sigmas.

Three steps, all learnt on the asset's own healthy rows: a logarithm for strictly positive, right-skewed channels
(levels that multiply rather than add); what the asset's regime explains (load, speed, ambient: a ridge regression on
the regime, its square and its lagged course, because heat follows load late); robust centre and scale of the rest.

Rows are (n, channels) with NaN for missing, regimes (n, regimes). Nothing here raises on odd data: a channel that
never moved gets a scale from its own resolution, one that was never seen stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SKEW_FOR_LOG = 0.35
"""Of the quantiles: 0 for a symmetric channel, 0.56 for an exponential one."""
RIDGE = 1e-2
LAG_WEIGHT = 0.15
DEVIATION_LIMIT = 1e3
MIN_VALUES_PER_TERM = 16
"""Distinct values a channel must have shown per regression term; a slow channel held over many ticks has few."""
RESOLUTION = 1e-4
"""No channel is trusted to resolve less than this share of its own level."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline: arrays (channels,), but ``regime_*`` (regimes,) and ``weights`` (terms, channels)."""

    logged: FloatArray
    centre: FloatArray
    scale: FloatArray
    regime_centre: FloatArray
    regime_scale: FloatArray
    weights: FloatArray

    def deviation(self, row: FloatArray, regime_terms: FloatArray) -> FloatArray:
        """Deviations (channels,) in robust sigmas, bounded; NaN where the row is. ``regime_terms``: see ``terms``."""
        value = _log_some(row, self.logged) - self.centre
        if regime_terms.size:
            value = value - regime_terms @ self.weights
        # a jump beyond the limit is as wrong as the limit; np.clip would turn NaN handling into a surprise
        return np.minimum(np.maximum(value / self.scale, -DEVIATION_LIMIT), DEVIATION_LIMIT)

    def terms(self, regime: FloatArray, lagged: FloatArray) -> FloatArray:
        """Regression terms of regimes (..., regimes), bounded to what was seen while learning (no extrapolation)."""
        if not self.regime_centre.size:
            return regime
        now = np.nan_to_num(_bounded((regime - self.regime_centre) / self.regime_scale))
        past = np.nan_to_num(_bounded((lagged - self.regime_centre) / self.regime_scale))
        return np.concatenate((now, past, now * now - 1.0), axis=-1)

    def physical(self, deviation: FloatArray) -> FloatArray:
        """Values in the channels' own units that deviations (channels,) stand for, at the mean regime."""
        value = deviation * self.scale + self.centre
        return np.where(self.logged > 0, np.exp(np.minimum(value, 700.0)), value)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def lag(regimes: FloatArray, start: FloatArray | None = None) -> FloatArray:
    """Lagged course (n, regimes) of the regimes: an exponentially weighted mean that skips missing values."""
    lagged = np.empty_like(regimes)
    current = np.full(regimes.shape[1], np.nan) if start is None else start
    for index, row in enumerate(regimes):
        current = next_lag(current, row)
        lagged[index] = current
    return lagged


def next_lag(current: FloatArray, regime: FloatArray) -> FloatArray:
    """One step of ``lag``."""
    moved = current + LAG_WEIGHT * (regime - current)
    return np.where(np.isnan(current), regime, np.where(np.isnan(regime), current, moved))


def fit_baseline(rows: FloatArray, regimes: FloatArray, lagged: FloatArray) -> Baseline:
    """Fit on healthy rows (n, channels) and their regimes (n, regimes; zero regimes allowed)."""
    logged = _choose_log(rows)
    values = _log_some(rows, logged)
    centre = _median(values)
    regime_centre = _median(regimes)
    regime_scale = np.maximum(_nan_std(regimes), 1e-9 * (1 + np.abs(regime_centre)))
    channels = rows.shape[1]
    blank = Baseline(logged, centre, np.ones(channels), regime_centre, regime_scale, np.zeros((0, channels)))
    terms = blank.terms(regimes, lagged)
    weights = np.zeros((terms.shape[1], channels))
    residual = values - centre
    if regimes.shape[1]:
        for _ in range(2):  # the second fit leaves the first one's outliers out
            weights = _ridge(terms, residual, residual - terms @ weights)
        residual = residual - terms @ weights
    offset = _median(residual)
    scale = _floor(_spread(residual - offset), values, centre + offset)
    return Baseline(logged, centre + offset, scale, regime_centre, regime_scale, weights)


def load_baseline(state: dict[str, Any]) -> Baseline:
    """A baseline from its ``state``."""
    return Baseline(**state)


def _log_some(rows: FloatArray, logged: FloatArray) -> FloatArray:
    if not logged.any():
        return rows
    return np.where(logged > 0, np.log(np.maximum(rows, 1e-12)), rows)


def _choose_log(rows: FloatArray) -> FloatArray:
    low, centre, high = (_quantile(rows, share) for share in (0.05, 0.5, 0.95))
    lowest = _columns(np.nanmin, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        skew = (high + low - 2 * centre) / (high - low)
        return ((skew > SKEW_FOR_LOG) & (lowest > 0.05 * np.abs(centre))).astype(float)


def _ridge(terms: FloatArray, residual: FloatArray, unexplained: FloatArray) -> FloatArray:
    weights = np.zeros((terms.shape[1], residual.shape[1]))
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(residual) & (np.abs(unexplained) <= 6 * np.maximum(_spread(unexplained), 1e-12))
    for channel in range(residual.shape[1]):
        rows = usable[:, channel]
        count = min(terms.shape[1], distinct_values(residual[rows, channel]) // MIN_VALUES_PER_TERM)
        if count == 0:
            continue
        design = terms[rows, :count]
        gram = design.T @ design + RIDGE * rows.sum() * np.eye(count)
        weights[:count, channel] = np.linalg.solve(gram, design.T @ residual[rows, channel])
    return weights


def _floor(scale: FloatArray, values: FloatArray, centre: FloatArray) -> FloatArray:
    """A scale never below what the channel can resolve, so that a constant channel does not shout at one digit."""
    floor = np.full(scale.shape, 0.0)
    for channel in range(scale.size):
        column = values[:, channel]
        steps = np.diff(np.unique(column[np.isfinite(column)]))
        never_moved = 0.01 * abs(np.nan_to_num(centre[channel]))
        floor[channel] = max(steps.min() / 2, RESOLUTION * abs(centre[channel])) if steps.size else never_moved
    return np.maximum(np.nan_to_num(scale, nan=1.0), np.maximum(floor, 1e-9))


def distinct_values(column: FloatArray) -> int:
    """How many different finite values a column holds in a row: repeats of a held value count once."""
    finite = column[np.isfinite(column)]
    return int(np.count_nonzero(np.diff(finite))) + 1 if finite.size else 0


def _bounded(value: FloatArray) -> FloatArray:
    return np.minimum(np.maximum(value, -3.0), 3.0)


def _spread(values: FloatArray) -> FloatArray:
    """Robust sigma (channels,): the widest of what the middle half and the middle 95 % of the values say.

    The middle 95 % keeps a channel that mostly stands still and sometimes moves from shouting at each healthy move.
    """
    low, first, third, high = (_quantile(values, share) for share in (0.025, 0.25, 0.75, 0.975))
    return np.maximum((third - first) / 1.349, (high - low) / 3.92)


def _quantile(values: FloatArray, share: float) -> FloatArray:
    return _columns(lambda finite, axis: np.nanquantile(finite, share, axis=axis), values)


def _median(values: FloatArray) -> FloatArray:
    return _columns(np.nanmedian, values)


def _nan_std(values: FloatArray) -> FloatArray:
    return _columns(np.nanstd, values)


def _columns(statistic: Any, values: FloatArray) -> FloatArray:
    """A NaN-aware statistic per column; NaN, and no warning, where a column holds nothing."""
    seen = np.isfinite(values).any(axis=0) if len(values) else np.zeros(values.shape[1], dtype=bool)
    result = np.full(values.shape[1], np.nan)
    if seen.any():
        finite = np.where(np.isfinite(values[:, seen]), values[:, seen], np.nan)
        result[seen] = statistic(finite, axis=0)
    return result
