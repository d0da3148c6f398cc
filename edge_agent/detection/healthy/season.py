"""The hour of the day and of the week as part of what is expected of a channel.

Harmonics of the day (from three days of healthy rows on) and of the week (from three weeks on) are fitted by ridge
regression to what load and speed leave unexplained. A channel gets them only if held-out periods are predicted clearly
better with them than without: a made-up rhythm would cost more than a missed one. Hours are UTC: only the period
matters, not the name.

Times are (n,) microseconds, residuals (n, channels) with NaN for missing. Nothing raises on odd data.
"""

from __future__ import annotations

import numpy as np

from edge_agent.arrays import FlagArray, FloatArray, IntArray

DAY_US = 86_400_000_000
WEEK_US = 7 * DAY_US
DAY_HARMONICS = 5
WEEK_HARMONICS = 6
DAY_TERMS = 2 * DAY_HARMONICS
WEEK_TERMS = DAY_TERMS + 2 * WEEK_HARMONICS
LEAST_DAYS = 2.9
LEAST_WEEKS = 2.9
LEAST_ROWS_A_DAY = 8
PAYS = 0.8
"""The held-out error must fall below this share for a channel to get a season."""
RIDGE = 2e-2
MAX_FOLDS = 6
_DAY_ORDERS = 2j * np.pi * np.arange(1, DAY_HARMONICS + 1)
# multiples of seven are harmonics of the day
_WEEK_ORDERS = 2j * np.pi * np.array([order for order in range(1, 20) if order % 7][:WEEK_HARMONICS])


def terms(times_us: IntArray, count: int) -> FloatArray:
    """The first ``count`` (``DAY_TERMS`` or ``WEEK_TERMS``) regression terms (n, count) at these times."""
    of_day = (times_us % DAY_US / DAY_US)[:, None]
    waves = np.exp(of_day * _DAY_ORDERS)
    if count == DAY_TERMS:
        return np.concatenate((waves.real, waves.imag), axis=1)
    weekly = np.exp((times_us % WEEK_US / WEEK_US)[:, None] * _WEEK_ORDERS)
    return np.concatenate((waves.real, waves.imag, weekly.real, weekly.imag), axis=1)


def fit(residual: FloatArray, times_us: IntArray) -> FloatArray:
    """Weights (terms, channels) of the season, zeros for channels without; (0, channels) when none has one.

    A channel has a day when held-out days are predicted better with it than without, and a week when held-out weeks
    are predicted better with it than with the day alone.
    """
    none = np.zeros((0, residual.shape[1]))
    span_us = int(times_us[-1] - times_us[0]) if len(times_us) else 0
    if span_us < LEAST_DAYS * DAY_US or len(times_us) < LEAST_ROWS_A_DAY * span_us / DAY_US:
        return none
    weeks = span_us >= LEAST_WEEKS * WEEK_US
    design = terms(times_us, WEEK_TERMS if weeks else DAY_TERMS)
    day, week = (_folds(times_us, period_us) for period_us in (DAY_US, WEEK_US))
    weights = np.zeros((design.shape[1], residual.shape[1]))
    for channel, column in enumerate(residual.T):
        seen = _usable(column)
        count = 0
        if _held_out(design, column, seen, day, DAY_TERMS) < PAYS * _held_out(design, column, seen, day, 0):
            count = DAY_TERMS
        if weeks and _held_out(design, column, seen, week, WEEK_TERMS) < PAYS * _held_out(
            design, column, seen, week, count
        ):
            count = WEEK_TERMS
        if count:
            weights[:count, channel] = _ridge(design[seen, :count], column[seen])
    if not weights[DAY_TERMS:].any():
        weights = weights[:DAY_TERMS]
    return weights if weights.any() else none


def refit(residual: FloatArray, times_us: IntArray, weights: FloatArray) -> FloatArray:
    """The same channels' season (terms, channels) fitted to another residual."""
    design = terms(times_us, len(weights))
    again = np.zeros_like(weights)
    for channel in np.flatnonzero(weights.any(axis=0)):
        column = residual[:, channel]
        seen = _usable(column)
        count = DAY_TERMS if not weights[DAY_TERMS:, channel].any() else len(weights)
        again[:count, channel] = _ridge(design[seen, :count], column[seen])
    return again


def _usable(column: FloatArray) -> FlagArray:
    """What is there of a channel and no outlier."""
    seen = np.isfinite(column)
    limit = 6 * np.median(np.abs(column[seen])) + 1e-12 if seen.any() else 0.0
    return seen & (np.abs(column) <= limit)


def _folds(times_us: IntArray, period_us: int) -> IntArray:
    """Which part (n,) of at most ``MAX_FOLDS`` each time is held out with: whole periods, in order."""
    period = (times_us - times_us[0]) // period_us
    return np.minimum(period * MAX_FOLDS // (period[-1] + 1), MAX_FOLDS - 1) if period[-1] >= MAX_FOLDS else period


def _held_out(design: FloatArray, column: FloatArray, seen: FlagArray, folds: IntArray, count: int) -> float:
    """Squared error of held-out parts predicted by the first ``count`` terms (0: by the mean) of the others.

    Infinite where there are too few values.
    """
    if seen.sum() < 4 * max(1, count):
        return float("inf")
    error = 0.0
    for fold in np.unique(folds[seen]):
        out, kept = seen & (folds == fold), seen & (folds != fold)
        if kept.sum() < 2 * max(1, count):
            continue
        if count:
            left = column[out] - design[out, :count] @ _ridge(design[kept, :count], column[kept])
        else:
            left = column[out] - column[kept].mean()
        error += float(left @ left)
    return error


def _ridge(design: FloatArray, values: FloatArray) -> FloatArray:
    gram = design.T @ design + RIDGE * len(values) * np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(gram, design.T @ values), dtype=np.float64)
