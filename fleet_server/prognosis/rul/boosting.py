"""Gradient-boosted trees on remaining life: one ensemble per question, each member fitted without one fold of units.

Asked about a training row, the members that never saw its unit answer (out of fold); asked about anything else, all of
them, averaged. So calibration, blend and forecast rest on the same models, and nothing is fitted twice. Members are
kept as LightGBM's own text and read back from it before the first use: a saved model answers with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fleet_server.prognosis.rul.histories import Floats
from fleet_server.prognosis.rul.regimes import Ints
from fleet_server.prognosis.rul.trees import lgb

MEAN_TREES = 250
QUANTILE_TREES = 150
MAX_ROWS = 12_000
"""Rows one member sees: neighbouring rows say nearly the same, so more cost time and give little."""

_BASE = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "force_row_wise": True,
    "deterministic": True,
    "num_threads": 1,
    "verbose": -1,
}

Progress = Callable[[], None]


@dataclass(frozen=True)
class Boosted:
    """``members``: LightGBM text models, one per fold of units."""

    members: tuple[str, ...]
    _loaded: list[Any] = field(default_factory=list, repr=False, compare=False)

    def predict(self, features: Floats) -> Floats:
        """(n,) mean answer of all members to ``features`` (n, features)."""
        return np.asarray(np.mean([self.member(index, features) for index in range(len(self.members))], axis=0))

    def member(self, index: int, features: Floats) -> Floats:
        """(n,) answer of one member."""
        if not self._loaded:
            self._loaded.extend(lgb().Booster(model_str=text) for text in self.members)
        return np.asarray(self._loaded[index].predict(features, num_threads=1), dtype=np.float64)

    def out_of_fold(self, features: Floats, fold: Ints) -> Floats:
        """(n,) answer to each row by the member that did not see its ``fold`` (n,)."""
        answers = np.empty(len(features))
        for index in range(len(self.members)):
            held = fold == index
            if held.any():
                answers[held] = self.member(index, features[held])
        return answers


def fit_boosted(
    features: Floats,
    target: Floats,
    weight: Floats,
    fold: Ints,
    *,
    seed: int,
    quantile: float | None = None,
    step: Progress = lambda: None,
) -> Boosted:
    """Members for each ``fold`` (n,) 0..k-1; the mean of ``target`` (n,), or its ``quantile``. ``step`` after each."""
    members = []
    for index in range(int(fold.max()) + 1):
        rng = np.random.default_rng([seed, index])
        rows = np.flatnonzero(fold != index)
        if len(rows) > MAX_ROWS:
            rows = np.sort(rng.choice(rows, MAX_ROWS, replace=False))
        question = {"objective": "quantile", "alpha": quantile} if quantile else {"objective": "l2"}
        leaf = int(np.clip(len(rows) // 50, 3, 20 if quantile is None else 40))
        settings = {**_BASE, **question, "seed": seed * 100 + index, "min_data_in_leaf": leaf}
        data = lgb().Dataset(features[rows], target[rows], weight=weight[rows] / weight[rows].mean())
        booster = lgb().train(settings, data, QUANTILE_TREES if quantile else MEAN_TREES)
        members.append(booster.model_to_string())
        step()
    return Boosted(tuple(members))
