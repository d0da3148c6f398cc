"""From a living course to a prognosis: failure mode, survival curve, interval and neighbours, or an abstention.

:func:`judge` is a pure function of evidence, library and calibration: the same three give the same prognosis, bit for
bit. It abstains, and names the reason in plain words, when the component has no course, when the latest value is old,
when the indicator is still at its healthy level, when too few past units are comparable, or when the nearest past units
are too unlike. The failure mode may be ``unknown``. When the device and the past units clearly contradict each other
about the failure mode, the prognosis is marked ``conflicting``.

The probabilities of failure and the interval are read from one calibrated curve, so that they agree with each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fleet_core.assets import UNKNOWN_FAILURE_MODE, failure_mode
from fleet_server.prognosis.calibration import Calibration
from fleet_server.prognosis.library import FLAT_RATIO, HIGHEST_NOISE, Library, Neighbours
from fleet_server.prognosis.signatures import BIN_EDGES_H, Flags, Floats, course_signature, height
from fleet_server.prognosis.survival import SurvivalCurve, kaplan_meier

MODEL_VERSION = "nearest-trajectories/1"
HORIZONS_H = (24, 72, 168, 720)
MIN_UNITS = 8
MAX_AGE_H = 12.0
_CURVE_POINTS = 60
_LISTED = 40
_CLEAR_SHARE = 0.6
_CLEAR_CONFIDENCE = 0.6
_CONTRADICTED_SHARE = 0.1


@dataclass(frozen=True)
class Evidence:
    """What is known of the component under judgement.

    ``hours_before`` (n,) and ``ratio`` (n,) are its canonical course: hours before now, descending to the age of the
    latest value, and ratios to the healthy level. ``sigma_ratio`` is the standard deviation of the healthy indicator
    over its baseline. ``component_type`` is empty when the registry knows no component in the slot. ``device_mode`` is
    the failure mode that the device's finding names, with ``device_confidence`` 0..1.
    """

    component_type: str
    unit_serial: str
    hours_before: Floats
    ratio: Floats
    sigma_ratio: float
    device_mode: str = UNKNOWN_FAILURE_MODE
    device_confidence: float = 0.0


@dataclass(frozen=True)
class Prognosis:
    """The prognosis of one component, or an abstention.

    ``rul_p10_h``, ``rul_p50_h`` and ``rul_p90_h`` are hours of remaining useful life from now, None after an
    abstention. ``p_fail`` is the probability of failure within each of ``HORIZONS_H`` (hours as text). ``survival``
    are points (hours, share surviving). ``reason`` is for people, ``abstain_code`` for programs.
    """

    abstained: bool
    reason: str
    failure_mode: str
    abstain_code: str = ""
    conflicting: bool = False
    mode_share: Mapping[str, float] = field(default_factory=dict)
    p_fail: Mapping[str, float] = field(default_factory=dict)
    rul_p10_h: float | None = None
    rul_p50_h: float | None = None
    rul_p90_h: float | None = None
    survival: tuple[tuple[float, float], ...] = ()
    neighbours: tuple[Mapping[str, Any], ...] = ()


def judge(evidence: Evidence, library: Library, calibration: Calibration) -> Prognosis:
    """The prognosis of a component, from its course and the library of its component type.

    Poor data never raise: they give a prognosis that abstains and says why.
    """
    if not evidence.component_type:
        return _abstain(evidence, "unregistered", "the registry knows no component in this slot")
    if evidence.hours_before.size < 3:
        return _abstain(evidence, "no_course", "no course of its indicator has arrived yet")
    age_h = float(evidence.hours_before[-1])
    if age_h > MAX_AGE_H:
        return _abstain(evidence, "stale", f"the latest value of its indicator is {age_h:.0f} h old")
    signature, covered = course_signature(evidence.hours_before, evidence.ratio)
    if _is_flat(signature, covered, evidence.sigma_ratio):
        return _abstain(evidence, "healthy_level", "its indicator is still at its healthy level")
    lived_h = float(evidence.hours_before[0] - evidence.hours_before[-1])
    near = library.nearest(signature, covered, lived_h, {evidence.unit_serial})
    shortage = _shortage(near, calibration, evidence.component_type)
    if shortage:
        return _abstain(evidence, "no_comparison", shortage, near)
    raw = kaplan_meier(near.remaining_h, near.failed, near.weight)
    curve = calibration.applied(raw, signature).aged(age_h)
    mode, share, conflicting = failure_mode_of(near, evidence.device_mode, evidence.device_confidence)
    early_h, middle_h, late_h = (round(curve.quantile(level), 3) for level in (0.1, 0.5, 0.9))
    return Prognosis(
        abstained=False,
        reason=_grounds(near, curve, late_h),
        failure_mode=mode,
        conflicting=conflicting,
        mode_share=share,
        p_fail={str(horizon_h): round(curve.p_fail(horizon_h), 6) for horizon_h in HORIZONS_H},
        rul_p10_h=early_h,
        rul_p50_h=middle_h,
        rul_p90_h=late_h,
        survival=_points(curve),
        neighbours=_listed(near),
    )


def withheld(made: Prognosis, component_type: str) -> Prognosis:
    """The abstention that is issued instead of a forecast whose cohort has drifted.

    The failure mode and the neighbours of the prognosis are kept; an abstention is returned as it is.
    """
    if made.abstained:
        return made
    reason = (
        f"No forecast: the forecasts for a {component_type} in assets of this class have lately not kept their promise."
    )
    return replace(
        made,
        abstained=True,
        reason=reason,
        abstain_code="cohort_drifted",
        p_fail={},
        rul_p10_h=None,
        rul_p50_h=None,
        rul_p90_h=None,
        survival=(),
    )


def failure_mode_of(near: Neighbours, device_mode: str, confidence: float) -> tuple[str, dict[str, float], bool]:
    """The most likely failure mode, the share of each mode among the neighbours, and whether the two sides conflict.

    The neighbours' weighted votes are the prior and the device's hint (``confidence`` 0..1) is the likelihood of a
    Bayesian update. Neighbours of unknown mode vote for no mode. Where device and neighbours clearly contradict each
    other, the neighbours' mode is returned with true, and a person has to decide.
    """
    share: dict[str, float] = {}
    for unit, weight in zip(near.units, near.weight / near.weight.sum(), strict=True):
        share[unit.failure_mode] = share.get(unit.failure_mode, 0.0) + float(weight)
    known = {mode: part for mode, part in share.items() if mode != UNKNOWN_FAILURE_MODE}
    hinted = device_mode != UNKNOWN_FAILURE_MODE and confidence > 0
    modes = sorted(set(known) | ({device_mode} if hinted else set()))
    rounded = {mode: round(part, 4) for mode, part in sorted(share.items(), key=lambda item: (-item[1], item[0]))}
    if not modes:
        return UNKNOWN_FAILURE_MODE, rounded, False
    trust = confidence if hinted else 0.0
    belief = {
        mode: (known.get(mode, 0.0) + 0.05) * ((1 - trust) / len(modes) + trust * (mode == device_mode))
        for mode in modes
    }
    total = sum(belief.values())
    best = max(modes, key=lambda mode: belief[mode])
    top = max(known.values(), default=0.0)
    conflicting = (
        hinted
        and confidence >= _CLEAR_CONFIDENCE
        and known.get(device_mode, 0.0) < _CONTRADICTED_SHARE
        and top >= _CLEAR_CONFIDENCE
    )
    if conflicting:
        return max(known, key=lambda mode: known[mode]), rounded, True
    return best if belief[best] / total >= _CLEAR_SHARE else UNKNOWN_FAILURE_MODE, rounded, False


def _is_flat(signature: Floats, covered: Flags, sigma_ratio: float) -> bool:
    """Whether the mean height in every covered bin of the last 24 hours lies within the healthy noise."""
    noise = float(np.clip(sigma_ratio, FLAT_RATIO, HIGHEST_NOISE))
    recent = covered & (BIN_EDGES_H[1:] <= 24.0)
    return bool((signature[recent] < height(np.array([1.0 + noise]))[0]).all())


def _shortage(near: Neighbours, calibration: Calibration, component_type: str) -> str:
    """Why the neighbours do not suffice for a prognosis; empty when they do."""
    if near.effective_units < MIN_UNITS:
        return (
            f"only {len(near.units)} past cases of a {component_type} are comparable, at least {MIN_UNITS} are needed"
        )
    if float(near.distance[MIN_UNITS - 1]) > calibration.distance_limit:
        return "its course is unlike every past case"
    if not near.failed.any():
        return "none of the comparable past cases was observed until its failure"
    return ""


def _abstain(evidence: Evidence, code: str, reason: str, near: Neighbours | None = None) -> Prognosis:
    certain = evidence.device_confidence >= _CLEAR_CONFIDENCE
    return Prognosis(
        abstained=True,
        reason=f"No forecast: {reason}.",
        abstain_code=code,
        failure_mode=evidence.device_mode if certain else UNKNOWN_FAILURE_MODE,
        neighbours=_listed(near) if near else (),
    )


def _grounds(near: Neighbours, curve: SurvivalCurve, late_h: float) -> str:
    units, failures = len(near.units), int(near.failed.sum())
    kinds = sorted({unit.source.partition(":")[0] for unit in near.units})
    text = f"Rests on the {units} nearest past courses ({', '.join(kinds)}), {failures} of them observed until failure."
    if late_h > curve.known_to_h:
        text += " Its late end lies beyond what any of them lived."
    return text


def _points(curve: SurvivalCurve) -> tuple[tuple[float, float], ...]:
    """The curve for display: points (hours, share surviving) at even steps of probability."""
    shares = np.linspace(0.0, 0.99, _CURVE_POINTS)
    return tuple((round(curve.quantile(float(share)), 2), round(1.0 - float(share), 4)) for share in shares)


def _listed(near: Neighbours) -> tuple[Mapping[str, Any], ...]:
    total = float(near.weight.sum()) or 1.0
    return tuple(
        {
            "trajectory_id": unit.trajectory_id,
            "unit_serial": unit.unit_serial,
            "source": unit.source,
            "failure_mode": failure_mode(unit.failure_mode).code,
            "distance": round(float(distance), 4),
            "weight": round(float(weight) / total, 6),
            "remaining_h": round(float(remaining_h), 2),
            "failed": bool(failed),
        }
        for unit, distance, weight, remaining_h, failed in zip(
            near.units[:_LISTED], near.distance, near.weight, near.remaining_h, near.failed, strict=False
        )
    )
