"""The signature index: exact nearest-neighbour search over millions of signature windows, with filters.

A signature has few numbers, and these are correlated because a course of degradation mostly goes one way. The windows
therefore lie close to a surface of few dimensions. On such data an exact search can be fast enough, and it needs no
approximate graph: windows are sorted into blocks of neighbouring windows (the leaves of a balanced k-d split), every
block keeps its bounding box, and a search visits blocks in the order of their least possible distance until the next
block cannot hold a nearer unit. Measurements against hnswlib, usearch, pgvector and a plain scan: docs/search.md.

* Filters (asset class, component, region, jurisdiction) are applied before distances are taken, so they cost no recall.
  When a filter leaves few windows, the search scans exactly those windows.
* The answer is k different units, each represented by its nearest window. Of equal distances the lower id comes first.
* Distance is the root mean square of the differences over the compared dimensions, in the index's own precision.
* New windows wait in a tail, which every search scans. The first search after the tail has outgrown ``TAIL_ROWS`` sorts
  all windows anew (about a second for a million). A small library is all tail: its search is a plain scan.

Invariants: pure, but for the sorting on demand described above (not thread-safe while windows are being added). The
result depends on the windows alone, not on their order, the blocks, the processor or the way a filter is applied, so a
stored prognosis finds the same neighbours again, bit for bit. ``most_rows`` bounds a search, and ``Found.exact`` says
whether a bounded search could finish. Memory: see ``nbytes``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput
from fleet_server.prognosis.search.blocks import (
    ATTRIBUTES,
    Array,
    Flags,
    Ints,
    Windows,
    blocks_of,
    joined,
    listed_by_kind,
    sorted_order,
)
from fleet_server.prognosis.search.walk import Search

TAIL_ROWS = 50_000
FEW_ROWS = 8_192
"""When a filter leaves at most this many windows, the search scans them instead of visiting blocks."""
MAX_DIMS = 256
MAX_ROWS = 2**31 - 1
MAX_KINDS = 2**16
"""The most different combinations of attributes in one index: their numbers are stored in 16 bits."""
MAX_ATTRIBUTE = 2**31 - 1
DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Where:
    """The filter of a search: the allowed values of every attribute; None allows all values."""

    asset_class: Collection[int] | None = None
    component: Collection[int] | None = None
    region: Collection[int] | None = None
    jurisdiction: Collection[int] | None = None

    @property
    def columns(self) -> tuple[Collection[int] | None, ...]:
        """The allowed values in the order of the attribute columns."""
        return (self.asset_class, self.component, self.region, self.jurisdiction)


ANYWHERE = Where()


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search: the nearest units, nearest first; all arrays have at most k entries.

    ``ids`` and ``distances`` belong to the nearest window of every unit. ``exact`` is false when ``most_rows`` ended
    the search early. ``visited`` is the number of windows that were compared.
    """

    ids: Ints
    units: Ints
    distances: Array
    exact: bool
    visited: int


class SignatureIndex:
    """Windows of ``dims`` numbers, searchable; see the module. Raises BadInput for whatever breaks a bound."""

    def __init__(self, dims: int, dtype: str = "float32") -> None:
        if not 1 <= dims <= MAX_DIMS or dtype not in DTYPES:
            raise BadInput("index", f"1 to {MAX_DIMS} dimensions of {', '.join(DTYPES)} expected")
        self.dims, self.dtype = dims, dtype
        self._kind_of: dict[tuple[int, ...], int] = {}
        self._kinds = np.empty((0, ATTRIBUTES), dtype=np.int64)
        nothing = Windows(
            np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint16), np.empty((0, dims), dtype)
        )
        self._rows = self._tail = nothing
        self._waiting: list[Windows] = []
        self._blocks = blocks_of(nothing, self._kinds)
        self._by_kind, self._kind_starts = listed_by_kind(nothing, 0)

    def __len__(self) -> int:
        return len(self._rows) + len(self._tail) + sum(len(part) for part in self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes of everything the index holds."""
        lists = self._by_kind.nbytes + self._kind_starts.nbytes + self._kinds.nbytes
        rows = self._rows.nbytes + self._tail.nbytes + sum(part.nbytes for part in self._waiting)
        return int(rows + lists + self._blocks.nbytes)

    def add(self, ids: Array, units: Array, vectors: Array, attributes: Array) -> None:
        """Add n windows.

        ``ids`` (n,) are the numbers of the windows, ``units`` (n,) >= 0 the numbers of the units they belong to,
        ``vectors`` (n, dims) their finite values, ``attributes`` (n, 4) >= 0 their attributes in the order of
        :class:`Where`.

        Raises:
            BadInput: ``windows`` when shapes, numbers or bounds are wrong; nothing is added then.
        """
        count = len(ids)
        shapes = (np.shape(ids), np.shape(units), np.shape(vectors), np.shape(attributes))
        if shapes != ((count,), (count,), (count, self.dims), (count, ATTRIBUTES)):
            raise BadInput("windows", f"shapes do not fit together: {shapes}")
        if not count:
            return
        if len(self) + count > MAX_ROWS:
            raise BadInput("windows", f"at most {MAX_ROWS} fit in an index")
        for name, values, most in (("units", units, MAX_ROWS), ("attributes", attributes, MAX_ATTRIBUTE)):
            if values.dtype.kind not in "iu" or int(values.min()) < 0 or int(values.max()) > most:
                raise BadInput("windows", f"{name}: whole numbers in 0..{most} expected")
        with np.errstate(over="ignore"):
            stored = np.array(vectors, dtype=self.dtype, order="C")
        if not np.isfinite(stored).all():
            raise BadInput("windows", f"a value is not finite in {self.dtype}")
        kinds = self._kinds_of(np.asarray(attributes, dtype=np.int64))
        self._waiting.append(Windows(np.array(ids, dtype=np.int64), np.array(units, dtype=np.int32), kinds, stored))

    def search(
        self,
        vector: Array,
        k: int,
        where: Where = ANYWHERE,
        *,
        compared: Flags | None = None,
        allowed_units: Flags | None = None,
        most_rows: int | None = None,
    ) -> Found:
        """The ``k`` units nearest to ``vector`` (dims,) among the windows that ``where`` allows.

        ``compared`` (dims,) marks the dimensions that are compared, ``allowed_units`` (highest unit + 1,) the units
        that may answer. ``most_rows`` bounds the number of windows visited; the likeliest blocks are visited first.

        Raises:
            BadInput: ``query`` when the vector, the compared dimensions or ``k`` are not usable.
        """
        query = np.asarray(vector, dtype=np.float64)
        dims = np.arange(self.dims) if compared is None else np.flatnonzero(compared)
        if query.shape != (self.dims,) or k < 1 or not dims.size or not np.isfinite(query[dims]).all():
            raise BadInput("query", f"{self.dims} finite numbers, at least one to compare, and k >= 1 expected")
        self._settle()
        search = Search(query, dims, k, self._allowed_kinds(where), allowed_units, most_rows, self.dtype)
        search.visit(self._tail, None)
        if len(self._rows):
            few = self._few_rows(search.allowed_kinds)
            if few is not None:
                search.visit(self._rows, few)
            else:
                search.walk(self._rows, self._blocks, _wanted(where))
        return Found(*search.best(), search.exact, search.visited)

    def contents(self) -> tuple[Windows, Ints]:
        """All windows in the order of the search, and the table of attribute combinations (kinds, 4): what is saved."""
        self._settle()
        return (joined([self._rows, self._tail]) if len(self._tail) else self._rows), self._kinds

    def sorted_count(self) -> int:
        """The number of windows of :meth:`contents` that are sorted into blocks; the windows after them are tail."""
        self._settle()
        return len(self._rows)

    @classmethod
    def restored(cls, rows: Windows, kinds: Ints, sorted_count: int) -> SignatureIndex:
        """The index with these :meth:`contents`. Raises BadInput when they cannot be the contents of an index."""
        count, table = len(rows.ids), kinds.reshape(-1, ATTRIBUTES)
        ours = (np.int64, np.int32, np.uint16, np.int64)
        if tuple(part.dtype for part in (rows.ids, rows.units, rows.kinds, kinds)) != ours or rows.vectors.ndim != 2:
            raise BadInput("index", "these are not the arrays of an index")
        if not (0 <= sorted_count <= count <= MAX_ROWS and len(rows.units) == len(rows.kinds) == count):
            raise BadInput("index", "its arrays do not fit together")
        if len(rows.vectors) != count or (count and int(rows.kinds.max()) >= len(table)):
            raise BadInput("index", "its arrays do not fit together")
        if (count and int(rows.units.min()) < 0) or (table.size and int(table.min()) < 0) or len(table) > MAX_KINDS:
            raise BadInput("index", "units and attributes must be whole numbers from 0")
        index = cls(rows.vectors.shape[1], str(rows.vectors.dtype))
        index._kinds, index._kind_of = table, {tuple(row): number for number, row in enumerate(table.tolist())}
        index._take(rows.taken(slice(0, sorted_count)))
        index._tail = rows.taken(slice(sorted_count, None))
        return index

    def _kinds_of(self, attributes: Ints) -> npt.NDArray[np.uint16]:
        table, inverse = np.unique(attributes, axis=0, return_inverse=True)
        keys = [tuple(row) for row in table.tolist()]
        fresh = [key for key in keys if key not in self._kind_of]
        if len(self._kind_of) + len(fresh) > MAX_KINDS:
            raise BadInput("windows", f"more than {MAX_KINDS} combinations of attributes")
        for key in fresh:
            self._kind_of[key] = len(self._kind_of)
        if fresh:
            self._kinds = np.array(list(self._kind_of), dtype=np.int64)
        kinds = np.array([self._kind_of[key] for key in keys], dtype=np.uint16)
        return np.asarray(kinds[inverse.ravel()])

    def _settle(self) -> None:
        """Move waiting windows into the tail; sort all windows anew once the tail has grown too long."""
        if not self._waiting:
            return
        self._tail = joined([self._tail, *self._waiting])
        self._waiting.clear()
        if len(self._tail) > TAIL_ROWS:
            every = joined([self._rows, self._tail]) if len(self._rows) else self._tail
            self._rows = self._tail = every.taken(np.empty(0, dtype=np.int64))  # frees the old arrays while sorting
            order = sorted_order(every.vectors)
            self._take(every.taken(order))

    def _take(self, sorted_rows: Windows) -> None:
        self._rows = sorted_rows
        self._blocks = blocks_of(sorted_rows, self._kinds)
        self._by_kind, self._kind_starts = listed_by_kind(sorted_rows, len(self._kinds))

    def _allowed_kinds(self, where: Where) -> Flags | None:
        """Which combinations of attributes (kinds,) the filter allows; None when it allows all."""
        allowed: Flags | None = None
        for column, values in enumerate(where.columns):
            if values is not None:
                fits = np.isin(self._kinds[:, column], list(values))
                allowed = fits if allowed is None else allowed & fits
        return allowed

    def _few_rows(self, allowed: Flags | None) -> Array | None:
        """Numbers of the sorted windows that a filter leaves; None when they are more than ``FEW_ROWS``."""
        if allowed is None:
            return None
        kinds = np.flatnonzero(allowed[: len(self._kind_starts) - 1])  # later combinations occur in the tail only
        first, last = self._kind_starts[kinds], self._kind_starts[kinds + 1]
        if int((last - first).sum()) > FEW_ROWS:
            return None
        parts = [self._by_kind[start:end] for start, end in zip(first, last, strict=True)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)


def _wanted(where: Where) -> list[tuple[int, np.uint64]]:
    """Column and wanted values of every filtered attribute; the values are a 64-bit set, modulo 64."""
    sets = []
    for column, values in enumerate(where.columns):
        if values is not None:
            bits = 0
            for value in values:
                bits |= 1 << (int(value) % 64)
            sets.append((column, np.uint64(bits)))
    return sets
