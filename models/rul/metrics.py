"""Metrics of forecasts of remaining life: errors, intervals, prognostic metrics, probabilities. Pure.

Rows of one asset are not independent; where that matters, each asset weighs one and confidence intervals are
bootstrapped over assets. Alpha-lambda accuracy, prognostic horizon and (cumulative) relative accuracy follow Saxena et
al. (2010); the tests compare them with NASA's progpy. Arguments are arrays (n,) of one length, otherwise BadInput
``shape`` is raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput

Floats = npt.NDArray[np.float64]

ACT_PROBABILITY = 0.5
"""Probability of failure at which a case is acted on: the default of fleet_server.resolution.policy.Policy."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval; NaN where nothing was measured."""

    value: float
    low: float
    high: float

    def holds(self, wanted: float) -> bool:
        """Whether the interval contains the ``wanted`` figure."""
        return self.low <= wanted <= self.high

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def rmse(predicted: Floats, remaining: Floats, cap: float | None = None) -> float:
    """Root mean square error in the unit of the times; with ``cap``, predictions and true lives are capped first."""
    off = _capped(predicted, cap) - _capped(remaining, cap)
    return float(np.sqrt(np.mean(off**2))) if len(off) else math.nan


def phm08_score(predicted: Floats, remaining: Floats, cap: float | None = None) -> float:
    """The score of the PHM 2008 challenge: a sum, exponential in the error, that punishes late predictions more."""
    off = _capped(predicted, cap) - _capped(remaining, cap)
    return float(np.sum(np.expm1(np.where(off < 0, -off / 13.0, off / 10.0))))


def mean_width(low: Floats, high: Floats, cap: float | None = None) -> float:
    """Mean width of intervals in the unit of the times; with ``cap``, of their parts below the cap."""
    return float(np.mean(_capped(high, cap) - _capped(low, cap))) if len(low) else math.nan


def coverage(low: Floats, high: Floats, remaining: Floats, unit: npt.NDArray[np.int64], seed: int = 0) -> Estimate:
    """Share of true lives inside their interval, each asset weighing one, bootstrapped over assets."""
    if not len(low) == len(high) == len(remaining) == len(unit):
        raise BadInput("shape", "low, high, remaining and unit must have one entry a row")
    return by_unit((low <= remaining) & (remaining <= high), unit, seed)


def by_unit(
    values: npt.NDArray[np.float64] | npt.NDArray[np.bool_], unit: npt.NDArray[np.int64], seed: int
) -> Estimate:
    """Mean over assets of their own means, with a bootstrap over assets."""
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    _, inverse, counts = np.unique(unit, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, np.asarray(values, dtype=float)) / counts
    draws = np.random.default_rng(seed).integers(0, len(means), (RESAMPLES, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), (0.025, 0.975))
    return Estimate(float(means.mean()), float(low), float(high))


def relative_accuracy(predicted: Floats, remaining: Floats) -> Floats:
    """Relative accuracy (n,), 1 - |error| / true life: 1 is exact, below 0 worse than a forecast of zero.

    NaN where no life remained.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(remaining > 0, 1.0 - np.abs(predicted - remaining) / remaining, np.nan)


def cumulative_relative_accuracy(predicted: Floats, remaining: Floats) -> float:
    """Mean relative accuracy over the forecasts of one life."""
    found = relative_accuracy(predicted, remaining)
    return float(np.nanmean(found)) if np.isfinite(found).any() else math.nan


def alpha_lambda(
    times: Floats, predicted: Floats, remaining: Floats, at_time: float, alpha: float = 0.2
) -> bool | None:
    """Whether the first forecast of one life at or after ``at_time`` was within ``alpha`` (a share) of the true life.

    ``times`` (n,) ascend. None when there is no such forecast.
    """
    place = int(np.searchsorted(times, at_time))
    if place == len(times):
        return None
    return bool(abs(predicted[place] - remaining[place]) <= alpha * remaining[place])


def prognostic_horizon(
    times: Floats, predicted: Floats, remaining: Floats, alpha: float = 0.2, *, stays: bool = True
) -> float | None:
    """Time before the end of one life from which on forecasts were within ``alpha`` (a share) of the true life.

    With ``stays`` it is the time from which on they *stayed* within it until the last forecast; one forecast in the
    last tenth of the time may miss it, because a relative bound goes to zero there. Otherwise it is the first time at
    which a forecast was within it. None when no forecast was.
    """
    good = np.abs(predicted - remaining) <= alpha * remaining
    if stays:
        judged = remaining > 0.1 * (remaining[0] if len(remaining) else 0.0)
        good = np.logical_and.accumulate((good | ~judged)[::-1])[::-1] & judged
    met = np.flatnonzero(good & (remaining > 0))
    return float(remaining[met[0]]) if len(met) else None


def brier(said: Floats, came: Floats) -> float:
    """Mean squared error of probabilities; ``came`` 0 or 1."""
    return float(np.mean((said - came) ** 2)) if len(said) else math.nan


def brier_skill(said: Floats, came: Floats, base: float | None = None) -> float:
    """Brier skill score: 1 - Brier score / Brier score of a constant forecast ``base`` (default: the observed share).

    NaN where the constant forecast is perfect.
    """
    constant = float(np.mean(came)) if base is None and len(came) else base or 0.0
    worst = brier(np.full(len(came), constant), came)
    return 1.0 - brier(said, came) / worst if worst > 0 else math.nan


def reliability(said: Floats, came: Floats, bins: int = 10) -> list[dict[str, float]]:
    """Forecast probability against observed share, in equal bins of the probability; empty bins are left out."""
    place = np.minimum((said * bins).astype(int), bins - 1)
    return [
        {"forecasts": int(here.sum()), "said": float(said[here].mean()), "happened": float(came[here].mean())}
        for here in (place == index for index in range(bins))
        if here.any()
    ]


def precision_recall(said: Floats, came: Floats, threshold: float = ACT_PROBABILITY) -> tuple[float, float]:
    """Precision and recall of acting at ``threshold``; NaN where nothing was acted on, or nothing happened."""
    acted, happened = said >= threshold, came > 0
    both = float(np.sum(acted & happened))
    return _over(both, float(acted.sum())), _over(both, float(happened.sum()))


@dataclass(frozen=True, slots=True)
class Top:
    """Figures of the assets with the highest forecasts: number, observed over expected failures, lift over the base."""

    count: int
    observed_expected: float
    lift: float


def top_share(said: Floats, came: Floats, share: float = 0.01) -> Top:
    """Figures of the ``share`` of assets with the highest forecasts (at least one asset; ties in the given order)."""
    count = min(len(said), max(1, math.ceil(share * len(said))))
    top = np.argsort(-said, kind="stable")[:count]
    base = float(np.mean(came)) if len(came) else math.nan
    observed = float(came[top].mean()) if count else math.nan
    return Top(count, _over(float(came[top].sum()), float(said[top].sum())), _over(observed, base))


def bootstrap(statistic: Callable[[npt.NDArray[np.intp]], float], count: int, seed: int, draws: int = 200) -> Estimate:
    """A figure with its bootstrap interval.

    ``statistic`` computes the figure from indices of ``count`` independent things, such as assets.
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, count, count)) for _ in range(draws)]) if count else np.empty(0)
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (math.nan, math.nan)
    return Estimate(statistic(np.arange(count)) if count else math.nan, float(low), float(high))


def _capped(values: Floats, cap: float | None) -> Floats:
    return np.asarray(values if cap is None else np.minimum(values, cap), dtype=float)


def _over(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
