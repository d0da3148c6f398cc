"""Windows as a signature index stores them, and the blocks of neighbouring windows that they are sorted into.

A window is the signature of one unit at one moment, with the unit's attributes. A block is a leaf of a balanced k-d
split (always along the widest dimension, at the middle). It keeps the bounding box of its windows and the sets of
attribute values that occur in it. All blocks but the last have the same size, which grows with the number of windows,
so that looking at every box stays cheap.

Invariants: pure. The block in which a window lies may differ between processors (several windows can be the median),
but the result of a search does not.
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
"""The least number of windows in a block; it doubles when there would be more than ``MANY_BLOCKS`` blocks."""
MANY_BLOCKS = 20_000
ATTRIBUTES = 4
"""Number of attributes of a window: asset class, component, region, jurisdiction, in this order."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows as they are stored: ``ids`` (n,), ``units`` (n,) and ``vectors`` (n, dims).

    ``kinds`` (n,) are row numbers in the index's table of attribute combinations.
    """

    ids: Ints
    units: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.uint16]
    vectors: Array

    def taken(self, order: Array | slice) -> Windows:
        """The windows at the places ``order``, in that order."""
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
    """The b blocks of sorted windows.

    Block i holds the windows from ``starts[i]`` to ``starts[i + 1]`` (b + 1,). ``low`` and ``high`` (dims, b) are its
    bounding box, ``holds`` (ATTRIBUTES, b) 64-bit sets of the attribute values (modulo 64) that occur in it.
    """

    starts: Ints
    low: Array
    high: Array
    holds: npt.NDArray[np.uint64]

    @property
    def nbytes(self) -> int:
        return int(self.starts.nbytes + self.low.nbytes + self.high.nbytes + self.holds.nbytes)


def block_rows(count: int) -> int:
    """The block size (windows in a block) for an index of ``count`` windows."""
    size = BLOCK_ROWS
    while count > size * MANY_BLOCKS:
        size *= 2
    return size


def sorted_order(vectors: Array) -> Array:
    """An order (n,) of ``vectors`` (n, dims) in which every stretch of a block's size is a leaf of the k-d split.

    Only the last stretch may be shorter.
    """
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
    """The blocks of windows that are ordered by :func:`sorted_order`; ``kinds`` is the table of attributes."""
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
    """Numbers (n,) of the windows listed by their attribute combination, and where each list begins (kinds + 1,)."""
    starts = np.concatenate(([0], np.cumsum(np.bincount(rows.kinds, minlength=kinds)))).astype(np.int64)
    return np.argsort(rows.kinds, kind="stable").astype(np.int32), starts


def members(blocks: Blocks, chosen: Array) -> Array:
    """Numbers of all windows in the chosen blocks."""
    first, last = blocks.starts[chosen], blocks.starts[chosen + 1]
    offsets = np.arange(int((last - first).max()))
    rows = first[:, None] + offsets
    return np.asarray(rows[rows < last[:, None]])
