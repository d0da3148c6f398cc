"""Leaks: channels that tell how a life ended and that could not have been read while the life lasted. Pure.

Tables that were made with hindsight have such channels: the number of records, the last date, the highest hours, the
fate. A leak is constant within every unit and correlates over units with the unit's end, by itself or as a difference
from another constant channel (a last date minus a first date). Calendar dates that are constant within units are left
out, too, because no later unit will have the same date. The start of a row's interval (intervals.py) is left out
because it is the time itself and not a reading.
"""

from __future__ import annotations

import re

import numpy as np

from fleet_server.prognosis.rul.histories import Floats, Histories, UnitRows
from fleet_server.prognosis.rul.intervals import interval_channel

LEAK = 0.98
"""Rank correlation with the end of the units from which on a channel is a leak."""
LEAST_UNITS = 20
MOST_PAIRED = 24
"""At most so many constant channels are compared with each other in pairs."""
_DATE = re.compile(r"(^|[^a-z])(date|datetime|timestamp)([^a-z]|$)", re.IGNORECASE)


def leaks(histories: Histories) -> dict[str, str]:
    """Names of the channels to leave out, with the reason: a leak, a date, or the time itself.

    Only units with at least two rows are looked at. With fewer than ``LEAST_UNITS`` such units no leak can be found.
    """
    start = interval_channel(histories)
    found = {} if start is None else {start: "the time at which a row's interval starts"}
    units = tuple(unit for unit in histories if len(unit) > 1)
    if len(units) < LEAST_UNITS:
        return found
    rows = UnitRows.of(units)
    first = np.flatnonzero(rows.row == 0)
    begins = np.array([unit.times[0] for unit in units])
    if start is not None:
        begins = rows.values[first, histories.channels.index(start)]
    ends = np.array([unit.times[-1] for unit in units])
    truths = {
        "last time": ends,
        "row count": np.array([len(unit) for unit in units], dtype=np.float64),
        "fate": np.array([float(unit.failed) for unit in units]),
        "span": ends - begins,
    }
    fixed = {
        name: rows.values[first, index]
        for index, name in enumerate(histories.channels)
        if name not in found and _fixed(rows.values[:, index], rows)
    }
    for name, series in fixed.items():
        told = next((what for what, truth in truths.items() if abs(_tie(series, truth)) > LEAK), None)
        if told:
            found[name] = f"gives away the unit's {told}"
        elif _DATE.search(name):
            found[name] = "a date, the same in all of a unit's rows"
    several = [name for name, series in fixed.items() if len(np.unique(series[np.isfinite(series)])) > LEAST_UNITS]
    for name in several[:MOST_PAIRED]:
        for other in several[:MOST_PAIRED]:
            if name not in found and name != other and _tie(fixed[name] - fixed[other], truths["span"]) > LEAK:
                found[name] = f"gives away the unit's span, beside {other}"
    return found


def _fixed(column: Floats, rows: UnitRows) -> bool:
    """Whether the channel ``column`` (n,) is constant within every unit."""
    before, after = column[:-1], column[1:]
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    return bool((same | (rows.row[1:] == 0)).all())


def _tie(fixed: Floats, truth: Floats) -> float:
    """Rank correlation of two figures over units (n,); 0.0 where it cannot be computed."""
    known = np.isfinite(fixed) & np.isfinite(truth)
    if known.sum() < LEAST_UNITS or np.ptp(fixed[known]) == 0.0 or np.ptp(truth[known]) == 0.0:
        return 0.0
    ranks = [np.unique(series[known], return_inverse=True)[1].astype(np.float64) for series in (fixed, truth)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
