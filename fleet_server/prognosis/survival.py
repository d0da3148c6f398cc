"""Survival from weighted past cases: Kaplan-Meier with weights, quantiles, probabilities of failure.

Invariants: pure; the curve starts at (0, 1) and never rises; units that were replaced or still ran at the end
(censored) count as at risk until then and never as failures. Beyond the last failure the curve goes on with the
constant hazard of the whole sample: an extrapolation, marked by ``known_to_h``. Without any failure there is no curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.signatures import Flags, Floats

MIN_HOURS = 1.0 / 60.0
"""Lives shorter than a minute count as a minute, so that logarithms stay finite."""
_FARTHEST_H = 1e6


@dataclass(frozen=True)
class SurvivalCurve:
    """Piecewise linear survival: ``hours`` ascend from 0, ``surviving`` falls from 1 to 0."""

    hours: Floats
    surviving: Floats
    known_to_h: float

    def at(self, hours: float) -> float:
        """Probability of surviving beyond ``hours``."""
        return float(np.interp(hours, self.hours, self.surviving))

    def p_fail(self, hours: float) -> float:
        """Probability of failing within ``hours``."""
        return 1.0 - self.at(hours)

    def quantile(self, share: float) -> float:
        """Hours by which ``share`` (0..1) of the units have failed."""
        return float(np.interp(share, 1.0 - self.surviving, self.hours))

    def stretched(self, early: float, late: float) -> SurvivalCurve:
        """Stretch the curve about its median in log time: by ``early`` below it and by ``late`` above it."""
        middle_h = max(self.quantile(0.5), MIN_HOURS)

        def moved(hours: Floats) -> Floats:
            distance = np.log(np.maximum(hours, 1e-9) / middle_h)
            farther = middle_h * np.exp(np.where(distance < 0, early, late) * distance)
            return np.where(hours <= 0, 0.0, np.minimum(farther, np.maximum(hours, _FARTHEST_H)))

        # The points that are promised become knots, so that exactly they are moved.
        shares = np.union1d(1.0 - self.surviving, (0.1, 0.5, 0.9))
        hours = moved(np.interp(shares, 1.0 - self.surviving, self.hours))
        known_to_h = float(moved(np.array([self.known_to_h]))[0])
        return SurvivalCurve(np.maximum.accumulate(hours), 1.0 - shares, known_to_h)

    def aged(self, hours: float) -> SurvivalCurve:
        """The curve seen ``hours`` later, given that the unit survived until then; at least a trace of time is left."""
        if hours <= 0:
            return self
        left = self.at(hours)
        if left < 0.02:  # it has outlived the past cases: failure is imminent or its data are too old to say more
            return SurvivalCurve(np.array([0.0, MIN_HOURS]), np.array([1.0, 0.0]), MIN_HOURS)
        later = self.hours > hours
        return SurvivalCurve(
            np.concatenate(([0.0], self.hours[later] - hours)),
            np.concatenate(([1.0], self.surviving[later] / left)),
            max(0.0, self.known_to_h - hours),
        )


def kaplan_meier(remaining_h: Floats, failed: Flags, weights: Floats) -> SurvivalCurve:
    """Weighted Kaplan-Meier of remaining lives (hours). Raises BadInput when nothing failed.

    ``remaining_h``, ``failed`` and ``weights`` have one entry for each past unit; weights are non-negative.
    """
    lives = np.maximum(remaining_h, MIN_HOURS)
    event_h, after = product_limit(lives, failed, weights)
    # Each step is shared out half before and half after its failure, so that the curve is continuous.
    middle = np.concatenate(([1.0], (np.concatenate(([1.0], after[:-1])) + after) / 2))
    hazard = float(weights[failed].sum()) / float((weights * lives).sum())
    tail_share = np.array([0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001])
    tail_h = event_h[-1] - np.log(tail_share) / hazard
    return SurvivalCurve(
        np.concatenate(([0.0], event_h, tail_h, [tail_h[-1] * 1.05])),
        np.concatenate((middle, middle[-1] * tail_share, [0.0])),
        known_to_h=float(event_h[-1]),
    )


def product_limit(values: Floats, failed: Flags, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted product-limit estimate: the distinct values of the failures, and the share beyond each.

    A value whose ``failed`` is false is known only to be exceeded. Raises BadInput when nothing failed.
    """
    events = failed & (weights > 0)
    if not events.any():
        raise BadInput("survival", "none of the past cases failed")
    order = np.lexsort((~events, values))  # at equal values a failure comes before a censoring
    ordered, events, shares = values[order], events[order], weights[order] / weights.sum()
    at_risk = np.cumsum(shares[::-1])[::-1]
    left = np.where(events, 1.0 - shares / np.maximum(at_risk, 1e-12), 1.0)
    beyond = np.cumprod(np.clip(left, 0.0, 1.0))[events]
    distinct, first = np.unique(ordered[events], return_index=True)
    last_of_each = np.append(first[1:], beyond.size) - 1
    return distinct, beyond[last_of_each]
