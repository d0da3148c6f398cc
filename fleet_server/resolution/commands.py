"""What people do to cases and assets, but for answering questions (``decisions.py``).

Each command runs in the caller's transaction on a worker-role connection, after the caller checked permission and
tenant, and wakes the workers; nothing outward happens here. Raises NotFound for what does not exist,
ForbiddenTransition for what does not fit, BadInput for a bad argument.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from fleet_core.assets import FAILURE_MODES
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_server.audit.log import record
from fleet_server.labels import work_order_label
from fleet_server.prognosis.live_calibration import score_case
from fleet_server.resolution.case import Case
from fleet_server.resolution.jobs import defer_advance
from fleet_server.resolution.maintenance import judge_again
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.records import (
    NotFound,
    jsonb,
    load_case,
    lock_case,
    note,
    set_timer,
    wake,
)
from fleet_server.resolution.rows import (
    CaseRef,
    InstalledComponent,
    Owned,
    WorkOrderRow,
)
from fleet_server.resolution.states import (
    CaseEvent,
    ControlEvent,
    ForbiddenTransition,
    MoveEvent,
)
from fleet_server.resolution.verification import VERIFY
from fleet_server.store.fetch import fetch_all, fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

MAX_NOTE = 2000
TELL_CANCELLED = "tell_cancelled"
OVERDUE = "work_overdue"
_sql = queries("resolution")


class WorkReport(BaseModel):
    """What the engineer found and did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failure_mode: str = Field(default="unknown", max_length=64)
    failed: bool = False
    """Whether the component had already failed; otherwise the repair forestalled it and its history is censored."""
    replaced: bool = True
    new_serial: str = Field(default="", max_length=120)
    note: str = Field(default="", max_length=MAX_NOTE)


async def start_work_order(conn: Connection, clock: Clock, actor: str, work_order_id: uuid.UUID | str) -> None:
    """The engineer begins."""
    order, case = await _order_and_case(conn, work_order_id)
    if order.state != "dispatched":
        raise ForbiddenTransition(f"a work order that is {order.state} cannot be started")
    case = case.after(CaseEvent.START)
    await conn.execute(_sql.start_order, {"work_order_id": order.work_order_id})
    case = await wake(conn, clock, replace(case, waits_for="the engineer's report"))
    await note(conn, clock, case, "work_started", f"Work order {work_order_label(order.number)} started", actor=actor)


async def complete_work_order(
    conn: Connection, clock: Clock, actor: str, work_order_id: uuid.UUID | str, report: WorkReport
) -> None:
    """The engineer is done: the installed base records the swap and verification begins.

    An equal report that is sent again (its answer was lost) changes nothing; a different one raises
    ForbiddenTransition, which says what was reported.
    """
    if report.failure_mode not in FAILURE_MODES:
        raise BadInput("failure_mode", f"{report.failure_mode!r} is not one of {', '.join(FAILURE_MODES)}")
    order, case = await _order_and_case(conn, work_order_id)
    if order.state == "completed":
        _same_report(order, report)
        return
    if order.state == "dispatched":
        await start_work_order(conn, clock, actor, work_order_id)
        order, case = await _order_and_case(conn, work_order_id)
    if order.state != "started":
        raise ForbiddenTransition(f"a work order that is {order.state} cannot be completed")
    now = clock.now()
    case = case.after(CaseEvent.COMPLETE)
    outcome = {
        **report.model_dump(),
        "completed_at": now.isoformat(),
        "by": actor,
        "old_serial": case.component_serial,
    }
    failed_at = case.plan.emergency.failed_at  # a candidate by its vitals; the report confirms it, or does not
    if failed_at is not None and report.failed:
        outcome["failed_at"] = failed_at.isoformat()
    values = {"work_order_id": order.work_order_id, "report": jsonb(outcome), "now": now}
    await conn.execute(_sql.complete_order, values)
    if report.replaced:
        await _swap(conn, case, report, now)
    file = await load_case(conn, case.case_id)
    await conn.execute(_sql.stop_timers, {"case_id": case.case_id, "now": now})
    await set_timer(conn, case, VERIFY, now + timedelta(hours=file.policy.verify_h))
    found = case.failure_mode if report.failure_mode == "unknown" else report.failure_mode
    case = replace(case, outcome=outcome, failure_mode=found, waits_for="vitals that confirm the repair")
    case = await wake(conn, clock, case)
    text = f"Work done: {'replaced' if report.replaced else 'not replaced'}, found {report.failure_mode}"
    if failed_at is not None:
        text += "; that it had failed is confirmed" if report.failed else "; it had not failed, as its vitals suggested"
    await note(conn, clock, case, "work_completed", text, outcome, actor=actor)


async def set_maintenance(
    conn: Connection, clock: Clock, actor: str, asset_id: str, until: datetime | None, note_text: str = ""
) -> None:
    """Until then the asset's findings are recorded but not judged; None ends it."""
    values = {"asset_id": asset_id, "until": until, "note": note_text[:MAX_NOTE]}
    row = await fetch_one(conn, Owned, _sql.set_maintenance, values)
    if row is None:
        raise NotFound(f"there is no asset {asset_id}")
    body = {"until": until, "note": note_text[:MAX_NOTE]}
    await _record(conn, clock, row.tenant_id, actor, "asset.maintenance", f"asset:{asset_id}", body)
    if until is None:
        await judge_again(conn, asset_id)


async def set_observe_only(conn: Connection, clock: Clock, actor: str, tenant_id: str, on: bool) -> None:
    """Stop, or allow again, all planning and every announcement for a tenant. What is held can still be released or
    used up, and questions are still sent. What waited continues when it is lifted."""
    if await fetch_one(conn, Owned, _sql.set_observe_only, {"tenant_id": tenant_id, "on": on}) is None:
        raise NotFound(f"there is no tenant {tenant_id}")
    await _record(conn, clock, tenant_id, actor, "tenant.observe_only", f"tenant:{tenant_id}", {"on": on})
    for row in await fetch_all(conn, CaseRef, _sql.paused_cases_of_tenant, {"tenant_id": tenant_id}):
        await conn.execute(_sql.look_now, {"case_id": row.case_id, "now": clock.now()})
        await defer_advance(conn, row.case_id)


async def cancel_case(
    conn: Connection, clock: Clock, actor: str, case_id: uuid.UUID | str, reason: str, false_alarm: bool = False
) -> None:
    """End a case; what is held is released, and the director is told if there was an announcement."""
    case = await lock_case(conn, uuid.UUID(str(case_id)))
    await end_case(conn, clock, actor, case, reason, false_alarm=false_alarm)


async def end_case(conn: Connection, clock: Clock, actor: str, case: Case, reason: str, *, false_alarm: bool) -> None:
    """End a case from any state that is not final.

    Its state alone makes ``steps`` release what is held: a window goes back to the WMS, a part to its shelf, the
    engineer and the order are let go. The customer is told by the timer TELL_CANCELLED, if anything was announced.
    """
    ended = CaseEvent.REJECT if false_alarm else CaseEvent.CANCEL
    case = case.after(ended, ControlEvent.ANSWERED, MoveEvent.STOPPED)
    state = case.state
    values = {"case_id": case.case_id, "now": clock.now(), "actor": actor, "note": reason[:MAX_NOTE]}
    await conn.execute(_sql.close_escalations, {**values, "decision": state})
    await conn.execute(_sql.stop_timers, values)
    await set_timer(conn, case, TELL_CANCELLED, clock.now())
    plan = replace(case.plan, ended_because=reason[:300] or state.replace("_", " "))
    case = await wake(conn, clock, replace(case, closed_at=clock.now(), waits_for="", plan=plan))
    await note(conn, clock, case, str(state), reason[:300] or str(state), {"false_alarm": false_alarm}, actor=actor)
    if false_alarm:
        await score_case(conn, clock, case.case_id)
    CASES.labels(state).inc()


async def _swap(conn: Connection, case: Case, report: WorkReport, now: datetime) -> None:
    where = {"asset_id": case.asset_id, "slot": case.slot, "now": now, "serial": report.new_serial}
    old = await fetch_one(conn, InstalledComponent, _sql.end_component, where)
    if old is None:  # nothing is registered there, or the device has reported the new part already
        return
    part = case.plan.booking.part
    part_no = part.part_no if part else old.part_no
    serial = report.new_serial or f"unrecorded-{case.name}"
    values = {**where, "tenant_id": old.tenant_id, "component_type": old.component_type}
    # what the device said last stays known: a device that only repeats it, not knowing of the swap, brings no news
    values["reported_serial"] = old.reported_serial or old.serial
    await conn.execute(_sql.install_component, {**values, "serial": serial, "part_no": part_no})


def _same_report(order: WorkOrderRow, report: WorkReport) -> None:
    first = {name: value for name, value in (order.report or {}).items() if name in WorkReport.model_fields}
    if first == report.model_dump():
        return
    told = ", ".join(f"{name} {value!r}" for name, value in first.items() if value not in ("", None))
    at = (order.report or {}).get("completed_at", "")
    raise ForbiddenTransition(f"the work was reported already, {at}, by {(order.report or {}).get('by', '')}: {told}")


async def _order_and_case(conn: Connection, work_order_id: uuid.UUID | str) -> tuple[WorkOrderRow, Case]:
    """Both rows, the case's first, as every other writer takes them."""
    where = {"work_order_id": work_order_id}
    found = await fetch_one(conn, CaseRef, _sql.case_of_work_order, where)
    if found is None:
        raise NotFound(f"there is no work order {work_order_id}")
    case = await lock_case(conn, found.case_id)
    order = await fetch_one(conn, WorkOrderRow, _sql.lock_work_order, where)
    assert order is not None  # rows of work orders are never deleted
    return order, case


async def _record(
    conn: Connection, clock: Clock, tenant_id: str, actor: str, action: str, subject: str, body: Mapping[str, object]
) -> None:
    await record(conn, clock, tenant_id=tenant_id, actor=actor, action=action, subject=subject, body=body)
