"""Intervals that keep their promise: conformalised quantile regression with the asset as the exchangeable unit.

Rows of one life are not independent, lives are. So each life weighs one however many rows it has (pooled distribution
functions, Dunn, Wasserman and Ramdas 2022), and the finite-sample correction counts lives, not rows: all lives that
teach, for each knot would pay for its own anew, and for more where the rows of a life do not all miss together (the
design effect, :func:`~fleet_server.prognosis.rul.lives.independent_lives`). How far a truth lies from the predicted
median is measured in half-widths of the raw interval; the early and the late end are corrected on their own, by the
phase of life. The true phase is not known when one predicts, the predicted median is: corrections are fitted around
knots of it, each from the lives nearest, and interpolated between.

What is calibrated on must err as what is forecast will. Answers out of fold are averages over few models, forecasts
over many, which err less: ``excess`` is the variance between the two, and errors shrink by its share in each phase.

Raw widths of quantile trees are noisy, and a noisy scale makes calibrated intervals wider. So the scale is a mix of a
row's own half-width and the one typical of its phase; how far the own width is trusted is chosen by the pinball loss on
lives held out. Give it quantiles of the *uncapped* remaining life and cap what comes out: a capped median does not tell
early phases apart, and an interval that ends at a cap everything healthy exceeds is right without saying anything.

With too few lives for two sides (9 for 80 %) one correction serves both ends and every phase, in shares of the median
(with ``_LEAST_LIFE`` of a typical life added to it, so that the end is not all that counts): quantiles grown from a few
lives are narrow or wide by accident, and how far their own widths were off made intervals of many lives. With fewer
than even that can promise (4 for 80 %), a normal prediction interval of the lives' own worst cases is used, which is
wider and rests on an assumption: ``basis`` says which. One life says nothing about another: no calibration.

Invariants: pure; 0 <= low <= middle <= high after :meth:`Conformal.apply`; the same input gives the same bits.
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
"""Where knots lie among the predicted medians; denser near the end of life, where every day counts."""
WINDOW_SHARE = 0.1
"""A knot's window holds this share of the rows; near either edge twice what lies beyond the knot, to stay symmetric:
errors shrink towards the end of life, and a window that reaches into one direction only would be too wide there."""
LOCAL_LIVES = 40
"""A knot draws on at least this many lives' worth of rows, so that its correction is not one life's whim."""
TRUSTS = (0.0, 0.25, 0.5, 0.75, 1.0)
LIVES_TO_CHOOSE = 20
"""Fewer lives do not choose how far raw widths are trusted; then by half."""

_FOLDS = 4
_FARTHEST = 20.0
_LEAST_CALM = 0.5  # however much of the errors seems to be variance that averaging takes away
_LEAST_LIFE = 0.2
_LISTS = ("knots", "typical_early", "typical_late", "early", "late")


@dataclass(frozen=True, slots=True)
class Conformal:
    """Calibration at ``knots`` (k,) of the predicted median, ascending; between them interpolated.

    ``typical_early`` and ``typical_late`` (k,) are half-widths usual there, in time units; ``trust`` 0..1 is the weight
    of a row's own half-width beside them; ``early`` and ``late`` (k,) how many of such half-widths the ends lie from
    the median. ``floor`` is the smallest half-width, in time units. ``basis``: ``phases``, ``pooled`` or ``normal``.
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
        """The corrected ends (n,), 0 <= low <= middle <= high for the middle of the three as sorted and not negative.

        A row with a NaN stays without an answer (NaN).
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
        """From a JSON object. Raises BadInput ``conformal``."""
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
        if not 0 < len(made.knots) <= 1000 or len({len(each) for each in lists}) > 1:
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
    """Calibrate from out-of-fold quantiles; None when fewer than two lives ended (nothing can be promised).

    ``low``, ``middle``, ``high``, ``remaining`` (n,) in time units, ``unit`` (n,) which life a row belongs to,
    ``failed`` (n,) false where ``remaining`` is only a lower bound (default: all failed). ``excess`` (n,) variance that
    ``middle`` has here and will not have in a forecast, which is averaged over more models (default: none).

    Raises:
        BadInput: ``shape``, ``not_finite`` or ``level``.
    """
    unit = np.asarray(unit, dtype=np.int64)
    ended = np.ones(len(unit), dtype=bool) if failed is None else np.asarray(failed, dtype=bool)
    excess = np.zeros(len(unit)) if excess is None else np.asarray(excess, dtype=float)
    given = (low, middle, high, remaining, excess)
    if not all(len(each) == len(unit) == len(ended) for each in given):
        raise BadInput("shape", "low, middle, high, remaining, unit, failed and excess must have one entry a row")
    if not all(np.isfinite(each).all() for each in given):
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
    return _phases(rows, level, min(TRUSTS, key=lambda trust: _held_out_loss(rows, level, trust)))


def _phases(rows: ForecastRows, level: float, trust: float) -> Conformal:
    """Corrections by phase; the lives must be many enough for two sides."""
    knots = _knots(rows)
    near = [_nearest(rows, knot) for knot in knots]
    usual = [
        _smooth(np.array([np.average(half[place], weights=life_weights(rows.unit[place])) for place in near]))
        for half in (rows.half_early, rows.half_late)
    ]
    scales = rows.scales(trust, *(np.interp(rows.middle, knots, each) for each in usual))
    off = rows.remaining - rows.middle
    lives = len(np.unique(rows.unit[rows.ended]))

    def reach(scale: Floats, at: npt.NDArray[np.intp], low: bool) -> float:
        at_hand = (_calm(rows, at) * off[at] / scale[at], rows.unit[at], rows.ended[at], _tail(level))
        told = independent_lives(*at_hand, lives, low=low) if lives >= LIVES_TO_CHOOSE else lives
        return quantile_of_lives(*at_hand, low=low, lives=told)

    early = [-reach(scales[0], at, True) for at in near]
    late = [reach(scales[1], at, False) for at in near]
    lists = (knots, *usual, *(_smooth(np.clip(each, 0.0, _FARTHEST)) for each in (early, late)))
    return Conformal(level, lives, "phases", rows.floor, trust, *(tuple(each.tolist()) for each in lists))


def _calm(rows: ForecastRows, at: npt.NDArray[np.intp]) -> float:
    """How large errors of forecasts are beside those ``at`` rows: root mean squares, without the excess variance."""
    ended = at[rows.ended[at]]
    weights = life_weights(rows.unit[ended])
    power = float((weights * (rows.remaining[ended] - rows.middle[ended]) ** 2).sum())
    excess = float((weights * rows.excess[ended]).sum())
    return max(math.sqrt(max(1.0 - excess / power, 0.0)), _LEAST_CALM) if power > 0.0 else 1.0


def _few(rows: ForecastRows, level: float) -> Conformal:
    """One correction for both ends and all phases: conformal while the lives suffice, else normal and wider."""
    rows = rows.pick(rows.ended)
    lives = np.unique(rows.unit)
    longest = np.array([rows.remaining[rows.unit == life].max() for life in lives])
    least = max(_LEAST_LIFE * float(np.median(longest)), rows.floor)
    worst = np.abs(rows.remaining - rows.middle) / (rows.middle + least)
    if math.ceil((len(lives) + 1) * level) <= len(lives):
        by, basis = quantile_of_lives(worst, rows.unit, rows.ended, level), "pooled"
    else:
        # each life's own quantile, then a normal prediction interval for that of the next life
        each = np.array([np.quantile(worst[rows.unit == life], level) for life in lives])
        spread = float(each.std(ddof=1)) * math.sqrt(1.0 + 1.0 / len(lives))
        by, basis = float(each.mean()) + student(level, len(lives) - 1) * spread, "normal"
    ends = (float(np.clip(by, 0.0, _FARTHEST)),) * 2
    far = 1000.0 * max(float(longest.max()), least)
    knots, scale = (0.0, far), (least, far + least)  # a straight line: the median and the least life above it
    return Conformal(level, len(lives), basis, rows.floor, 0.0, knots, scale, scale, ends, ends)


def _held_out_loss(rows: ForecastRows, level: float, trust: float) -> float:
    """Pinball loss of both ends on lives held out, each life weighing one; relative to the median, phases alike."""
    _, number = np.unique(rows.unit, return_inverse=True)
    losses = np.empty(0)
    for fold in range(_FOLDS):
        held = rows.pick((number % _FOLDS == fold) & rows.ended)
        kept = rows.pick(number % _FOLDS != fold)
        if not len(held.middle) or len(np.unique(kept.unit[kept.ended])) < 2:
            continue
        ends = _phases(kept, level, trust).apply(
            held.middle - held.half_early, held.middle, held.middle + held.half_late
        )
        loss = sum(pinball(held.remaining - end, share) for end, share in zip(ends, _shares(level), strict=True))
        losses = np.append(losses, loss * life_weights(held.unit) / np.maximum(held.middle, 10 * rows.floor))
    return float(losses.sum())


def _knots(rows: ForecastRows) -> Floats:
    """Predicted medians around which corrections are fitted: by shares of the rows, each life weighing one."""
    weights = life_weights(rows.unit)
    order = np.argsort(rows.middle, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.searchsorted(share, KNOT_SHARES)
    return np.unique(np.round(rows.middle[order][np.minimum(places, len(order) - 1)], 6))


def _nearest(rows: ForecastRows, knot: float) -> npt.NDArray[np.intp]:
    """The rows nearest to the knot: WINDOW_SHARE of all, and of LOCAL_LIVES lives that ended (or all)."""
    order = np.argsort(np.abs(rows.middle - knot), kind="stable")
    weights = life_weights(rows.unit)[order]
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
    """A running mean of three knots, the ends held: neighbours share most of their lives anyway."""
    padded = np.concatenate((values[:1], values, values[-1:]))
    return np.asarray((padded[:-2] + 2.0 * padded[1:-1] + padded[2:]) / 4.0)
