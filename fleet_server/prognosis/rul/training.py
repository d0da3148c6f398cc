"""What is learnt about remaining life from rows of past lives: trees, the blend with similar lives, the calibration.

Members of the trees, blend and calibration rest on the same folds of whole units. Censored units train no remaining
life (theirs is not known); they take part in the calibration, as lower bounds, and in the hazard. Where a fleet is
large, units that did not fail are thinned: for remaining lives the least telling ones first, for the hazard at random
and weighted up, so that probabilities stay those of the whole fleet. Pure, deterministic for a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleet_core.errors import BadConfig
from fleet_server.prognosis.rul.boosting import Boosted, Question, fit_boosted
from fleet_server.prognosis.rul.conformal import Conformal, fit_conformal
from fleet_server.prognosis.rul.curve import SHARES
from fleet_server.prognosis.rul.features import FeatureModel
from fleet_server.prognosis.rul.hazard import Hazard, fit_hazard
from fleet_server.prognosis.rul.histories import Floats, Histories, Ints, UnitRows
from fleet_server.prognosis.rul.lives import life_weights
from fleet_server.prognosis.rul.similarity import MAX_LIBRARY, Similarity, fit_similarity

FOLDS = 5
WAYS = 2
"""So many times the units are folded anew."""
LEAVE_ONE_OUT = 8
"""Up to so many failed units, each is a fold of its own."""
BLEND_ROWS = 8_000
HAZARD_ROWS = 100_000
RESTRICTED_LIVES = 20
RESTRICTED_SHARE = 0.6
"""From so many failed units on, the mean counts remaining life up to this share of their typical life."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RulSettings:
    """``horizons`` and ``cap`` in the unit of the times; ``level`` of the interval p10..p90.

    ``whole_mean``: the mean is of the whole remaining life, instead of a restricted mean (see ``Lifetimes.limit``).

    Raises:
        BadConfig: a setting out of bounds.
    """

    seed: int = 0
    with_age: bool = True
    horizons: tuple[float, ...] = (24.0, 72.0, 720.0)
    cap: float | None = None
    level: float = 0.8
    whole_mean: bool = False

    def __post_init__(self) -> None:
        if not self.horizons or len(self.horizons) > 20 or not all(0 < h < math.inf for h in self.horizons):
            raise BadConfig("horizons: 1 to 20 numbers above 0")
        if list(self.horizons) != sorted(set(self.horizons)):
            raise BadConfig("horizons: each once, ascending")
        if self.cap is not None and not 0 < self.cap < math.inf:
            raise BadConfig("cap: a number above 0, or none")
        if not 0 < self.level < 1:
            raise BadConfig("level: within 0..1")
        if not 0 <= self.seed < 2**24:
            raise BadConfig("seed: 0 to 16777215")


@dataclass(frozen=True)
class Lifetimes:
    """What stands behind a remaining life: trees for the mean and for each of SHARES, the blend, the calibration.

    ``limit``: the mean is a restricted one, of the remaining life as far as here (None: of all of it). Early in life
    nothing tells a long life from a longer one, and the mean of all of it follows the longest.
    """

    limit: float | None
    mean: Boosted
    quantiles: tuple[Boosted, ...]
    similar_share: float
    conformal: Conformal | None


@dataclass(frozen=True)
class Training:
    """Rows of the units that teach: ``table`` (n, features), truths and owners (n,), ``folds`` (n, ways) by unit.

    ``limit``: see ``Lifetimes``.
    """

    units: Histories
    model: FeatureModel
    table: Floats
    remaining: Floats
    unit: Ints
    row: Ints
    weight: Floats
    ended: np.ndarray
    folds: Ints
    limit: float | None

    @classmethod
    def of(cls, units: Histories, model: FeatureModel, settings: RulSettings) -> Training:
        """All rows of ``units``; failed and censored units are spread evenly over the folds."""
        lengths = [len(unit) for unit in units]
        unit = np.repeat(np.arange(len(units)), lengths).astype(np.int64)
        failed = np.array([each.failed for each in units], dtype=bool)
        return cls(
            units,
            model,
            model.tables(units),
            np.concatenate([each.remaining for each in units]),
            unit,
            np.concatenate([np.arange(length) for length in lengths]).astype(np.int64),
            life_weights(unit),
            failed[unit],
            _folds(failed, settings.seed)[unit],
            _limit(units, settings),
        )

    @property
    def restricted(self) -> Floats:
        """(n,) truth as far as the limit."""
        return self.remaining if self.limit is None else np.minimum(self.remaining, self.limit)

    def similarity(self, most: int = MAX_LIBRARY) -> Similarity:
        """The library of lives that failed, of at most ``most`` moments."""
        kinds = (":ewma", ":gone", *(f":mean{window}" for window in self.model.windows))
        inputs = [i for i, name in enumerate(self.model.names) if name.endswith(kinds) or name == "age"]
        inputs = inputs or list(range(len(self.model.names)))
        known, target = self.ended, self.restricted
        return fit_similarity(
            self.table[known],
            target[known],
            self.remaining[known],
            self.unit[known],
            self.row[known],
            self.weight[known],
            np.array(inputs, dtype=np.int64),
            tuple(unit.name for unit in self.units),
            np.array([unit.failed for unit in self.units], dtype=bool),
            most,
        )

    def lifetimes(self, settings: RulSettings, similarity: Similarity, progress: Progress) -> Lifetimes:
        """Trees on the rows of failed units; blend and calibration from what they say out of fold."""
        known = self.ended
        total, done = (int(self.folds.max()) + 1) * self.folds.shape[1] * (1 + len(SHARES)), 0

        def step() -> None:
            nonlocal done
            done += 1
            progress(done, total, "trees")

        low, high = (1.0 - settings.level) / 2.0, (1.0 + settings.level) / 2.0
        truth = self.remaining[known]
        questions = [Question(self.restricted[known]), *(Question(truth, share) for share in (low, 0.5, high))]
        mean, *quantiles = fit_boosted(
            self.table[known], questions, self.weight[known], self.folds[known], seed=settings.seed, step=step
        )
        said = [each.ways_out_of_fold(self.table, self.folds) for each in quantiles]
        ordered = np.sort(np.stack([np.maximum(each.mean(axis=1), 0.0) for each in said], axis=1), axis=1)
        early, middle, late = ordered.T
        conformal = fit_conformal(
            early,
            middle,
            late,
            self.remaining,
            self.unit,
            settings.level,
            failed=np.asarray(self.ended),
            excess=quantiles[1].excess(said[1]),
        )
        share = self._similar_share(settings, similarity, mean)
        return Lifetimes(self.limit, mean, tuple(quantiles), share, conformal)

    def _similar_share(self, settings: RulSettings, similarity: Similarity, mean: Boosted) -> float:
        rows = np.flatnonzero(self.ended)
        if len(rows) > BLEND_ROWS:
            rows = np.sort(np.random.default_rng(settings.seed).choice(rows, BLEND_ROWS, replace=False))
        moments = similarity.describe(self.table, self.row)[rows]
        similar = similarity.remaining_at(similarity.ask(moments, exclude=self.unit[rows]))
        if self.limit is not None:
            similar = np.minimum(similar, self.limit)
        own = mean.out_of_fold(self.table[rows], self.folds[rows])
        return _blend_weight(own, similar, self.restricted[rows], self.weight[rows])


def _folds(failed: np.ndarray, seed: int) -> Ints:
    """(units, ways) fold of each unit, failed and censored ones spread evenly."""
    ended = int(failed.sum())
    alone = ended <= LEAVE_ONE_OUT
    count, ways = (ended, 1) if alone else (FOLDS, WAYS)
    rng = np.random.default_rng([seed, 7])
    folds = np.empty((len(failed), ways), dtype=np.int64)
    for way in range(ways):
        for kind in (True, False):
            members = rng.permutation(np.flatnonzero(failed == kind))
            folds[members, way] = np.arange(len(members)) % count
    return folds


def _limit(units: Histories, settings: RulSettings) -> float | None:
    """As far as where the mean counts: see ``Lifetimes``."""
    if settings.cap is not None or settings.whole_mean:
        return settings.cap
    lives = [float(unit.times[-1] - unit.times[0]) for unit in units if unit.failed]
    return RESTRICTED_SHARE * float(np.median(lives)) if len(lives) >= RESTRICTED_LIVES else None


def thinned(histories: Histories, most: int) -> Histories:
    """Units enough for ``most`` rows, those that failed first: a bound on memory and time for any fleet."""
    order = sorted(range(len(histories)), key=lambda index: not histories.units[index].failed)
    total = np.cumsum([len(histories.units[index]) for index in order])
    kept = max(2, int(np.searchsorted(total, most, side="right")))
    return histories.pick(sorted(order[:kept]))


def hazard_of(units: Histories, features: FeatureModel, horizons: tuple[float, ...], seed: int) -> Hazard:
    """The hazard from all rows; of units that did not fail a sample, weighted up, where there are too many rows."""
    lengths = np.array([len(unit) for unit in units], dtype=np.int64)
    failed = np.array([unit.failed for unit in units], dtype=bool)
    taken, weight = np.ones(len(units), dtype=bool), np.ones(len(units))
    rng = np.random.default_rng([seed, 11])
    left = HAZARD_ROWS
    for kind in (True, False):
        rows = int(lengths[failed == kind].sum())
        if rows > max(left, HAZARD_ROWS // 5):
            share = max(left, HAZARD_ROWS // 5) / rows
            taken &= (failed != kind) | (rng.random(len(units)) < share)
            kept = taken & (failed == kind)
            weight[kept] = rows / max(1, lengths[kept].sum())
        left -= min(left, rows)
    places = np.flatnonzero(taken)
    chosen = units.pick(places.tolist())
    unit = UnitRows.of(chosen.units).unit
    ends = np.array([each.times[-1] for each in chosen])[unit]
    times = np.concatenate([each.times for each in chosen])
    known = failed[places][unit]
    return fit_hazard(features.tables(chosen), times, unit, ends, known, horizons, seed, weight[places][unit])


def _blend_weight(first: Floats, second: Floats, truth: Floats, weight: Floats) -> float:
    """Share of ``second`` (n,) within 0..1 that leaves the least weighted squared error to ``truth`` (n,).

    Zero when both answers are the same or nothing is known.
    """
    known = np.isfinite(first) & np.isfinite(second) & np.isfinite(truth)
    apart = (second - first)[known]
    power = float((weight[known] * apart * apart).sum())
    if power <= 0.0:
        return 0.0
    return float(np.clip((weight[known] * apart * (truth - first)[known]).sum() / power, 0.0, 1.0))
