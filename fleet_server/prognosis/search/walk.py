"""One search over windows and blocks: the nearest units so far, and the blocks that may still hold a nearer unit.

Invariants: distances are taken in the index's own precision and always in the same order of operations. A block is left
out only when its least possible distance, less the rounding errors, exceeds the distance of the k-th nearest unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fleet_server.prognosis.search.blocks import Array, Blocks, Flags, Ints, Windows, members

UNBOUNDED = 2**62

_FIRST_BLOCKS, _MOST_BLOCKS = 8, 256
_SORTED_FIRST = 1024
_SLACK = {"float16": 1e-5, "float32": 1e-5, "float64": 1e-13}
"""Allowance for the rounding of a distance against the bound of its block, as a share of the bound."""


class Search:
    """The state of one search: the nearest units so far, and the limits within which windows may answer."""

    def __init__(
        self,
        query: Array,
        dims: Ints,
        k: int,
        allowed_kinds: Flags | None,
        allowed_units: Flags | None,
        most_rows: int | None,
        dtype: str,
    ) -> None:
        self.precision: type[np.floating[Any]] = np.float64 if dtype == "float64" else np.float32
        self.query: Array = query.astype(self.precision)  # so that bounds and distances use the same numbers
        self.dims, self.k, self.slack = dims, k, _SLACK[dtype]
        self.allowed_kinds, self.allowed_units = allowed_kinds, allowed_units
        self.most_rows = UNBOUNDED if most_rows is None else most_rows
        self.visited, self.exact = 0, True
        self._ids = self._units = np.empty(0, dtype=np.int64)
        self._distances: Array = np.empty(0)

    @property
    def farthest(self) -> float:
        """Distance of the k-th nearest unit so far: a window farther away than this cannot be part of the answer."""
        return float(self._distances[-1]) if len(self._distances) == self.k else np.inf

    def best(self) -> tuple[Ints, Ints, Array]:
        """Window ids, units and distances of the nearest units so far, nearest first; each array (<= k,)."""
        return self._ids, self._units.astype(np.int64), self._distances.astype(self.precision)

    def walk(self, rows: Windows, blocks: Blocks, wanted: Sequence[tuple[int, np.uint64]]) -> None:
        """Visit blocks in the order of their least possible distance until the next cannot hold a nearer unit.

        ``wanted`` holds, for every filtered attribute, its column and the 64-bit set of allowed values.
        """
        bound, may = self._bounds(blocks), np.ones(len(blocks.starts) - 1, dtype=bool)
        for column, values in wanted:
            may &= (blocks.holds[column] & values) != 0
        for chunk in _rising(bound, may):
            chunk = chunk[bound[chunk] * (1.0 - self.slack) <= self.farthest]
            if not chunk.size:
                return
            if self.visited >= self.most_rows:
                self.exact = False
                return
            self.visit(rows, members(blocks, chunk))

    def visit(self, rows: Windows, chosen: Array | None) -> None:
        """Compare windows (all of them when ``chosen`` is None) and keep the nearest window of every unit."""
        if self.allowed_kinds is not None:
            fits = self.allowed_kinds[rows.kinds if chosen is None else rows.kinds[chosen]]
            chosen = np.flatnonzero(fits) if chosen is None else chosen[fits]
        if self.allowed_units is not None:
            fits = self.allowed_units[rows.units if chosen is None else rows.units[chosen]]
            chosen = np.flatnonzero(fits) if chosen is None else chosen[fits]
        vectors = rows.vectors if chosen is None else rows.vectors[chosen]
        if not len(vectors):
            return
        self.visited += len(vectors)
        distances = self._distance(vectors)
        near = np.flatnonzero(distances <= self.farthest)
        if near.size:
            index = near if chosen is None else chosen[near]
            self._keep(distances[near], rows.units[index], rows.ids[index])

    def _keep(self, distances: Array, units: Array, ids: Array) -> None:
        limit = 16 * self.k
        # Merging a few of the nearest windows first lowers ``farthest``, which mostly leaves little to sort after it.
        if distances.size > 4 * limit:
            nearest = np.argpartition(distances, limit)[:limit]
            self._merge(distances[nearest], units[nearest], ids[nearest])
            rest = np.flatnonzero(distances <= self.farthest)
            distances, units, ids = distances[rest], units[rest], ids[rest]
        self._merge(distances, units, ids)

    def _merge(self, distances: Array, units: Array, ids: Array) -> None:
        distances = np.concatenate((self._distances, distances)) if len(self._distances) else distances
        units, ids = np.concatenate((self._units, units)), np.concatenate((self._ids, ids))
        order = np.lexsort((ids, distances))
        _, first = np.unique(units[order], return_index=True)
        best = order[np.sort(first)[: self.k]]
        self._distances, self._units, self._ids = distances[best], units[best], ids[best]

    def _distance(self, vectors: Array) -> Array:
        total: Array = np.zeros(len(vectors), dtype=self.precision)
        for dim in self.dims:
            total += (vectors[:, dim].astype(self.precision, copy=False) - self.query[dim]) ** 2
        return np.asarray(np.sqrt(total / len(self.dims)), dtype=self.precision)

    def _bounds(self, blocks: Blocks) -> Array:
        """The least distance (blocks,) that a window within the bounding box of a block can have."""
        total = np.zeros(blocks.low.shape[1])
        for dim in self.dims:
            at = self.query[dim]
            outside = np.maximum(blocks.low[dim] - at, at - blocks.high[dim])
            total += np.maximum(outside, 0.0) ** 2
        return np.asarray(np.sqrt(total / self.dims.size))


def _rising(bound: Array, may: Flags) -> Iterator[Array]:
    """Blocks that ``may`` answer, by rising ``bound``, in chunks of growing size.

    Only the first thousand blocks are sorted until more of them are needed.
    """
    blocks = np.flatnonzero(may)
    if blocks.size > 2 * _SORTED_FIRST:
        split = np.argpartition(bound[blocks], _SORTED_FIRST)
        parts = (blocks[split[:_SORTED_FIRST]], blocks[split[_SORTED_FIRST:]])
    else:
        parts = (blocks, blocks[:0])
    size = _FIRST_BLOCKS
    for part in parts:
        order, start = part[np.argsort(bound[part], kind="stable")], 0
        while start < order.size:
            yield order[start : start + size]
            start, size = start + size, min(2 * size, _MOST_BLOCKS)
