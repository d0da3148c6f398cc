"""Calibrated prediction intervals: conformalised quantile regression (CQR) with the life as the exchangeable unit.

Rows of one life depend on each other; lives do not. Every life therefore weighs one, however many rows it has (pooled
distribution functions, Dunn, Wasserman and Ramdas 2022), and the finite-sample correction counts lives, not rows. It
counts all lives, because a correction by the lives near each knot alone would be paid again for every knot. It counts
more than all lives where the rows of a life do not all miss together (the design effect,
:func:`~fleet_server.prognosis.rul.lives.independent_lives`).

The error of a row, true remaining life minus predicted median, is measured in half-widths of the raw interval. The
early and the late end have corrections of their own, by phase of life. The true phase is not known at a forecast, but
the predicted median is: corrections are fitted around *knots* of the predicted median, each from the nearest lives, and
are interpolated between the knots.

The calibration rows must err as much as forecasts will. Predictions out of fold are averages over few models; forecasts
are averages over many, and err less. ``excess`` is the variance between the two, and errors are shrunk by its share in
each phase.

Raw half-widths of quantile trees are noisy, and a noisy scale makes calibrated intervals wider. The scale is therefore
a mix of a row's own half-width and the typical one of its phase; the weight of the own half-width is chosen by the
pinball loss on held-out lives.

Quantiles must be those of the *uncapped* remaining life; a cap is applied to the result. A capped median does not tell
early phases apart, and an interval that ends at a cap which every healthy unit exceeds is right without saying
anything.

``basis`` names the kind of calibration:

* ``phases``: as above; it needs 9 lives for 80 %.
* ``pooled``: with fewer lives, one correction for both ends and all phases, in shares of the median plus
  ``_LEAST_LIFE`` of a typical life (so that rows near the end of life do not dominate). Half-widths are not used,
  because quantiles learned from a few lives are narrow or wide by accident.
* ``normal``: with too few lives even for that (4 for 80 %), a normal prediction interval of every life's own worst
  errors. It is wider, and it rests on an assumption.

With one life there is no calibration. Invariants: pure; 0 <= low <= middle <= high after :meth:`Conformal.apply`; the
same input gives the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.forecast_rows import ForecastRows
from fleet_server.prognosis.rul.histories import Floats
from fleet_server.prognosis.rul.lives import (
    Flags,
    Units,
    independent_lives,
    life_weights,
    pinball,
    quantile_of_lives,
    student,
)

KNOT_SHARES = (0.005, 0.01, 0.02, 0.04, 0.06, 0.09, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
"""Positions of the knots as shares of the predicted medians; denser near the end of life, where every day counts."""
WINDOW_SHARE = 0.1
"""Share of the rows in the window around a knot. Near either edge a window holds twice the share beyond the knot, to
stay symmetric: errors shrink towards the end of life, and a window to one side only would make intervals too wide."""
LOCAL_LIVES = 40
"""A knot uses the rows of at least this many lives, so that no single life decides its correction."""
TRUSTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidates for the weight of a row's own half-width in the scale."""
LIVES_TO_CHOOSE = 20
"""With fewer lives the weight of a row's own half-width is not chosen by held-out lives: it is one half."""

_FOLDS = 4
_FARTHEST = 20.0
_LEAST_CALM = 0.5  # errors are never shrunk below half, however large the excess variance seems
_LEAST_LIFE = 0.2
_LISTS = ("knots", "typical_early", "typical_late", "early", "late")


@dataclass(frozen=True, slots=True)
class Conformal:
    """A fitted calibration at ``knots`` (k,) of the predicted median, ascending; it is interpolated between knots.

    ``typical_early`` and ``typical_late`` (k,) are typical half-widths at the knots, in the unit of the times;
    ``trust`` 0..1 is the weight of a row's own half-width beside them. ``early`` and ``late`` (k,) are the distances of
    the two ends from the median, in these half-widths. ``floor`` is the smallest half-width, in the unit of the times.
    ``basis`` is ``phases``, ``pooled`` or ``normal`` (see the module docstring); ``units`` is the number of lives.
    """

    level: float
    units: int
    basis: str
    floor: float
    trust: float
    knots: tuple[float, ...]
    typical_early: tuple[float, ...]
    typical_late: tuple[float, ...]
    early: tuple[float, ...]
    late: tuple[float, ...]

    def apply(self, low: Floats, middle: Floats, high: Floats) -> tuple[Floats, Floats]:
        """The calibrated ends (n,) and (n,) of the intervals with raw quantiles ``low``, ``middle``, ``high`` (n,).

        The raw quantiles are sorted and made non-negative first; then 0 <= low <= middle <= high. A row with a NaN
        gives NaN.
        """
        rows = ForecastRows.of(low, middle, high, self.floor)
        scale_early, scale_late = rows.scales(self.trust, *(self._at(rows.middle, each) for each in _LISTS[1:3]))
        early, late = (self._at(rows.middle, each) for each in _LISTS[3:])
        low = np.minimum(np.maximum(rows.middle - early * scale_early, 0.0), rows.middle)
        return low, np.maximum(rows.middle + late * scale_late, rows.middle)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; :meth:`from_json` gives the same bits back."""
        single = {name: getattr(self, name) for name in ("level", "units", "basis", "floor", "trust")}
        return {**single, **{name: list(getattr(self, name)) for name in _LISTS}}

    @classmethod
    def from_json(cls, record: object) -> Conformal:
        """From a JSON object. Raises BadInput ``conformal`` when it is not a stored calibration."""
        try:
            if not isinstance(record, dict):
                raise TypeError("not an object")
            made = cls(
                level=float(record["level"]),
                units=int(record["units"]),
                basis=str(record["basis"]),
                floor=float(record["floor"]),
                trust=float(record["trust"]),
                **{name: tuple(float(value) for value in record[name]) for name in _LISTS},
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadInput("conformal", f"not a stored calibration: {error!r}") from None
        lists = [getattr(made, name) for name in _LISTS]
        if not 0 < len(made.knots) <= 1000 or len({len(values) for values in lists}) > 1:
            raise BadInput("conformal", "expected 1 to 1000 knots and one value of each list for each")
        if not np.isfinite(np.array(lists)).all() or (np.diff(made.knots) <= 0).any():
            raise BadInput("conformal", "knots must ascend, all numbers be finite")
        if not (0 < made.level < 1 and 0 <= made.trust <= 1 and 0 <= made.floor < math.inf):
            raise BadInput("conformal", "level and trust must lie within 0..1, floor be finite and not negative")
        return made

    def _at(self, middle: Floats, name: str) -> Floats:
        return np.asarray(np.interp(middle, self.knots, getattr(self, name)))


def fit_conformal(
    low: Floats,
    middle: Floats,
    high: Floats,
    remaining: Floats,
    unit: Units,
    level: float = 0.8,
    failed: Flags | None = None,
    excess: Floats | None = None,
) -> Conformal | None:
    """Calibrate on out-of-fold quantiles; None when fewer than two lives ended, because nothing can be promised then.

    ``low``, ``middle``, ``high`` and ``remaining`` (n,) are in the unit of the times; ``unit`` (n,) says to which life
    a row belongs. ``failed`` (n,) is false where ``remaining`` is only a lower bound (default: all failed). ``excess``
    (n,) is variance that ``middle`` has here and will not have in a forecast, which is averaged over more models
    (default: none). ``level`` 0..1 is the share of lives that the interval promises.

    Raises:
        BadInput: ``shape``, ``not_finite`` or ``level``, by what is wrong with the arguments.
    """
    unit = np.unique(np.asarray(unit, dtype=np.int64), return_inverse=True)[1]  # any numbers are given: 0, 1, ... here
    ended = np.ones(len(unit), dtype=bool) if failed is None else np.asarray(failed, dtype=bool)
    excess = np.zeros(len(unit)) if excess is None else np.asarray(excess, dtype=float)
    given = (low, middle, high, remaining, excess)
    if not all(len(array) == len(unit) == len(ended) for array in given):
        raise BadInput("shape", "low, middle, high, remaining, unit, failed and excess must have one entry a row")
    if not all(np.isfinite(array).all() for array in given):
        raise BadInput("not_finite", "out-of-fold quantiles, remaining lives and excess must be finite")
    if not 0.0 < level < 1.0:
        raise BadInput("level", f"{level} is not within 0..1")
    lives = np.unique(unit[ended])
    if len(lives) < 2:
        return None
    floor = float(max(0.05 * np.median(np.abs(high - low)), 1e-9))
    rows = ForecastRows.of(low, middle, high, floor, remaining, unit, ended, excess).thinned()
    if math.ceil((len(lives) + 1) * _tail(level)) > len(lives):
        return _few(rows, level)
    if len(lives) < LIVES_TO_CHOOSE:
        return _phases(rows, level, 0.5)
    folds = _held_out(rows)
    return _phases(rows, level, min(TRUSTS, key=lambda trust: _held_out_loss(folds, level, trust)))


@dataclass(frozen=True, slots=True)
class _Knots:
    """The knots of some rows and what lies around them, which is the same whatever the trust: the knots (k,), for every
    knot the indices of its rows, and the typical half-widths, early and late, (k,) each."""

    at: Floats
    near: list[npt.NDArray[np.intp]]
    usual: tuple[Floats, Floats]

    @classmethod
    def of(cls, rows: ForecastRows) -> _Knots:
        knots = _knots(rows)
        weights = life_weights(rows.unit)
        near = [_nearest(rows, weights, knot) for knot in knots]
        local = [life_weights(rows.unit[place]) for place in near]

        def typical(half: Floats) -> Floats:
            pairs = zip(near, local, strict=True)
            return _smooth(np.array([np.average(half[place], weights=weight) for place, weight in pairs]))

        return cls(knots, near, (typical(rows.half_early), typical(rows.half_late)))


def _phases(rows: ForecastRows, level: float, trust: float, around: _Knots | None = None) -> Conformal:
    """Calibration by phase of life (basis ``phases``); needs enough lives for two separate ends."""
    around = around or _Knots.of(rows)
    knots, near, usual = around.at, around.near, around.usual
    scales = rows.scales(trust, *(np.interp(rows.middle, knots, half_widths) for half_widths in usual))
    off = rows.remaining - rows.middle
    lives = len(np.unique(rows.unit[rows.ended]))

    def reach(scale: Floats, at: npt.NDArray[np.intp], low: bool) -> float:
        at_hand = (_calm(rows, at) * off[at] / scale[at], rows.unit[at], rows.ended[at], _tail(level))
        told = independent_lives(*at_hand, lives, low=low) if lives >= LIVES_TO_CHOOSE else lives
        return quantile_of_lives(*at_hand, low=low, lives=told)

    early = [-reach(scales[0], at, True) for at in near]
    late = [reach(scales[1], at, False) for at in near]
    lists = (knots, *usual, *(_smooth(np.clip(each, 0.0, _FARTHEST)) for each in (early, late)))
    return Conformal(level, lives, "phases", rows.floor, trust, *(tuple(values.tolist()) for values in lists))


def _calm(rows: ForecastRows, at: npt.NDArray[np.intp]) -> float:
    """Ratio of the errors of forecasts to those of the rows ``at``: root mean squares without and with the excess."""
    ended = at[rows.ended[at]]
    weights = life_weights(rows.unit[ended])
    power = float((weights * (rows.remaining[ended] - rows.middle[ended]) ** 2).sum())
    excess = float((weights * rows.excess[ended]).sum())
    return max(math.sqrt(max(1.0 - excess / power, 0.0)), _LEAST_CALM) if power > 0.0 else 1.0


def _few(rows: ForecastRows, level: float) -> Conformal:
    """One correction for both ends and all phases: basis ``pooled`` while the lives suffice, else ``normal``."""
    rows = rows.pick(rows.ended)
    lives = np.unique(rows.unit)
    longest = np.array([rows.remaining[rows.unit == life].max() for life in lives])
    least = max(_LEAST_LIFE * float(np.median(longest)), rows.floor)
    worst = np.abs(rows.remaining - rows.middle) / (rows.middle + least)
    if math.ceil((len(lives) + 1) * level) <= len(lives):
        by, basis = quantile_of_lives(worst, rows.unit, rows.ended, level), "pooled"
    else:
        # The quantile of every life's own errors, and a normal prediction interval for the quantile of the next life.
        of_lives = np.array([np.quantile(worst[rows.unit == life], level) for life in lives])
        spread = float(of_lives.std(ddof=1)) * math.sqrt(1.0 + 1.0 / len(lives))
        by, basis = float(of_lives.mean()) + student(level, len(lives) - 1) * spread, "normal"
    ends = (float(np.clip(by, 0.0, _FARTHEST)),) * 2
    far = 1000.0 * max(float(longest.max()), least)
    knots, scale = (0.0, far), (least, far + least)  # two knots of a straight line: scale = median + least
    return Conformal(level, len(lives), basis, rows.floor, 0.0, knots, scale, scale, ends, ends)


_Fold = tuple[ForecastRows, ForecastRows, _Knots]


def _held_out(rows: ForecastRows) -> list[_Fold]:
    """The lives in ``_FOLDS`` ways: the rows of ended lives held out, the rows kept, and the knots of the latter."""
    _, number = np.unique(rows.unit, return_inverse=True)
    splits = (
        (rows.pick((number % _FOLDS == fold) & rows.ended), rows.pick(number % _FOLDS != fold))
        for fold in range(_FOLDS)
    )
    return [
        (held, kept, _Knots.of(kept))
        for held, kept in splits
        if len(held.middle) and len(np.unique(kept.unit[kept.ended])) >= 2
    ]


def _held_out_loss(folds: list[_Fold], level: float, trust: float) -> float:
    """Pinball loss of both ends on held-out lives, relative to the median so that all phases count alike.

    Every life weighs one.
    """
    losses = np.empty(0)
    for held, kept, around in folds:
        ends = _phases(kept, level, trust, around).apply(
            held.middle - held.half_early, held.middle, held.middle + held.half_late
        )
        loss = sum(pinball(held.remaining - end, share) for end, share in zip(ends, _shares(level), strict=True))
        losses = np.append(losses, loss * life_weights(held.unit) / np.maximum(held.middle, 10 * held.floor))
    return float(losses.sum())


def _knots(rows: ForecastRows) -> Floats:
    """Predicted medians (k,) around which corrections are fitted: the ``KNOT_SHARES`` of rows, lives weighing one."""
    weights = life_weights(rows.unit)
    order = np.argsort(rows.middle, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(share, KNOT_SHARES)
    return np.unique(np.round(rows.middle[order][np.minimum(places, len(order) - 1)], 6))


def _nearest(rows: ForecastRows, weights: Floats, knot: float) -> npt.NDArray[np.intp]:
    """Indices of the rows nearest to a knot: ``WINDOW_SHARE`` of all rows, and rows of ``LOCAL_LIVES`` ended lives.

    ``weights`` (n,) give every life of ``rows`` the same weight.
    """
    order = np.argsort(np.abs(rows.middle - knot), kind="stable")
    weights = weights[order]
    below = float(weights[rows.middle[order] <= knot].sum() / weights.sum())
    share = min(WINDOW_SHARE, 2.0 * below, 2.0 * (1.0 - below))
    enough = int(np.searchsorted(np.cumsum(weights), weights.sum() * share)) + 1
    places = np.flatnonzero(rows.ended[order])
    _, first = np.unique(rows.unit[order][places], return_index=True)
    lives = int(places[np.sort(first)[min(LOCAL_LIVES, len(first)) - 1]]) + 1
    return order[: max(enough, lives)]


def _tail(level: float) -> float:
    return 1.0 - (1.0 - level) / 2.0


def _shares(level: float) -> tuple[float, float]:
    return 1.0 - _tail(level), _tail(level)


def _smooth(values: Floats) -> Floats:
    """Running mean (k,) over three knots, with the ends repeated: neighbouring knots share most of their lives."""
    padded = np.concatenate((values[:1], values, values[-1:]))
    return np.asarray((padded[:-2] + 2.0 * padded[1:-1] + padded[2:]) / 4.0)
