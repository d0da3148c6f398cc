"""Windows as a signature index stores them, and the blocks of neighbouring windows that they are sorted into.

A block is a leaf of a balanced k-d split (always along the widest dimension, at the middle), with the bounding box of
its windows and the sets of attribute values which occur in it. All blocks but the last have the same size, which grows
with the number of windows, so that looking at every box stays cheap.

Invariants: pure; which window lies in which block may differ between processors (a median has many sides), what a
search finds does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BLOCK_ROWS = 128
"""Windows in a block: the least."""
MANY_BLOCKS = 20_000
ATTRIBUTES = 4
"""Asset class, component, region, jurisdiction."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows as they are stored: ``kinds`` (n,) uint16 are rows of the table of attribute combinations."""

    ids: Ints
    units: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.uint16]
    vectors: Array

    def taken(self, order: Array | slice) -> Windows:
        """Those rows, in that order."""
        return Windows(self.ids[order], self.units[order], self.kinds[order], self.vectors[order])

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return int(self.ids.nbytes + self.units.nbytes + self.kinds.nbytes + self.vectors.nbytes)


def joined(parts: Sequence[Windows]) -> Windows:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*((part.ids, part.units, part.kinds, part.vectors) for part in parts), strict=True)
    return Windows(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of sorted rows: ``starts`` (b + 1,), boxes ``low`` and ``high`` (dims, b), and for each attribute a
    64-bit set ``holds`` (ATTRIBUTES, b) of its values modulo 64."""

    starts: Ints
    low: Array
    high: Array
    holds: npt.NDArray[np.uint64]

    @property
    def nbytes(self) -> int:
        return int(self.starts.nbytes + self.low.nbytes + self.high.nbytes + self.holds.nbytes)


def block_rows(count: int) -> int:
    """Windows in each block of so many."""
    size = BLOCK_ROWS
    while count > size * MANY_BLOCKS:
        size *= 2
    return size


def sorted_order(vectors: Array) -> Array:
    """An order of the rows in which each stretch of a block's size (the last may be shorter) is a k-d split's leaf."""
    order, size = np.arange(len(vectors), dtype=np.int32), block_rows(len(vectors))
    stack = [(0, len(vectors))]
    while stack:
        start, end = stack.pop()
        half = -(-(end - start) // (2 * size)) * size
        if half >= end - start:
            continue
        part = order[start:end]
        columns = vectors[part]
        widest = int(np.argmax(columns.max(axis=0) - columns.min(axis=0)))
        order[start:end] = part[np.argpartition(columns[:, widest], half)]
        stack += [(start, start + half), (start + half, end)]
    return order


def blocks_of(rows: Windows, kinds: Ints) -> Blocks:
    """Blocks of rows ordered by :func:`sorted_order`."""
    precision = np.float32 if rows.vectors.dtype == np.float16 else rows.vectors.dtype
    if not len(rows):
        empty = np.empty((rows.vectors.shape[1], 0), dtype=precision)
        return Blocks(np.zeros(1, dtype=np.int64), empty, empty, np.empty((ATTRIBUTES, 0), dtype=np.uint64))
    first = np.arange(0, len(rows), block_rows(len(rows)))
    low, high = (
        np.ascontiguousarray(extreme.reduceat(rows.vectors, first, axis=0).T, dtype=precision)
        for extreme in (np.minimum, np.maximum)
    )
    bits = np.uint64(1) << (kinds % 64).astype(np.uint64)
    holds = np.stack([np.bitwise_or.reduceat(bits[rows.kinds, column], first) for column in range(ATTRIBUTES)])
    return Blocks(np.append(first, len(rows)), low, high, holds)


def listed_by_kind(rows: Windows, kinds: int) -> tuple[Array, Ints]:
    """Row numbers listed by kind, and where each kind's list begins (kinds + 1,)."""
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows.kinds, minlength=kinds)))).astype(np.int64)
    return np.argsort(rows.kinds, kind="stable").astype(np.int32), starts


def members(blocks: Blocks, chosen: Array) -> Array:
    """Row numbers of the chosen blocks' windows."""
    first, last = blocks.starts[chosen], blocks.starts[chosen + 1]
    offsets = np.arange(int((last - first).max()))
    rows = first[:, None] + offsets
    return np.asarray(rows[rows < last[:, None]])
