"""Probability of failure within a horizon, learned from lives most of which never failed while they were watched.

For every horizon h a LightGBM Poisson model predicts the number of failures within the next h, with the watched share
of h as the exposure. A unit that was censored after a third of the horizon counts as a third of a horizon survived, so
censoring needs no assumption about what came after and no row is thrown away.

The models are fitted on folds of whole units. Their predictions for unseen units are turned into probabilities by a
monotone curve through bins with equally many failures; every point of the curve is a product-limit estimate. Bins of
equally many failures lie mostly among the few units at the highest risk, where the probability matters. A forecast is
the mean of the models of all folds, through that curve. Rows without a failure soon after them are thinned and weighted
up.

Invariants: pure, deterministic for a seed, the same after ``from_text(to_text())``. A longer horizon never has a lower
probability. With fewer than :data:`MIN_FAILED_UNITS` failures or survivors at a horizon, every unit is given the share
of all units that failed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.boosting import lgb
from fleet_server.prognosis.survival import product_limit

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FOLDS = 3
MIN_FAILED_UNITS = 12
"""With fewer failed units, or fewer survivors, at a horizon no model of it can be learned and checked."""
MAX_EVENT_ROWS = 40_000
MAX_QUIET_ROWS = 50_000
MAX_ROUNDS = 200
_PATIENCE = 20
_MAX_BINS = 20
_MIN_BIN_UNITS = 10
_SHIFTED_KNOTS = 11
_FORMAT = 1
_SETTINGS: dict[str, Any] = {
    "objective": "poisson",
    "num_leaves": 15,
    "learning_rate": 0.08,
    "max_bin": 63,
    "min_data_in_leaf": 30,
    "min_sum_hessian_in_leaf": 1.0,  # expected failures
    "lambda_l2": 1.0,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Probability as a function of the models' score: linear in log odds between the knots, constant beyond them."""

    scores: tuple[float, ...]
    log_odds: tuple[float, ...]

    def at(self, score: Floats) -> Floats:
        """Probabilities (n,) of scores (n,)."""
        return np.asarray(1.0 / (1.0 + np.exp(-np.interp(score, self.scores, self.log_odds))), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class HorizonModel:
    """The model of one horizon: boosters, and the curve from their score to a probability.

    Without boosters the curve is one level for all units. ``texts`` are the boosters as LightGBM's text.
    """

    horizon: float
    texts: tuple[str, ...]
    boosters: tuple[Any, ...]
    curve: ScoreCurve

    def p_fail(self, features: Floats) -> Floats:
        """Probability (n,) of failing within the horizon, for ``features`` (n, f)."""
        if not self.boosters:
            return self.curve.at(np.zeros(len(features)))
        return self.curve.at(np.mean([_score(booster, features) for booster in self.boosters], axis=0))


@dataclass(frozen=True, slots=True)
class Hazard:
    """A fitted hazard: one model for each of ``horizons`` (ascending, in the unit of the times).

    ``features`` is the number of feature columns.
    """

    horizons: tuple[float, ...]
    models: tuple[HorizonModel, ...]
    features: int

    def p_fail(self, features: Floats) -> Floats:
        """Probabilities of failure (m, horizons) for ``features`` (m, f); they never fall with the horizon.

        Raises:
            BadInput: ``features`` when the number of columns is not that of the fit.
        """
        if features.ndim != 2 or features.shape[1] != self.features:
            raise BadInput("features", f"expected (rows, {self.features}), not {features.shape}")
        if not len(features):
            return np.zeros((0, len(self.horizons)))
        return np.maximum.accumulate(np.column_stack([model.p_fail(features) for model in self.models]), axis=1)

    def to_text(self) -> str:
        """As JSON, models included."""
        models = [
            {"horizon": m.horizon, "boosters": m.texts, "scores": m.curve.scores, "log_odds": m.curve.log_odds}
            for m in self.models
        ]
        return json.dumps({"format": _FORMAT, "features": self.features, "models": models})

    @classmethod
    def from_text(cls, text: str) -> Hazard:
        """Read what :meth:`to_text` wrote. Raises BadInput."""
        try:
            record = json.loads(text)
            if record["format"] != _FORMAT:
                raise ValueError(f"format {record['format']}")
            models = tuple(_model_of(model) for model in record["models"])
            made = cls(tuple(model.horizon for model in models), models, int(record["features"]))
        except (ValueError, TypeError, KeyError, lgb().basic.LightGBMError) as error:
            raise BadInput("hazard", f"not a stored hazard: {error!r}") from None
        if any(booster.num_feature() != made.features for model in models for booster in model.boosters):
            raise BadInput("hazard", "a model was fitted on another number of features")
        return made


@dataclass(frozen=True, slots=True)
class _AtRisk:
    """The n rows that lie before the end of their unit, and so are at risk. ``weight`` (n,) is 1 on average."""

    features: Floats
    unit: Ints
    remaining: Floats
    failed: Flags
    weight: Floats


def fit_hazard(
    features: Floats,
    times: Floats,
    unit: Ints,
    end_time: Floats,
    failed: Flags,
    horizons: Sequence[float],
    seed: int = 0,
    weight: Floats | None = None,
) -> Hazard:
    """Fit the hazard on rows with ``features`` (n, f), at ``times`` (n,) of the units numbered by ``unit`` (n,).

    The rows of a unit are adjacent and ascend in time. ``end_time`` (n,) and ``failed`` (n,) say when the life of the
    row's unit ended, and whether in a failure or by censoring. ``weight`` (n,) must not depend on anything that comes
    after a row; without it all rows weigh the same. ``horizons`` are in the unit of the times. A fit takes some seconds
    for each horizon and 100 000 rows.

    Raises:
        BadInput: ``shape`` when the arrays do not fit together, ``horizons`` when one is not positive, ``rows`` when no
            row lies before the end of its unit.
        BadConfig: LightGBM cannot be loaded.
    """
    sizes = {len(features), len(times), len(unit), len(end_time), len(failed)}
    if features.ndim != 2 or len(sizes) != 1:
        raise BadInput("shape", f"arrays of different lengths: {sorted(sizes)}")
    ascending = tuple(sorted({float(horizon) for horizon in horizons}))
    if not ascending or not np.isfinite(ascending).all() or ascending[0] <= 0:
        raise BadInput("horizons", "expected positive times")
    remaining = end_time - times
    kept = remaining > 0
    if not kept.any():
        raise BadInput("rows", "no row lies before the end of its unit")
    weight = (np.ones(len(times)) if weight is None else weight)[kept]
    rows = _AtRisk(features[kept], unit[kept], remaining[kept], failed[kept].astype(bool), weight / weight.mean())
    return Hazard(ascending, tuple(_fit_horizon(rows, horizon, seed) for horizon in ascending), features.shape[1])


def _fit_horizon(rows: _AtRisk, horizon: float, seed: int) -> HorizonModel:
    soon = rows.failed & (rows.remaining <= horizon)
    if min(_units(rows.unit[soon]), _units(rows.unit[rows.remaining > horizon])) < MIN_FAILED_UNITS:
        return HorizonModel(horizon, (), (), _level_curve(rows, horizon))
    rng = np.random.default_rng(seed)
    chosen, weight = _thinned(rows, soon, rng)
    features, unit, remaining = rows.features[chosen], rows.unit[chosen], rows.remaining[chosen]
    event = soon[chosen]
    watched = np.clip(remaining / horizon, 1e-3, 1.0)
    fold = _folds(unit, event, rng)
    score = np.zeros(len(chosen))
    texts = []
    for number in range(FOLDS):
        inside, outside = fold != number, fold == number
        text = _booster(features, event / watched, weight * watched, inside, outside, seed)
        texts.append(text)
        score[outside] = _score(lgb().Booster(model_str=text), features[outside])
    curve = _curve(score, remaining, rows.failed[chosen], weight, unit, horizon)
    return HorizonModel(horizon, tuple(texts), tuple(lgb().Booster(model_str=text) for text in texts), curve)


def _thinned(rows: _AtRisk, soon: Flags, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Rows to learn from, in order, and their weights.

    They are the rows with a failure soon after them and a sample of the others, both up to a bound.
    """
    parts = []
    for members, most in ((np.flatnonzero(soon), MAX_EVENT_ROWS), (np.flatnonzero(~soon), MAX_QUIET_ROWS)):
        picked = np.sort(rng.choice(members, most, replace=False)) if members.size > most else members
        scale = rows.weight[members].sum() / rows.weight[picked].sum()
        parts.append((picked, rows.weight[picked] * scale))
    chosen, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(chosen)
    return chosen[order], weight[order]


def _folds(unit: Ints, event: Flags, rng: np.random.Generator) -> Ints:
    """Fold (n,) of each row: all rows of a unit share a fold, and units with failures are spread evenly."""
    names, place = np.unique(unit, return_inverse=True)
    has_event = np.bincount(place, weights=event) > 0
    order = np.lexsort((rng.random(names.size), ~has_event))
    fold = np.empty(names.size, dtype=np.int64)
    fold[order] = np.arange(names.size) % FOLDS
    return fold[place]


def _booster(features: Floats, rate: Floats, weight: Floats, inside: Flags, outside: Flags, seed: int) -> str:
    """Fit a Poisson model of ``rate`` on the rows ``inside`` and return its text.

    Boosting stops when the loss on the rows ``outside`` no longer falls.
    """
    settings = {**_SETTINGS, "seed": seed}
    learned = lgb().Dataset(features[inside], rate[inside], weight=weight[inside], params=settings)
    judged = learned.create_valid(features[outside], rate[outside], weight=weight[outside])
    stop = lgb().early_stopping(_PATIENCE, verbose=False)
    booster = lgb().train(settings, learned, MAX_ROUNDS, valid_sets=[judged], callbacks=[stop])
    return str(booster.model_to_string(num_iteration=booster.best_iteration))


def _score(booster: Any, features: Floats) -> Floats:
    """Score (n,): logarithm of the expected number of failures within the horizon."""
    return np.asarray(booster.predict(features, raw_score=True, num_threads=1), dtype=np.float64)


def _curve(score: Floats, remaining: Floats, failed: Flags, weight: Floats, unit: Ints, horizon: float) -> ScoreCurve:
    """The monotone curve from score to probability, by the scores (n,) of rows whose unit the model had not seen.

    Its points are bins with equally many failures within the horizon.
    """
    order = np.argsort(score, kind="stable")
    event = (failed & (remaining <= horizon))[order]
    bins = int(np.clip(_units(unit[order][event]) // _MIN_BIN_UNITS, 1, _MAX_BINS))
    if bins == 1:
        return _shifted_curve(score, weight, _share_failed(remaining, failed, weight, horizon))
    # Rows are ordered from low to high risk; a bin ends where its share of the failures is reached.
    number = np.minimum(np.ceil(np.cumsum(event) * bins / event.sum() - 1e-9).astype(int) - 1, bins - 1).clip(0)
    scores, odds, counts = [], [], []
    for number_of_bin in range(bins):
        members = order[number == number_of_bin]
        scores.append(float(np.average(score[members], weights=weight[members])))
        share = _share_failed(remaining[members], failed[members], weight[members], horizon)
        edge = 0.5 / (members.size + 1.0)
        odds.append(float(np.clip(share, edge, 1.0 - edge)))
        counts.append(float(weight[members].sum()))
    level = _ascending(np.array(odds), np.array(counts))
    knots = np.maximum.accumulate(np.array(scores))
    return ScoreCurve(tuple(knots.tolist()), tuple(np.log(level / (1.0 - level)).tolist()))


def _shifted_curve(score: Floats, weight: Floats, share: float) -> ScoreCurve:
    """The curve of the scores themselves, shifted so that the mean probability is ``share``.

    It is used where too few units failed to learn a curve from bins: one level for all units would throw away the order
    that the scores tell.
    """
    low, high = -30.0, 30.0
    while high - low > 1e-6:
        shift = (low + high) / 2.0
        expected = np.average(-np.expm1(-np.exp(score + shift)), weights=weight)
        low, high = (shift, high) if expected < share else (low, shift)
    knots = np.unique(np.quantile(score, np.linspace(0.0, 1.0, _SHIFTED_KNOTS)))
    edge = 0.5 / (score.size + 1.0)
    chance = np.clip(-np.expm1(-np.exp(knots + high)), edge, 1.0 - edge)
    return ScoreCurve(tuple(knots.tolist()), tuple(np.log(chance / (1.0 - chance)).tolist()))


def _level_curve(rows: _AtRisk, horizon: float) -> ScoreCurve:
    """The curve with one level for every unit: the share of all units that failed within the horizon.

    Half a failed unit is added to one unit more, so that the level is never 0 or 1.
    """
    share = _share_failed(rows.remaining, rows.failed, rows.weight, horizon)
    units = _units(rows.unit)
    level = (share * units + 0.5) / (units + 1.0)
    return ScoreCurve((0.0,), (float(np.log(level / (1.0 - level))),))


def _share_failed(remaining: Floats, failed: Flags, weight: Floats, horizon: float) -> float:
    """Product-limit estimate of the weighted share of rows that fail within the horizon."""
    if not (failed & (remaining <= horizon)).any():
        return 0.0
    moments, surviving = product_limit(remaining, failed, np.maximum(weight, 1e-12))
    return 1.0 - float(surviving[np.searchsorted(moments, horizon, side="right") - 1])


def _ascending(values: Floats, weights: Floats) -> Floats:
    """The non-decreasing values (n,) closest to ``values`` (n,) by weighted squares: pool adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (low, low_weight, low_count), (high, high_weight, high_count) = blocks[-2:]
            total = low_weight + high_weight
            blocks[-2:] = [((low * low_weight + high * high_weight) / total, total, low_count + high_count)]
    return np.concatenate([np.full(count, value) for value, _, count in blocks])


def _units(unit: Ints) -> int:
    return int(np.unique(unit).size)


def _model_of(record: dict[str, Any]) -> HorizonModel:
    texts = tuple(str(text) for text in record["boosters"])
    scores, odds = (tuple(float(value) for value in record[name]) for name in ("scores", "log_odds"))
    if not scores or len(scores) != len(odds) or not np.isfinite([*scores, *odds]).all():
        raise ValueError("curve")
    boosters = tuple(lgb().Booster(model_str=text) for text in texts)
    return HorizonModel(float(record["horizon"]), texts, boosters, ScoreCurve(scores, odds))
