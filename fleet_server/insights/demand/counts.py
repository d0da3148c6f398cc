"""Distributions of counts: how many of many uncertain events happen, exact also for unequal probabilities.

``bernoulli_sum`` is the Poisson-binomial distribution, computed by a convolution tree. ``negative_binomial`` is the
count of events whose rate is known only by a Gamma distribution. ``plus`` is the sum of two independent counts. Events
that tend to happen together share a *cohort factor*: one unknown multiplier of all their hazards, log-normal with
spread ``sigma``. Every single probability stays as it was; only the distribution of the sum becomes wider.

Invariants: pure and deterministic; probabilities are non-negative and sum to one. Tails lighter than 1e-12 are cut off
at each step, so that the cost follows the spread of the sum and not its largest possible value.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CUT = 1e-12
_BLOCK = 64
_NODES = 9
_LOWEST_LOG_HAZARD, _HIGHEST_LOG_HAZARD = -40.0, 12.0


@dataclass(frozen=True, eq=False)
class Count:
    """The distribution of a count: ``probs[k]`` (n,) is the probability that the count is ``first + k``."""

    first: int
    probs: Floats

    @property
    def mean(self) -> float:
        return float(self.first + np.arange(self.probs.size) @ self.probs)

    def at_most(self, number: int) -> float:
        """Probability that the count is ``number`` or less."""
        return float(min(1.0, self.probs[: max(0, number - self.first + 1)].sum()))

    def quantile(self, share: float) -> int:
        """The smallest number that the count does not exceed with probability ``share`` (0..1)."""
        reached = np.flatnonzero(np.cumsum(self.probs) >= share - 1e-9)
        return self.first + int(reached[0] if reached.size else self.probs.size - 1)

    def interval(self, level: float) -> tuple[int, int]:
        """The central interval that holds the count with at least the probability ``level`` (0..1)."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)


NONE = Count(0, np.ones(1))
"""The count that is certainly zero."""


def plus(one: Count, other: Count) -> Count:
    """The sum of two independent counts."""
    return _trimmed(one.first + other.first, np.convolve(one.probs, other.probs))


def bernoulli_sum(probabilities: Floats, sigma: float = 0.0) -> Count:
    """The number of events that happen, for events with ``probabilities`` (n,) in 0..1 (Poisson-binomial).

    The events are independent, or share a cohort factor of spread ``sigma`` when that is above 0. A probability that is
    not finite counts as 0.
    """
    chances = np.clip(np.nan_to_num(np.asarray(probabilities, dtype=np.float64)), 0.0, 1.0)
    chances = chances[chances > 0]
    if not chances.size:
        return NONE
    if sigma <= 0 or chances.size == 1:
        return _independent(chances[None, :])[0]
    factors, weights = _cohort(sigma)
    hazards = _hazards(chances, sigma)
    given = np.where(chances >= 1, 1.0, -np.expm1(-factors[:, None] * hazards[None, :]))
    return _mixture(_independent(given), weights)


def negative_binomial(shape: float, exposure: float, ahead: float) -> Count:
    """The number of events in the time ``ahead``, when their rate has the distribution Gamma(``shape``, ``exposure``).

    ``shape`` and ``exposure`` are positive; ``exposure`` and ``ahead`` are in the same unit of time, and ``ahead`` may
    be 0.
    """
    if ahead <= 0:
        return NONE
    chance = ahead / (exposure + ahead)
    mean, deviation = shape * ahead / exposure, (shape * ahead * (exposure + ahead)) ** 0.5 / exposure
    # The tail falls at least as fast as that of a geometric distribution: what lies 30 / -log(chance) values farther
    # out weighs less than the cut.
    size = int(mean + 12 * deviation + min(30.0 / -np.log(chance), 100 * (deviation + 1)) + 30)
    k = np.arange(size, dtype=np.float64)
    steps = np.log((shape + k) / (k + 1) * chance)
    logs = shape * np.log1p(-chance) + np.concatenate(([0.0], np.cumsum(steps[:-1])))
    return _trimmed(0, np.exp(logs))


def total(counts: Iterable[Count]) -> Count:
    """The sum of independent counts."""
    return functools.reduce(plus, counts, NONE)


def _independent(chances: Floats) -> list[Count]:
    """The distribution of the sum of each row of probabilities ``chances`` (rows, n)."""
    rows, n = chances.shape
    blocks = -(-n // _BLOCK)
    padded = np.zeros((rows, blocks * _BLOCK))
    padded[:, :n] = chances
    padded = padded.reshape(rows, blocks, _BLOCK)
    probs = np.zeros((rows, blocks, _BLOCK + 1))
    probs[..., 0] = 1.0
    for at in range(min(n, _BLOCK)):
        chance = padded[..., at, None]
        probs[..., 1:] = probs[..., 1:] * (1 - chance) + probs[..., :-1] * chance
        probs[..., 0] *= 1 - chance[..., 0]
    return [_tree([_trimmed(0, block) for block in row]) for row in probs]


def _tree(counts: list[Count]) -> Count:
    while len(counts) > 1:
        pairs = [plus(one, other) for one, other in zip(counts[::2], counts[1::2], strict=False)]
        counts = pairs + counts[len(pairs) * 2 :]
    return counts[0]


def _mixture(counts: list[Count], weights: Floats) -> Count:
    first = min(count.first for count in counts)
    probs = np.zeros(max(count.first + count.probs.size for count in counts) - first)
    for count, weight in zip(counts, weights, strict=True):
        start = count.first - first
        probs[start : start + count.probs.size] += weight * count.probs
    return _trimmed(first, probs)


def _trimmed(first: int, probs: Floats) -> Count:
    below = np.cumsum(probs)
    lowest = int(np.searchsorted(below, _CUT * below[-1], side="right"))
    highest = int(np.searchsorted(below, (1 - _CUT) * below[-1], side="left"))
    kept = probs[lowest : highest + 1]
    return Count(first + lowest, kept / kept.sum())


def _cohort(sigma: float) -> tuple[Floats, Floats]:
    """Values (k,) and weights (k,) of the cohort factor, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return np.exp(sigma * nodes), weights / weights.sum()


def _hazards(chances: Floats, sigma: float) -> Floats:
    """The hazards (n,) whose probabilities, averaged over the cohort factor, are ``chances`` (n,)."""
    factors, weights = _cohort(sigma)
    distinct, where = np.unique(chances, return_inverse=True)
    low, high = np.full(distinct.size, _LOWEST_LOG_HAZARD), np.full(distinct.size, _HIGHEST_LOG_HAZARD)
    for _ in range(50):
        middle = (low + high) / 2
        reached = -np.expm1(-np.exp(middle)[:, None] * factors[None, :]) @ weights >= distinct
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.exp(high)[where]
