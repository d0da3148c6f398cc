"""The healthy baseline of one component's channels: how raw values become deviations in robust sigmas.

Four steps, all learnt on the asset's own healthy rows: a logarithm for strictly positive, right-skewed channels
(levels that multiply rather than add); what the asset's regime explains (load, speed, ambient: a ridge regression on
the regime, its square and its lagged course, because heat follows load late); what the hour of the day and of the week
explain, for channels where held-out days say that it does; robust centre and scale of the rest.

Under a regime that was never seen while learning nothing is known for sure: deviations shrink by how far out it is.

Rows are (n, channels) with NaN for missing, regimes (n, regimes), times (n,) in microseconds. Nothing here raises on
odd data: a channel that never moved gets a scale from its own resolution, one that was never seen stays NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection import restored
from edge_agent.detection.healthy import season
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.tuning import DEVIATION_LIMIT, RESOLUTION, UNSEEN_MARGIN

SKEW_FOR_LOG = 0.35
"""Of the quantiles: 0 for a symmetric channel, 0.56 for an exponential one."""
RIDGE = 1e-2
BACKFITS = 2
LAG_WEIGHT = 0.15
REGIME_TERMS = 3
"""Of each regime: itself, its lagged course, its square."""
MIN_VALUES_PER_TERM = 16
"""Distinct values a channel must have shown per regression term; a slow channel held over many ticks has few."""


_LAG = Smoother((LAG_WEIGHT,))


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline: arrays (channels,), but ``regime_*`` (regimes,) and ``*weights`` (terms, channels)."""

    logged: FloatArray
    centre: FloatArray
    scale: FloatArray
    regime_centre: FloatArray
    regime_scale: FloatArray
    regime_low: FloatArray
    regime_high: FloatArray
    weights: FloatArray
    season_weights: FloatArray
    fall_share: FloatArray

    def deviation(self, rows: FloatArray, regimes: FloatArray, lagged: FloatArray, times_us: IntArray) -> FloatArray:
        """Deviations (n, channels) in robust sigmas, bounded; NaN where the rows are."""
        value = _log_some(rows, self.logged) - self._expected(regimes, lagged, times_us)
        scale = self.scale
        if self.regime_centre.size:
            scale = scale * (1 + self._unseen(regimes))
        # a jump beyond the limit is as wrong as the limit; np.clip would turn NaN handling into a surprise
        deviation = np.minimum(np.maximum(value / scale, -DEVIATION_LIMIT), DEVIATION_LIMIT)
        if self._falls_matter_less:
            deviation = np.where(deviation < 0, deviation * self.fall_share, deviation)
        return deviation

    def expected(self, regimes: FloatArray, lagged: FloatArray, times_us: IntArray) -> FloatArray:
        """What the channels should read (n, channels), in their own units."""
        value = np.broadcast_to(self._expected(regimes, lagged, times_us), (len(times_us), len(self.centre)))
        return np.where(self.logged > 0, np.exp(np.minimum(value, 700.0)), value)

    def terms(self, regimes: FloatArray, lagged: FloatArray) -> FloatArray:
        """Regression terms of regimes (n, regimes), bounded to what was seen while learning (no extrapolation)."""
        now = np.nan_to_num(_bounded((regimes - self.regime_centre) / self.regime_scale))
        past = np.nan_to_num(_bounded((lagged - self.regime_centre) / self.regime_scale))
        return np.concatenate((now, past, now * now - 1.0), axis=1)

    def physical(self, deviation: FloatArray) -> FloatArray:
        """Values in the channels' own units that deviations (channels,) stand for, at the mean regime."""
        value = np.where(deviation < 0, deviation / self.fall_share, deviation) * self.scale + self.centre
        return np.where(self.logged > 0, np.exp(np.minimum(value, 700.0)), value)

    @property
    def _falls_matter_less(self) -> bool:
        return bool(self.fall_share.min(initial=1.0) < 1)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def _expected(self, regimes: FloatArray, lagged: FloatArray, times_us: IntArray) -> FloatArray:
        value = self.centre
        if self.regime_centre.size:
            value = value + self.terms(regimes, lagged) @ self.weights
        if self.season_weights.size:
            value = value + season.terms(times_us, len(self.season_weights)) @ self.season_weights
        return value

    def _unseen(self, regimes: FloatArray) -> FloatArray:
        """How far (n, 1), in the regimes' own spread, the regimes lie outside what was seen while learning."""
        outside = np.maximum(self.regime_low - regimes, regimes - self.regime_high) / self.regime_scale
        return np.maximum(0.0, np.nan_to_num(outside).max(axis=1, keepdims=True))


def lag(regimes: FloatArray, start: FloatArray | None = None) -> FloatArray:
    """Lagged course (n, regimes) of the regimes: an exponentially weighted mean that skips missing values."""
    current = np.full(regimes.shape[1], np.nan) if start is None else start
    if regimes.size and np.isfinite(regimes).all() and np.isfinite(current).all():
        return _LAG.run(current[None], regimes)[:, 0]
    lagged = np.empty_like(regimes)
    for index, row in enumerate(regimes):
        moved = current + LAG_WEIGHT * (row - current)
        current = np.where(np.isnan(current), row, np.where(np.isnan(row), current, moved))
        lagged[index] = current
    return lagged


def fit_baseline(
    rows: FloatArray,
    regimes: FloatArray,
    lagged: FloatArray,
    times_us: IntArray,
    own: tuple[int, ...],
    fall_share: FloatArray | None = None,
) -> Baseline:
    """Fit on healthy rows (n, channels), their regimes (n, regimes; zero regimes allowed) and times (n,).

    ``own``: the channel that each regime is itself, -1 for none: a channel is never explained by itself.
    ``fall_share`` (channels,): how much a deviation below healthy counts, 0..1 (None: as much as one above).
    """
    logged = _choose_log(rows)
    values = _log_some(rows, logged)
    centre = _median(values)
    channels = rows.shape[1]
    regime_centre = _median(regimes)
    regime_scale = np.maximum(_nan_std(regimes), 1e-9 * (1 + np.abs(regime_centre)))
    low, high = _columns(np.nanmin, regimes), _columns(np.nanmax, regimes)
    margin = UNSEEN_MARGIN * (high - low)
    none = np.zeros((0, channels))
    shares = np.ones(channels) if fall_share is None else fall_share
    blank = Baseline(
        logged, centre, np.ones(channels), regime_centre, regime_scale, low - margin, high + margin, none, none, shares
    )
    above = values - centre
    weights, residual = none, above
    if regimes.shape[1]:
        terms = blank.terms(regimes, lagged)
        weights = np.zeros((terms.shape[1], channels))
        for _ in range(2):  # the second fit leaves the first one's outliers out
            weights = _ridge(terms, above, residual, own * REGIME_TERMS)
            residual = above - terms @ weights
    season_weights = season.fit(residual, times_us)
    if season_weights.size:
        rhythm = season.terms(times_us, len(season_weights))
        residual = residual - rhythm @ season_weights
        for _ in range(BACKFITS if regimes.shape[1] else 0):
            # load that happened to go with the hour was taken for its doing, and the other way round
            weights = _ridge(terms, above - rhythm @ season_weights, residual, own * REGIME_TERMS)
            season_weights = season.refit(above - terms @ weights, times_us, season_weights)
            residual = above - terms @ weights - rhythm @ season_weights
    offset = _median(residual)
    scale = _floor(_spread(residual - offset), values, centre + offset)
    return dataclasses.replace(
        blank, centre=centre + offset, scale=scale, weights=weights, season_weights=season_weights
    )


def load_baseline(state: Mapping[str, Any], channels: int, regimes: int) -> Baseline:
    """A baseline from its ``state``. Raises ValueError, TypeError, KeyError when it is not of so many channels and
    regimes."""
    season_weights = restored.table(state["season_weights"], None, channels)
    if len(season_weights) not in (0, season.DAY_TERMS, season.WEEK_TERMS):
        raise ValueError("a season of other terms")
    return Baseline(
        logged=restored.sized(state["logged"], channels),
        centre=restored.readings(state["centre"], channels),
        scale=restored.above_zero(state["scale"], channels),
        regime_centre=restored.readings(state["regime_centre"], regimes),
        regime_scale=restored.readings(state["regime_scale"], regimes),
        regime_low=restored.readings(state["regime_low"], regimes),
        regime_high=restored.readings(state["regime_high"], regimes),
        weights=restored.table(state["weights"], REGIME_TERMS * regimes, channels),
        season_weights=season_weights,
        fall_share=restored.positive(state["fall_share"], channels),
    )


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


def _ridge(terms: FloatArray, residual: FloatArray, unexplained: FloatArray, own: tuple[int, ...]) -> FloatArray:
    weights = np.zeros((terms.shape[1], residual.shape[1]))
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(residual) & (np.abs(unexplained) <= 6 * np.maximum(_spread(unexplained), 1e-12))
    for channel in range(residual.shape[1]):
        rows = usable[:, channel]
        others = [term for term, itself in enumerate(own) if itself != channel]
        used = others[: distinct_values(residual[rows, channel]) // MIN_VALUES_PER_TERM]
        if not used:
            continue
        design = terms[rows][:, used]
        gram = design.T @ design + RIDGE * rows.sum() * np.eye(len(used))
        weights[used, channel] = np.linalg.solve(gram, design.T @ residual[rows, channel])
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
