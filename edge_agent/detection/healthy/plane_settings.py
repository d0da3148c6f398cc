"""What a plane is told of its component and of itself, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors.api import Tables
from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.tuning import FAST_PLANE, PlaneTuning

MAX_ROWS = 20_480


@dataclass(frozen=True, slots=True)
class PlaneEvidence:
    """The answer to rows judged: ``evidence`` (n,) as accumulated, 0 while learning; ``believed`` (n,), the part of it
    that may raise an alarm; ``channels`` (n, channels), each channel's share in it."""

    evidence: FloatArray
    believed: FloatArray
    channels: FloatArray


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """Where the planes differ: detectors, rows and levels (``tuning``).

    ``learn_rows``, and ``learn_span_h`` where that takes no more than ``longest_learn_rows``, are learnt from at first,
    up to ``keeps_rows`` later.
    """

    detectors: Tables
    learn_rows: int
    learn_span_h: float
    longest_learn_rows: int
    tuning: PlaneTuning = FAST_PLANE
    keeps_rows: int = MAX_ROWS


@dataclass(frozen=True, slots=True)
class PlaneSetup:
    """The component a plane judges, and how.

    ``itself``: the channel that each regime is, -1 for a regime of the whole asset. ``fall_share`` (channels,): see
    ``baseline.fit_baseline``.
    """

    channels: int
    itself: tuple[int, ...]
    own: PlaneSettings
    settings: DetectionSettings
    fall_share: FloatArray | None = None

    @property
    def regimes(self) -> int:
        """How many regimes the channels are normalised by."""
        return len(self.itself)
