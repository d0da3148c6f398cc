"""Tables of intervals (start, stop]: readings that held all through an interval, as counting-process data come.

Such a table tells the state at every moment, not only where a row ends; and rows end where something changed, so rows
are not typical moments. The hazard is therefore learned at moments spread evenly over all lives (denser before
failures, and weighted down there), and answers for the last moment of a unit's last interval.

A table is one of intervals when a channel says in each row where the one before it ended (:func:`interval_channel`).
Channels that are fixed within units count only as groups (a maker, a model): one of too many values names the unit, or
its end, and one that no failed unit shares with the others is the outcome written into the table.
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
"""A channel fixed within units is a group only with at most this many values."""
FATE_UNITS = 30
"""From this many failures on, a value without any failure, or without any survivor, beside them tells the outcome."""
_MIN_PAIRS = 20
_LONGEST_WINDOW = 6.0  # horizons


@dataclass(frozen=True, slots=True)
class IntervalHazard:
    """The hazard of a table of intervals; ``start``, ``moving`` and ``groups`` are channel indices."""

    start: int
    moving: tuple[int, ...]
    groups: tuple[int, ...]
    windows: tuple[float, ...]
    hazard: Hazard

    @classmethod
    def fit(cls, histories: Histories, channel: str, horizons: Sequence[float], seed: int = 0) -> IntervalHazard:
        """Learn from all units. ``channel`` says where a row's interval starts (:func:`interval_channel`).

        Raises:
            BadInput: ``channel`` when there is none of that name, and what :func:`fit_hazard` raises.
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
        """Probabilities (units, horizons) at each unit's last time."""
        if not units:
            return np.zeros((0, len(self.hazard.horizons)))
        rows = _IntervalRows.of(units, self.start)
        row = np.append(np.flatnonzero(np.diff(rows.unit)), rows.unit.size - 1)
        features = _features(rows, row, rows.stop[row], self.moving, self.groups, self.windows)
        return self.hazard.p_fail(features)

    def p_fail_at(self, unit: Unit, chosen: Sequence[int]) -> Floats:
        """Probabilities (chosen, horizons) at the ends of these rows of one unit."""
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
    """The channel that says where a row's interval starts; None when the rows are no intervals."""
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
    """Intervals of units under each other; ``end`` and ``failed`` are per unit. No interval starts before the last."""

    begin: Floats
    stop: Floats
    values: Floats
    unit: Ints
    end: Floats
    failed: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, units: Sequence[Unit], start: int) -> _IntervalRows:
        unit = np.repeat(np.arange(len(units)), [len(each) for each in units])
        stop = np.concatenate([each.times for each in units])
        values = np.concatenate([each.values for each in units])
        begin = values[:, start]
        before = np.r_[-np.inf, stop[:-1]]
        before[np.r_[True, unit[1:] != unit[:-1]]] = -np.inf
        # A start that is missing or overlaps the row before it is where that row stopped; the first has no length.
        known = np.isfinite(begin) & (begin <= stop) & (begin >= before)
        begin = np.where(known, begin, np.where(np.isfinite(before), before, stop))
        end = np.array([each.times[-1] for each in units])
        return cls(begin, stop, values, unit, end, np.array([each.failed for each in units], dtype=bool))


def _usable(rows: _IntervalRows, start: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels that move within units, and channels fixed within them that are groups."""
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
    # The outcome: half of the units never fail, and all failures are in what is left.
    return not (failures.sum() >= FATE_UNITS and failures[largest] == 0 and units[largest] > units.sum() / 2)


def _moments(rows: _IntervalRows, horizons: Sequence[float], rng: np.random.Generator) -> tuple[Ints, Floats, Floats]:
    """Row (m,), moment (m,) and the time (m,) it stands for: one moment, at random, in each cell of each life."""
    longest = max(horizons)
    births = rows.begin[np.r_[True, rows.unit[1:] != rows.unit[:-1]]]
    near = np.unique([horizon * share for horizon in horizons for share in (0.25, 0.5, 0.75, 1.0)])
    # A failed unit's last stretch is cut finely, the rest of each life in cells of one width.
    dense = [
        near[near < life] if failed else near[:0] for life, failed in zip(rows.end - births, rows.failed, strict=True)
    ]
    until = rows.end - np.array([each[-1] if each.size else 0.0 for each in dense])
    lives = until - births
    if not (lives > 0).any():
        raise BadInput("rows", "no unit was watched for any time")
    cells = np.where(lives > 0, np.maximum(1, lives // max(longest, float(lives.sum()) / MAX_MOMENTS)), 0).astype(int)
    unit = np.repeat(np.arange(cells.size), cells)
    number = np.arange(unit.size) - np.repeat(np.cumsum(cells) - cells, cells)
    width = (lives / np.maximum(cells, 1))[unit]
    late = np.repeat(np.arange(cells.size), [each.size for each in dense])
    far = np.concatenate(dense)
    close = np.concatenate([np.r_[0.0, each[:-1]] if each.size else each for each in dense])
    unit, begin = np.r_[unit, late], np.r_[births[unit] + number * width, rows.end[late] - far]
    width = np.r_[width, far - close]
    moment = np.minimum(begin + rng.random(begin.size) * width, rows.end[unit])
    return _row_of(rows, unit, moment), moment, width


def _row_of(rows: _IntervalRows, unit: Ints, moment: Floats) -> Ints:
    """The last row of the unit that begins before the moment."""
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
    """Features (m, f): of what moves, the groups, the age and how long the unit has been watched."""
    counted = counter_features(rows.begin, rows.values[:, list(moving)], rows.unit, windows, (row, moment))
    births = rows.begin[np.searchsorted(rows.unit, rows.unit[row])]
    ages = np.column_stack((np.log1p(np.maximum(moment, 0.0)), np.log1p(moment - births)))
    return np.concatenate((counted, rows.values[row][:, list(groups)], ages), axis=1)
