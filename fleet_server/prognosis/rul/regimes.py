"""Operating regimes, found in the data: channels that keep to a few values all life long and move the other channels.

A turbofan flies at six combinations of altitude, speed and throttle, and its sensors can be compared only within one of
them. A channel defines regimes when (1) its values fall into a few tight groups, (2) nearly every unit visits every
group, (3) no group belongs to a certain age (a counter that grows with wear is discrete, too), and (4) its groups
explain much of another channel (a rounded setting without effect is discrete, too). Regimes are the combinations of
groups that occur. Without such a channel there is one regime.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.rul.histories import Floats

MAX_GROUPS = 16
MAX_REGIMES = 48
GAP_SHARE = 0.02
"""Neighbouring groups of a column lie farther apart than this share of the column's range."""
SPREAD_SHARE = 0.01
"""A group is no wider than this share of the column's range."""
MIN_ROWS_SHARE = 0.01
VISIT_SHARE = 0.8
AGE_TOLERANCE = 0.12
EXPLAINED = 0.3
NOISE = 1e-6
"""A remainder of a channel's variance below this share of it is rounding."""
SAMPLE_ROWS = 50_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Regimes:
    """Operating regimes: ``columns`` (k,) are channel indices, ``centres`` (regimes, k) the values in these columns.

    ``scale`` (k,) is the range of each column.
    """

    columns: Ints
    centres: Floats
    scale: Floats

    def __len__(self) -> int:
        return max(1, len(self.centres))

    def assign(self, values: Floats) -> Ints:
        """Number (n,) of the nearest regime of each row of ``values`` (n, channels); missing readings do not count."""
        if not len(self.columns):
            return np.zeros(len(values), dtype=np.int64)
        return np.argmin(self._distances(values), axis=1).astype(np.int64)

    def strangeness(self, values: Floats) -> Floats:
        """Distance (n,) of each row to its nearest regime, as a share of the columns' ranges; 0.0 without regimes."""
        if not len(self.columns):
            return np.zeros(len(values))
        return np.asarray(np.min(self._distances(values), axis=1), dtype=np.float64)

    def _distances(self, values: Floats) -> Floats:
        apart = np.abs(values[:, None, self.columns] - self.centres[None]) / self.scale
        return np.asarray(np.nan_to_num(apart).max(axis=2), dtype=np.float64)


def find_regimes(values: Floats, unit: Ints, life_share: Floats, seed: int = 0) -> Regimes:
    """Find the operating regimes of rows ``values`` (n, channels).

    ``unit`` (n,) is the number of a row's unit, ``life_share`` (n,) 0..1 the row's place in the unit's record. A sample
    of ``SAMPLE_ROWS`` rows, drawn with ``seed``, is looked at.
    """
    none = Regimes(np.zeros(0, dtype=np.int64), np.zeros((0, 0)), np.zeros(0))
    if len(values) > SAMPLE_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(values), SAMPLE_ROWS, replace=False))
        values, unit, life_share = values[chosen], unit[chosen], life_share[chosen]
    grouped = {}
    for column in range(values.shape[1]):
        labels = _groups(values[:, column])
        if labels is not None and _lasting(labels, unit, life_share):
            grouped[column] = labels
    columns, regime = _combined(grouped, values)
    if not len(columns):
        return none
    kept = np.flatnonzero(np.bincount(regime) >= MIN_ROWS_SHARE / 2 * len(values))
    if not 2 <= len(kept) <= MAX_REGIMES:
        return none
    centres = np.array([values[regime == index][:, columns].mean(axis=0) for index in kept])
    return Regimes(columns, centres, np.ptp(values[:, columns], axis=0))


def _combined(grouped: dict[int, Ints], values: Floats) -> tuple[Ints, Ints]:
    """Regime columns (k,), and the regime of each row (n,).

    Columns are taken one by one, those with most groups first, as long as a column still explains variance that the
    columns before it leave unexplained.
    """
    regime = np.zeros(len(values), dtype=np.int64)
    others = [column for column in range(values.shape[1]) if column not in grouped]
    taken = []
    for column in sorted(grouped, key=lambda index: -int(grouped[index].max())):
        finer = np.unique(np.stack([regime, grouped[column]], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
        if finer.max() > regime.max() and any(_explained(finer, regime, values[:, other]) for other in others):
            taken.append(column)
            regime = finer.astype(np.int64)
    return np.array(sorted(taken), dtype=np.int64), regime


def _groups(column: Floats) -> Ints | None:
    """Group (n,) of each row when the column falls into a few tight, well separated groups; else None."""
    if np.isnan(column).any():
        return None
    distinct = np.unique(column)
    extent = distinct[-1] - distinct[0]
    if len(distinct) < 2 or extent <= 0.0:
        return None
    edges = np.flatnonzero(np.diff(distinct) > GAP_SHARE * extent)
    if not 1 <= len(edges) < MAX_GROUPS:
        return None
    labels = np.searchsorted(distinct[edges], column, side="left").astype(np.int64)
    firsts, lasts = np.r_[0, edges + 1], np.r_[edges, len(distinct) - 1]
    if (distinct[lasts] - distinct[firsts] > SPREAD_SHARE * extent).any():
        return None
    return labels if np.bincount(labels).min() >= MIN_ROWS_SHARE * len(column) else None


def _lasting(labels: Ints, unit: Ints, life_share: Floats) -> bool:
    """Whether nearly every unit visits every group, and no group belongs to a certain age."""
    units = np.unique(unit)
    for group in range(int(labels.max()) + 1):
        inside = labels == group
        if len(np.unique(unit[inside])) < VISIT_SHARE * len(units):
            return False
        if abs(life_share[inside].mean() - life_share.mean()) > AGE_TOLERANCE:
            return False
    return True


def _explained(finer: Ints, coarse: Ints, series: Floats) -> bool:
    """Do the finer groups explain much of what the coarse ones leave open in a channel?"""
    if np.isnan(series).any() or series.std() <= 1e-9 * max(1.0, float(np.abs(series).max())):
        return False
    left_open = _residual(coarse, series)
    return left_open > NOISE * float(np.var(series)) and _residual(finer, series) <= (1.0 - EXPLAINED) * left_open


def _residual(labels: Ints, series: Floats) -> float:
    sizes = np.maximum(np.bincount(labels), 1)
    means = np.bincount(labels, weights=series) / sizes
    return float(np.var(series - means[labels]))
