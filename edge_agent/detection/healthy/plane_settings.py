"""What a plane is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.arrays import FloatArray
from edge_agent.detection.healthy.model import Tables

MAX_ROWS = 20_480


@dataclass(frozen=True, slots=True)
class Course:
    """Rows judged: ``evidence`` (n,) as accumulated, 0 while learning; ``believed`` (n,), the part of it that may raise
    an alarm; ``channels`` (n, channels), the shares in it."""

    evidence: FloatArray
    believed: FloatArray
    channels: FloatArray


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """Where the planes differ.

    ``learn_rows``, and ``learn_span_h`` where that takes no more than ``longest_learn_rows``, are learnt from at first,
    up to ``keeps_rows`` later. ``young_days``: how long a plane that sees days is young; while it is, only evidence
    ``far_beyond`` the limit is believed at once. ``beyond_seen``: no limit of such a plane lies below so many times
    what healthy rows reached. ``alone``: see ``fusion.between``. ``probation``: is a step soon after learning put on
    trial? ``stand_h``: how long evidence must stand that is at the limit; the further beyond, the shorter, and where
    it is clearly beyond, not at all.
    """

    detectors: Tables
    learn_rows: int
    learn_span_h: float
    longest_learn_rows: int
    young_days: float = 14.0
    far_beyond: float = 4.0
    beyond_seen: float = 1.5
    alone: float = 0.75
    probation: bool = True
    stand_h: float = 0.0
    keeps_rows: int = MAX_ROWS
