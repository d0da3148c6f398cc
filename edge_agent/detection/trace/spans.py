"""A whole life in bounded memory: ticks folded into spans of equally many ticks, halved when they are full.

Each span holds the means of some columns, the extremes of the first few of them, the highest peak and state, and the
times of its first and last tick. When all spans are closed, neighbours are joined and each new span covers twice as
many ticks. NaN is left out of the means; a joined span is the mean of its known halves.

Pure. Folding in pieces of any size leaves the same spans (to float32).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import RealArray
from edge_agent.detection.restored import whole


@dataclass(slots=True)
class _Sums:
    """Some spans before division: sums and counts (n, columns), extremes (n, channels), the rest (n,)."""

    sums: NDArray[np.float64]
    known: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    peak: NDArray[np.float64]
    state: NDArray[np.uint8]
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]

    def part(self, place: slice) -> _Sums:
        return _Sums(*(getattr(self, name)[place] for name in self.__slots__))

    def join_first(self, before: _Sums) -> None:
        """The first of these spans was begun by ``before`` (one span)."""
        self.sums[0] += before.sums[0]
        self.known[0] += before.known[0]
        self.low[0] = np.fmin(self.low[0], before.low[0])
        self.high[0] = np.fmax(self.high[0], before.high[0])
        self.peak[0] = np.fmax(self.peak[0], before.peak[0])
        self.state[0] = max(self.state[0], before.state[0])
        self.first_us[0] = before.first_us[0]


class Spans:
    """``capacity`` spans (an even number) of ``columns`` means and ``channels`` extremes."""

    def __init__(self, capacity: int, columns: int, channels: int) -> None:
        self._capacity = capacity
        self._channels = channels
        self._closed: dict[str, NDArray[Any]] = {
            "means": np.zeros((capacity, columns), dtype=np.float32),
            "low": np.zeros((capacity, channels), dtype=np.float32),
            "high": np.zeros((capacity, channels), dtype=np.float32),
            "peak": np.zeros(capacity, dtype=np.float32),
            "state": np.zeros(capacity, dtype=np.uint8),
            "first_us": np.zeros(capacity, dtype=np.int64),
            "last_us": np.zeros(capacity, dtype=np.int64),
        }
        self._used = 0
        self.stride = 1
        self._open: _Sums | None = None
        self._filled = 0

    def fold(self, times_us: NDArray[np.int64], rows: RealArray, states: NDArray[np.uint8]) -> None:
        """Take ticks: times (n,), rows (n, columns) of float32 or NaN, the last column the peaks'; state codes (n,)."""
        table = rows.astype(np.float64)
        start = 0
        while start < len(table):
            stop = min(len(table), start + (self._capacity - self._used) * self.stride - self._filled)
            self._take(times_us[start:stop], table[start:stop], states[start:stop])
            start = stop

    def view(self) -> dict[str, NDArray[Any]]:
        """``means`` (n, columns), ``low``, ``high`` (n, channels), ``peak``, ``state``, ``first_us``, ``last_us``
        (n,): the closed spans, and the one being filled as the last."""
        result = {name: array[: self._used] for name, array in self._closed.items()}
        opened = {} if self._open is None else _means(self._open)
        return {
            name: np.concatenate((array, opened[name].astype(array.dtype))) if opened else array.copy()
            for name, array in result.items()
        }

    def dump(self) -> dict[str, Any]:
        """Everything, as arrays and numbers."""
        tree: dict[str, Any] = {name: array[: self._used].copy() for name, array in self._closed.items()}
        opened = self._open
        tree["open"] = None if opened is None else {name: getattr(opened, name) for name in _Sums.__slots__}
        return {**tree, "used": self._used, "stride": self.stride, "filled": self._filled}

    def load(self, tree: dict[str, Any]) -> None:
        """Continue from a ``dump``. Raises KeyError, TypeError or ValueError when it does not fit."""
        used, stride, filled = (whole(tree[name]) for name in ("used", "stride", "filled"))
        if not (0 <= used < self._capacity and 0 <= filled < stride and (tree["open"] is None) == (filled == 0)):
            raise ValueError("spans out of bounds")
        for name, array in self._closed.items():
            array[:used] = np.asarray(tree[name]).reshape(used, *array.shape[1:])
        self._used, self.stride, self._filled, self._open = used, stride, filled, None
        if tree["open"] is not None:
            columns = (1, self._closed["means"].shape[1])
            channels = (1, self._channels)
            opened = tree["open"]
            self._open = _Sums(
                sums=np.array(opened["sums"], dtype=np.float64).reshape(columns),
                known=np.array(opened["known"], dtype=np.float64).reshape(columns),
                low=np.array(opened["low"], dtype=np.float64).reshape(channels),
                high=np.array(opened["high"], dtype=np.float64).reshape(channels),
                peak=np.array(opened["peak"], dtype=np.float64).reshape(1),
                state=np.array(opened["state"], dtype=np.uint8).reshape(1),
                first_us=np.array(opened["first_us"], dtype=np.int64).reshape(1),
                last_us=np.array(opened["last_us"], dtype=np.int64).reshape(1),
            )

    def _take(self, times_us: NDArray[np.int64], table: NDArray[np.float64], states: NDArray[np.uint8]) -> None:
        """Ticks that do not overfill the spans."""
        count, c = len(table), self._channels
        starts = np.arange(-self._filled, count, self.stride)
        starts[0] = 0
        known = ~np.isnan(table)
        taken = _Sums(
            sums=np.add.reduceat(np.where(known, table, 0.0), starts),
            known=np.add.reduceat(known, starts, dtype=np.float64),
            low=np.fmin.reduceat(table[:, :c], starts),
            high=np.fmax.reduceat(table[:, :c], starts),
            peak=np.fmax.reduceat(table[:, -1], starts),
            state=np.maximum.reduceat(states, starts),
            first_us=times_us[starts],
            last_us=times_us[np.append(starts[1:], count) - 1],
        )
        if self._open is not None:
            taken.join_first(self._open)
        closed, self._filled = divmod(self._filled + count, self.stride)
        self._open = taken.part(slice(closed, None)) if self._filled else None
        if closed:
            self._close(_means(taken.part(slice(closed))), closed)

    def _close(self, spans: dict[str, NDArray[Any]], count: int) -> None:
        for name, array in spans.items():
            self._closed[name][self._used : self._used + count] = array
        self._used += count
        if self._used == self._capacity:
            self._halve()

    def _halve(self) -> None:
        half = self._capacity // 2
        pairs = {name: array.reshape(half, 2, *array.shape[1:]) for name, array in self._closed.items()}
        means = pairs["means"].astype(np.float64)
        left, right = means[:, 0], means[:, 1]
        mean = np.where(np.isnan(left), right, np.where(np.isnan(right), left, (left + right) / 2))
        joined = {
            "means": mean,
            "low": np.fmin(*_halves(pairs["low"])),
            "high": np.fmax(*_halves(pairs["high"])),
            "peak": np.fmax(*_halves(pairs["peak"])),
            "state": np.maximum(*_halves(pairs["state"])),
            "first_us": pairs["first_us"][:, 0].copy(),
            "last_us": pairs["last_us"][:, 1].copy(),
        }
        for name, array in joined.items():
            self._closed[name][:half] = array
        self._used, self.stride = half, 2 * self.stride


def _halves(pairs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return pairs[:, 0], pairs[:, 1]


def _means(spans: _Sums) -> dict[str, NDArray[Any]]:
    with np.errstate(invalid="ignore"):
        means = spans.sums / spans.known
    names = ("low", "high", "peak", "state", "first_us", "last_us")
    return {"means": means, **{name: getattr(spans, name) for name in names}}
