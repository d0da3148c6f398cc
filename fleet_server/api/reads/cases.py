"""Read cases: the list, one case with all that belongs to it, escalations, work orders."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fleet_core.assets import failure_mode
from fleet_server.api.models.base import Record
from fleet_server.api.models.cases import (
    Act,
    Case,
    Cases,
    CaseSummary,
    Escalation,
    Escalations,
    Option,
    TimelineEvent,
    WorkOrder,
    WorkOrders,
)
from fleet_server.api.reads.assets import finding
from fleet_server.api.reads.plan import read_plan
from fleet_server.api.reads.prognoses import prognosis
from fleet_server.labels import case_label, work_order_label
from fleet_server.resolution.questions import reason_label
from fleet_server.sovereignty.users import User
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("api_cases")


async def cases(
    conn: Connection,
    *,
    open_only: bool | None = None,
    state: str | None = None,
    asset_id: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> Cases:
    """A page of cases: escalated first, then by deadline; closed ones last."""
    query = {"open": open_only, "state": state, "asset_id": asset_id, "limit": limit, "offset": offset}
    rows = await (await conn.execute(_sql.cases, query)).fetchall()
    return Cases(total=rows[0]["total"] if rows else 0, items=[_summary(row) for row in rows])


async def case(conn: Connection, case_id: UUID, user: User, now: datetime) -> Case | None:
    """Everything of one case; None when there is none the reader may see."""
    row = await (await conn.execute(_sql.case_row, {"case_id": case_id})).fetchone()
    if row is None:
        return None
    found = await (await conn.execute(_sql.case_finding, {"finding_id": row["finding_id"]})).fetchone()
    made = await (await conn.execute(_sql.case_prognosis, {"prognosis_id": row["prognosis_id"]})).fetchone()
    events = await (await conn.execute(_sql.timeline, {"case_id": case_id})).fetchall()
    acts = await (await conn.execute(_sql.acts, {"case_id": case_id})).fetchall()
    part = await (await conn.execute(_sql.part, {"part_no": row["part_no"]})).fetchone()
    return Case(
        **{
            name: row[name]
            for name in (
                "impact",
                "owner_email",
                "component_serial",
                "observe_only",
                "trace_id",
                "follows_case",
            )
        },
        summary=_summary(row),
        plan=read_plan(row["plan"], acts, part, row["part_no"]),
        outcome=row["outcome"],
        finding=finding(found) if found else None,
        prognosis=prognosis(made) if made else None,
        timeline=[TimelineEvent(**event) for event in reversed(events)],
        acts=[Act(**act) for act in acts],
        escalations=(await escalations(conn, user, now, case_id=case_id)).items,
        work_orders=(await work_orders(conn, case_id=case_id)).items,
    )


async def escalations(
    conn: Connection,
    user: User,
    now: datetime,
    *,
    case_id: UUID | None = None,
    escalation_id: UUID | None = None,
    open_only: bool | None = None,
    limit: int = 100,
    offset: int = 0,
) -> Escalations:
    """A page of escalations, undecided first, by due time."""
    query = {
        "case_id": case_id,
        "escalation_id": escalation_id,
        "open": open_only,
        "limit": limit,
        "offset": offset,
    }
    rows = await (await conn.execute(_sql.escalations, query)).fetchall()
    return Escalations(
        total=rows[0]["total"] if rows else 0, items=[_escalation(row, user.person_id, now) for row in rows]
    )


async def work_orders(
    conn: Connection,
    *,
    case_id: UUID | None = None,
    work_order_id: UUID | None = None,
    state: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> WorkOrders:
    """A page of work orders, uncompleted first."""
    query: dict[str, Any] = {
        "case_id": case_id,
        "work_order_id": work_order_id,
        "state": state,
        "limit": limit,
        "offset": offset,
    }
    rows = await (await conn.execute(_sql.work_orders, query)).fetchall()
    return WorkOrders(total=rows[0]["total"] if rows else 0, items=[_work_order(row) for row in rows])


def _summary(row: Record) -> CaseSummary:
    return CaseSummary(
        **row, label=case_label(row["number"]), failure_mode_label=failure_mode(row["failure_mode"]).label
    )


def _escalation(row: Record, person_id: str | None, now: datetime) -> Escalation:
    options = row["options"] if isinstance(row["options"], list) else []
    return Escalation(
        **row
        | {
            "options": [Option(**item) for item in options if isinstance(item, dict)],
            "context": row["context"] if isinstance(row["context"], dict) else {"context": row["context"]},
        },
        case_label=case_label(row["case_number"]),
        reason_label=reason_label(row["reason"]),
        overdue=row["decided_at"] is None and row["due_at"] < now,
        mine_to_decide=person_id is not None and row["to_person"] == person_id,
    )


def _work_order(row: Record) -> WorkOrder:
    return WorkOrder(**row, label=work_order_label(row["number"]), case_label=case_label(row["case_number"]))
