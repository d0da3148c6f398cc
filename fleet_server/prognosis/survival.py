"""Survival curves from weighted past units: product-limit estimate, quantiles and probabilities of failure.

The estimate is the one of Kaplan and Meier (1958), with a weight for each unit.

Invariants: pure; a curve starts at (0 h, 1) and never rises. A censored unit (replaced, or still running when it was
last seen) counts as at risk until its end and never as a failure. Beyond the last failure the curve goes on with the
constant hazard of the whole sample; ``known_to_h`` says where this extrapolation begins. Without a failure among the
units there is no curve.
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
    """Piecewise linear survival over remaining life.

    ``hours`` (n,) ascend from 0, ``surviving`` (n,) falls from 1 to 0. ``known_to_h`` is the last observed failure in
    hours: the curve beyond it is extrapolated.
    """

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
        """The curve stretched about its median in log time, by the factor ``early`` below and ``late`` above it."""
        middle_h = max(self.quantile(0.5), MIN_HOURS)

        def moved(hours: Floats) -> Floats:
            distance = np.log(np.maximum(hours, 1e-9) / middle_h)
            farther = middle_h * np.exp(np.where(distance < 0, early, late) * distance)
            return np.where(hours <= 0, 0.0, np.minimum(farther, np.maximum(hours, _FARTHEST_H)))

        # p10, p50 and p90 are what the calibration promises. They become knots of the curve, so that stretching moves
        # exactly these points and not an interpolation between their neighbours.
        shares = np.union1d(1.0 - self.surviving, (0.1, 0.5, 0.9))
        hours = moved(np.interp(shares, 1.0 - self.surviving, self.hours))
        known_to_h = float(moved(np.array([self.known_to_h]))[0])
        return SurvivalCurve(np.maximum.accumulate(hours), 1.0 - shares, known_to_h)

    def aged(self, hours: float) -> SurvivalCurve:
        """The curve as seen ``hours`` later, given that the unit survived until then.

        The remaining life never becomes zero: a unit that outlived nearly all past cases is left ``MIN_HOURS``.
        """
        if hours <= 0:
            return self
        left = self.at(hours)
        if left < 0.02:  # the unit outlived the past cases: its failure is imminent, or its data are too old to tell
            return SurvivalCurve(np.array([0.0, MIN_HOURS]), np.array([1.0, 0.0]), MIN_HOURS)
        later = self.hours > hours
        return SurvivalCurve(
            np.concatenate(([0.0], self.hours[later] - hours)),
            np.concatenate(([1.0], self.surviving[later] / left)),
            max(0.0, self.known_to_h - hours),
        )


def kaplan_meier(remaining_h: Floats, failed: Flags, weights: Floats) -> SurvivalCurve:
    """Survival curve of remaining lives by the weighted product-limit estimate of Kaplan and Meier.

    ``remaining_h`` (n,) in hours, ``failed`` (n,) and ``weights`` (n,) have one entry for each past unit; weights are
    not negative. An entry whose ``failed`` is false is censored at its remaining life.

    Raises:
        BadInput: ``survival`` when no unit with a positive weight failed.
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
    """Weighted product-limit estimate (Kaplan and Meier) of the distribution of ``values`` (n,), in any unit.

    Returns the k distinct values at which something failed, ascending (k,), and the share of the distribution that lies
    beyond each of them (k,). A value whose ``failed`` (n,) is false is a lower bound (right-censored).

    Raises:
        BadInput: ``survival`` when nothing with a positive weight failed.
    """
    events = failed & (weights > 0)
    if not events.any():
        raise BadInput("survival", "none of the past cases failed")
    order = np.lexsort((~events, values))  # at equal values a failure comes before a censoring
    ordered, events, shares = values[order], events[order], weights[order] / weights.sum()
    at_risk = np.cumsum(shares[::-1])[::-1]
    left = np.where(events, 1.0 - shares / np.maximum(at_risk, 1e-12), 1.0)
    beyond = np.cumprod(np.clip(left, 0.0, 1.0))[events]
    failures = ordered[events]
    last_of_each = np.append(failures[1:] != failures[:-1], True)  # they are in order: np.unique would sort again
    return failures[last_of_each], beyond[last_of_each]
