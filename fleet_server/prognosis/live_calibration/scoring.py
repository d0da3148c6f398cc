"""The score of one prognosis, once it is known how long its component lived on.

The remaining life of a component that failed is known. A component that was replaced, or still ran when its case ended,
is censored: only a lower bound of its remaining life is known, and only what follows from that bound is scored. Whether
the end of a censored component would have fallen inside the interval can be answered by a probability only
(:attr:`Score.credit`). The forecast's own probability is used, so that a fleet that replaces its parts in time neither
gains nor loses coverage.

Invariants: pure; hours count from the moment the prognosis was made. A malformed forecast raises BadInput. Limit: the
score cannot tell that a part was replaced *because* it looked bad.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.survival import MIN_HOURS

LEVELS = (0.1, 0.5, 0.9)
"""The shares of units that fail by ``p10_h``, ``p50_h`` and ``p90_h``: between the outer two, 80 % are promised."""
# The least half-width of an interval in log time that a position is divided by: a narrower interval would make the
# position of its end meaninglessly large.
_LEAST_SIDE = 0.05


@dataclass(frozen=True, slots=True)
class Forecasted:
    """The forecast of one prognosis: quantiles of remaining life in hours, and probabilities of failure.

    ``p_fail`` is the probability of failing within each horizon (hours as text).

    Raises:
        BadInput: when the quantiles do not ascend or a probability or a horizon is not one.
    """

    p10_h: float
    p50_h: float
    p90_h: float
    p_fail: Mapping[str, float]

    def __post_init__(self) -> None:
        quantiles = (self.p10_h, self.p50_h, self.p90_h)
        if not (
            all(math.isfinite(hours) and hours >= 0 for hours in quantiles) and list(quantiles) == sorted(quantiles)
        ):
            raise BadInput("forecast", f"its quantiles are {quantiles}")
        for horizon, share in self.p_fail.items():
            if not (_is_hours(horizon) and 0.0 <= share <= 1.0):
                raise BadInput("forecast", f"fails with probability {share!r} within {horizon!r} h")


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one prognosis. Figures that are not known are None, or missing in ``brier`` and ``failed_within``.

    ``position`` is the end of the life on an axis on which p10, p50 and p90 are -1, 0 and 1; for a censored component
    it is the moment up to which the component was seen. ``credit`` is 1 for an end inside the interval and 0 outside;
    for a censored component it is the forecast's own probability of ending inside, given how long the component lived.
    ``pinball_h`` is the mean pinball loss in hours, ``log_error`` the absolute error of the median in log time.
    """

    failed: bool
    remaining_h: float
    inside: bool | None
    credit: float
    position: float
    pinball_h: float | None
    log_error: float | None
    brier: Mapping[str, float]
    failed_within: Mapping[str, bool]


def score(said: Forecasted, remaining_h: float, failed: bool) -> Score:
    """Score a forecast against a life of ``remaining_h`` hours, which ended in a failure or was censored.

    Raises:
        BadInput: ``outcome`` when ``remaining_h`` is not finite and positive.
    """
    if not (math.isfinite(remaining_h) and remaining_h > 0):
        raise BadInput("outcome", f"a remaining life of {remaining_h} h")
    lived_h = max(remaining_h, MIN_HOURS)
    within = {
        horizon: failed and lived_h <= float(horizon)
        for horizon in said.p_fail
        if failed or lived_h >= float(horizon)  # else the unit was censored before the horizon: not known
    }
    outside = lived_h > said.p90_h or (failed and lived_h < said.p10_h)
    inside = False if outside else True if failed else None
    return Score(
        failed=failed,
        remaining_h=round(remaining_h, 4),
        inside=inside,
        credit=round(float(inside) if inside is not None else _chance_of_inside(said, lived_h), 6),
        position=round(_position(said, lived_h), 6),
        pinball_h=round(_pinball(said, lived_h), 4) if failed else None,
        log_error=round(abs(math.log(lived_h / max(said.p50_h, MIN_HOURS))), 6) if failed else None,
        brier={horizon: round((said.p_fail[horizon] - known) ** 2, 6) for horizon, known in within.items()},
        failed_within=within,
    )


def _pinball(said: Forecasted, lived_h: float) -> float:
    """Mean pinball loss of the three quantiles, hours."""
    off = [lived_h - hours for hours in (said.p10_h, said.p50_h, said.p90_h)]
    return sum(max(level * miss, (level - 1) * miss) for level, miss in zip(LEVELS, off, strict=True)) / len(LEVELS)


def _chance_of_inside(said: Forecasted, lived_h: float) -> float:
    """The forecast's own probability of an end inside the interval, for a component that lived ``lived_h`` <= p90."""
    hours = np.maximum.accumulate(np.maximum((MIN_HOURS / 2, said.p10_h, said.p50_h, said.p90_h), MIN_HOURS / 2))
    surviving = float(np.interp(np.log(lived_h), np.log(hours), (1.0, *(1.0 - level for level in LEVELS))))
    return (min(surviving, 1.0 - LEVELS[0]) - (1.0 - LEVELS[-1])) / surviving


def _position(said: Forecasted, lived_h: float) -> float:
    early_h, middle_h, late_h = (max(hours, MIN_HOURS) for hours in (said.p10_h, said.p50_h, said.p90_h))
    off = math.log(lived_h / middle_h)
    side = math.log(middle_h / early_h) if off < 0 else math.log(late_h / middle_h)
    return off / max(side, _LEAST_SIDE)


def _is_hours(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except (TypeError, ValueError):
        return False
