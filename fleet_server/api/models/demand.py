"""Answers about demand: what parts and skills the fleet will need, and what to order."""

from __future__ import annotations

from datetime import datetime

from fleet_server.api.models.base import Answer, operational, public


class Need(Answer):
    """Expected need within ``days``; the interval holds it in four of five. ``forecast`` of the mean comes from
    prognoses and open cases, the rest from class rates."""

    days: int = public()
    mean: float = operational()
    low: int = operational()
    high: int = operational()
    forecast: float = operational()


class PartDemand(Answer):
    """One part from one centre. Stock and proposal are null for readers of a single tenant: shelves are shared."""

    part_no: str = operational()
    label: str = operational()
    centre_id: str = operational()
    centre_name: str = operational()
    components: int = operational()
    basis: dict[str, int] = operational()
    modes: dict[str, float] = operational()
    needs: list[Need] = operational()
    on_hand: int | None = operational()
    reserved: int | None = operational()
    on_order: int | None = operational()
    lead_days: float | None = operational()
    lead_assumed: bool | None = operational()
    order: int | None = operational()
    order_by: datetime | None = operational()
    short_p: float | None = operational()
    reason: str = operational()


class SkillDemand(Answer):
    """Jobs for one skill in one region that no engineer is booked for yet."""

    skill: str = operational()
    region: str = operational()
    components: int = operational()
    basis: dict[str, int] = operational()
    needs: list[Need] = operational()
    booked: int = operational()
    engineers: int | None = operational()
    reason: str = operational()


class Unlisted(Answer):
    """Components for which the list of parts has nothing that fits."""

    component_type: str = operational()
    model: str = operational()
    components: int = operational()


class Assumed(Answer):
    """What the figures assume. ``cohort_sigma``: spread of the shared factor of all forecasts."""

    lead_days: float = public()
    review_days: float = public()
    service: float = public()
    level: float = public()
    cohort_sigma: float = public()
    prior_failures: float = public()
    prior_life_years: float = public()


class Demand(Answer):
    """``abstained`` and ``outlived`` prognoses count by the rate of their class, as components without one do."""

    at: datetime = public()
    days: list[int] = public()
    components: int = operational()
    abstained: int = operational()
    outlived: int = operational()
    cut_off: bool = operational()
    shelves_shown: bool = operational()
    parts: list[PartDemand] = operational()
    skills: list[SkillDemand] = operational()
    without_part: list[Unlisted] = operational()
    assumed: Assumed = public()
