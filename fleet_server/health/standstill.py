"""When a machine stood still, from the course of one vital. Pure.

A vital *tells* of standstill when it falls to about nothing while the machine rests: its speed, load, vibration, flow
or current. Temperatures and capacities do not tell. Which it is, is read from its unit and the words of its
name (``fleet_core/quantities.py``), as the device does.

A course stands where it is below ``NOTHING`` of its running level. That level is its healthy one where a finding says
it; else the low end of what the vital shows while it shows anything, so that a vibration that rose twentyfold and was
then repaired is not taken for one that fell to nothing. Single values are believed by the majority of three.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from fleet_core.failure_rules import Family
from fleet_core.quantities import quantity

Floats = npt.NDArray[np.float64]
NOTHING = 0.3
"""Below this share of its running level a vital is near nothing: a sensor at rest shows a tenth, a slow shift half."""
LEAST_VALUES = 3
_SHOWS_ANYTHING = 0.15
_LOW_END = 0.2

_COMMAND = frozenset(("command", "commanded", "setpoint", "target", "demand", "demanded", "requested"))
_LOAD = frozenset(("load", "duty", "throttle"))
_OTHER_THINGS = ("cpu", "gpu", "memory", "network", "link", "request", "requests", "wind", "ambient")
_SHAPES = ("temperature", "kurtosis", "crest", "skewness", "factor", "frequency")
_NOT_THE_MACHINE = frozenset((*_OTHER_THINGS, *_SHAPES))
"""Whose speed or load says nothing of whether the machine runs, and shapes, which have no strength."""


class Tells(StrEnum):
    """What a vital says about standing still."""

    MOTION = "motion"
    """Speed, vibration, flow: none while the component stands."""
    LOAD = "load"
    """The load it carries."""
    EFFORT = "effort"
    """Current, power or torque: none at rest, some or much when something that should turn is blocked."""
    COMMAND = "command"
    """What it is asked to do."""


_BY_FAMILY = {
    Family.SPEED: Tells.MOTION,
    Family.VIBRATION_LEVEL: Tells.MOTION,
    Family.FLOW: Tells.MOTION,
    Family.CURRENT: Tells.EFFORT,
}


def tells(metric: str, unit: str) -> Tells | None:
    """What a vital of this name and unit says about standing still; None: nothing."""
    words = frozenset(re.split(r"[^a-z]+", metric.lower()))
    if words & _NOT_THE_MACHINE:
        return None
    if words & _COMMAND:
        return Tells.COMMAND
    if words & _LOAD:
        return Tells.LOAD
    family = quantity(metric, unit)
    if family is Family.CURRENT and words & {"voltage", "v"}:
        return None  # a battery's voltage stays while its machine rests
    return None if family is None else _BY_FAMILY.get(family)


@dataclass(frozen=True, slots=True)
class Course:
    """One vital lately: ``times`` ascend, ``values`` are finite. ``healthy`` is its healthy level, 0: not known."""

    metric: str
    unit: str
    slot: str
    times: tuple[datetime, ...]
    values: tuple[float, ...]
    healthy: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """A time for which a vital stood near nothing. ``until`` None: to its latest value, which is at ``last_at``."""

    since: datetime
    until: datetime | None
    last_at: datetime
    values: int

    @property
    def length(self) -> timedelta:
        """How long it stood, as far as is known."""
        return (self.until or self.last_at) - self.since


def stops(course: Course) -> tuple[Stop, ...]:
    """Every stop of a course, oldest first; the last one may still last (``until`` None).

    Empty for a course that shows nothing at all from its beginning to its end: it is not known to run.
    """
    size = np.abs(np.array(course.values, dtype=np.float64))
    level = running_level(size, course.healthy)
    if size.size < LEAST_VALUES or level <= 0:
        return ()
    standing = _by_majority(size < NOTHING * level)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], standing, [False])).astype(np.int8)))
    found = []
    for first, after in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        until = course.times[after] if after < len(course.times) else None
        found.append(Stop(course.times[first], until, course.times[after - 1], after - first))
    return tuple(one for one in found if one.values >= LEAST_VALUES)


def running_level(size: Floats, healthy: float) -> float:
    """What the vital shows at least while its machine runs, from its sizes (n,); 0 when it shows nothing."""
    if healthy:
        return abs(healthy)
    top = float(np.quantile(size, 0.95)) if size.size else 0.0
    shown = size[size > _SHOWS_ANYTHING * top]
    return float(np.quantile(shown, _LOW_END)) if shown.size and top > 0 else 0.0


def _by_majority(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Each flag as most of itself and its two neighbours say; the ends have one neighbour and themselves, doubled."""
    padded = np.concatenate((flags[:1], flags, flags[-1:])).astype(np.int8)
    return np.asarray(padded[:-2] + padded[1:-1] + padded[2:] >= 2, dtype=np.bool_)
