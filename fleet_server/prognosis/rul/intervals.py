"""Tables of intervals (start, stop], whose readings hold for a whole interval: the form of counting-process data.

Such a table gives the state of a unit at every moment, not only at the end of a row. A row ends where something
changed, so the ends of rows are not typical moments. The hazard is therefore learned at moments spread evenly over all
lives (denser before failures, and weighted down there). A forecast is for the last moment of a unit's last interval.

A table is one of intervals when a channel gives in every row the end of the row before it (:func:`interval_channel`).
A channel that is constant within units is used only as a group (a maker, a model): a channel with too many values would
name the unit, or its end, and a channel that separates failed units from the others is the outcome written into the
table.

Invariants: pure, causal, deterministic for a seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.counters import counter_features
from fleet_server.prognosis.rul.hazard import Hazard, fit_hazard
from fleet_server.prognosis.rul.histories import Floats, Histories, Unit

Ints = npt.NDArray[np.int64]

MAX_MOMENTS = 90_000
MAX_GROUPS = 100
"""A channel that is constant within units is a group only when it has at most this many values."""
FATE_UNITS = 30
"""With at least this many failures, a group that holds most units and no failure is the outcome itself."""
_MIN_PAIRS = 20
_LONGEST_WINDOW = 6.0  # horizons


@dataclass(frozen=True, slots=True)
class IntervalHazard:
    """The fitted hazard of a table of intervals.

    ``start`` (the beginning of a row's interval), ``moving`` and ``groups`` are channel indices; ``windows`` are in the
    unit of the times.
    """

    start: int
    moving: tuple[int, ...]
    groups: tuple[int, ...]
    windows: tuple[float, ...]
    hazard: Hazard

    @classmethod
    def fit(cls, histories: Histories, channel: str, horizons: Sequence[float], seed: int = 0) -> IntervalHazard:
        """Learn the hazard from all units, for ``horizons`` in the unit of the times.

        ``channel`` names the channel with the start of a row's interval (:func:`interval_channel`).

        Raises:
            BadInput: ``channel`` when there is no such channel, ``rows`` when no unit was watched for any time, and the
                errors of :func:`fit_hazard`.
        """
        if channel not in histories.channels:
            raise BadInput("channel", f"no channel {channel}")
        start = histories.channels.index(channel)
        rows = _IntervalRows.of(histories.units, start)
        moving, groups = _usable(rows, start)
        windows = (*sorted(set(horizons)), _LONGEST_WINDOW * max(horizons))
        row, moment, weight = _moments(rows, horizons, np.random.default_rng(seed))
        unit = rows.unit[row]
        features = _features(rows, row, moment, moving, groups, windows)
        hazard = fit_hazard(features, moment, unit, rows.end[unit], rows.failed[unit], horizons, seed, weight)
        return cls(start, moving, groups, windows, hazard)

    def p_fail(self, units: Sequence[Unit]) -> Floats:
        """Probabilities of failure (units, horizons), at the last time of each unit."""
        if not units:
            return np.zeros((0, len(self.hazard.horizons)))
        rows = _IntervalRows.of(units, self.start)
        row = np.append(np.flatnonzero(np.diff(rows.unit)), rows.unit.size - 1)
        features = _features(rows, row, rows.stop[row], self.moving, self.groups, self.windows)
        return self.hazard.p_fail(features)

    def p_fail_at(self, unit: Unit, chosen: Sequence[int]) -> Floats:
        """Probabilities of failure (chosen, horizons), at the ends of the ``chosen`` rows of one unit."""
        rows, row = _IntervalRows.of([unit], self.start), np.asarray(chosen, dtype=np.int64)
        return self.hazard.p_fail(_features(rows, row, rows.stop[row], self.moving, self.groups, self.windows))

    def to_text(self) -> str:
        """As JSON, models included."""
        record = {"start": self.start, "moving": self.moving, "groups": self.groups, "windows": self.windows}
        return json.dumps({**record, "hazard": self.hazard.to_text()})

    @classmethod
    def from_text(cls, text: str) -> IntervalHazard:
        """Read what :meth:`to_text` wrote. Raises BadInput."""
        try:
            record = json.loads(text)
            moving, groups = (tuple(int(index) for index in record[name]) for name in ("moving", "groups"))
            windows = tuple(float(window) for window in record["windows"])
            return cls(int(record["start"]), moving, groups, windows, Hazard.from_text(record["hazard"]))
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput("hazard", f"not a stored hazard of intervals: {error!r}") from None


def interval_channel(histories: Histories) -> str | None:
    """Name of the channel with the start of a row's interval; None when the rows are not intervals."""
    units = [unit for unit in histories if len(unit) > 1]
    if sum(len(unit) - 1 for unit in units) < _MIN_PAIRS:
        return None
    for index, name in enumerate(histories.channels):
        if all(
            bool((unit.values[:, index] < unit.times).all()) and bool((unit.values[1:, index] == unit.times[:-1]).all())
            for unit in units
        ):
            return name
    return None


@dataclass(frozen=True, slots=True)
class _IntervalRows:
    """Intervals of several units under each other.

    ``begin``, ``stop``, ``unit`` (n,) and ``values`` (n, channels) have one entry for each row, ``end`` and ``failed``
    (units,) one for each unit. No interval starts before the interval before it has ended.
    """

    begin: Floats
    stop: Floats
    values: Floats
    unit: Ints
    end: Floats
    failed: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, units: Sequence[Unit], start: int) -> _IntervalRows:
        unit = np.repeat(np.arange(len(units)), [len(life) for life in units])
        stop = np.concatenate([life.times for life in units])
        values = np.concatenate([life.values for life in units])
        begin = values[:, start]
        before = np.r_[-np.inf, stop[:-1]]
        before[np.r_[True, unit[1:] != unit[:-1]]] = -np.inf
        # A start that is missing, or lies before the end of the row above, is taken to be that end; the interval of a
        # unit's first row then has no length.
        known = np.isfinite(begin) & (begin <= stop) & (begin >= before)
        begin = np.where(known, begin, np.where(np.isfinite(before), before, stop))
        end = np.array([life.times[-1] for life in units])
        return cls(begin, stop, values, unit, end, np.array([life.failed for life in units], dtype=bool))


def _usable(rows: _IntervalRows, start: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the channels that change within units, and of the constant channels that are groups."""
    first = np.flatnonzero(np.r_[True, rows.unit[1:] != rows.unit[:-1]])
    same = rows.unit[1:] == rows.unit[:-1]
    moving, groups = [], []
    for channel, column in enumerate(rows.values.T):
        steps = np.diff(column)[same]
        if channel == start:
            continue
        if (steps[np.isfinite(steps)] != 0).any():
            moving.append(channel)
        elif _is_group(column[first], rows.failed):
            groups.append(channel)
    return tuple(moving), tuple(groups)


def _is_group(fixed: Floats, failed: npt.NDArray[np.bool_]) -> bool:
    known = np.isfinite(fixed)
    distinct, place = np.unique(fixed[known], return_inverse=True)
    if not 1 < distinct.size <= min(MAX_GROUPS, known.sum() / 2):
        return False
    failures = np.bincount(place, weights=failed[known])
    units = np.bincount(place)
    largest = int(units.argmax())
    # The channel is the outcome itself when its largest group holds more than half of the units and no failure.
    return not (failures.sum() >= FATE_UNITS and failures[largest] == 0 and units[largest] > units.sum() / 2)


def _moments(rows: _IntervalRows, horizons: Sequence[float], rng: np.random.Generator) -> tuple[Ints, Floats, Floats]:
    """Draw moments to learn from: their rows (m,), times (m,) and the length of time (m,) that each stands for.

    Every life is cut into cells, and one moment is drawn at random in each cell.
    """
    longest = max(horizons)
    births = rows.begin[np.r_[True, rows.unit[1:] != rows.unit[:-1]]]
    near = np.unique([horizon * share for horizon in horizons for share in (0.25, 0.5, 0.75, 1.0)])
    # The last stretch of a failed unit is cut finely, the rest of every life into cells of about one width.
    dense = [
        near[near < life] if failed else near[:0] for life, failed in zip(rows.end - births, rows.failed, strict=True)
    ]
    until = rows.end - np.array([offsets[-1] if offsets.size else 0.0 for offsets in dense])
    lives = until - births
    if not (lives > 0).any():
        raise BadInput("rows", "no unit was watched for any time")
    cells = np.where(lives > 0, np.maximum(1, lives // max(longest, float(lives.sum()) / MAX_MOMENTS)), 0).astype(int)
    unit = np.repeat(np.arange(cells.size), cells)
    number = np.arange(unit.size) - np.repeat(np.cumsum(cells) - cells, cells)
    width = (lives / np.maximum(cells, 1))[unit]
    late = np.repeat(np.arange(cells.size), [offsets.size for offsets in dense])
    far = np.concatenate(dense)
    close = np.concatenate([np.r_[0.0, offsets[:-1]] if offsets.size else offsets for offsets in dense])
    unit, begin = np.r_[unit, late], np.r_[births[unit] + number * width, rows.end[late] - far]
    width = np.r_[width, far - close]
    moment = np.minimum(begin + rng.random(begin.size) * width, rows.end[unit])
    return _row_of(rows, unit, moment), moment, width


def _row_of(rows: _IntervalRows, unit: Ints, moment: Floats) -> Ints:
    """The last row (m,) of each ``unit`` (m,) that begins before the ``moment`` (m,)."""
    order = np.lexsort(
        (np.r_[np.zeros(rows.unit.size), np.ones(unit.size)], np.r_[rows.begin, moment], np.r_[rows.unit, unit])
    )
    is_row = order < rows.unit.size
    latest = np.maximum.accumulate(np.where(is_row, order, 0))
    found = np.empty(unit.size, dtype=np.int64)
    found[order[~is_row] - rows.unit.size] = latest[~is_row]
    return found


def _features(
    rows: _IntervalRows,
    row: Ints,
    moment: Floats,
    moving: Sequence[int],
    groups: Sequence[int],
    windows: Sequence[float],
) -> Floats:
    """Features (m, f) at m moments: of the moving channels, the groups, the age and the time since the first row."""
    counted = counter_features(rows.begin, rows.values[:, list(moving)], rows.unit, windows, (row, moment))
    births = rows.begin[np.searchsorted(rows.unit, rows.unit[row])]
    ages = np.column_stack((np.log1p(np.maximum(moment, 0.0)), np.log1p(moment - births)))
    return np.concatenate((counted, rows.values[row][:, list(groups)], ages), axis=1)
