"""The steps from a booked window to the announcement: work order, dispatch, commitment, amendment; and undoing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import timedelta

from fleet_core.errors import OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.field_service.api import Dispatch, WorkOrder, WorkOrderDraft
from fleet_server.resolution import messages
from fleet_server.resolution.acts import Doing, Held, intend_now, perform, put_off, put_off_step
from fleet_server.resolution.case import Case
from fleet_server.resolution.escalations import intend_message, person
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.plan import Plan, PlannedEngineer, PlannedOrder, Window, needed
from fleet_server.resolution.playbooks import playbook
from fleet_server.resolution.records import (
    CaseFile,
    change_case,
    finding_of,
    load_case,
    lock_case,
    note,
    set_timer,
    settle,
)
from fleet_server.resolution.requests import DispatchRequest, ordered_window, read_request
from fleet_server.resolution.rows import Act, Name, Person
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActEvent, CaseEvent, CaseState, MoveEvent, Undoing, UndoingEvent
from fleet_server.resolution.stored import table_of
from fleet_server.resolution.window_choice import Span
from fleet_server.resolution.windows import engineers_for
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
OVERDUE = "work_overdue"


async def do_work_order(rt: Runtime, conn: Connection, file: CaseFile, act: Act | None) -> None:
    """Write the work order: playbook, part, window, evidence."""
    fresh = act is None
    if act is None:
        async with conn.transaction():
            body = await _order_body(conn, file)
        act = await intend_now(rt, conn, file, "work_order", body)
        if act is None:
            return
    window = ordered_window(act)
    draft = WorkOrderDraft(
        tenant_id=file.case.tenant_id,
        case_id=str(file.case_id),
        asset_id=file.asset.asset_id,
        start=window.start,
        end=window.end,
        body=dict(act.request),
    )

    async def lookup(key: str) -> WorkOrder | None:
        known = await rt.field_service.lookup_order(key)
        return known if known is not None and known.state != "cancelled" else None

    async def on_held(conn: Connection, case: Case, order: WorkOrder) -> Held:
        booking = replace(case.plan.booking, work_order=PlannedOrder(order.reference, order.number))
        await change_case(conn, replace(case, plan=replace(case.plan, booking=booking)))
        await note(conn, rt.clock, case, "work_order_written", f"Work order {order.number}", asdict(order))
        return Held(asdict(order), order.reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        await change_case(conn, case)  # the next attempt writes it under a new key

    doing = Doing(lambda key: rt.field_service.create_order(draft, key=key), lookup, on_held, on_refused)
    await perform(rt, conn, file, act, doing, fresh=fresh)


async def do_dispatch(rt: Runtime, conn: Connection, file: CaseFile, act: Act | None) -> None:
    """Bind a free, qualified engineer to the order; without one the window is given up and another looked for."""
    moving = file.case.state == CaseState.COMMITTED
    window = needed(file.plan.replanning.next_window if moving else file.plan.booking.window, "window")
    fresh = act is None
    if act is None:
        engineer = await _free_engineer(rt, conn, file, window, moving)
        if engineer is None:
            return
        wanted = DispatchRequest(engineer, window.start, window.end)
        act = await intend_now(rt, conn, file, "dispatch", table_of(wanted))
        if act is None:
            return
    request = read_request(act, DispatchRequest)
    start, end = request.start, request.end
    order = file.live("work_order")
    order_key = order.idempotency_key if order else ""

    async def call(key: str) -> Dispatch:
        return await rt.field_service.dispatch(order_key, request.engineer.id, start, end, key=key)

    async def lookup(key: str) -> Dispatch | None:
        known = await rt.field_service.lookup_dispatch(key)
        return known if known is not None and known.held else None

    async def on_held(conn: Connection, case: Case, held: Dispatch) -> Held:
        if moving:
            move = replace(case.plan.replanning, next_engineer=request.engineer)
            plan = replace(case.plan, replanning=move)
        else:
            plan = replace(case.plan, booking=replace(case.plan.booking, engineer=request.engineer))
        await change_case(conn, replace(case, plan=plan))
        text = f"{request.engineer.name} dispatched for {start:%Y-%m-%d %H:%M} UTC"
        await note(conn, rt.clock, case, "engineer_dispatched", text, table_of(request))
        return Held({"start": held.start, "end": held.end}, held.reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        await change_case(conn, replace(case, plan=case.plan.refusing_pair(start, request.engineer.id)))

    await perform(rt, conn, file, act, Doing(call, lookup, on_held, on_refused), fresh=fresh)


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
            replanning=replace(case.plan.replanning, refused_windows=(), refused_pairs=()),
            decisions=replace(case.plan.decisions, accept_late="", keep_plan=""),
        )
        case = await change_case(conn, replace(case, plan=plan, waits_for=_repair_on(window)))
        await set_timer(conn, case, OVERDUE, window.end + timedelta(hours=file.policy.overdue_h))
        shown = {"window": table_of(window), "part": table_of(part), "engineer": table_of(engineer)}
        await note(conn, rt.clock, case, "committed", "Part, window and engineer are held; the plan stands", shown)
        await _tell_director(rt, conn, file, case)
    CASES.labels("committed").inc()


def _repair_on(window: Window) -> str:
    return f"the repair on {messages.short_time(window.start, window.time_zone)} ({window.time_zone})"


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


async def do_release(rt: Runtime, conn: Connection, file: CaseFile, act: Act) -> None:
    """Give up what an act holds, or may hold; repeated until the other system agrees."""
    try:
        await _releaser(rt, file, act.kind)(act.idempotency_key)
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off(rt, conn, file, act, error, gives_up=False)
        return
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await settle(conn, rt.clock, act, ActEvent.RELEASE, error=act.error)
        await change_case(conn, case)
        await note(conn, rt.clock, case, "released", f"{act.kind.replace('_', ' ')} released", {"kind": act.kind})


async def do_unwound(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """What was to be released is: the plan forgets it, and the undoing is over."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        undoing = case.plan.undoing
        case = case.after(UndoingEvent.RELEASED)
        if undoing is Undoing.EVERYTHING:
            plan = case.plan.unbooked()
        elif case.state is CaseState.COMMITTED:
            case = case.after(MoveEvent.NEXT_DROPPED)
            plan = case.plan.unmoved()
        else:
            plan = case.plan.without_window()
        await change_case(conn, replace(case, plan=plan))


async def do_consume(rt: Runtime, conn: Connection, file: CaseFile, act: Act) -> None:
    """The work is done: what was held for it is used up."""
    if act.kind == "reservation":
        try:
            await rt.parts.consume(act.idempotency_key)
        except (Retryable, OutcomeUnknown, Permanent) as error:
            await put_off(rt, conn, file, act, error, gives_up=False)
            return
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await settle(conn, rt.clock, act, ActEvent.CONSUME)
        await change_case(conn, case)
        if act.kind == "reservation":
            part = file.plan.booking.part
            text = f"{part.label} used up" if part else "Part used up"
            await note(conn, rt.clock, case, "part_consumed", text, {"reservation": act.external_ref})


def _releaser(rt: Runtime, file: CaseFile, kind: str) -> Callable[[str], Awaitable[None]]:
    if kind == "reservation":
        return rt.parts.release
    if kind == "window":
        return rt.wms_of(file.site).release
    if kind == "work_order":
        return rt.field_service.cancel_order
    return rt.field_service.release_dispatch


async def _free_engineer(
    rt: Runtime, conn: Connection, file: CaseFile, window: Window, moving: bool
) -> PlannedEngineer | None:
    """Who does it: the engineer the plan found if still free, else another. None when the window was given up."""
    span = Span(window.start, window.end)
    proposed = needed(file.plan.replanning.next_engineer if moving else file.plan.booking.engineer, "engineer").id
    refused = file.plan.replanning.refused_pairs
    try:
        engineers = await engineers_for(rt, file, span.start, span.end)
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off_step(rt, conn, file, "engineers", error)
        return None
    order = file.live("dispatch")
    free = [
        engineer
        for engineer in engineers
        if (window.start, engineer.person_id) not in refused and (order is not None or engineer.free(span))
    ]
    free.sort(key=lambda engineer: engineer.person_id != proposed)
    if free and span.start > rt.clock.now():
        return PlannedEngineer(free[0].person_id, free[0].name)
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        case = replace(case, plan=case.plan.refusing(window.start)).after(UndoingEvent.NO_ENGINEER)
        await change_case(conn, case)
        shown = {"window": table_of(window)}
        await note(conn, rt.clock, case, "window_given_up", "No engineer is free for the window", shown)
    return None


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


async def _order_body(conn: Connection, file: CaseFile) -> dict[str, object]:
    finding = await finding_of(conn, file.case)
    evidence: dict[str, object] = {}
    if finding is not None:
        evidence = {
            "finding_id": finding.finding_id,
            "score": finding.score,
            "onset_us": finding.onset_us,
            "indicator": finding.indicator_metric,
            "channels": [asdict(channel) for channel in finding.channels[:8]],
            "waveform_us": list(finding.waveform_us[:8]),
        }
    made = file.prognosis
    part, window = file.plan.booking.part, file.plan.booking.window
    return {
        "case": file.name,
        "failure_mode": file.case.failure_mode,
        "playbook": playbook(file.component.component_type),
        "part": table_of(needed(part, "part")),
        "window": table_of(needed(window, "window")),
        "component": {
            "slot": file.component.slot,
            "component_type": file.component.component_type,
            "serial": file.component.serial,
        },
        "evidence": evidence,
        "prognosis": {
            "p_fail": made.p_fail if made else None,
            "rul_p10_h": made.rul_p10_h if made else None,
            "rul_p50_h": made.rul_p50_h if made else None,
            "rul_p90_h": made.rul_p90_h if made else None,
        },
    }
