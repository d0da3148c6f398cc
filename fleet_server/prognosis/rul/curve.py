"""Distributions of remaining life: probabilities of failure from quantiles, and quantiles from probabilities. Pure.

All times are in the unit of the table. A distribution given by its quantiles runs straight between (0, 0), p10, p50 and
p90 and has an exponential tail beyond p90. A distribution given by probabilities at horizons has a constant hazard
between two horizons. :func:`agreeing` makes quantiles consistent with probabilities that were learned separately.
"""

from __future__ import annotations

import numpy as np

from fleet_server.prognosis.rul.histories import Floats

SHARES = (0.1, 0.5, 0.9)
MOST = 1.0 - 1e-6
FARTHEST = 1e9


def p_fail_of(quantiles: Floats, horizons: Floats) -> Floats:
    """Probabilities of failure (n, h) within ``horizons`` (h,), from the ``quantiles`` (n, 3) p10, p50 and p90."""
    low, middle, high = quantiles.T[:, :, None]
    at = horizons[None]
    tiny = 1e-9
    tail = np.maximum(high - middle, tiny) / np.log(5.0)
    beyond = 1.0 - 0.1 * np.exp(-np.maximum(at - high, 0.0) / tail)
    first = 0.1 * at / np.maximum(low, tiny)
    second = 0.1 + 0.4 * (at - low) / np.maximum(middle - low, tiny)
    third = 0.5 + 0.4 * (at - middle) / np.maximum(high - middle, tiny)
    shares = np.where(at <= low, first, np.where(at <= middle, second, np.where(at <= high, third, beyond)))
    return np.asarray(np.clip(shares, 0.0, 1.0))


def agreeing(quantiles: Floats, p_fail: Floats, horizons: Floats) -> Floats:
    """The ``quantiles`` (n, 3), moved as little as makes them agree with ``p_fail`` (n, h) at ``horizons`` (h,).

    ``horizons`` ascend. A quantile then lies at or beyond every horizon whose probability is below its share, and at or
    before every other horizon.
    """
    moved = quantiles.copy()
    for column, share in enumerate(SHARES):
        short = (p_fail < share).sum(axis=1)
        bounds = np.r_[0.0, horizons, np.inf]
        moved[:, column] = np.clip(moved[:, column], bounds[short], bounds[short + 1])
    return moved


def quantiles_of(p_fail: Floats, horizons: Floats) -> tuple[Floats, Floats]:
    """Quantiles (n, 3) p10, p50, p90 and mean (n,) of lives with ``p_fail`` (n, h) at ascending ``horizons`` (h,).

    The hazard is constant between two horizons. Beyond the last horizon it is the average hazard up to there.
    """
    chance = np.maximum.accumulate(np.clip(p_fail, 0.0, MOST), axis=1)
    hazard = np.concatenate([np.zeros((len(chance), 1)), -np.log1p(-chance)], axis=1)
    times = np.r_[0.0, horizons]
    rate = np.maximum(hazard[:, -1] / times[-1], 1.0 / FARTHEST)
    quantiles = np.empty((len(chance), len(SHARES)))
    for column, share in enumerate(SHARES):
        needed = -np.log1p(-share)
        for row in range(len(chance)):
            if needed > hazard[row, -1]:
                quantiles[row, column] = times[-1] + (needed - hazard[row, -1]) / rate[row]
            else:
                quantiles[row, column] = np.interp(needed, hazard[row], times)
    alive = np.exp(-hazard)
    mean = (np.diff(times) * (alive[:, 1:] + alive[:, :-1]) / 2.0).sum(axis=1) + alive[:, -1] / rate
    return quantiles, np.asarray(mean)
