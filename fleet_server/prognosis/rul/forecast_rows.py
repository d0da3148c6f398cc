"""Forecasts and their true remaining lives, row by row: the conformal calibration learns from them. Pure."""

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
    """Forecasts as arrays (n,), in the unit of the table's times.

    ``middle`` is the predicted median, ``half_early`` and ``half_late`` are the half-widths of the raw interval on
    its two sides, at least ``floor``. ``remaining`` is the true remaining life, or a lower bound of it where ``ended``
    is false; ``unit`` says to which life a row belongs. ``excess`` is variance of the median that a forecast will not
    have (see conformal.py). The last four are empty for rows that are only to be corrected.
    """

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
        """Rows from raw quantiles (n,), which may be crossed or negative.

        Without ``remaining``, ``unit``, ``ended`` and ``excess`` the rows can only be corrected.
        """
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
        """The rows that ``rows`` selects; only for rows with a true remaining life."""
        arrays = (self.middle[rows], self.half_early[rows], self.half_late[rows])
        came = (self.remaining[rows], self.unit[rows], self.ended[rows])
        return ForecastRows(*arrays, self.floor, *came, self.excess[rows])

    def thinned(self) -> ForecastRows:
        """At most about ``MAX_ROWS`` rows, thinned evenly within each life; the last row of a life is always kept."""
        stride = -(-len(self.middle) // MAX_ROWS)
        if stride == 1:
            return self
        order = np.argsort(self.unit, kind="stable")
        _, counts = np.unique(self.unit, return_counts=True)
        from_end = np.concatenate([np.arange(count)[::-1] for count in counts])
        return self.pick(np.sort(order[from_end % stride == 0]))

    def scales(self, trust: float, typical_early: Floats, typical_late: Floats) -> tuple[Floats, Floats]:
        """Half-widths (n,), early and late, in which errors are measured.

        They are the row's own half-widths, by the weight ``trust`` 0..1, mixed with the typical ones (n,).
        """
        own, usual = trust, 1.0 - trust
        return own * self.half_early + usual * typical_early, own * self.half_late + usual * typical_late
