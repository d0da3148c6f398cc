"""Fitting on rows of past lives: trees for remaining life, their blend with similar lives, calibration and hazard.

Trees, blend and calibration use the same folds of whole units. A censored unit trains no tree, because its remaining
life is not known; it takes part in the calibration as a lower bound, and in the hazard. In a large fleet the units are
thinned: for remaining lives failed units are kept first; for the hazard units are drawn at random and weighted, so that
its probabilities stay those of the whole fleet. Pure, deterministic for a seed.
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
"""Number of ways in which the units are divided into folds."""
LEAVE_ONE_OUT = 8
"""With at most this many failed units, every failed unit is a fold of its own."""
BLEND_ROWS = 8_000
HAZARD_ROWS = 100_000
RESTRICTED_LIVES = 20
RESTRICTED_SHARE = 0.6
"""With at least ``RESTRICTED_LIVES`` failed units, the mean counts remaining life only up to this share of a median
life: see ``Lifetimes.limit``."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RulSettings:
    """Settings of a fit.

    ``horizons`` and ``cap`` are in the unit of the times; ``level`` 0..1 is the share of lives that p10..p90 promises.
    ``with_age`` false leaves out features that tell the time since a unit's first row. ``whole_mean`` makes the mean
    that of the whole remaining life instead of a restricted mean (see ``Lifetimes.limit``).

    Raises:
        BadConfig: a setting is out of bounds.
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
    """The fitted parts of a forecast of remaining life: trees, blend and calibration.

    ``quantiles`` has one ensemble for each of ``SHARES``; ``similar_share`` 0..1 is the weight of similar past lives in
    the mean. The mean is a restricted mean: remaining life beyond ``limit`` (in the unit of the times) counts as
    ``limit``; None means the mean of the whole remaining life. Early in life nothing tells a long life from a longer
    one, and an unrestricted mean would follow the longest lives.
    """

    limit: float | None
    mean: Boosted
    quantiles: tuple[Boosted, ...]
    similar_share: float
    conformal: Conformal | None


@dataclass(frozen=True)
class Training:
    """The n rows of the training units.

    ``table`` (n, features); ``remaining`` (n,) is the true remaining life, or a lower bound where ``ended`` (n,) is
    false; ``unit`` and ``row`` (n,) are the row's unit and its place in it; ``weight`` (n,) gives every life the same
    weight; ``folds`` (n, ways) are folds of whole units. ``limit``: see ``Lifetimes``.
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
        """All rows of ``units``, with their features; failed and censored units are spread evenly over the folds."""
        lengths = [len(unit) for unit in units]
        unit = np.repeat(np.arange(len(units)), lengths).astype(np.int64)
        failed = np.array([life.failed for life in units], dtype=bool)
        return cls(
            units,
            model,
            model.tables(units),
            np.concatenate([life.remaining for life in units]),
            unit,
            np.concatenate([np.arange(length) for length in lengths]).astype(np.int64),
            life_weights(unit),
            failed[unit],
            _folds(failed, settings.seed)[unit],
            _limit(units, settings),
        )

    @property
    def restricted(self) -> Floats:
        """Remaining life (n,), at most ``limit``."""
        return self.remaining if self.limit is None else np.minimum(self.remaining, self.limit)

    def similarity(self, most: int = MAX_LIBRARY) -> Similarity:
        """The library of failed lives for the similarity search, with at most ``most`` moments."""
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
        """Fit trees on the rows of failed units, then blend and calibration on their predictions out of fold."""
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
    """Fold (units, ways) of each unit; failed and censored units are spread evenly over the folds."""
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
    """The limit of the restricted mean: see ``Lifetimes.limit``."""
    if settings.cap is not None or settings.whole_mean:
        return settings.cap
    lives = [float(unit.times[-1] - unit.times[0]) for unit in units if unit.failed]
    return RESTRICTED_SHARE * float(np.median(lives)) if len(lives) >= RESTRICTED_LIVES else None


def thinned(histories: Histories, most: int) -> Histories:
    """As many units as have at most ``most`` rows together, failed units first: it bounds memory and time."""
    order = sorted(range(len(histories)), key=lambda index: not histories.units[index].failed)
    total = np.cumsum([len(histories.units[index]) for index in order])
    kept = max(2, int(np.searchsorted(total, most, side="right")))
    return histories.pick(sorted(order[:kept]))


def hazard_of(units: Histories, features: FeatureModel, horizons: tuple[float, ...], seed: int) -> Hazard:
    """Fit the hazard on all rows; where there are too many, on a weighted random sample of whole units."""
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
    ends = np.array([life.times[-1] for life in chosen])[unit]
    times = np.concatenate([life.times for life in chosen])
    known = failed[places][unit]
    return fit_hazard(features.tables(chosen), times, unit, ends, known, horizons, seed, weight[places][unit])


def _blend_weight(first: Floats, second: Floats, truth: Floats, weight: Floats) -> float:
    """The share (0..1) of ``second`` in a blend with ``first`` that has the least weighted squared error to ``truth``.

    All arrays are (n,). The share is zero when both predictions are the same or none is known.
    """
    known = np.isfinite(first) & np.isfinite(second) & np.isfinite(truth)
    apart = (second - first)[known]
    power = float((weight[known] * apart * apart).sum())
    if power <= 0.0:
        return 0.0
    return float(np.clip((weight[known] * apart * (truth - first)[known]).sum() / power, 0.0, 1.0))
