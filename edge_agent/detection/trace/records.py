"""What a trace is made of: courses of ticks, markers, what was learnt, the worst moment, findings, bursts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import RealArray
from fleet_core.telemetry import DetectionState, Finding

STATES = tuple(DetectionState)
"""A state's code is its place here: 0 learning .. 4 critical."""


class MarkerKind(StrEnum):
    """What happened: a decision of the plane (``DecisionKind``), a change of state, a finding."""

    LEARNT = "learnt"
    REFITTED = "refit"
    RELEARNT = "relearnt"
    EXPERIENCE = "experience"
    WIDENED = "widened"
    FIXED = "fixed"
    FAULT = "fault"
    STATE = "state"
    FINDING = "finding"


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happened; ``text`` is for people only."""

    time_us: int
    kind: MarkerKind
    text: str


@dataclass(frozen=True, slots=True)
class LearntFrom:
    """What the present baseline was learnt from. ``limits`` (channels,): each channel's calibrated limit in sigmas."""

    rows: int
    first_us: int
    last_us: int
    digest: str
    limits: RealArray


@dataclass(frozen=True, slots=True)
class Peak:
    """The worst moment since the baseline was learnt: deviations (channels,) in sigmas, one vote per detector."""

    time_us: int
    evidence: float
    deviation: RealArray
    votes: RealArray


@dataclass(frozen=True, slots=True)
class ToldFinding:
    """One finding: when it was first detected, its most severe revision, and whether the slow plane raised that one."""

    detected_us: int
    finding: Finding
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Shot:
    """One waveform burst, its end cut off where it is long; float32 samples in ``unit``."""

    time_us: int
    sample_rate_hz: float
    unit: str
    values: RealArray


@dataclass(frozen=True, slots=True)
class Ticks:
    """A course of ticks, or of spans of ``ticks_each`` ticks, in order of time.

    ``first_us`` and ``last_us`` (n,) bound each span; ``values``, ``low``, ``high``, ``expected`` (units of the
    channel) and ``deviation`` (sigmas) are (n, channels); ``evidence`` (mean), ``peak`` (highest evidence) and
    ``states`` (code of the worst state) are (n,).
    """

    ticks_each: int
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    values: RealArray
    low: RealArray
    high: RealArray
    expected: RealArray
    deviation: RealArray
    evidence: RealArray
    peak: RealArray
    states: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.first_us)
