"""Trajectory similarity: the past lives that looked most like the present one, and how long they lasted from there.

The features are fused into a health index by a ridge regression onto remaining life. A moment of a life is described
by its health index now and some rows before, and by the leading directions in which the inputs of the index vary. Every
past life is represented by its one most similar moment, and the remaining lives of the nearest past lives are averaged,
weighted by closeness. The neighbours are named, so that a forecast can be traced to past lives. The library holds the
rows it was fitted with: training.py gives it lives that ended in failure.
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
"""Moments that are compared at once: so many that their distances stay in the processor's cache."""
SHOWN = 5
"""Number of neighbours that a forecast names."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A past life that was similar: its name, and the distance and remaining life at its most similar moment.

    ``remaining`` is in the unit of the table; ``weight`` 0..1 is its share among the neighbours that are named.
    """

    unit: str
    distance: float
    remaining: float
    failed: bool
    weight: float


@dataclass(frozen=True, slots=True)
class Answers:
    """The m nearest past lives of n moments; all arrays are (n, m).

    ``distances`` ascend, ``rows`` are rows of the library, ``weights`` sum to one for every moment.
    """

    distances: Floats
    rows: Ints
    weights: Floats


@dataclass(frozen=True)
class Similarity:
    """The fitted health index and the library of described moments.

    ``inputs`` (k,) are feature columns; ``centre``, ``spread`` and ``slope`` (k,) and ``level`` belong to the ridge
    regression, ``turn`` (k, directions) holds the leading directions, ``scale`` (d,) the unit of each description.
    ``library`` (rows, d) holds descriptions of moments of the units ``owner`` (rows,) with their ``remaining`` life
    (rows,). ``names`` and ``failed`` have one entry for each unit.
    """

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
        """Descriptions (n, d) of the moments with ``features`` (n, features).

        Rows of units stand under each other; ``row`` (n,) is the place of a row in its unit, from 0.
        """
        inside = self._inputs(features)
        turned = _turned(inside, np.column_stack([self.slope, self.turn]))
        index = turned[:, 0] + self.level
        place = np.arange(len(index))
        past = [index[place - np.minimum(row, lag)] for lag in LAGS]
        return np.asarray(np.column_stack([*past, turned[:, 1:]]) / self.scale)

    def ask(self, moments: Floats, exclude: Ints | None = None) -> Answers:
        """The past lives nearest to ``moments`` (n, d); ``exclude`` (n,) names for each a unit that must not answer."""
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
        """Weighted mean (n,) of the remaining lives of the nearest past lives."""
        return np.asarray((self.remaining[answers.rows] * answers.weights).sum(axis=1))

    def neighbours(self, answers: Answers, place: int) -> tuple[Neighbour, ...]:
        """The ``SHOWN`` nearest past lives of moment number ``place``, nearest first; their weights sum to one."""
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
    """Fit the health index, and describe at most ``most`` of the n rows as the library.

    ``features`` (n, features); the index is fitted onto ``target`` (n,) with ``weight`` (n,). ``remaining`` (n,) is the
    life that remained, ``unit`` (n,) the number of a row's unit in ``names`` and ``failed``, ``row`` (n,) its place in
    the unit. ``inputs`` (k,) are the feature columns that the index uses.
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
    """The matrix product (n, d) of (n, k) and (k, d), summed column by column.

    A library routine for matrix products rounds a row differently depending on the number of other rows.
    """
    turned = np.zeros((len(inside), by.shape[1]))
    for column, share in zip(inside.T, by, strict=True):
        turned += column[:, None] * share
    return turned


def _apart(asked: Floats, library: Floats) -> Floats:
    """Squared distances (n, rows), summed dimension by dimension: the same bits however many moments are compared."""
    apart = np.zeros((len(asked), len(library)))
    step = np.empty_like(apart)
    for one, other in zip(asked.T, library.T.copy(), strict=True):
        np.subtract(one[:, None], other[None], out=step)
        step *= step
        apart += step
    return apart


def _smallest(values: Floats, count: int) -> Ints:
    """Places (n, count) of the smallest values of each row, ascending by value; of equal values the earlier place."""
    if values.shape[1] <= 4 * count:
        return np.argsort(values, axis=1, kind="stable")[:, :count]
    places = np.sort(np.argpartition(values, count, axis=1)[:, :count], axis=1)
    order = np.argsort(np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(places, order, axis=1))


def _rows_of(apart: Floats, starts: Ints, order: Ints) -> Ints:
    """Library row (n, m) at which each chosen unit is nearest; ``order`` (n, m) holds places of units in ``starts``."""
    ends = np.r_[starts[1:], apart.shape[1]]
    found = np.empty(order.shape, dtype=np.int64)
    for asked, places in enumerate(order):
        for rank, place in enumerate(places):
            begin = starts[place]
            found[asked, rank] = begin + int(np.argmin(apart[asked, begin : ends[place]]))
    return found
