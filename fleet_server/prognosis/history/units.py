"""What a history file holds once it is read: usable units, and what was refused. Shared by its readers. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.signatures import Floats

HEALTHY_SPAN = (0.08, 0.3)
MAX_REFUSALS = 1_000


@dataclass
class History:
    """What a file holds: usable trajectories, and what was refused (unit -> reason, the first thousand)."""

    trajectories: list[Trajectory] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    rows_skipped: int = 0
    units_refused: int = 0

    def add(self, unit: str, **fields: Any) -> None:
        """Add one unit, or note why it is refused."""
        try:
            self.trajectories.append(Trajectory(unit_serial=unit, **fields))
        except BadInput as error:
            self.refuse(unit, str(error))

    def refuse(self, unit: str, reason: str) -> None:
        """Note why a unit is left out."""
        self.units_refused += 1
        if len(self.refused) < MAX_REFUSALS:
            self.refused[unit[:80]] = reason


class Source(NamedTuple):
    """A file on its way in: its header, its rows (bounded), its name without endings, hours of a cycle."""

    header: list[str]
    rows: Iterable[list[str]]
    stem: str
    cycle_h: float


Reader = Callable[[Source], History]


def healthy_level(values: Floats) -> float:
    """A unit's healthy level: the median of its life from 8 % to 30 %."""
    first, last = (int(share * values.size) for share in HEALTHY_SPAN)
    return float(np.median(values[first : max(last, first + 1)]))


def point(hours: str | None, value: str | None) -> tuple[float, float] | None:
    """Two finite numbers, or None."""
    try:
        pair = (float(hours or ""), float(value or ""))
    except ValueError:
        return None
    return pair if all(map(math.isfinite, pair)) else None
