"""The signature of a course of degradation: how high the indicator stands and how it got there, at several scales.

A course is the indicator as a ratio to the unit's own healthy baseline (1 = as when healthy). Its signature at a
moment is the mean of the *height* over time bins which reach back from that moment, each several times as wide as the
one before (half an hour to a week), so that a bearing that fails within hours and one that takes weeks are described
by the same numbers. Past trajectories and the living course go through the same function.

Height is ``asinh((ratio - 1) / 0.1)``: linear below about ten per cent above healthy, logarithmic beyond. The growth
of damage is close to a straight line in it, and its noise about even.

Invariants: pure; a signature at a moment depends on nothing after it. What lies before a trajectory's first point
counts as healthy: it began as a new unit; for a living course only the bins that it covers are compared
(:func:`covered_bins`), since missing data is not health.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleet_core.assets import COMPONENT_TYPES, indicator_falls
from fleet_core.errors import BadInput
from fleet_core.telemetry import Finding

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BIN_EDGES_H = np.array([0.0, 0.5, 2.0, 6.0, 24.0, 72.0, 168.0])
"""How far back each bin reaches, hours; the first bin stands for now."""
BINS = len(BIN_EDGES_H) - 1
HEIGHT_SCALE = 0.1
HIGHEST_RATIO = 1e4
MIN_COVER = 0.6
"""A bin counts when the course covers at least this share of it."""

_STEPS_PER_E = 50.0
_FINEST_H = 0.25
MAX_COURSE_H = float(BIN_EDGES_H[-1]) * 1.2


def height(ratio: Floats) -> Floats:
    """Height of a ratio above healthy; ratios below healthy count as healthy or nearly so (never under -0.5)."""
    clipped = np.clip(ratio, 0.0, HIGHEST_RATIO)
    return np.asarray(np.maximum(np.arcsinh((clipped - 1.0) / HEIGHT_SCALE), -0.5), dtype=np.float64)


def found_falling(component_type: str, finding: Finding) -> bool:
    """Does the indicator of this finding fall as the component degrades?

    The type says so of its own indicator, known by its unit. A device without such a vital names another one (of a
    clogging filter the pressure, which rises): its direction is the way the finding saw it go.
    """
    kind = COMPONENT_TYPES.get(component_type)
    seen = next((each for each in finding.channels if each.metric == finding.indicator_metric), None)
    if kind is None or seen is None or seen.unit == kind.indicator_unit:
        return indicator_falls(component_type)
    return seen.observed < seen.baseline_mean


def indicator_ratio(values: Floats, baseline: float, *, falls: bool) -> Floats:
    """The indicator as a ratio to its healthy level, so that it rises with degradation; NaN where it cannot be formed.

    Of an indicator that ``falls`` it is the baseline over the value, and where nothing is left there is no ratio.
    """
    if not baseline > 0:
        return np.full(values.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = baseline / values if falls else values / baseline
    return np.where(np.isfinite(ratio) & (ratio >= 0), ratio, np.nan)


def canonical_course(hours_before: Floats, ratio: Floats) -> tuple[Floats, Floats]:
    """Thin a living course to at most about 340 points, the finer the more recent: exactly what is compared.

    ``hours_before`` are hours before now (>= 0), any order; non-finite points are dropped. Returns hours before now
    descending (oldest first) and ratios, both rounded, so that the stored course gives the same prognosis again.
    """
    keep = np.isfinite(hours_before) & np.isfinite(ratio) & (hours_before >= 0) & (hours_before <= MAX_COURSE_H)
    ages, ratios = hours_before[keep], ratio[keep]
    if not ages.size:
        return np.empty(0), np.empty(0)
    bucket = np.floor(_STEPS_PER_E * np.log1p(ages / _FINEST_H)).astype(np.int64)
    order = np.argsort(-bucket, kind="stable")
    starts = np.flatnonzero(np.diff(bucket[order], prepend=np.iinfo(np.int64).max))
    counts = np.diff(starts, append=bucket.size)
    mean_age = np.add.reduceat(ages[order], starts) / counts
    mean_ratio = np.add.reduceat(ratios[order], starts) / counts
    return np.round(mean_age, 5), np.round(mean_ratio, 6)


def signatures(hours: Floats, ratio: Floats, at_h: Floats) -> Floats:
    """Signatures (len(at_h), BINS) of a trajectory at the moments ``at_h``, which must be among ``hours`` (ascending).

    A value stands for the time since the one before it, so nothing later than a moment enters. Raises BadInput.
    """
    if hours.size < 2 or hours.shape != ratio.shape:
        raise BadInput("course", "needs at least two points")
    heights = height(ratio)
    steps = np.diff(hours)
    integral = np.concatenate(([0.0], np.cumsum(heights[1:] * steps)))
    edges = at_h[:, None] - BIN_EDGES_H[None, :]
    areas = np.interp(edges, hours, integral)  # constant before the start: healthy there
    means = -np.diff(areas, axis=1) / np.diff(BIN_EDGES_H)[None, :]
    return np.asarray(means, dtype=np.float64)


def course_signature(hours_before: Floats, ratio: Floats) -> tuple[Floats, Flags]:
    """Signature (BINS,) of a canonical course now, and which bins it covers. Raises BadInput when it is too short."""
    hours = -hours_before
    signature = signatures(hours, ratio, np.array([hours[-1]]))[0]
    covered = covered_bins(float(hours[-1] - hours[0]))
    partly = covered & (BIN_EDGES_H[1:] > hours[-1] - hours[0])
    for index in np.flatnonzero(partly):  # the mean over the covered part only
        low, high = BIN_EDGES_H[index], BIN_EDGES_H[index + 1]
        signature[index] *= (high - low) / (hours[-1] - hours[0] - low)
    return signature, covered


def covered_bins(span_h: float) -> Flags:
    """Which bins a course of this length covers; the first always counts."""
    widths = np.diff(BIN_EDGES_H)
    share = np.clip((span_h - BIN_EDGES_H[:-1]) / widths, 0.0, 1.0)
    covered = share >= MIN_COVER
    covered[0] = True
    return np.asarray(covered, dtype=np.bool_)
