"""A step soon after learning: a fault, or an asset that was still settling? It is put on trial. Pure.

Where days are not within reach, such a step more often says that the asset was still settling (a machine restarted, a
bearing run in) than that it fails. While a trial lasts no alarm is raised: a deviation that grows is a fault and is let
through; one that stands still is the new normal and is learnt anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy.rows import KeptRows, growing, load_rows
from edge_agent.detection.restored import items, number, whole
from edge_agent.detection.tuning import BROKEN_OUT, LEAST_TRIAL_ROWS, TRIAL_SHARE


class TrialResult(Enum):
    """What a trial found."""

    OPEN = "open"
    FAULT = "fault"
    SETTLED = "settled"


@dataclass
class Trial:
    """Rows since a suspected step and how far each of them stood from healthy (``norms``).

    ``settled_at``: how far they stood when the first quarter of the trial was over.
    """

    rows: KeptRows = field(default_factory=KeptRows)
    norms: list[float] = field(default_factory=list)
    settled_at: float = 0.0

    def take(
        self,
        rows: FloatArray,
        regimes: FloatArray,
        times_us: IntArray,
        deviation: FloatArray,
        critical: bool,
        period_rows: int,
    ) -> TrialResult:
        """Take one row (1, channels) and its ``deviation`` (channels,) in sigmas.

        ``critical``: is the evidence? ``period_rows``: rows of the learning period; a trial lasts no longer.
        """
        self.rows.extend(rows, regimes, times_us)
        squares = deviation * deviation
        norms = self.norms
        norms.append(float(squares @ squares) ** 0.25)
        count, first_look = len(norms), max(LEAST_TRIAL_ROWS, int(period_rows * TRIAL_SHARE))
        if count < first_look:
            run_away = count >= 6 and float(np.median(norms[-3:])) > BROKEN_OUT * float(np.median(norms[:3]))
            return TrialResult.FAULT if run_away and critical else TrialResult.OPEN
        if count == first_look:
            self.settled_at = float(np.median(norms[-count // 3 :]))
            return TrialResult.FAULT if growing(norms) else TrialResult.OPEN
        if float(np.median(norms[-5:])) > BROKEN_OUT * self.settled_at:
            return TrialResult.FAULT
        return TrialResult.SETTLED if count >= period_rows else TrialResult.OPEN

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"rows": self.rows.state(), "norms": self.norms, "settled_at": self.settled_at}


@dataclass
class Probation:
    """The first learning period after learning: ``alarm_rows`` counts rows at the alarm level without a break,
    ``trial`` is the one under way."""

    alarm_rows: int = 0
    trial: Trial | None = None

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"alarm_rows": self.alarm_rows, "trial": None if self.trial is None else self.trial.state()}


def load_probation(state: Mapping[str, Any], channels: int, regimes: int) -> Probation:
    """A probation from its ``state``. Raises ValueError, TypeError, KeyError when it is of other channels, or is
    none."""
    trial = state["trial"]
    if trial is not None:
        rows = load_rows(trial["rows"], channels, regimes)
        norms = [number(norm, 0.0) for norm in items(trial["norms"], len(rows))]
        trial = Trial(rows, norms, number(trial["settled_at"], 0.0))
    return Probation(whole(state["alarm_rows"]), trial)
