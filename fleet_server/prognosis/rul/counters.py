"""Features of counters (reallocated sectors, errors, starts): when they last moved, how often and how far.

A counter stands still most of the time, and its level says less than its latest steps. The features of a counter are
its level (signed logarithm), the time since it last moved, how often it moved, its pace over the observed life, and by
how much it moved within each of a few windows that reach back from the row.

Invariants: pure and causal (a row depends on rows of its own unit up to itself only); NaN where the reading is missing.
Windows are in the unit of ``times``; in a life shorter than a window a counter is compared with its first known value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PER_CHANNEL = ("level", "since_move", "moves", "pace")
"""Features of every counter; one ``moved_<window>`` for each window follows."""


def counter_channels(values: Floats, unit: Ints) -> npt.NDArray[np.bool_]:
    """Which channels (channels,) of ``values`` (n, channels) are counters: whole, not negative, moving now and then.

    ``unit`` (n,) numbers the units; the rows of a unit are adjacent. A channel that never moves within a unit is not a
    counter, nor is one that moves in more than 70 % of its steps.
    """
    same = unit[1:] == unit[:-1]
    found = np.zeros(values.shape[1], dtype=bool)
    for channel, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        steps = np.diff(column)[same]
        steps = steps[np.isfinite(steps)]
        if known.size and steps.size:
            whole = bool((known >= 0).all() and (known == np.floor(known)).all())
            found[channel] = whole and 0.0 < float((steps != 0).mean()) < 0.7
    return found


def counter_names(channels: Sequence[str], windows: Sequence[float]) -> tuple[str, ...]:
    """Names of the columns that :func:`counter_features` makes for these channels."""
    each = (*PER_CHANNEL, *(f"moved_{window:g}" for window in windows))
    return tuple(f"{channel}.{name}" for channel in channels for name in each)


def counter_features(
    times: Floats, values: Floats, unit: Ints, windows: Sequence[float], asked: tuple[Ints, Floats] | None = None
) -> Floats:
    """Features (n, channels * (4 + windows)) of counters ``values`` (n, channels), known from ``times`` (n,) on.

    All units are computed at once: ``unit`` (n,) numbers them, and the rows of a unit are adjacent and ascend in time.
    With ``asked``, rows (m,) and moments (m,), the result has m rows instead: the features of these rows at these
    moments, none of which may lie before the time of its row.
    """
    rows = np.arange(times.size)
    row, moment = asked or (rows, times)
    begins = np.r_[True, unit[1:] != unit[:-1]] if times.size else np.zeros(0, dtype=bool)
    first = np.maximum.accumulate(np.where(begins, rows, 0))
    back = [_row_at(times, first, row, moment - window) for window in windows]
    made = np.empty((row.size, values.shape[1] * (len(PER_CHANNEL) + len(windows))))
    for channel, column in enumerate(values.T):
        held = _held(column, first)
        start = _first_known(held, first, begins)
        steps = np.diff(held)
        moved = np.r_[False, (steps != 0) & np.isfinite(steps)] & ~begins
        last_move = np.maximum.accumulate(np.where(moved, rows, first))
        moves = np.cumsum(moved)
        lived = moment - times[first[row]]
        features = [
            _log(held[row]),
            np.log1p(moment - times[last_move[row]]),
            np.log1p(moves[row] - moves[first[row]]),
            _log((held - start)[row] / np.maximum(lived, 1.0) * 1000.0),
        ]
        for then in back:
            before = np.where(np.isfinite(held[then]), held[then], start[row])
            features.append(_log(held[row] - before))
        width = len(features)
        block = np.column_stack(features)
        block[~np.isfinite(column[row])] = np.nan
        made[:, channel * width : (channel + 1) * width] = block
    return made


def _log(values: Floats) -> Floats:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), dtype=np.float64)


def _held(column: Floats, first: Ints) -> Floats:
    """The last known value (n,) of the unit at each row; NaN before its first known value."""
    known = np.maximum.accumulate(np.where(np.isfinite(column), np.arange(column.size), -1))
    return np.asarray(np.where(known >= first, column[np.maximum(known, 0)], np.nan), dtype=np.float64)


def _first_known(held: Floats, first: Ints, begins: npt.NDArray[np.bool_]) -> Floats:
    """The first known value (n,) of the unit; NaN in the rows before it."""
    rows = np.arange(held.size)
    known = np.isfinite(held)
    opening = known & (begins | ~np.r_[False, known[:-1]])
    opened = np.maximum.accumulate(np.where(opening, rows, first))
    return np.asarray(held[opened], dtype=np.float64)


def _row_at(times: Floats, first: Ints, row: Ints, wanted: Floats) -> Ints:
    """The last row (m,), of the unit of ``row`` (m,), at or before the times ``wanted`` (m,); else its first row."""
    if not times.size:
        return row
    earliest = times.min()
    wanted = np.clip(wanted, earliest - 1.0, times.max() + 1.0)
    apart = 2.0 * (times.max() - earliest + 2.0)
    ordinal = np.cumsum(first == np.arange(first.size)) * apart
    found = np.searchsorted(times - earliest + ordinal, wanted - earliest + ordinal[row], side="right") - 1
    return np.asarray(np.maximum(found, first[row]), dtype=np.int64)
