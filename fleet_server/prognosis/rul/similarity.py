"""Trajectory similarity: which lives of the past looked like this one, and how long they lasted from there.

The features are fused into a health index, a ridge regression onto remaining life. A moment is described by its index
now and some rows before, and the leading directions in which the index's inputs vary. Each past life answers with its
one most similar moment; the nearest lives' remaining times are averaged by closeness. Neighbours are named, so that a
forecast can be looked up. Censored lives answer too where others ran to failure nearby, with their bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.rul.histories import Floats, Ints

LAGS = (0, 8, 16, 32)
DIRECTIONS = 4
NEAREST = 15
RIDGE = 20.0
MAX_LIBRARY = 12_000
CHUNK = 32
"""Moments asked at once: their distances stay in the cache."""
SHOWN = 5
"""Neighbours that are named."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A past life: its name, the distance at its most similar moment, what it had left then, whether it failed."""

    unit: str
    distance: float
    remaining: float
    failed: bool
    weight: float


@dataclass(frozen=True, slots=True)
class Answers:
    """(n, m) each: distances of the nearest lives, ascending; the library row; weights that sum to one."""

    distances: Floats
    rows: Ints
    weights: Floats


@dataclass(frozen=True)
class Similarity:
    """``inputs`` (k,) feature columns; ``centre``, ``spread``, ``slope`` (k,) and ``level`` of the ridge;
    ``turn`` (k, directions); ``library`` (rows, d) described moments of units ``owner`` (rows,) with ``remaining``;
    ``names`` and ``failed`` per unit."""

    inputs: Ints
    centre: Floats
    spread: Floats
    slope: Floats
    level: float
    turn: Floats
    scale: Floats
    library: Floats
    owner: Ints
    remaining: Floats
    names: tuple[str, ...]
    failed: npt.NDArray[np.bool_]

    def describe(self, features: Floats, row: Ints) -> Floats:
        """(n, d) descriptions of ``features`` (n, features), units under each other, ``row`` (n,) place in the unit."""
        inside = self._inputs(features)
        turned = _turned(inside, np.column_stack([self.slope, self.turn]))
        index = turned[:, 0] + self.level
        place = np.arange(len(index))
        past = [index[place - np.minimum(row, lag)] for lag in LAGS]
        return np.asarray(np.column_stack([*past, turned[:, 1:]]) / self.scale)

    def ask(self, moments: Floats, exclude: Ints | None = None) -> Answers:
        """The nearest lives of ``moments`` (n, d). ``exclude`` (n,) is a unit that must not answer."""
        starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
        owners = self.owner[starts]
        count = min(NEAREST, max(1, len(starts) - (exclude is not None)))
        distances = np.empty((len(moments), count))
        found = np.empty((len(moments), count), dtype=np.int64)
        for begin in range(0, len(moments), CHUNK):
            asked = moments[begin : begin + CHUNK]
            apart = _apart(asked, self.library)
            nearest = np.minimum.reduceat(apart, starts, axis=1)
            if exclude is not None:
                nearest[exclude[begin : begin + CHUNK, None] == owners[None]] = np.inf
            order = _smallest(nearest, count)
            distances[begin : begin + CHUNK] = np.sqrt(np.take_along_axis(nearest, order, axis=1))
            found[begin : begin + CHUNK] = _rows_of(apart, starts, order)
        width = np.maximum(np.mean(distances[:, : max(1, count // 2)], axis=1, keepdims=True), 1e-9)
        weights = np.exp(-((distances / width) ** 2))
        return Answers(distances, found, weights / weights.sum(axis=1, keepdims=True))

    def remaining_at(self, answers: Answers) -> Floats:
        """(n,) weighted remaining life of the nearest lives."""
        return np.asarray((self.remaining[answers.rows] * answers.weights).sum(axis=1))

    def neighbours(self, answers: Answers, place: int) -> tuple[Neighbour, ...]:
        """The nearest lives of the moment at ``place``, closest first, weights summing to one."""
        distances, rows, weights = (
            each[place, :SHOWN].tolist() for each in (answers.distances, answers.rows, answers.weights)
        )
        total = sum(weights)
        return tuple(
            Neighbour(
                self.names[self.owner[row]],
                distance,
                float(self.remaining[row]),
                bool(self.failed[self.owner[row]]),
                weight / total,
            )
            for distance, row, weight in zip(distances, rows, weights, strict=True)
        )

    def _inputs(self, features: Floats) -> Floats:
        return np.nan_to_num((features[:, self.inputs] - self.centre) / self.spread)


def fit_similarity(
    features: Floats,
    target: Floats,
    remaining: Floats,
    unit: Ints,
    row: Ints,
    weight: Floats,
    inputs: Ints,
    names: tuple[str, ...],
    failed: npt.NDArray[np.bool_],
    most: int = MAX_LIBRARY,
) -> Similarity:
    """A library of at most ``most`` of the rows (n,) of units 0..len(names)-1.

    The index is fitted onto ``target`` (n,) by ``weight``.
    """
    chosen = features[:, inputs]
    centre = np.nan_to_num(np.nanmean(np.where(np.isfinite(chosen).any(axis=0), chosen, 0.0), axis=0))
    spread = np.nan_to_num(np.nanstd(np.where(np.isfinite(chosen).any(axis=0), chosen, 0.0), axis=0))
    spread = np.where(spread > 1e-9, spread, 1.0)
    inside = np.nan_to_num((chosen - centre) / spread)
    share = weight / weight.sum()
    level = float(share @ target)
    gram = (inside * share[:, None]).T @ inside + RIDGE / len(inside) * np.eye(inside.shape[1])
    slope = np.linalg.solve(gram, (inside * share[:, None]).T @ (target - level))
    _, turn = np.linalg.eigh(gram)
    turn = turn[:, ::-1][:, :DIRECTIONS]
    turn = turn * np.where(turn[np.abs(turn).argmax(axis=0), np.arange(turn.shape[1])] < 0, -1.0, 1.0)
    bare = Similarity(
        inputs, centre, spread, slope, level, turn, np.ones(1), np.zeros((0, 0)), unit, remaining, names, failed
    )
    described = bare.describe(features, row)
    spreads = np.maximum(described.std(axis=0), 1e-9)
    scale = np.r_[np.full(len(LAGS), spreads[0]), spreads[len(LAGS) :] * 2.0]
    kept = np.arange(0, len(described), -(-len(described) // most))
    return Similarity(
        inputs, centre, spread, slope, level, turn, scale, described[kept] / scale, unit[kept], remaining[kept],
        names, failed,
    )  # fmt: skip


def _turned(inside: Floats, by: Floats) -> Floats:
    """(n, k) times (k, d), column by column: a product of matrices has other bits in other company."""
    turned = np.zeros((len(inside), by.shape[1]))
    for column, share in zip(inside.T, by, strict=True):
        turned += column[:, None] * share
    return turned


def _apart(asked: Floats, library: Floats) -> Floats:
    """(n, rows) squared distances; summed one by one, so that they are the same bits in any company."""
    apart = np.zeros((len(asked), len(library)))
    step = np.empty_like(apart)
    for one, other in zip(asked.T, library.T.copy(), strict=True):
        np.subtract(one[:, None], other[None], out=step)
        step *= step
        apart += step
    return apart


def _smallest(values: Floats, count: int) -> Ints:
    """(n, count) places of the smallest values of each row, ascending; of equal ones the earlier place."""
    if values.shape[1] <= 4 * count:
        return np.argsort(values, axis=1, kind="stable")[:, :count]
    places = np.sort(np.argpartition(values, count, axis=1)[:, :count], axis=1)
    order = np.argsort(np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(places, order, axis=1))


def _rows_of(apart: Floats, starts: Ints, order: Ints) -> Ints:
    """(n, m) the library row at which each chosen unit (its place in ``starts``) is nearest."""
    ends = np.r_[starts[1:], apart.shape[1]]
    found = np.empty(order.shape, dtype=np.int64)
    for asked, places in enumerate(order):
        for rank, place in enumerate(places):
            begin = starts[place]
            found[asked, rank] = begin + int(np.argmin(apart[asked, begin : ends[place]]))
    return found
