"""The other rows that the resolution reads, as dataclasses that psycopg's ``class_row`` fills. Pure.

A field is a column of the statement that the docstring names (``store/queries/resolution.sql``): the two lists agree,
or reading raises TypeError. JSON columns that are only passed on are ``object``s; a case's plan is read in ``plan.py``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet_server.resolution.states import ActState, read_state


@dataclass(slots=True)
class Act:
    """``acts_of``, ``insert_act``: one outward act. ``due_at`` is the domain time of its next try."""

    act_id: uuid.UUID
    case_id: uuid.UUID
    kind: str
    purpose: str
    sequence: int
    idempotency_key: str
    state: ActState
    request: Mapping[str, object]
    external_ref: str
    attempts: int
    due_at: datetime
    error: str
    intended_at: datetime | None = None

    def __post_init__(self) -> None:
        """The database gives text. Raises BadInput for a state there is not."""
        self.state = read_state(ActState, self.state)


@dataclass(slots=True)
class Asset:
    """``asset_of``: the machine. ``equipment_ref`` is what the customer's WMS calls it."""

    asset_id: str
    name: str
    asset_class: str
    model: str
    serial: str
    equipment_ref: str
    criticality: int


@dataclass(slots=True)
class Site:
    """``site_of``, ``site_by_id``: where it stands. Latitude and longitude in degrees."""

    site_id: str
    name: str
    region: str
    jurisdiction: str
    time_zone: str
    latitude: float | None
    longitude: float | None
    wms_kind: str
    wms_config: Mapping[str, object]


@dataclass(slots=True)
class Tenant:
    """``tenant_of``: whose it is, and what may be done for him automatically."""

    tenant_id: str
    observe_only: bool
    policy: Mapping[str, object]


@dataclass(slots=True)
class Component:
    """``component_of``: what is installed in the slot; empty texts when the registry knows nothing there."""

    slot: str
    component_type: str = ""
    serial: str = ""
    part_no: str = ""


@dataclass(slots=True)
class Prognosis:
    """``prognosis_by_id``: hours count from ``made_at``; the three hours are None when it abstained.

    ``p_fail`` maps a horizon in hours (text) to the probability of failure within it, ``survival`` lists hours and the
    probability of surviving them, ``mode_share`` maps a failure mode to its share of the past cases.
    """

    prognosis_id: uuid.UUID
    made_at: datetime
    abstained: bool
    abstain_code: str
    reason: str
    failure_mode: str
    conflicting: bool
    mode_share: Mapping[str, float]
    p_fail: Mapping[str, float]
    survival: Sequence[Sequence[float]]
    rul_p10_h: float | None
    rul_p50_h: float | None
    rul_p90_h: float | None


@dataclass(slots=True)
class Person:
    """``person_by_id``, ``case_owner``, ``second_line``, ``directors``."""

    person_id: str
    name: str
    email: str
    webhook_url: str = ""


@dataclass(slots=True)
class Colleague:
    """``colleagues``: one of ours who may be asked. ``open_questions``: of this shift; ``tenant_bound``: not one of
    ours, but of the tenant."""

    person_id: str
    name: str
    email: str
    webhook_url: str
    role: str
    active: bool
    tenant_bound: bool
    open_questions: int

    @property
    def person(self) -> Person:
        return Person(self.person_id, self.name, self.email, self.webhook_url)


@dataclass(slots=True)
class Escalation:
    """``lock_escalation``: a question to a person. ``options`` are objects with ``code``, ``label`` and ``effect``."""

    escalation_id: uuid.UUID
    tenant_id: str
    case_id: uuid.UUID
    reason: str
    summary: str
    to_person: str
    options: list[dict[str, str]]
    decided_at: datetime | None
    decided_by: str | None
    decision: str | None
    reminded_at: datetime | None
    step: str
    level: int
    repeats: int
    unreached: list[str]
    acknowledged_by: str | None
    acknowledged_until: datetime | None
    raised_at: datetime
    due_at: datetime


@dataclass(slots=True)
class Question:
    """``open_questions_of``: an undecided question of a case. ``step``: what could not be done, or ""."""

    escalation_id: uuid.UUID
    reason: str
    summary: str
    step: str
    to_person: str
    raised_at: datetime
    due_at: datetime


@dataclass(slots=True)
class PendingTimer:
    """``timers_of``: what happens to a case at a domain time."""

    kind: str
    due_at: datetime


@dataclass(slots=True)
class EscalationRef:
    """``overdue_escalation``, ``case_of_escalation``, ``insert_escalation``."""

    escalation_id: uuid.UUID
    case_id: uuid.UUID


@dataclass(slots=True)
class WorkOrderRow:
    """``lock_work_order``."""

    work_order_id: uuid.UUID
    case_id: uuid.UUID
    number: int
    state: str
    report: dict[str, object] | None


@dataclass(slots=True)
class InstalledComponent:
    """``end_component``: the component whose time in the slot has just ended."""

    tenant_id: str
    component_type: str
    serial: str
    part_no: str
    reported_serial: str


@dataclass(slots=True)
class FindingRow:
    """``finding_to_judge``, ``newest_finding_of``: a stored revision of a finding; ``body_text`` is its JSON."""

    finding_id: uuid.UUID
    revision: int
    tenant_id: str
    site_id: str
    asset_id: str
    slot: str
    trace_id: str
    body_text: str


@dataclass(slots=True)
class FindingBody:
    """``finding_body``: the newest revision. ``recorded_at`` is real time."""

    body_text: str
    recorded_at: datetime


@dataclass(slots=True)
class FindingRevision:
    """``latest_revision``, ``unjudged_findings``."""

    finding_id: uuid.UUID
    revision: int


@dataclass(slots=True)
class JudgedAsset:
    """``asset_row``: the asset of a finding and what is installed in its slot (None when nothing is registered)."""

    asset_id: str
    tenant_id: str
    name: str
    asset_class: str
    criticality: int
    maintenance_until: datetime | None
    maintenance_note: str
    component_type: str | None
    component_serial: str | None
    part_no: str | None


@dataclass(slots=True)
class EndedCase:
    """``last_ended_case_of``. ``was_critical``: the device had called the component critical by then; ``revision``:
    the newest that was judged in it; ``recovered_at``: when the device last found the component healthy, or None."""

    case_id: uuid.UUID
    state: str
    was_critical: bool
    revision: int
    closed_at: datetime | None
    recovered_at: datetime | None


@dataclass(slots=True)
class PersonRef:
    """``person_of_user``."""

    person_id: str


@dataclass(slots=True)
class Followed:
    """``followed_case``: the ended case that a case follows."""

    case_id: uuid.UUID
    number: int
    state: str
    opened_at: datetime
    closed_at: datetime | None
    outcome: Mapping[str, object] | None
    ended_because: str


@dataclass(slots=True)
class CaseNumber:
    """``other_open_case_of``."""

    number: int


@dataclass(slots=True)
class CaseRef:
    """``due_cases``, ``paused_cases_of_tenant``, ``case_of_work_order``."""

    case_id: uuid.UUID


@dataclass(slots=True)
class Timer:
    """``end_timer``: a timer that was due and is now done."""

    case_id: uuid.UUID
    kind: str


@dataclass(slots=True)
class TimerRef:
    """``due_timer``."""

    timer_id: uuid.UUID
    case_id: uuid.UUID


@dataclass(slots=True)
class Vitals:
    """``vitals_after``: how many values of the indicator there are, and their mean (None of none)."""

    n: int
    mean: float | None


@dataclass(slots=True)
class DeviceState:
    """``device_state``: what the device reports of a component, and since when."""

    state: str
    since: datetime


@dataclass(slots=True)
class Moment:
    """``recovered_since``."""

    at: datetime


@dataclass(slots=True)
class Found:
    """``judged_before``, ``vitals_since_prognosis``, ``case_ended_after``, ``question_is_open``: there is one."""

    found: int


@dataclass(slots=True)
class Count:
    """``open_escalations``."""

    n: int


@dataclass(slots=True)
class Locked:
    """``try_lock_case``: whether this connection has the lock."""

    locked: bool


@dataclass(slots=True)
class Owned:
    """A row by whose tenant an entry of the audit log is filed: ``set_maintenance``, ``set_observe_only``."""

    tenant_id: str


@dataclass(slots=True)
class AssetRef:
    """``maintenance_over``."""

    asset_id: str
    tenant_id: str


@dataclass(slots=True)
class Forecast:
    """``last_forecast_of``: hours of remaining life from ``made_at``."""

    made_at: datetime
    rul_p10_h: float
    rul_p50_h: float
    rul_p90_h: float


@dataclass(slots=True)
class AssetId:
    """``due`` (``running.sql``)."""

    asset_id: str


@dataclass(slots=True)
class Region:
    """``region_of_site``."""

    region: str


@dataclass(slots=True)
class Name:
    """``name_of_user``."""

    name: str
