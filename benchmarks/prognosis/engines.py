"""The engines compared: ours, a plain numpy scan, hnswlib and usearch, all asked for the nearest *units*.

Graph engines do not know units, so they are asked for ``FETCH`` windows, of which the first window of every unit
counts. Our index has filters. hnswlib calls back for every candidate, by its own interface. usearch has no filter in
Python, so it is asked for more windows and the answers are filtered. Settings are the usual ones of the libraries (M
16, 128 candidates while building), with ``EFFORT`` candidates while searching, which reaches our floor without a
filter.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.prognosis.windows import Windows
from fleet_server.prognosis.search import SignatureIndex, Where

FETCH = 80
FETCH_FILTERED = 1_000
EFFORT = 128
LINKS = 16
THREADS = os.cpu_count() or 1
Pairs = dict[str, int]
"""A filter: attribute and the value wanted."""
COLUMN = {"asset_class": 0, "component": 1, "region": 2, "jurisdiction": 3}


class Engine(Protocol):
    """An engine is built once from batches; ``nearest`` gives at most k units, nearest first.

    ``index_mb`` is the size of its index; ``in_process`` is false when a process of its own does the work.
    """

    name: str
    index_mb: float
    in_process: bool

    def build(self, batches: Iterable[Windows]) -> None: ...

    def nearest(self, vector: Any, k: int, where: Pairs) -> list[int]: ...

    def close(self) -> None: ...


class Ours:
    """The signature index, in one of its precisions."""

    in_process = True

    def __init__(self, dims: int, dtype: str = "float32") -> None:
        self.name = "forestall" if dtype == "float32" else f"forestall {dtype}"
        self.index, self.index_mb = SignatureIndex(dims, dtype), 0.0
        self.visited: list[int] = []

    def build(self, batches: Iterable[Windows]) -> None:
        for batch in batches:
            first = len(self.index)
            self.index.add(np.arange(first, first + len(batch.units)), batch.units, batch.vectors, batch.attributes)
        self.index.sorted_count()
        self.index_mb = self.index.nbytes / 1e6

    def nearest(self, vector: Any, k: int, where: Pairs) -> list[int]:
        found = self.index.search(vector, k, Where(**{name: (value,) for name, value in where.items()}))
        self.visited.append(found.visited)
        units: list[int] = found.units.tolist()
        return units

    def close(self) -> None:
        self.index = SignatureIndex(1)


class Everything:
    """Unit and attributes of every window, which the other engines need besides their index."""

    def __init__(self) -> None:
        self._units: list[Any] = []
        self._attributes: list[Any] = []

    def take(self, batch: Windows) -> Any:
        """Ids of the batch's windows."""
        first = sum(map(len, self._units))
        self._units.append(batch.units.astype(np.int32))
        self._attributes.append(batch.attributes.astype(np.int16))
        return np.arange(first, first + len(batch.units))

    def seal(self) -> None:
        self.units, self.attributes = np.concatenate(self._units), np.concatenate(self._attributes)
        self._units, self._attributes = [], []

    def fits(self, where: Pairs) -> Any:
        """Windows (n,) the filter allows; None for all."""
        fits = None
        for name, value in where.items():
            same = self.attributes[:, COLUMN[name]] == value
            fits = same if fits is None else fits & same
        return fits

    def first_of_each(self, windows: Any, k: int) -> list[int]:
        """Units of windows in order, each once."""
        return list(dict.fromkeys(self.units[windows].tolist()))[:k]


class Scan:
    """Every window compared, single precision, one pass a column: exact."""

    name = "numpy scan"
    in_process = True

    def __init__(self, dims: int) -> None:
        self.dims, self.known, self.index_mb = dims, Everything(), 0.0
        self.columns: Any = None

    def build(self, batches: Iterable[Windows]) -> None:
        parts = []
        for batch in batches:
            self.known.take(batch)
            parts.append(batch.vectors)
        self.known.seal()
        self.columns = np.ascontiguousarray(np.concatenate(parts).T)
        self.index_mb = self.columns.nbytes / 1e6

    def nearest(self, vector: Any, k: int, where: Pairs) -> list[int]:
        fits = self.known.fits(where)
        rows = None if fits is None else np.flatnonzero(fits)
        columns = self.columns if rows is None else self.columns[:, rows]
        total = np.zeros(columns.shape[1], dtype=np.float32)
        for column, value in zip(columns, vector, strict=True):
            total += (column - value) ** 2
        count = min(1_000, len(total))  # a unit has at most forty windows, so ten units are always among them
        near = np.argpartition(total, count - 1)[:count] if count < len(total) else np.arange(len(total))
        near = near[np.argsort(total[near], kind="stable")]
        return self.known.first_of_each(near if rows is None else rows[near], k)

    def close(self) -> None:
        self.columns = None


class Hnswlib:
    """hnswlib, built on all cores."""

    name = "hnswlib"
    in_process = True

    def __init__(self, dims: int, windows: int) -> None:
        import hnswlib

        self.known, self.index_mb = Everything(), 0.0
        self.index: Any = hnswlib.Index(space="l2", dim=dims)
        self.index.init_index(max_elements=windows, M=LINKS, ef_construction=128, random_seed=1)

    def build(self, batches: Iterable[Windows]) -> None:
        for batch in batches:
            self.index.add_items(batch.vectors, self.known.take(batch), num_threads=THREADS)
        self.known.seal()
        self.index.set_ef(EFFORT)
        with tempfile.TemporaryDirectory(prefix="forestall-bench-") as folder:
            path = Path(folder, "index")
            self.index.save_index(str(path))
            self.index_mb = path.stat().st_size / 1e6

    def nearest(self, vector: Any, k: int, where: Pairs) -> list[int]:
        fits = self.known.fits(where)
        allowed = None if fits is None else lambda window: bool(fits[window])
        for fetch in (FETCH, 20, 1):  # it fails altogether when it finds fewer
            try:
                windows, _ = self.index.knn_query(vector, k=fetch, num_threads=1, filter=allowed)
            except RuntimeError:
                continue
            return self.known.first_of_each(windows[0].astype(np.int64), k)
        return []

    def close(self) -> None:
        self.index = None


class Usearch:
    """usearch in single precision, built on all cores."""

    name = "usearch"
    in_process = True

    def __init__(self, dims: int) -> None:
        from usearch.index import Index

        self.known, self.index_mb = Everything(), 0.0
        self.index: Any = Index(
            ndim=dims, metric="l2sq", dtype="f32", connectivity=LINKS, expansion_add=128, expansion_search=EFFORT
        )

    def build(self, batches: Iterable[Windows]) -> None:
        for batch in batches:
            self.index.add(self.known.take(batch), batch.vectors, threads=THREADS)
        self.known.seal()
        self.index_mb = self.index.serialized_length / 1e6

    def nearest(self, vector: Any, k: int, where: Pairs) -> list[int]:
        fits = self.known.fits(where)
        keys = self.index.search(vector, FETCH if fits is None else FETCH_FILTERED, threads=1).keys.astype(np.int64)
        return self.known.first_of_each(keys if fits is None else keys[fits[keys]], k)

    def close(self) -> None:
        self.index = None
