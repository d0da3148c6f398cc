"""What follows from a person's answer to a question: one function for each choice of ``questions.OPTIONS``.

Runs in the caller's transaction on a worker-role connection, after the caller checked permission and tenant.
Automatic work goes on from there where the answer lets it; nothing outward happens here. Raises NotFound for a question
that does not exist, ForbiddenTransition for an answer that does not fit, BadInput for a choice that was not offered.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_server.resolution.at_rest import BY_HAND
from fleet_server.resolution.case import Case
from fleet_server.resolution.commands import MAX_NOTE, OVERDUE, end_case
from fleet_server.resolution.escalations import lock_open_question
from fleet_server.resolution.plan import Cover, Decisions, Retrying
from fleet_server.resolution.questions import what_changed
from fleet_server.resolution.records import (
    change_case,
    load_case,
    note,
    set_timer,
    wake,
)
from fleet_server.resolution.rows import (
    Count,
)
from fleet_server.resolution.states import (
    FINAL_CASE_STATES,
    CaseEvent,
    CaseState,
    ControlEvent,
    ForbiddenTransition,
    MoveEvent,
    UndoingEvent,
)
from fleet_server.resolution.telling import refused
from fleet_server.resolution.verification import VERIFY
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

CLOSE_BY_HAND = "close_by_hand"
_sql = queries("resolution")


async def decide_escalation(
    conn: Connection, clock: Clock, actor: str, escalation_id: uuid.UUID | str, decision: str, note_text: str = ""
) -> None:
    """Act on what a person decided; automatic work continues from there where the decision lets it."""
    case, escalation = await lock_open_question(conn, escalation_id)
    codes = [option["code"] for option in escalation.options]
    if decision not in codes:
        raise BadInput("decision", f"{decision!r} is not one of {', '.join(codes)}")
    file = await load_case(conn, case.case_id)
    changed = what_changed(escalation.reason, case, file.acts, escalation.step)
    if changed:
        raise ForbiddenTransition(f"nothing is left to decide here: {changed}")
    values = {
        "escalation_id": escalation.escalation_id,
        "now": clock.now(),
        "actor": actor,
        "decision": decision,
        "note": note_text[:MAX_NOTE],
    }
    await conn.execute(_sql.decide_escalation, values)
    shown = {"reason": escalation.reason, "decision": decision, "note": note_text[:MAX_NOTE]}
    await note(conn, clock, case, "decided", f"{escalation.reason}: {decision}", shown, actor=actor)
    left = await fetch_one(conn, Count, _sql.open_escalations, {"case_id": case.case_id})
    if left is None or left.n == 0:
        case = case.after(ControlEvent.ANSWERED)
    case = await change_case(conn, replace(case, waits_for=""))
    await conn.execute(_sql.retry_acts, {"case_id": case.case_id, "now": clock.now()})
    await CHOICES[decision](conn, clock, actor, case)


async def _continue(conn: Connection, clock: Clock, case: Case, decisions: Decisions | None = None) -> None:
    """Go on with the plan at once, with what was decided."""
    plan = replace(case.plan, retrying=Retrying(), decisions=decisions or case.plan.decisions)
    await wake(conn, clock, replace(case, plan=plan))


async def _retry(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    """What failed is done again; a message that was refused is composed anew, as things stand now."""
    file = await load_case(conn, case.case_id)
    again = actor if refused(case, file.acts) else ""
    await _continue(conn, clock, case, replace(case.plan.decisions, tell_again=again))


async def _accept_late(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await _continue(conn, clock, case, replace(case.plan.decisions, accept_late=actor))


async def _without_cover(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    booking = replace(case.plan.booking, entitlement=Cover("none", approved_by=actor))
    case = replace(case, plan=replace(case.plan, booking=booking))
    await _continue(conn, clock, case, replace(case.plan.decisions, without_cover=actor))


async def _accept_cost(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await _continue(conn, clock, case, replace(case.plan.decisions, cost_approved_by=actor))


async def _approve(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await _continue(conn, clock, case, replace(case.plan.decisions, approved_by=actor))


async def _act_anyway(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    decided = replace(case.plan.decisions, acted_on_by=actor)
    await wake(conn, clock, replace(case.after(CaseEvent.CONFIRM), plan=replace(case.plan, decisions=decided)))


async def _watch(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    plan = replace(case.plan, decisions=replace(case.plan.decisions, watching=actor))
    await wake(conn, clock, replace(case, plan=plan, waits_for="watching, as decided"))


async def _keep_plan(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    """The window stays, whatever the deadline does. Work that is not reported by then is asked about again."""
    file = await load_case(conn, case.case_id)
    if not any(timer.kind == OVERDUE for timer in file.timers):
        await set_timer(conn, case, OVERDUE, clock.now() + timedelta(hours=file.policy.overdue_h))
    decided = replace(case.plan.decisions, keep_plan=actor)
    await wake(conn, clock, replace(case.after(MoveEvent.KEPT), plan=replace(case.plan, decisions=decided)))


async def _plan_again(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    """Everything that is held is released first; then the case plans as if for the first time."""
    if case.state not in (CaseState.CONFIRMED, CaseState.PLANNING):  # these plan already
        case = case.after(CaseEvent.REOPEN if case.state is CaseState.VERIFYING else CaseEvent.REPLAN)
    case = case.after(MoveEvent.NEW_PLAN, UndoingEvent.GIVE_UP)
    await conn.execute(_sql.stop_timers, {"case_id": case.case_id, "now": clock.now()})
    await wake(conn, clock, replace(case, outcome=None, plan=case.plan.fresh()))


async def _verify_longer(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    file = await load_case(conn, case.case_id)
    await set_timer(conn, case, VERIFY, clock.now() + timedelta(hours=file.policy.verify_h))
    await wake(conn, clock, replace(case, waits_for="vitals that confirm the repair"))


async def _close_anyway(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await set_timer(conn, case, CLOSE_BY_HAND, clock.now())  # closing learns and tells: the worker's business
    await wake(
        conn, clock, replace(case, plan=replace(case.plan, decisions=replace(case.plan.decisions, closed_by=actor)))
    )


async def _take_over(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    """Nothing more is planned or moved; what is held stays held, and what is being released is released. Whoever took
    over is asked after a while how it stands."""
    if case.state not in FINAL_CASE_STATES:
        await _ask_later(conn, clock, case)
    plan = replace(case.plan, decisions=replace(case.plan.decisions, manual=actor))
    case = case.after(ControlEvent.TAKE_OVER, MoveEvent.STOPPED)
    await wake(conn, clock, replace(case, plan=plan, waits_for=f"handled by {actor}"))


async def _ask_later(conn: Connection, clock: Clock, case: Case) -> None:
    file = await load_case(conn, case.case_id)
    await set_timer(conn, case, BY_HAND, clock.now() + timedelta(hours=file.policy.by_hand_h))


async def _still_on_it(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await _ask_later(conn, clock, case)
    plan = replace(case.plan, decisions=replace(case.plan.decisions, manual=actor))
    await wake(conn, clock, replace(case, plan=plan, waits_for=f"handled by {actor}"))


async def _hand_back(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    """Automation has the word again; the sweep sets the time that is missing (``rest_sweep``)."""
    events = (ControlEvent.HAND_BACK, *((ControlEvent.ASK,) if case.escalated else ()))
    plan = replace(case.plan, decisions=replace(case.plan.decisions, manual=""))
    file = await load_case(conn, case.case_id)
    if case.state in (CaseState.COMMITTED, CaseState.IN_PROGRESS):
        await set_timer(conn, case, OVERDUE, clock.now() + timedelta(hours=file.policy.overdue_h))
    await wake(conn, clock, replace(case.after(*events), plan=plan, waits_for=""))


async def _done_by_hand(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await end_case(conn, clock, actor, case, "it was done by hand", false_alarm=False)


async def _false_alarm(conn: Connection, clock: Clock, actor: str, case: Case) -> None:
    await end_case(conn, clock, actor, case, "decided to be a false alarm", false_alarm=True)


CHOICES: Mapping[str, Callable[[Connection, Clock, str, Case], Awaitable[None]]] = {
    "retry": _retry,
    "accept_late_window": _accept_late,
    "accept_late_part": _accept_late,
    "accept_out_of_warranty": _without_cover,
    "accept_cost": _accept_cost,
    "approve": _approve,
    "act_anyway": _act_anyway,
    "watch": _watch,
    "keep_plan": _keep_plan,
    "plan_again": _plan_again,
    "verify_longer": _verify_longer,
    "close_anyway": _close_anyway,
    "take_over": _take_over,
    "still_on_it": _still_on_it,
    "hand_back": _hand_back,
    "done_by_hand": _done_by_hand,
    "false_alarm": _false_alarm,
}
"""Code of a choice -> what it does to the case, whose row is held."""
