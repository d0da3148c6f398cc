"""The plan stands: everything is held, the customer's director is told once, and told again when the window moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleet_server.resolution import messages
from fleet_server.resolution.case import Case
from fleet_server.resolution.escalations import intend_message, person
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.plan import Plan, Window, needed
from fleet_server.resolution.records import (
    CaseFile,
    change_case,
    load_case,
    lock_case,
    note,
    set_timer,
)
from fleet_server.resolution.rows import Name, Person
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseEvent, MoveEvent
from fleet_server.resolution.stored import table_of
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
OVERDUE = "work_overdue"


async def do_commit(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """Everything is held: the plan stands, and the customer's director is told, once."""
    booking = file.plan.booking
    window, engineer = needed(booking.window, "window"), needed(booking.engineer, "engineer")
    part = needed(booking.part, "part")
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        case = case.after(CaseEvent.COMMIT, MoveEvent.NEW_PLAN)
        plan = replace(
            case.plan,
            booking=replace(case.plan.booking, planned_for=case.deadline_at, announced=window),
            replanning=case.plan.replanning.forgiven(),
            decisions=replace(case.plan.decisions, accept_late="", keep_plan=""),
        )
        case = await change_case(conn, replace(case, plan=plan, waits_for=_repair_on(window)))
        await set_timer(conn, case, OVERDUE, window.end + timedelta(hours=file.policy.overdue_h))
        shown = {"window": table_of(window), "part": table_of(part), "engineer": table_of(engineer)}
        await note(conn, rt.clock, case, "committed", "Part, window and engineer are held; the plan stands", shown)
        await _tell_director(rt, conn, file, case)
    CASES.labels("committed").inc()


async def do_amend(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """The earlier window is held and the old one released: the moved plan stands, and the announcement is amended."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        moved = needed(file.plan.replanning.next_window, "earlier window")
        engineer = needed(file.plan.replanning.next_engineer, "engineer for the earlier window")
        case = case.after(MoveEvent.AMENDED)
        plan = case.plan.unmoved()
        plan = replace(
            plan,
            booking=replace(
                plan.booking, window=moved, engineer=engineer, planned_for=case.deadline_at, announced=moved
            ),
            replanning=replace(plan.replanning, refused_windows=()),
        )
        case = await change_case(conn, replace(case, plan=plan, waits_for=_repair_on(moved)))
        await set_timer(conn, case, OVERDUE, moved.end + timedelta(hours=file.policy.overdue_h))
        shown = {"window": table_of(moved)}
        await note(conn, rt.clock, case, "replanned", "The repair was moved to an earlier window", shown)
        await _tell_director(rt, conn, await load_case(conn, file.case_id), case)
    CASES.labels("replanned").inc()


def _repair_on(window: Window) -> str:
    return f"the repair on {messages.short_time(window.start, window.time_zone)} ({window.time_zone})"


async def _tell_director(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> None:
    """Intend the announcement, or its amendment when one was intended before."""
    wanted = {"tenant_id": case.tenant_id, "site_id": case.site_id}
    director = await fetch_one(conn, Person, _sql.directors, wanted)
    if director is None:
        await note(conn, rt.clock, case, "nobody_to_tell", "No operations director is registered for the site")
        return
    owner = await person(conn, case.owner_id)
    told = [act for act in file.acts if act.kind == "message" and act.purpose in ("announcement", "amendment")]
    sequence = 1 + max(act.sequence for act in told) if told else 0
    decider = await _decider(conn, file.plan, owner.name)
    composed = messages.announcement(file, owner.name, rt.clock.now(), sequence, decider)
    reply_to = "announcement" if told else ""
    await intend_message(conn, rt.clock, rt.notifiers, case, composed, director, sequence=sequence, reply_to=reply_to)


async def _decider(conn: Connection, plan: Plan, owner_name: str) -> str:
    """Who made this plan possible where people were asked; "" when it was arranged automatically."""
    actor = plan.decisions.made_it_possible
    if not actor:
        return ""
    user = {"user_id": actor.removeprefix("user:")}
    found = await fetch_one(conn, Name, _sql.name_of_user, user)
    return found.name if found else f"{owner_name}'s team"
