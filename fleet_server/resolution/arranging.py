"""The steps from a booked window to the announcement: work order, dispatch, commitment, amendment; and undoing them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime, timedelta

from fleet_core.errors import OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.field_service.api import Dispatch, WorkOrder, WorkOrderDraft
from fleet_server.resolution import messages
from fleet_server.resolution.acts import Doing, Held, intend_now, perform, put_off, put_off_step
from fleet_server.resolution.escalations import intend_message, person
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.playbooks import playbook
from fleet_server.resolution.records import (
    CaseFile,
    Row,
    change_case,
    finding_of,
    load_case,
    lock_case,
    note,
    set_timer,
    settle,
)
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActEvent, CaseEvent, CaseState, next_case_state
from fleet_server.resolution.window_choice import Span
from fleet_server.resolution.windows import engineers_for
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
OVERDUE = "work_overdue"
DECISIONS_OF_PEOPLE = ("accept_late", "cost_approved_by", "approved_by", "without_cover", "acted_on_by")
"""Keys of a plan that name who let it go on; an announcement then does not say that it was automatic."""


async def do_work_order(rt: Runtime, conn: Connection, file: CaseFile, act: Row | None) -> None:
    """Write the work order: playbook, part, window, evidence."""
    fresh = act is None
    if act is None:
        async with conn.transaction():
            body = await _order_body(conn, file)
        act = await intend_now(rt, conn, file, "work_order", body)
        if act is None:
            return
    window = act["request"]["window"]
    draft = WorkOrderDraft(
        tenant_id=file.case["tenant_id"],
        case_id=str(file.case_id),
        asset_id=file.asset["asset_id"],
        start=datetime.fromisoformat(window["start"]),
        end=datetime.fromisoformat(window["end"]),
        body=act["request"],
    )

    async def lookup(key: str) -> WorkOrder | None:
        known = await rt.field_service.lookup_order(key)
        return known if known is not None and known.state != "cancelled" else None

    async def on_held(conn: Connection, case: Row, order: WorkOrder) -> Held:
        await change_case(conn, case, plan={"work_order": {"id": order.reference, "number": order.number}})
        await note(conn, rt.clock, case, "work_order_written", f"Work order {order.number}", asdict(order))
        return Held(asdict(order), order.reference)

    async def on_refused(conn: Connection, case: Row, error: Refused) -> None:
        await change_case(conn, case)  # the next attempt writes it under a new key

    doing = Doing(lambda key: rt.field_service.create_order(draft, key=key), lookup, on_held, on_refused)
    await perform(rt, conn, file, act, doing, fresh=fresh)


async def do_dispatch(rt: Runtime, conn: Connection, file: CaseFile, act: Row | None) -> None:
    """Bind a free, qualified engineer to the order; without one the window is given up and another looked for."""
    moving = file.case["state"] == CaseState.COMMITTED
    window = file.plan["next_window" if moving else "window"]
    fresh = act is None
    if act is None:
        engineer = await _free_engineer(rt, conn, file, window, moving)
        if engineer is None:
            return
        request = {"engineer": engineer, "start": window["start"], "end": window["end"]}
        act = await intend_now(rt, conn, file, "dispatch", request)
        if act is None:
            return
    request = act["request"]
    start, end = (datetime.fromisoformat(request[name]) for name in ("start", "end"))
    order = file.live("work_order")
    order_key = order["idempotency_key"] if order else ""

    async def call(key: str) -> Dispatch:
        return await rt.field_service.dispatch(order_key, request["engineer"]["id"], start, end, key=key)

    async def lookup(key: str) -> Dispatch | None:
        known = await rt.field_service.lookup_dispatch(key)
        return known if known is not None and known.held else None

    async def on_held(conn: Connection, case: Row, held: Dispatch) -> Held:
        name = "next_engineer" if moving else "engineer"
        await change_case(conn, case, plan={name: request["engineer"]})
        text = f"{request['engineer']['name']} dispatched for {start:%Y-%m-%d %H:%M} UTC"
        await note(conn, rt.clock, case, "engineer_dispatched", text, request)
        return Held({"start": held.start, "end": held.end}, held.reference)

    async def on_refused(conn: Connection, case: Row, error: Refused) -> None:
        pairs = [*case["plan"].get("refused_pairs", []), [request["start"], request["engineer"]["id"]]]
        await change_case(conn, case, plan={"refused_pairs": pairs[-50:]})

    await perform(rt, conn, file, act, Doing(call, lookup, on_held, on_refused), fresh=fresh)


async def do_commit(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """Everything is held: the plan stands, and the customer's director is told, once."""
    window = file.plan["window"]
    end = datetime.fromisoformat(window["end"])
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case["version"] != file.case["version"]:
            return
        state = next_case_state(CaseState(case["state"]), CaseEvent.COMMIT)
        plan = {
            "refused_windows": None,
            "refused_pairs": None,
            "accept_late": None,
            "keep_plan": None,
            "planned_for": case["deadline_at"],
            "announced": window,
        }
        case = await change_case(conn, case, state=state, plan=plan, waits_for=_repair_on(window))
        await set_timer(conn, case, OVERDUE, end + timedelta(hours=file.policy.overdue_h))
        shown = {"window": window, "part": file.plan["part"], "engineer": file.plan["engineer"]}
        await note(conn, rt.clock, case, "committed", "Part, window and engineer are held; the plan stands", shown)
        await _tell_director(rt, conn, file, case)
    CASES.labels("committed").inc()


def _repair_on(window: Row) -> str:
    start = messages.short_time(datetime.fromisoformat(window["start"]), window["time_zone"])
    return f"the repair on {start} ({window['time_zone']})"


async def do_amend(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """The earlier window is held and the old one released: the moved plan stands, and the announcement is amended."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case["version"] != file.case["version"]:
            return
        moved = file.plan["next_window"]
        plan = {
            "window": moved,
            "engineer": file.plan["next_engineer"],
            "next_window": None,
            "next_engineer": None,
            "refused_windows": None,
            "planned_for": case["deadline_at"],
            "announced": moved,
        }
        case = await change_case(conn, case, replanning=False, plan=plan, waits_for=_repair_on(moved))
        await set_timer(
            conn, case, OVERDUE, datetime.fromisoformat(moved["end"]) + timedelta(hours=file.policy.overdue_h)
        )
        await note(conn, rt.clock, case, "replanned", "The repair was moved to an earlier window", {"window": moved})
        await _tell_director(rt, conn, await load_case(conn, file.case_id), case)
    CASES.labels("replanned").inc()


async def do_release(rt: Runtime, conn: Connection, file: CaseFile, act: Row) -> None:
    """Give up what an act holds, or may hold; repeated until the other system agrees."""
    try:
        await _releaser(rt, file, act["kind"])(act["idempotency_key"])
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off(rt, conn, file, act, error, gives_up=False)
        return
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await settle(conn, rt.clock, act, ActEvent.RELEASE, error=act["error"])
        await change_case(conn, case)
        await note(conn, rt.clock, case, "released", f"{act['kind'].replace('_', ' ')} released", {"kind": act["kind"]})


async def do_unwound(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """Nothing of the plan is held any more: forget it."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        plan: dict[str, None]
        if file.plan.get("drop_window") and case["state"] == CaseState.COMMITTED:
            plan = dict.fromkeys(("drop_window", "next_window", "next_engineer"))
        elif file.plan.get("drop_window"):
            plan = dict.fromkeys(("drop_window", "window", "engineer"))
        else:
            plan = dict.fromkeys(("unwind", "part", "window", "engineer", "work_order", "next_window", "next_engineer"))
        await change_case(conn, case, plan=plan)


async def do_consume(rt: Runtime, conn: Connection, file: CaseFile, act: Row) -> None:
    """The work is done: what was held for it is used up."""
    if act["kind"] == "reservation":
        try:
            await rt.parts.consume(act["idempotency_key"])
        except (Retryable, OutcomeUnknown, Permanent) as error:
            await put_off(rt, conn, file, act, error, gives_up=False)
            return
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await settle(conn, rt.clock, act, ActEvent.CONSUME)
        await change_case(conn, case)
        if act["kind"] == "reservation":
            text = f"{file.plan['part']['label']} used up" if "part" in file.plan else "Part used up"
            await note(conn, rt.clock, case, "part_consumed", text, {"reservation": act["external_ref"]})


def _releaser(rt: Runtime, file: CaseFile, kind: str) -> Callable[[str], Awaitable[None]]:
    if kind == "reservation":
        return rt.parts.release
    if kind == "window":
        return rt.wms_of(file.site).release
    if kind == "work_order":
        return rt.field_service.cancel_order
    return rt.field_service.release_dispatch


async def _free_engineer(
    rt: Runtime, conn: Connection, file: CaseFile, window: Row, moving: bool
) -> dict[str, str] | None:
    """Who does it: the engineer the plan found if still free, else another. None when the window was given up."""
    span = Span(datetime.fromisoformat(window["start"]), datetime.fromisoformat(window["end"]))
    proposed = file.plan["next_engineer" if moving else "engineer"]["id"]
    refused = {(start, who) for start, who in file.plan.get("refused_pairs", [])}
    try:
        engineers = await engineers_for(rt, file, span.start, span.end)
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off_step(rt, conn, file, "engineers", error)
        return None
    order = file.live("dispatch")
    free = [
        engineer
        for engineer in engineers
        if (window["start"], engineer.person_id) not in refused and (order is not None or engineer.free(span))
    ]
    free.sort(key=lambda engineer: engineer.person_id != proposed)
    if free and span.start > rt.clock.now():
        return {"id": free[0].person_id, "name": free[0].name}
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        refused_windows = [*case["plan"].get("refused_windows", []), window["start"]]
        await change_case(conn, case, plan={"refused_windows": refused_windows[-50:], "drop_window": True})
        await note(conn, rt.clock, case, "window_given_up", "No engineer is free for the window", {"window": window})
    return None


async def _tell_director(rt: Runtime, conn: Connection, file: CaseFile, case: Row) -> None:
    """Intend the announcement, or its amendment when one was intended before."""
    wanted = {"tenant_id": case["tenant_id"], "site_id": case["site_id"]}
    director = await (await conn.execute(_sql.directors, wanted)).fetchone()
    if director is None:
        await note(conn, rt.clock, case, "nobody_to_tell", "No operations director is registered for the site")
        return
    owner = await person(conn, case["owner_id"])
    told = [act for act in file.acts if act["kind"] == "message" and act["purpose"] in ("announcement", "amendment")]
    sequence = 1 + max(act["sequence"] for act in told) if told else 0
    decider = await _decider(conn, file.plan, owner["name"])
    composed = messages.announcement(file, owner["name"], rt.clock.now(), sequence, decider)
    reply_to = "announcement" if told else ""
    await intend_message(conn, rt.clock, rt.notifiers, case, composed, director, sequence=sequence, reply_to=reply_to)


async def _decider(conn: Connection, plan: Row, owner_name: str) -> str:
    """Who made this plan possible where people were asked; "" when it was arranged automatically."""
    actor = next((plan[name] for name in DECISIONS_OF_PEOPLE if plan.get(name)), "")
    if not actor:
        return ""
    user = {"user_id": str(actor).removeprefix("user:")}
    found = await (await conn.execute(_sql.name_of_user, user)).fetchone()
    return found["name"] if found else f"{owner_name}'s team"


async def _order_body(conn: Connection, file: CaseFile) -> Row:
    finding = await finding_of(conn, file.case)
    evidence: Row = {}
    if finding is not None:
        evidence = {
            "finding_id": finding.finding_id,
            "score": finding.score,
            "onset_us": finding.onset_us,
            "indicator": finding.indicator_metric,
            "channels": [asdict(channel) for channel in finding.channels[:8]],
            "waveform_us": list(finding.waveform_us[:8]),
        }
    prognosis = file.prognosis or {}
    return {
        "case": file.name,
        "failure_mode": file.case["failure_mode"],
        "playbook": playbook(file.component["component_type"]),
        "part": file.plan["part"],
        "window": file.plan["window"],
        "component": {name: file.component.get(name, "") for name in ("slot", "component_type", "serial")},
        "evidence": evidence,
        "prognosis": {name: prognosis.get(name) for name in ("p_fail", "rul_p10_h", "rul_p50_h", "rul_p90_h")},
    }
