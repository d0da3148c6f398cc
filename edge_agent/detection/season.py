"""The hour of the day and of the week as part of what is expected of a channel.

Harmonics of the day (from three days of healthy rows on) and of the week (from three weeks on) are fitted by ridge
regression to what load and speed leave unexplained. A channel gets them only if held-out periods are predicted clearly
better with them than without: a made-up rhythm would cost more than a missed one. Hours are UTC: only the period
matters, not the name.

Times are (n,) microseconds, residuals (n, channels) with NaN for missing. Nothing raises on odd data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

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
    """Weights (terms, channels) of the season, zeros for channels without; (0, channels) when none has one."""
    none = np.zeros((0, residual.shape[1]))
    span_us = int(times_us[-1] - times_us[0]) if len(times_us) else 0
    if span_us < LEAST_DAYS * DAY_US or len(times_us) < LEAST_ROWS_A_DAY * span_us / DAY_US:
        return none
    for count, period_us, least in ((WEEK_TERMS, WEEK_US, LEAST_WEEKS), (DAY_TERMS, DAY_US, LEAST_DAYS)):
        if span_us < least * period_us:
            continue
        weights = _accepted(terms(times_us, count), residual, (times_us - times_us[0]) // period_us)
        if weights.any():
            return weights
    return none


def _accepted(design: FloatArray, residual: FloatArray, period: IntArray) -> FloatArray:
    """Weights of the channels whose held-out periods are predicted better with the terms than without."""
    folds = np.minimum(period * MAX_FOLDS // (period[-1] + 1), MAX_FOLDS - 1) if period[-1] >= MAX_FOLDS else period
    weights = np.zeros((design.shape[1], residual.shape[1]))
    for channel, column in enumerate(residual.T):
        seen = np.isfinite(column)
        if seen.sum() < 4 * design.shape[1]:
            continue
        limit = 6 * np.median(np.abs(column[seen])) + 1e-12
        seen &= np.abs(column) <= limit
        with_terms = without = 0.0
        for fold in np.unique(folds[seen]):
            out = seen & (folds == fold)
            kept = seen & (folds != fold)
            if kept.sum() < 2 * design.shape[1]:
                continue
            error = column[out] - design[out] @ _ridge(design[kept], column[kept])
            with_terms += float(error @ error)
            plain = column[out] - column[kept].mean()
            without += float(plain @ plain)
        if with_terms < PAYS * without:
            weights[:, channel] = _ridge(design[seen], column[seen])
    return weights


def _ridge(design: FloatArray, values: FloatArray) -> FloatArray:
    gram = design.T @ design + RIDGE * len(values) * np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(gram, design.T @ values), dtype=np.float64)
