"""Features of a reading over windows of its last rows and since the beginning of its unit. Pure and causal.

Windows are summed by shifting whole columns, and running totals begin anew with each unit. Therefore the features of a
row are the same bits whichever rows come after it and whichever units stand beside it. A feature is NaN where too few
readings are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fleet_server.prognosis.rul.histories import Floats, UnitRows

EWMA_DECAY = 0.8
BASELINE_ROWS = 12
LEAST_FOR_DRIFT = 8


def window_names(windows: Sequence[int], since_start: bool) -> tuple[str, ...]:
    """Names of the features in the order of :func:`window_features`; every feature is made for all channels."""
    whole = ("rise", "drift") if since_start else ()
    return (
        "last",
        "ewma",
        "gone",
        *(f"{what}{window}" for window in windows for what in ("mean", "slope", "std")),
        *whole,
    )


def window_features(scaled: Floats, rows: UnitRows, windows: Sequence[int], since_start: bool) -> list[Floats]:
    """Features of scaled readings ``scaled`` (n, channels): a list of arrays (n, channels), see :func:`window_names`.

    They are the last value, an exponentially weighted mean, its distance from the unit's beginning, and for every
    window of ``windows`` (numbers of rows) mean, slope per row and standard deviation. ``since_start`` adds the
    distance of the weighted mean from the unit's mean so far, and the slope since the unit's first row.
    """
    present = np.isfinite(scaled)
    filled = np.where(present, scaled, 0.0)
    zero = np.zeros_like(filled)
    count, total, square, back, back_square, cross = (zero.copy() for _ in range(6))
    weight, weighted = zero.copy(), zero.copy()
    out: list[Floats] = []
    for lag in range(max(windows)):
        kept = max(0, len(filled) - lag)
        reach = rows.row[lag:] >= lag
        seen = (present[:kept] & reach[:, None]).astype(np.float64)
        value = filled[:kept] * seen
        count[lag:] += seen
        total[lag:] += value
        square[lag:] += value * value
        back[lag:] += lag * seen
        back_square[lag:] += lag * lag * seen
        cross[lag:] += lag * value
        weight[lag:] += EWMA_DECAY**lag * seen
        weighted[lag:] += EWMA_DECAY**lag * value
        if lag + 1 in windows:
            out += _window(count, total, square, back, back_square, cross)
    ewma = _ratio(weighted, weight)
    if since_start:
        mean, drift = _since_start(present, filled, rows)
        out += [ewma - mean, drift]
    return [scaled, ewma, ewma - _beginning(present, filled, rows), *out]


def _window(
    count: Floats, total: Floats, square: Floats, back: Floats, back_square: Floats, cross: Floats
) -> list[Floats]:
    """Mean, slope per row and standard deviation of a window from its sums; ``back`` counts rows backwards in time."""
    mean, mean_back = _ratio(total, count), _ratio(back, count)
    run = back_square - count * mean_back * mean_back
    slope = np.where((count >= 3) & (run > 1e-9), -_ratio(cross - count * mean * mean_back, run), np.nan)
    std = np.sqrt(np.maximum(_ratio(square, count) - mean * mean, 0.0))
    return [mean, slope, std]


def _since_start(present: np.ndarray, filled: Floats, rows: UnitRows) -> tuple[Floats, Floats]:
    """Mean and slope per row, both (n, channels), over all rows of a unit from its first to the present one."""
    at = rows.row[:, None].astype(np.float64)
    seen = present.astype(np.float64)
    sums = [seen, filled, at * seen, at * at * seen, at * filled]
    edges = [*np.flatnonzero(rows.row == 0).tolist(), len(filled)]
    for begin, end in pairwise(edges):  # one unit at a time, so that rounding does not depend on the units before it
        for total_so_far in sums:
            np.cumsum(total_so_far[begin:end], axis=0, out=total_so_far[begin:end])
    count, total, time, square, cross = sums
    mean, mean_time = _ratio(total, count), _ratio(time, count)
    run = square - count * mean_time * mean_time
    slope = np.where((count >= LEAST_FOR_DRIFT) & (run > 1e-9), _ratio(cross - count * mean * mean_time, run), np.nan)
    return mean, slope


def _beginning(present: np.ndarray, filled: Floats, rows: UnitRows) -> Floats:
    """Mean (n, channels) of the unit's first ``BASELINE_ROWS`` rows, as far as they are known at each row."""
    starts = np.flatnonzero(rows.row == 0)
    first = starts[rows.unit]
    total, count = np.zeros_like(filled), np.zeros_like(filled)
    for step in range(BASELINE_ROWS):
        source = np.minimum(first + step, len(filled) - 1)
        seen = present[source] & (rows.row >= step)[:, None]
        total += filled[source] * seen
        count += seen
    return _ratio(total, count)


def _ratio(above: Floats, below: Floats) -> Floats:
    known = np.abs(below) > 1e-12
    return np.where(known, above / np.where(known, below, 1.0), np.nan)
