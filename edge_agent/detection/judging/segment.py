"""What the judge answers: segments of ticks, the means its slow plane saw, and how a component stands at a moment."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.arrays import FlagArray, FloatArray, IntArray
from edge_agent.detection.healthy.model import HealthyModel, JudgedRows
from fleet_core.telemetry import DetectionState


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows judged together: one state all along, or a single row.

    ``evidence`` (n,) is what the state follows, ``shown`` (n,) what the score tells (on trial the first is held below
    the alarm); ``channels`` and ``deviation`` (n, channels) where it comes from, None while learning; ``passed`` the
    states passed through at the last row, in order. ``start``: the first row's place in the block.
    """

    start: int
    times_us: IntArray
    rows: FloatArray
    evidence: FloatArray
    shown: FloatArray
    channels: FloatArray | None
    deviation: FloatArray | None
    passed: list[DetectionState]


@dataclass(frozen=True, slots=True)
class JudgedMeans:
    """Means that the slow plane has judged together: ``times_us`` and ``evidence`` (n,), ``rows`` (n, channels) and
    ``regimes`` (n, regimes); ``judged`` is None while it learns."""

    times_us: IntArray
    rows: FloatArray
    regimes: FloatArray
    evidence: FloatArray
    judged: JudgedRows | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a component stands now, by its own baseline.

    ``evidence`` is the higher of both planes'. ``model``, ``judged`` and ``digest`` are those of the plane that leads,
    ``creeps`` says that it is the slow one; ``ticks`` is the fast plane's model. ``missing`` and ``stuck`` (channels,):
    channels left out.
    """

    state: DetectionState
    evidence: float
    ticks: HealthyModel
    model: HealthyModel
    judged: JudgedRows
    digest: str
    creeps: bool
    missing: FlagArray
    stuck: FlagArray

    def votes(self) -> dict[str, float]:
        """Each detector's ratio to its calibrated limit on the plane that leads."""
        return dict(zip(self.model.names, self.judged.detectors[-1].tolist(), strict=True))

    def blame(self) -> FloatArray:
        """How much each channel (channels,) has to do with the evidence, shared statistics included."""
        return self.model.blame(self.judged)
