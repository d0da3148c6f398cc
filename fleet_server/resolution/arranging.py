"""The steps from a booked window to a plan that can stand: the work order, and the engineer who comes."""

from __future__ import annotations

from dataclasses import asdict, replace

from fleet_core.errors import BadInput, OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.field_service.api import Dispatch, WorkOrder, WorkOrderDraft
from fleet_server.resolution.acts import Doing, Held, intend_now, perform, put_off_step, unusable
from fleet_server.resolution.case import Case
from fleet_server.resolution.comparing import Differences, NotAsAsked, dispatch_differences, order_differences
from fleet_server.resolution.cover_and_part import MAX_REFUSALS
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.plan import PlannedEngineer, PlannedOrder, Window, needed
from fleet_server.resolution.playbooks import playbook
from fleet_server.resolution.records import (
    CaseFile,
    change_case,
    finding_of,
    lock_case,
    note,
)
from fleet_server.resolution.requests import DispatchRequest, ordered_window, read_request
from fleet_server.resolution.rows import Act
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseState, UndoingEvent
from fleet_server.resolution.stored import table_of
from fleet_server.resolution.window_choice import Span
from fleet_server.resolution.windows import engineers_for, no_window
from fleet_server.store.pool import Connection


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

    async def on_held(conn: Connection, case: Case, order: WorkOrder) -> Held:
        booking = replace(case.plan.booking, work_order=PlannedOrder(order.reference, order.number))
        await change_case(conn, replace(case, plan=replace(case.plan, booking=booking)))
        await note(conn, rt.clock, case, "work_order_written", f"Work order {order.number}", asdict(order))
        return Held(asdict(order), order.reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        case = await change_case(conn, replace(case, plan=case.plan.refusing_order()))
        refused = case.plan.replanning.refused_orders  # the next attempt writes it under a new key
        if case.being_planned and refused >= MAX_REFUSALS:
            case = await change_case(conn, replace(case, plan=case.plan.forgiven()).after(UndoingEvent.GIVE_UP))
            summary = f"No work order was written as asked in {refused} attempts, last: {error}"
            shown = {"step": "work_order"}
            await escalate(conn, rt.clock, rt.notifiers, file, case, "not_as_asked", summary, shown)

    def compare(order: WorkOrder) -> Differences:
        return order_differences(draft, order, window.time_zone)

    async def call(key: str) -> WorkOrder:
        return await rt.field_service.create_order(draft, key=key)

    doing = Doing(call, rt.field_service.lookup_order, on_held, on_refused, WorkOrder, compare)
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
        case = await change_case(conn, replace(case, plan=case.plan.refusing_pair(start, request.engineer.id)))
        refused = case.plan.replanning.refused_pairs
        if len(refused) >= MAX_REFUSALS:
            why = f"of the last {len(refused)} engineers asked for none was sent as asked; the last: {error}"
            reason = "not_as_asked" if isinstance(error, NotAsAsked) else "no_engineer"
            await no_window(rt, conn, file, case, why, reason=reason)

    def compare(held: Dispatch) -> Differences:
        return dispatch_differences(request, held, window.time_zone)

    doing = Doing(call, rt.field_service.lookup_dispatch, on_held, on_refused, Dispatch, compare)
    await perform(rt, conn, file, act, doing, fresh=fresh)


async def _free_engineer(
    rt: Runtime, conn: Connection, file: CaseFile, window: Window, moving: bool
) -> PlannedEngineer | None:
    """Who does it: the engineer the plan found if still free, else another. None when the window was
    given up, or the case is to be read again since it changed."""
    span = Span(window.start, window.end)
    proposed = needed(file.plan.replanning.next_engineer if moving else file.plan.booking.engineer, "engineer").id
    refused = file.plan.replanning.refused_pairs
    try:
        engineers = await engineers_for(rt, file, span.start, span.end)
    except BadInput as error:
        await put_off_step(rt, conn, file, "engineers", unusable(error))
        return None
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
        if case.version != file.case.version:
            return None
        case = replace(case, plan=case.plan.refusing(window.start)).after(UndoingEvent.NO_ENGINEER)
        await change_case(conn, case)
        shown = {"window": table_of(window)}
        await note(conn, rt.clock, case, "window_given_up", "No engineer is free for the window", shown)
    return None


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
