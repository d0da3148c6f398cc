"""The signature of a course of degradation: how high the indicator stands and how it got there, at several scales.

A course is the indicator over time, as a ratio to the unit's own healthy baseline (1 = as when healthy). The signature
of a course at a moment is the mean *height* of the course in six time bins that reach back from that moment. Each bin
is wider than the one before it (half an hour to four days, a week in all), so that the same six numbers describe a
bearing that fails within hours and one that takes weeks. The same function makes the signatures of
past trajectories and of the living course.

Height is ``asinh((ratio - 1) / 0.1)``: about linear up to ten per cent above healthy, logarithmic beyond. On this scale
the growth of damage is close to a straight line and the noise is about even.

Invariants: pure; a signature at a moment depends on nothing that came later. Time before the first point of a past
trajectory counts as healthy, because the trajectory began with a new unit. Of a living course only the bins that its
data cover are compared (:func:`covered_bins`), because missing data are not a sign of health.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet_core.assets import COMPONENT_TYPES, indicator_falls
from fleet_core.errors import BadInput
from fleet_core.quantities import follows
from fleet_core.telemetry import Finding

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BIN_EDGES_H = np.array([0.0, 0.5, 2.0, 6.0, 24.0, 72.0, 168.0])
"""How far back each bin reaches, hours; the first bin stands for now."""
BINS = len(BIN_EDGES_H) - 1
HEIGHT_SCALE = 0.1
HIGHEST_RATIO = 1e4
MIN_COVER = 0.6
"""A bin is compared when the course covers at least this share of the bin's width."""

CLEAR_SIGMAS = 4.0
"""From here a vital has clearly strayed. A finding's direction is kept for its life, so that chance must not decide it:
a healthy vital is beyond 4 sigmas on one side at one reading in 30 000, beyond 3 at one in 740."""

_STEPS_PER_E = 50.0
_FINEST_H = 0.25
MAX_COURSE_H = float(BIN_EDGES_H[-1]) * 1.2


def height(ratio: Floats) -> Floats:
    """Height of ratios to the healthy level: an array of the same shape, without unit.

    A ratio below healthy counts as about healthy: the height is never below -0.5. Ratios above ``HIGHEST_RATIO`` count
    as that.
    """
    clipped = np.clip(ratio, 0.0, HIGHEST_RATIO)
    return np.asarray(np.maximum(np.arcsinh((clipped - 1.0) / HEIGHT_SCALE), -0.5), dtype=np.float64)


class DirectionBy(StrEnum):
    """What says which way an indicator goes as its component degrades."""

    TYPE = "type"
    """The component's type: the vital measures what the type's indicator measures."""
    FINDING = "finding"
    """The finding: it saw another vital stray clearly."""
    DEFAULT = "default"
    """Nothing: neither is known, or the vital did not stray clearly."""


class IndicatorDirection(NamedTuple):
    """Does an indicator fall as its component degrades, and what says so?"""

    falls: bool
    by: DirectionBy


def found_direction(component_type: str, finding: Finding) -> IndicatorDirection:
    """Which way the indicator of this finding goes as the component degrades, as far as this revision alone says.

    A vital that measures what the type's indicator measures goes the type's way, in whatever unit and however it stands
    just now: another vital may have raised the finding. Another vital (of a clogging filter the pressure, which rises)
    goes the way in which the finding saw it stray by more than ``CLEAR_SIGMAS``, and rises when it has not strayed so
    far. A share that nothing is said of goes the type's way until then.
    """
    kind = COMPONENT_TYPES.get(component_type)
    if kind is None:
        return IndicatorDirection(False, DirectionBy.DEFAULT)
    typical = indicator_falls(component_type)
    metric = finding.indicator_metric
    seen = next((channel for channel in finding.channels if channel.metric == metric), None)
    follows_type = follows(kind, metric, "" if seen is None else seen.unit)
    if follows_type:
        return IndicatorDirection(typical, DirectionBy.TYPE)
    if seen is not None and seen.baseline_sigma > 0:
        strayed = (seen.observed - seen.baseline_mean) / seen.baseline_sigma
        if abs(strayed) > CLEAR_SIGMAS:
            return IndicatorDirection(strayed < 0, DirectionBy.FINDING)
    return IndicatorDirection(typical and follows_type is None, DirectionBy.DEFAULT)


def indicator_ratio(values: Floats, baseline: float, *, falls: bool) -> Floats:
    """The indicator ``values`` (n,) as ratios (n,) to the healthy ``baseline``, which is in the unit of the values.

    The ratio always rises as the component degrades: it is value over baseline, or baseline over value for an indicator
    that ``falls``. It is NaN where no ratio can be formed: the baseline is not positive, the ratio would be negative,
    or a falling indicator has reached zero.
    """
    if not baseline > 0:
        return np.full(values.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = baseline / values if falls else values / baseline
    return np.where(np.isfinite(ratio) & (ratio >= 0), ratio, np.nan)


def canonical_course(hours_before: Floats, ratio: Floats) -> tuple[Floats, Floats]:
    """Thin a living course to the points that are compared: at most about 340, the more recent the finer.

    ``hours_before`` (n,) are hours before now (>= 0) in any order, ``ratio`` (n,) the ratios there. Points that are not
    finite, or older than ``MAX_COURSE_H``, are dropped. Returns hours before now, descending (oldest first), and
    ratios; both are rounded, so that the stored course gives the same prognosis again. Both are empty when no point is
    left.
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
    """Signatures (m, BINS) of a trajectory at the moments ``at_h`` (m,), each of which must be one of ``hours``.

    ``hours`` (n,) ascend, ``ratio`` (n,) are the ratios at these hours. A value stands for the time since the value
    before it, so that nothing later than a moment enters its signature.

    Raises:
        BadInput: ``course`` when there are fewer than two points or the shapes differ.
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
    """Signature (BINS,) of a canonical course (:func:`canonical_course`) now, and which bins (BINS,) it covers.

    Raises:
        BadInput: ``course`` when there are fewer than two points.
    """
    hours = -hours_before
    signature = signatures(hours, ratio, np.array([hours[-1]]))[0]
    covered = covered_bins(float(hours[-1] - hours[0]))
    partly = covered & (BIN_EDGES_H[1:] > hours[-1] - hours[0])
    for index in np.flatnonzero(partly):  # time before the course counted as healthy: take the mean of the covered part
        low, high = BIN_EDGES_H[index], BIN_EDGES_H[index + 1]
        signature[index] *= (high - low) / (hours[-1] - hours[0] - low)
    return signature, covered


def covered_bins(span_h: float) -> Flags:
    """Which bins (BINS,) a course of ``span_h`` hours covers; the first bin always counts as covered."""
    widths = np.diff(BIN_EDGES_H)
    share = np.clip((span_h - BIN_EDGES_H[:-1]) / widths, 0.0, 1.0)
    covered = share >= MIN_COVER
    covered[0] = True
    return np.asarray(covered, dtype=np.bool_)
