"""The content of a history file once it is read: usable units, and refused ones. Shared by all readers. Pure."""

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
    """Content of a history file: usable trajectories, and the refused units with the reason (the first thousand)."""

    trajectories: list[Trajectory] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    rows_skipped: int = 0
    units_refused: int = 0

    def add(self, unit: str, **fields: Any) -> None:
        """Add one unit as a trajectory with these fields; a unit that is not usable is refused with the reason."""
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
    """A history file that is being read: header, rows (bounded), name without endings, operating hours of a cycle."""

    header: list[str]
    rows: Iterable[list[str]]
    stem: str
    cycle_h: float


Reader = Callable[[Source], History]


def healthy_level(values: Floats) -> float:
    """Healthy level of a unit, in the unit of ``values`` (n,): the median from 8 % to 30 % of its points.

    The first points are left out because a unit still runs in, the later ones because it may already wear.
    """
    first, last = (int(share * values.size) for share in HEALTHY_SPAN)
    return float(np.median(values[first : max(last, first + 1)]))


def point(hours: str | None, value: str | None) -> tuple[float, float] | None:
    """The two fields as finite numbers (hours, value); None when one of them is not a finite number."""
    try:
        pair = (float(hours or ""), float(value or ""))
    except ValueError:
        return None
    return pair if all(map(math.isfinite, pair)) else None
