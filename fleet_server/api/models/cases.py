"""Answers about cases: what was found, planned, done, and what people must decide.

Texts that the automation writes for people (summaries, what a case waits for) may name the customer and its people,
so they are customer data; kinds and states are operational. That is what makes an operator's view a directive: what
to do with the asset, without whose it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fleet_server.api.models.assets import Finding
from fleet_server.api.models.base import Answer, Asked, customer, operational, personal, public
from fleet_server.api.models.prognoses import Prognosis


class CaseSummary(Answer):
    case_id: UUID = operational()
    label: str = operational()
    state: str = operational()
    slot: str = operational()
    failure_mode: str = operational()
    failure_mode_label: str = public()
    urgency: str = operational()
    asset_id: str = operational()
    asset_name: str = operational()
    asset_class: str = operational()
    site_id: str = operational()
    site_name: str = customer()
    time_zone: str = operational()
    tenant_id: str = customer()
    tenant_name: str = customer()
    owner_name: str | None = personal()
    opened_at: datetime = operational()
    closed_at: datetime | None = operational()
    deadline_at: datetime | None = operational()
    escalated: bool = operational()
    replanning: bool = operational()
    waits_for: str = customer()


class Cases(Answer):
    total: int = operational()
    items: list[CaseSummary] = operational()


class TimelineEvent(Answer):
    event_id: int = operational()
    at: datetime = operational()
    kind: str = operational()
    summary: str = customer()
    detail: dict[str, Any] = customer()


class Act(Answer):
    """One outward act. ``state``: intended, then held, refused or unknown, then what became of it."""

    act_id: UUID = operational()
    kind: str = operational()
    purpose: str = operational()
    sequence: int = operational()
    state: str = operational()
    idempotency_key: str = operational()
    external_ref: str = customer()
    attempts: int = operational()
    due_at: datetime = operational()
    expires_at: datetime | None = operational()
    intended_at: datetime = operational()
    settled_at: datetime | None = operational()
    error: str = customer()
    request: dict[str, Any] = customer()
    response: dict[str, Any] | None = customer()


class Option(Answer):
    """A choice of an escalation and what choosing it does."""

    code: str = public()
    label: str = public()
    effect: str = customer("")


class Escalation(Answer):
    escalation_id: UUID = operational()
    case_id: UUID = operational()
    case_label: str = operational()
    case_state: str = operational()
    asset_id: str = operational()
    asset_name: str = operational()
    slot: str = operational()
    site_name: str = customer()
    time_zone: str = operational()
    reason: str = operational()
    reason_label: str = public()
    summary: str = customer()
    to_name: str | None = personal()
    raised_at: datetime = operational()
    due_at: datetime = operational()
    overdue: bool = operational()
    deadline_at: datetime | None = operational()
    context: dict[str, Any] = customer()
    options: list[Option] = operational()
    acknowledged_by: str | None = personal()
    acknowledged_until: datetime | None = operational()
    decided_at: datetime | None = operational()
    decided_by: str | None = personal()
    decision: str | None = operational()
    note: str = customer()
    mine_to_decide: bool = operational()


class Escalations(Answer):
    total: int = operational()
    items: list[Escalation] = operational()


class WorkOrder(Answer):
    work_order_id: UUID = operational()
    label: str = operational()
    case_id: UUID = operational()
    case_label: str = operational()
    asset_id: str = operational()
    asset_name: str = operational()
    site_name: str = customer()
    time_zone: str = operational()
    engineer_name: str | None = personal()
    state: str = operational()
    starts_at: datetime = operational()
    ends_at: datetime = operational()
    created_at: datetime = operational()
    completed_at: datetime | None = operational()
    body: dict[str, Any] = customer()
    report: dict[str, Any] | None = customer()


class WorkOrders(Answer):
    total: int = operational()
    items: list[WorkOrder] = operational()


class LoadHour(Answer):
    """The customer's load in one hour, in the unit its WMS gives."""

    at: datetime = operational()
    load: float = operational()


class Window(Answer):
    """A repair window that fits; ``load`` is the sum over its hours, ``load_rank`` 1 the quietest."""

    start: datetime = operational()
    end: datetime = operational()
    load: float | None = customer()
    load_rank: int | None = customer()
    chosen: bool = operational()
    shift: str = customer()


class ShiftLoad(Answer):
    """The customer's load in one shift of one local day."""

    shift: str = customer()
    load: float = operational()


class Plan(Answer):
    """The arranged repair, read from the case's plan; what is not known yet is null or empty.

    Windows and loads are the customer's: their lists are withheld whole, so what is in them need not be.
    """

    part_no: str | None = operational()
    part_label: str | None = operational()
    centre: str | None = operational()
    arrives_at: datetime | None = operational()
    entitlement: str | None = customer()
    engineer_name: str | None = personal()
    windows: list[Window] = customer()
    windows_considered: int | None = customer()
    excluded: dict[str, int] = customer()
    load_by_hour: list[LoadHour] = customer()
    load_by_shift: list[ShiftLoad] = customer()
    load_unit: str = customer()


class Case(Answer):
    """Everything of one case on one screen."""

    summary: CaseSummary = operational()
    impact: str = customer()
    owner_email: str | None = personal()
    component_serial: str = operational()
    observe_only: bool = operational()
    follows_case: UUID | None = operational()
    """The ended case of the same trouble that this one was opened beside."""
    trace_id: str = operational()
    plan: Plan = operational()
    outcome: dict[str, Any] | None = customer()
    finding: Finding | None = operational()
    prognosis: Prognosis | None = operational()
    timeline: list[TimelineEvent] = operational()
    acts: list[Act] = operational()
    escalations: list[Escalation] = operational()
    work_orders: list[WorkOrder] = operational()


class DecisionRequest(Asked):
    decision: str = public(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    note: str = customer("", max_length=2000)


class AcknowledgeRequest(Asked):
    hours: float = operational(gt=0, le=168)


class CancelRequest(Asked):
    reason: str = customer(min_length=1, max_length=2000)
    false_alarm: bool = operational(False)


class CompletionRequest(Asked):
    """What the engineer found and did. ``new_serial`` is required when the component was replaced."""

    failure_mode: str = operational("unknown", max_length=64)
    failed: bool = operational(False)
    replaced: bool = operational(True)
    new_serial: str = operational("", max_length=64)
    note: str = customer("", max_length=2000)
