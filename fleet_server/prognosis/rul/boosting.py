"""Gradient-boosted trees on remaining life: an ensemble for each question, a member for each fold of units left out.

For a training row only the members that never saw its unit predict (out of fold); for any other row the predictions of
all members are averaged. Calibration, blend and forecast thus rest on the same models, and nothing is fitted twice.

The units are folded in several ways, so that a prediction out of fold is an average, too: a single member errs more
than the average of all, and an interval calibrated on single members would be too wide. The disagreement between the
ways of folding about a row shows how much of its error a forecast, an average over many more members, will not have
(:meth:`Boosted.excess`).

Members are kept as LightGBM's own text and read back from it before their first use, so that a saved model predicts the
same bits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from fleet_core.errors import BadConfig
from fleet_server.prognosis.rul.histories import Floats
from fleet_server.prognosis.rul.regimes import Ints

MEAN_TREES = 250
QUANTILE_TREES = 150
MAX_ROWS = 12_000
"""The most rows that one member is fitted on: neighbouring rows are nearly alike, so more rows cost time for little."""

_BASE = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "feature_pre_filter": False,
    "force_row_wise": True,
    "deterministic": True,
    "num_threads": 1,
    "verbose": -1,
}

Progress = Callable[[], None]


@dataclass(frozen=True)
class Boosted:
    """An ensemble of LightGBM models: one member for each fold of units and each way of folding.

    ``members`` are text models; all folds of the first way come first. LightGBM: Ke et al. 2017 (NeurIPS).
    """

    members: tuple[str, ...]
    _loaded: list[Any] = field(default_factory=list, repr=False, compare=False)

    def predict(self, features: Floats) -> Floats:
        """Mean (n,) of the predictions of all members for ``features`` (n, features)."""
        return np.asarray(np.mean([self.member(index, features) for index in range(len(self.members))], axis=0))

    def member(self, index: int, features: Floats) -> Floats:
        """Predictions (n,) of one member."""
        if not self._loaded:
            self._loaded.extend(lgb().Booster(model_str=text) for text in self.members)
        return np.asarray(self._loaded[index].predict(features, num_threads=1), dtype=np.float64)

    def out_of_fold(self, features: Floats, folds: Ints) -> Floats:
        """Mean prediction (n,) for each row by the members that did not see its unit; ``folds`` (n, ways)."""
        return np.asarray(self.ways_out_of_fold(features, folds).mean(axis=1))

    def ways_out_of_fold(self, features: Floats, folds: Ints) -> Floats:
        """Predictions (n, ways) for each row, in each way of folding, by the member that did not see its unit."""
        answers = np.zeros(folds.shape)
        count = len(self.members) // folds.shape[1]
        for index in range(len(self.members)):
            way = index // count
            held = folds[:, way] == index % count
            if held.any():
                answers[held, way] = self.member(index, features[held])
        return answers

    def excess(self, ways: Floats) -> Floats:
        """Variance (n,) of the mean of ``ways`` (n, ways) in excess of the variance of :meth:`predict`.

        Members share a part of their error and have an error of their own; of the variance of the latter an average
        over k members keeps one k-th. The excess is 0 where there is only one way of folding.
        """
        count = ways.shape[1]
        if count < 2:
            return np.zeros(len(ways))
        return np.asarray(ways.var(axis=1, ddof=1) * (1.0 / count - 1.0 / len(self.members)))


@dataclass(frozen=True)
class Question:
    """What an ensemble is fitted to: the mean of ``target`` (n,), or its ``quantile`` (0..1)."""

    target: Floats
    quantile: float | None = None


def fit_boosted(
    features: Floats,
    questions: Sequence[Question],
    weight: Floats,
    folds: Ints,
    *,
    seed: int,
    step: Progress = lambda: None,
) -> tuple[Boosted, ...]:
    """Fit one ensemble for each question, with one member for each fold 0..k-1 of each column of ``folds`` (n, ways).

    ``features`` (n, features) and ``weight`` (n,) are shared by all questions, so that the rows are binned once.
    ``step`` is called after each member. Raises BadConfig when LightGBM cannot be loaded.
    """
    members: list[list[str]] = [[] for _ in questions]
    for way, fold in enumerate(folds.T):
        for index in range(int(folds.max()) + 1):
            place = way * (int(folds.max()) + 1) + index
            rng = np.random.default_rng([seed, place])
            rows = np.flatnonzero(fold != index)
            if len(rows) > MAX_ROWS:
                rows = np.sort(rng.choice(rows, MAX_ROWS, replace=False))
            data = lgb().Dataset(
                features[rows], np.zeros(len(rows)), weight=weight[rows] / weight[rows].mean(), params=dict(_BASE)
            )
            for texts, question in zip(members, questions, strict=True):
                objective = (
                    {"objective": "quantile", "alpha": question.quantile} if question.quantile else {"objective": "l2"}
                )
                leaf = int(np.clip(len(rows) // 50, 3, 20 if question.quantile is None else 40))
                settings = {**_BASE, **objective, "seed": seed * 100 + place, "min_data_in_leaf": leaf}
                data.set_label(question.target[rows])
                booster = lgb().train(settings, data, QUANTILE_TREES if question.quantile else MEAN_TREES)
                texts.append(booster.model_to_string())
                step()
    return tuple(Boosted(tuple(texts)) for texts in members)


@cache
def lgb() -> Any:
    """The LightGBM module, loaded when it is first needed, because every other command works without it.

    Raises:
        BadConfig: LightGBM is not installed, or the system lacks the OpenMP runtime that LightGBM needs.
    """
    try:
        return importlib.import_module("lightgbm")
    except ImportError:
        raise BadConfig("LightGBM is not installed: pip install 'forestall[models]'") from None
    except OSError as error:
        raise BadConfig(f"LightGBM cannot be loaded ({error}); on Debian: apt-get install libgomp1") from None
