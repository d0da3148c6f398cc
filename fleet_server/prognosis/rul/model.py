"""Remaining useful life (RUL) of any fleet of similar units: fitted on past lives, asked about present ones.

Where enough lives ended in failure (``ENDED_SHARE``), boosted trees predict the mean and the quantiles of the remaining
life. The mean is blended with the mean of the most similar past lives, and the quantiles are calibrated on out-of-fold
predictions with the unit as the exchangeable thing (training.py). Where failures are rare, the remaining lives of the
few failed units say nothing about the many others: then the whole forecast comes from the hazard. On a table of
intervals the hazard is learned at moments within the intervals (intervals.py).

Invariants: the quantile models are fitted on uncapped remaining lives; a cap clips only the forecast, and
``Forecast.at_least`` says that ``p90`` was clipped and means "at least". ``0 <= p10 <= p50 <= p90``. ``p_fail`` rises
with the horizon and agrees with the quantiles before the cap; where a hazard was learned, the quantiles are moved to
agree with the hazard. The same histories, settings and seed give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.abstain import MOST_ROWS, reasons
from fleet_server.prognosis.rul.conformal import Conformal
from fleet_server.prognosis.rul.curve import agreeing, p_fail_of, quantiles_of
from fleet_server.prognosis.rul.features import FeatureModel
from fleet_server.prognosis.rul.hazard import Hazard
from fleet_server.prognosis.rul.histories import Floats, Histories, Ints, Unit
from fleet_server.prognosis.rul.intervals import IntervalHazard, interval_channel
from fleet_server.prognosis.rul.similarity import MAX_LIBRARY, Answers, Neighbour, Similarity
from fleet_server.prognosis.rul.training import Lifetimes, Progress, RulSettings, Training, hazard_of, thinned

__all__ = ["Forecast", "Progress", "RulModel", "RulSettings"]

ENDED_SHARE = 0.2
"""Below this share of failed units, failures are rare and the forecast comes from the hazard."""
RUL_ROWS = 80_000
CHUNK_ROWS = 40_000
SHOWN_LIBRARY = 4_000
"""Moments in the library of past lives where failures are rare: the neighbours are then shown, but not averaged."""
CURVE_SHARES = (0.25, 0.5, 1.0, 2.0)
"""Horizons, in typical lives, that are added where the quantiles come from the hazard."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast at one row: remaining life in the unit of the times, and probabilities of failure by horizon.

    After an abstention ``abstained`` is the reason, and the figures are NaN or empty. ``at_least`` says that ``p90``
    was clipped by the cap. ``interval`` says how the interval was calibrated (``Conformal.basis``, ``hazard``, or
    ``none``).
    """

    p10: float
    p50: float
    p90: float
    mean: float
    p_fail: dict[float, float]
    neighbours: tuple[Neighbour, ...]
    abstained: str
    at_least: bool = False
    interval: str = ""


@dataclass(frozen=True)
class RulModel:
    """A fitted model.

    ``lifetimes`` is None where failures are rare. Where some unit did not fail there is a hazard: ``watched`` for a
    table of intervals, else ``hazard``. ``least_rows`` is the number of rows below which the model abstains,
    ``curve_horizons`` are the horizons of the hazard in the unit of the times.
    """

    settings: RulSettings
    features: FeatureModel
    least_rows: int
    curve_horizons: tuple[float, ...]
    lifetimes: Lifetimes | None
    similarity: Similarity
    hazard: Hazard | None
    watched: IntervalHazard | None

    @classmethod
    def fit(
        cls, histories: Histories, settings: RulSettings | None = None, progress: Progress = lambda *_: None
    ) -> RulModel:
        """Fit a model on past lives; ``progress(done, total, what)`` is called after each step.

        Raises:
            BadInput: ``too_few_lives`` with fewer than two failed units that have two rows, ``no_channels`` when no
                channel changes.
            BadConfig: LightGBM cannot be loaded.
        """
        settings = settings or RulSettings()
        usable = Histories(tuple(unit for unit in histories if len(unit) > 1 or not unit.failed), histories.channels)
        failed = np.array([unit.failed for unit in usable], dtype=bool)
        if failed.sum() < 2:
            raise BadInput("too_few_lives", f"{int(failed.sum())} units failed with two rows or more; needs two")
        features = FeatureModel.fit(usable, with_age=settings.with_age, seed=settings.seed)
        often = failed.mean() >= ENDED_SHARE
        learnt = thinned(usable, RUL_ROWS) if often else usable.pick(np.flatnonzero(failed).tolist())
        rows = Training.of(learnt, features, settings)
        similarity = rows.similarity(MAX_LIBRARY if often else SHOWN_LIBRARY)
        lifetimes = rows.lifetimes(settings, similarity, progress) if often else None
        span = float(np.median([unit.times[-1] - unit.times[0] for unit in usable if len(unit) > 1]))
        longer = () if often else tuple(share * span for share in CURVE_SHARES)
        horizons = tuple(sorted({*settings.horizons, *longer}))
        hazard, watched = None, None
        if not failed.all():
            progress(0, 1, "hazard")
            if channel := interval_channel(histories):
                watched = IntervalHazard.fit(histories, channel, horizons, settings.seed)
            else:
                hazard = hazard_of(usable, features, horizons, settings.seed)
            progress(1, 1, "hazard")
        least_rows = min(MOST_ROWS, min(len(unit) for unit in usable))
        return cls(settings, features, least_rows, horizons, lifetimes, similarity, hazard, watched)

    def predict(self, unit: Unit) -> Forecast:
        """The forecast at the last row of a unit.

        Raises:
            BadInput: ``shape`` when the unit has other channels than the training lives.
        """
        return self.predict_at(unit, [len(unit) - 1])[0]

    def predict_at(self, unit: Unit, rows: Sequence[int] | Ints) -> tuple[Forecast, ...]:
        """Forecasts at several rows of one life; each uses only what was known at its row.

        Raises:
            BadInput: ``shape`` as :meth:`predict`, ``rows`` when the unit has no such row.
        """
        return self._forecasts([unit], [np.asarray(rows, dtype=np.int64)])

    def predict_many(self, units: Sequence[Unit], progress: Progress = lambda *_: None) -> tuple[Forecast, ...]:
        """The forecast at the last row of each unit, in the order of the units. Raises as :meth:`predict` does."""
        forecasts: list[Forecast] = []
        begin = 0
        while begin < len(units):
            end, size = begin, 0
            while end < len(units) and (end == begin or size + len(units[end]) <= CHUNK_ROWS):
                size += len(units[end])
                end += 1
            chunk = units[begin:end]
            forecasts += self._forecasts(chunk, [np.array([len(unit) - 1]) for unit in chunk])
            begin = end
            progress(begin, len(units), "forecast")
        return tuple(forecasts)

    def _forecasts(self, units: Sequence[Unit], at: Sequence[Ints]) -> tuple[Forecast, ...]:
        """Forecasts at the rows ``at[i]`` of unit i, for all units one after the other."""
        rows = self.features.rows(units)
        for unit, asked in zip(units, at, strict=True):
            if len(asked) and (asked.min() < 0 or asked.max() >= len(unit)):
                raise BadInput("rows", f"unit {unit.name} has {len(unit)} rows")
        starts = np.flatnonzero(rows.row == 0)
        place = np.concatenate([start + asked for start, asked in zip(starts, at, strict=True)])
        whys = reasons(self.features, rows, place, self.least_rows)
        table = self.features.tables(units)
        answers = self.similarity.ask(self.similarity.describe(table, rows.row)[place])
        features = table[place]
        quantiles, mean, p_fail = self._numbers(features, answers, self._curve(features, units, at))
        return tuple(
            _withheld(why) if why else self._forecast(quantiles[i], float(mean[i]), p_fail[i], answers, i)
            for i, why in enumerate(whys)
        )

    def _curve(self, features: Floats, units: Sequence[Unit], at: Sequence[Ints]) -> Floats | None:
        """Probabilities of failure (n, curve_horizons) by the hazard; None when there is no hazard.

        A horizon is NaN where the hazard learned nothing and the trees can say more than its one level for all units.
        """
        hazard = self.watched.hazard if self.watched else self.hazard
        if hazard is None:
            return None
        if self.watched is None:
            said = hazard.p_fail(features)
        elif all(len(asked) == 1 and asked[0] == len(unit) - 1 for unit, asked in zip(units, at, strict=True)):
            said = self.watched.p_fail(units)
        else:
            said = np.concatenate(
                [self.watched.p_fail_at(unit, asked.tolist()) for unit, asked in zip(units, at, strict=True)]
            )
        if self.lifetimes is not None:
            said[:, [not model.boosters for model in hazard.models]] = np.nan
        return said

    def _numbers(self, features: Floats, answers: Answers, curve: Floats | None) -> tuple[Floats, Floats, Floats]:
        """Quantiles before the cap (n, 3), the mean (n,) and the probabilities of failure (n, horizons)."""
        if self.lifetimes is None:
            assert curve is not None  # without lifetimes some unit was censored, so there is a hazard
            quantiles, mean = quantiles_of(curve, np.array(self.curve_horizons))
            asked = [self.curve_horizons.index(horizon) for horizon in self.settings.horizons]
            return quantiles, self._capped(mean), np.maximum.accumulate(curve[:, asked], axis=1)
        horizons = np.array(self.settings.horizons)
        raw = [np.maximum(quantile.predict(features), 0.0) for quantile in self.lifetimes.quantiles]
        quantiles = _calibrated(np.sort(np.stack(raw, axis=1), axis=1), self.lifetimes.conformal)
        if curve is not None:
            learned = np.isfinite(curve).all(axis=0)
            quantiles = agreeing(quantiles, curve[:, learned], horizons[learned])
        p_fail = p_fail_of(quantiles, horizons)
        if curve is not None:
            p_fail = np.maximum.accumulate(np.where(np.isfinite(curve), curve, p_fail), axis=1)
        share = self.lifetimes.similar_share
        mean = self.lifetimes.mean.predict(features)
        if share > 0.0:
            mean = (1.0 - share) * mean + share * self._restricted(self.similarity.remaining_at(answers))
        return quantiles, self._restricted(np.maximum(mean, 0.0)), p_fail

    def _restricted(self, mean: Floats) -> Floats:
        limit = self.lifetimes.limit if self.lifetimes else None
        return mean if limit is None else np.minimum(mean, limit)

    def _capped(self, values: Floats) -> Floats:
        return values if self.settings.cap is None else np.minimum(values, self.settings.cap)

    def _forecast(self, quantiles: Floats, mean: float, p_fail: Floats, answers: Answers, place: int) -> Forecast:
        p10, p50, p90 = (float(value) for value in self._capped(quantiles))
        cap, conformal = self.settings.cap, self.lifetimes.conformal if self.lifetimes else None
        return Forecast(
            p10,
            p50,
            p90,
            mean,
            dict(zip(self.settings.horizons, (float(value) for value in p_fail), strict=True)),
            self.similarity.neighbours(answers, place),
            "",
            cap is not None and bool(quantiles[2] >= cap),
            "hazard" if self.lifetimes is None else conformal.basis if conformal else "none",
        )


def _calibrated(quantiles: Floats, conformal: Conformal | None) -> Floats:
    if conformal is None:
        return quantiles
    low, high = conformal.apply(*quantiles.T)
    middle = np.clip(quantiles[:, 1], low, high)
    return np.asarray(np.stack([low, middle, high], axis=1))


def _withheld(why: str) -> Forecast:
    return Forecast(math.nan, math.nan, math.nan, math.nan, {}, (), why)
