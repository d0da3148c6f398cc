"""How forecast probabilities of failure compare with what happened: Brier score, base rate, reliability diagram.

A component that was replaced before the horizon does not show whether it would have failed within the horizon. Leaving
such lives out would leave out survivors and make failures look frequent. Every known outcome is therefore weighted by
the inverse of the probability that it became known (inverse probability of censoring weighting), at most tenfold.

Invariants: pure; every life of a component counts once, however many prognoses it had.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fleet_server.prognosis.signatures import Flags, Floats
from fleet_server.prognosis.survival import product_limit

HORIZON_H = 72.0
BIN_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_LEAST_CHANCE = 0.1


@dataclass(frozen=True, slots=True)
class ProbabilityOutcome:
    """One prognosis and its outcome: ``p_fail`` was forecast for the horizon; the unit lived on for ``remaining_h``.

    ``failed`` false means that the unit is censored after ``remaining_h`` hours.
    """

    unit: str
    p_fail: float
    remaining_h: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the reliability diagram: prognoses with similar probabilities.

    ``said`` is the mean probability they forecast, ``seen`` the share that failed within the horizon, ``low`` and
    ``high`` its 95 % interval (Wilson), ``lives`` the number of lives in the bin.
    """

    said: float
    seen: float
    low: float
    high: float
    lives: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability at one horizon; the figures are None while no outcome is known.

    ``lives`` counts the lives with a known outcome. ``base_brier`` is the Brier score that a forecast of the cohort's
    own failure rate (``base_rate``) for every component would have had.
    """

    lives: int
    brier: float | None
    base_brier: float | None
    base_rate: float | None
    bins: tuple[Bin, ...]


def reliability(told: Sequence[ProbabilityOutcome], horizon_h: float = HORIZON_H) -> Reliability:
    """Brier score, base rate and reliability diagram of forecast probabilities for one horizon (hours)."""
    if not told:
        return Reliability(0, None, None, None, ())
    units = [one.unit for one in told]
    counts = Counter(units)
    share = np.array([1.0 / counts[unit] for unit in units])
    lived = np.array([one.remaining_h for one in told])
    failed = np.array([one.failed for one in told])
    said = np.array([one.p_fail for one in told])
    happened = failed & (lived <= horizon_h)
    known = happened | (lived >= horizon_h)
    if not known.any():
        return Reliability(0, None, None, None, ())
    chance = _chance_known(lived, failed, share, np.where(happened, lived, horizon_h))
    weight = np.where(known, share / np.maximum(chance, _LEAST_CHANCE), 0.0)
    base = float(np.average(happened, weights=weight))
    bins = []
    for low, high in pairwise(BIN_EDGES):
        within = known & (said >= low) & ((said < high) | (high == BIN_EDGES[-1]))
        if within.any():
            bins.append(
                _bin(
                    said[within],
                    happened[within],
                    weight[within],
                    len({u for u, w in zip(units, within, strict=True) if w}),
                )
            )
    return Reliability(
        lives=len({unit for unit, one in zip(units, known, strict=True) if one}),
        brier=round(float(np.average((said - happened) ** 2, weights=weight)), 4),
        base_brier=round(base * (1.0 - base), 4),
        base_rate=round(base, 4),
        bins=tuple(bins),
    )


def _chance_known(lived: Floats, failed: Flags, share: Floats, until: Floats) -> Floats:
    """Probability (n,) of not having been censored before ``until`` (n,) hours: product limit of the censorings."""
    if failed.all():
        return np.ones(lived.size)
    times, beyond = product_limit(lived, ~failed, share)
    # Only censorings strictly before ``until`` count: at a tie the failure, or the horizon, was still seen.
    before = np.searchsorted(times, until)
    return np.concatenate(([1.0], beyond))[before]


def _bin(said: Floats, happened: Flags, weight: Floats, lives: int) -> Bin:
    seen = float(np.average(happened, weights=weight))
    low, high = _wilson(seen, lives)
    mean = float(np.average(said, weights=weight))
    return Bin(round(mean, 4), round(seen, 4), round(low, 4), round(high, 4), lives)


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)
