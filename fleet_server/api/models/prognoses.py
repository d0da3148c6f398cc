"""Answers about one prognosis: what it says, in times and in words, and the courses of the past units it rests on."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from fleet_server.api.models.base import Answer, customer, operational, public


class Neighbour(Answer):
    """A past trajectory the prognosis rests on."""

    trajectory_id: str = customer()
    unit_serial: str = customer("")
    source: str = operational()
    distance: float | None = operational()
    weight: float | None = operational()
    remaining_h: float | None = operational()
    failed: bool | None = operational()


class Prognosis(Answer):
    """Time to failure in hours from ``made_at``; the interval p10..p90 holds the failure in 80 of 100 cases.

    ``course`` is what was compared: [[hours before ``made_at``, indicator as a ratio to its own healthy level], ...];
    ``falls`` says that the indicator itself falls as the unit degrades (its ratio is turned over, so that it rises).
    ``noise_ratio`` is the healthy scatter as a share of the healthy level.
    """

    prognosis_id: UUID = operational()
    slot: str = operational()
    component_type: str = operational("")
    made_at: datetime = operational()
    abstained: bool = operational()
    abstain_code: str = operational("")
    reason: str = operational()
    likeness: str = operational("", description="what became of the past units most like it, in one sentence")
    failure_mode: str = operational()
    failure_mode_label: str = public()
    mode_share: dict[str, float] = operational()
    p_fail: dict[str, float] = operational()
    rul_p10_h: float | None = operational()
    rul_p50_h: float | None = operational()
    rul_p90_h: float | None = operational()
    early_at: datetime | None = operational(None)
    median_at: datetime | None = operational(None)
    late_at: datetime | None = operational(None)
    survival: list[tuple[float, float]] = operational()
    course: list[tuple[float, float]] = operational()
    indicator: str = operational("")
    falls: bool = operational(False)
    noise_ratio: float = operational(0.0)
    neighbours: list[Neighbour] = operational()
    library_digest: str = operational()
    model_version: str = operational()


class NeighbourCourse(Answer):
    """One past unit laid beside the living one; ``points``: [[hours from the prognosis, ratio], ...], its end last."""

    failed: bool = operational()
    remaining_h: float = operational()
    points: list[tuple[float, float]] = operational()


class NeighbourCourses(Answer):
    """The nearest past courses the reader may see. ``shape``: [[share of the remaining life, ratio], ...] is how such
    units usually go on from the present level until their failure; empty when too few of them failed."""

    prognosis_id: UUID = operational()
    courses: list[NeighbourCourse] = operational()
    shape: list[tuple[float, float]] = operational()


class PrognosisPoint(Answer):
    made_at: datetime = operational()
    abstained: bool = operational()
    rul_p10_h: float | None = operational()
    rul_p50_h: float | None = operational()
    rul_p90_h: float | None = operational()


class PrognosisHistory(Answer):
    slot: str = operational()
    points: list[PrognosisPoint] = operational()
