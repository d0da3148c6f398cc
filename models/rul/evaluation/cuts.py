"""Forecasts at many moments of many lives, as arrays, and the figures that are computed from them.

A *cut* is one forecast of one unit from its rows up to a moment. Abstentions of the engine are counted, not scored.
Intervals are judged on units that failed; probabilities also on censored units whose fate within the horizon is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.rul.histories import Floats, Histories, Unit
from fleet_server.prognosis.rul.model import Forecast, RulModel
from models.rul import metrics
from models.rul.metrics import Estimate

ACTING_H = 72.0
"""Horizon of the probabilities that are judged, in hours."""
CUTS = 30
THIRDS = ("first third", "second third", "last third")


@dataclass(frozen=True, slots=True)
class Cuts:
    """Forecasts as arrays (n,): the life, time and share of life, the true remaining life, and the forecast.

    Times are in the unit of the table; the forecast is NaN where the engine abstained.
    """

    unit: npt.NDArray[np.int64]
    time: Floats
    share: Floats
    remaining: Floats
    failed: npt.NDArray[np.bool_]
    p10: Floats
    p50: Floats
    p90: Floats
    mean: Floats
    p_fail: Floats
    """Probability of failure within the horizon that was asked for; NaN when none was."""

    def pick(self, rows: npt.NDArray[np.bool_]) -> Cuts:
        """The cuts where ``rows``."""
        return Cuts(*(getattr(self, name)[rows] for name in Cuts.__slots__))

    @property
    def said(self) -> Cuts:
        """Only where the engine did not withhold its forecast."""
        return self.pick(np.isfinite(self.p50))

    @property
    def withheld(self) -> int:
        """Number of forecasts on which the engine abstained."""
        return int((~np.isfinite(self.p50)).sum())


def joined(parts: Sequence[Cuts]) -> Cuts:
    """All cuts together. ``parts`` must not be empty."""
    return Cuts(*(np.concatenate([getattr(part, name) for part in parts]) for name in Cuts.__slots__))


def cut_rows(unit: Unit, cuts: int = CUTS) -> npt.NDArray[np.intp]:
    """The rows known at ``cuts`` moments evenly over the observed life; not the last row, where nothing remains."""
    age = unit.times - unit.times[0]
    moments = (np.arange(cuts) + 0.5) / cuts * age[-1]
    rows = np.unique(np.searchsorted(age, moments, side="right") - 1)
    return np.asarray(rows[rows < len(unit) - 1])


def judge_lives(
    model: RulModel, lives: Histories, first: int = 0, cuts: int = CUTS, horizon: float | None = None
) -> Cuts:
    """Forecasts along whole lives; ``first`` numbers the units from there on, so that parts can be joined."""
    parts = []
    for number, unit in enumerate(lives, start=first):
        rows = cut_rows(unit, cuts)
        if len(rows):
            parts.append(_cuts(unit, number, rows, model.predict_at(unit, rows), horizon))
    return joined(parts)


def judge_last(model: RulModel, lives: Histories, remaining: Floats) -> Cuts:
    """Forecasts from the last row of units that were cut short; ``remaining`` (units,) is the truth."""
    ends = np.array([unit.times[-1] for unit in lives])
    ages = np.array([unit.times[-1] - unit.times[0] for unit in lives])
    count = len(lives)
    shares = ages / np.maximum(ages + remaining, 1e-12)
    answers = _answers(model.predict_many(lives.units), None)
    return Cuts(
        np.arange(count), ends, shares, np.asarray(remaining, dtype=float), np.ones(count, dtype=bool), *answers
    )


def coverage_by_phase(cuts: Cuts, seed: int = 0) -> dict[str, Estimate]:
    """Coverage of the interval over all, and in each third of (true) life."""
    ended = cuts.said.pick(cuts.said.failed)
    third = np.minimum((ended.share * 3).astype(int), 2)
    picked = {"all": np.ones(len(third), dtype=bool), **{name: third == place for place, name in enumerate(THIRDS)}}
    return {
        name: metrics.coverage(part.p10, part.p90, part.remaining, part.unit, seed)
        for name, part in ((name, ended.pick(rows)) for name, rows in picked.items())
    }


def known_within(cuts: Cuts, horizon: float) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Forecast probability, outcome (0 or 1) and unit of the cuts whose outcome within the horizon is known."""
    known = cuts.pick(np.isfinite(cuts.p_fail) & (cuts.failed | (cuts.remaining > horizon)))
    return known.p_fail, (known.failed & (known.remaining <= horizon)).astype(float), known.unit


def per_life(cuts: Cuts) -> list[Cuts]:
    """The cuts of each life that failed, in order of time."""
    ended = cuts.said.pick(cuts.said.failed)
    lives = (ended.pick(ended.unit == unit) for unit in np.unique(ended.unit))
    return [Cuts(*(getattr(life, name)[np.argsort(life.time)] for name in Cuts.__slots__)) for life in lives]


def _cuts(
    unit: Unit, number: int, rows: npt.NDArray[np.intp], forecasts: Sequence[Forecast], horizon: float | None
) -> Cuts:
    age = unit.times - unit.times[0]
    return Cuts(
        np.full(len(rows), number),
        unit.times[rows],
        age[rows] / age[-1],
        unit.remaining[rows],
        np.full(len(rows), unit.failed),
        *_answers(forecasts, horizon),
    )


def _answers(forecasts: Sequence[Forecast], horizon: float | None) -> tuple[Floats, ...]:
    """p10, p50, p90, mean and the probability within the horizon, (n,) each, NaN where withheld."""
    table = np.array(
        [
            (np.nan,) * 5
            if each.abstained
            else (each.p10, each.p50, each.p90, each.mean, np.nan if horizon is None else each.p_fail[horizon])
            for each in forecasts
        ],
        dtype=float,
    ).reshape(len(forecasts), 5)
    return tuple(table.T)
