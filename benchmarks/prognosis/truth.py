"""The true nearest units of many queries at once, by comparing every window; and how many of them an engine found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.prognosis.engines import COLUMN, Pairs
from benchmarks.prognosis.windows import Windows


class Truth:
    """The k nearest units of each question, refined batch by batch (a unit must not be spread over two batches).

    ``vectors`` (q, dims); ``filters`` has one entry for each question.
    """

    def __init__(self, vectors: Any, filters: Sequence[Pairs], k: int) -> None:
        self.vectors, self.filters, self.k = vectors, filters, k
        self._units = np.full((len(vectors), k), -1, dtype=np.int64)
        self._distances = np.full((len(vectors), k), np.inf, dtype=np.float32)

    def watched(self, batches: Iterable[Windows]) -> Iterable[Windows]:
        """The batches, each compared as it goes by."""
        for batch in batches:
            self.compare(batch)
            yield batch

    def compare(self, batch: Windows) -> None:
        starts = np.flatnonzero(np.diff(batch.units, prepend=-1))
        units, attributes = batch.units[starts], batch.attributes[starts]
        columns = np.ascontiguousarray(batch.vectors.T)
        for number, (vector, where) in enumerate(zip(self.vectors, self.filters, strict=True)):
            total = np.zeros(len(batch.units), dtype=np.float32)
            for column, value in zip(columns, vector, strict=True):
                total += (column - value) ** 2
            best = np.minimum.reduceat(total, starts)
            for name, value in where.items():
                best[attributes[:, COLUMN[name]] != value] = np.inf
            distances = np.concatenate((self._distances[number], best))
            nearest = np.argsort(distances, kind="stable")[: self.k]
            self._distances[number] = distances[nearest]
            self._units[number] = np.concatenate((self._units[number], units))[nearest]

    def recall(self, answers: Sequence[Sequence[int]]) -> float:
        """Share of the true nearest units among the answers to the first questions.

        A question that has fewer than k units counts by those.
        """
        found = asked = 0
        for answer, units, distances in zip(answers, self._units, self._distances, strict=False):
            true = set(units[np.isfinite(distances)].tolist())
            found, asked = found + len(true & set(answer)), asked + len(true)
        return found / asked if asked else 1.0
