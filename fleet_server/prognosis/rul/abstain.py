"""When the engine abstains: a life with too few readings, or one unlike the training lives. Pure.

Reasons, of which the first that holds is given: ``too few rows``, ``no readings``, ``missing channels``, ``unknown
operating conditions`` and ``outside the training range``. A reason rests on rows up to the moment of the forecast, so a
later row cannot change an earlier answer.
"""

from __future__ import annotations

import numpy as np

from fleet_server.prognosis.rul.features import FeatureModel
from fleet_server.prognosis.rul.histories import Ints, UnitRows

LOOK_BACK = 3
MOST_ROWS = 5
"""A life is never required to have more rows than this, nor more than the shortest training life had."""
MISSING_SHARE = 0.5
OUTSIDE_SHARE = 0.5
MARGIN = 1.0
"""A reading is outside when it lies farther beyond the training range than this many widths of that range."""
STRANGE = 0.1


def reasons(model: FeatureModel, rows: UnitRows, place: Ints, least_rows: int) -> tuple[str, ...]:
    """The reason to abstain at each of the m rows ``place`` (m,) of ``rows``; an empty text where there is none.

    ``least_rows`` is the number of rows that a life must have had by then.
    """
    lags = np.arange(LOOK_BACK)
    reach = rows.row[place][:, None] >= lags
    recent = place[:, None] - np.where(reach, lags, 0)
    scaled = model.scaled(rows.values)[recent]
    known = np.isfinite(scaled) & reach[:, :, None]
    silent = ~known.any(axis=(1, 2)) & ~np.isfinite(rows.values[place][:, model.still]).any(axis=1)
    expected = np.flatnonzero(~np.isin(model.moving, model.gappy))
    absent = np.asarray(~known.any(axis=1))[:, expected].sum(axis=1)
    strange = np.nanmedian(np.where(reach, model.regimes.strangeness(rows.values)[recent], np.nan), axis=1)
    margin = MARGIN * (model.high - model.low)
    outside = known & ((scaled < model.low - margin) | (scaled > model.high + margin))
    share = outside.sum(axis=(1, 2)) / np.maximum(1, known.sum(axis=(1, 2)))
    said = np.full(len(place), "", dtype=object)
    # The reasons are written from the last to the first, so that of several the first one stays.
    for index in np.flatnonzero(share > OUTSIDE_SHARE):
        said[index] = f"outside the training range: {share[index]:.0%} of the last readings"
    said[strange > STRANGE] = "unknown operating conditions"
    if len(model.moving):
        for index in np.flatnonzero(absent > MISSING_SHARE * len(expected)):
            said[index] = f"missing channels: {absent[index]} of {len(expected)}"
        said[silent] = "no readings in the last rows"
    for index in np.flatnonzero(rows.row[place] + 1 < least_rows):
        said[index] = f"too few rows: {rows.row[place[index]] + 1}, needs {least_rows}"
    return tuple(said.tolist())
