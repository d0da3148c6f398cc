"""Rows to calibrate on or to correct: the predicted median, the raw interval about it, and what came. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.rul.histories import Floats
from fleet_server.prognosis.rul.lives import Flags, Units

MAX_ROWS = 20_000
"""More rows than this are thinned evenly within each life."""
_SMALLEST_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class ForecastRows:
    """Rows (n,): the median, half-widths of the raw interval on both sides (floored), what came, and the variance of
    the median that a forecast will not have."""

    middle: Floats
    half_early: Floats
    half_late: Floats
    floor: float
    remaining: Floats
    unit: Units
    ended: Flags
    excess: Floats

    @classmethod
    def of(
        cls,
        low: Floats,
        middle: Floats,
        high: Floats,
        floor: float,
        remaining: Floats | None = None,
        unit: Units | None = None,
        ended: Flags | None = None,
        excess: Floats | None = None,
    ) -> ForecastRows:
        """From raw quantiles, which may be crossed or negative; without truths when these are to be predicted."""
        raw = np.column_stack((low, middle, high)).astype(float)
        raw[np.isnan(raw).any(axis=1)] = np.nan
        low, middle, high = np.sort(np.maximum(raw, 0.0), axis=1).T
        least = np.maximum(floor, _SMALLEST_SHARE * middle)
        empty = np.zeros(0)
        return cls(
            middle,
            np.maximum(middle - low, least),
            np.maximum(high - middle, least),
            floor,
            empty if remaining is None else np.asarray(remaining, dtype=float),
            empty.astype(np.int64) if unit is None else unit,
            empty.astype(bool) if ended is None else ended,
            empty if excess is None else excess,
        )

    def pick(self, rows: Flags | npt.NDArray[np.intp]) -> ForecastRows:
        """Those of ``rows``; they have truths."""
        arrays = (self.middle[rows], self.half_early[rows], self.half_late[rows])
        came = (self.remaining[rows], self.unit[rows], self.ended[rows])
        return ForecastRows(*arrays, self.floor, *came, self.excess[rows])

    def thinned(self) -> ForecastRows:
        """At most about MAX_ROWS, evenly within each life, never fewer than its last row."""
        stride = -(-len(self.middle) // MAX_ROWS)
        if stride == 1:
            return self
        order = np.argsort(self.unit, kind="stable")
        _, counts = np.unique(self.unit, return_counts=True)
        from_end = np.concatenate([np.arange(count)[::-1] for count in counts])
        return self.pick(np.sort(order[from_end % stride == 0]))

    def scales(self, trust: float, typical_early: Floats, typical_late: Floats) -> tuple[Floats, Floats]:
        """Half-widths to measure by, (n,) early and late."""
        own, usual = trust, 1.0 - trust
        return own * self.half_early + usual * typical_early, own * self.half_late + usual * typical_late
