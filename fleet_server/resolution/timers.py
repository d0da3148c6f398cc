"""What happens at a domain time: a watched case is judged again, verification ends, work is overdue, a cancellation
is told, a person closed by hand, a standing prognosis is made anew.

One due timer is handled in one transaction with everything it leads to, so it happens once, whoever gets it. One that
cannot be handled (a case that cannot be read, a question that cannot be composed) becomes due again after a pause that
grows with each failure; the others do not wait for it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

from fleet_core.errors import BadInput
from fleet_server.resolution import messages, telling
from fleet_server.resolution.acts import later
from fleet_server.resolution.at_rest import BY_HAND
from fleet_server.resolution.case import Case
from fleet_server.resolution.commands import OVERDUE, TELL_CANCELLED, cancel_case
from fleet_server.resolution.decisions import CLOSE_BY_HAND
from fleet_server.resolution.escalations import escalate, person, remind
from fleet_server.resolution.holders import holders_of, next_revision
from fleet_server.resolution.jobs import defer_triage
from fleet_server.resolution.records import SYSTEM, CaseFile, load_case, lock_case, note, wake
from fleet_server.resolution.refreshing import REFRESH, refresh_due
from fleet_server.resolution.requests import announced_window
from fleet_server.resolution.rows import EscalationRef, FindingRevision, Moment, PersonRef, Timer, TimerRef
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import FINAL_CASE_STATES, CaseState, Control
from fleet_server.resolution.triage import LOOK_AGAIN
from fleet_server.resolution.verification import VERIFY, close, tell_holder, verification_due
from fleet_server.store.alone import do_alone
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")


async def run_due(rt: Runtime, most: int = 64) -> int:
    """Handle due timers and overdue escalations, at most ``most`` of each. Returns how many there were, with those
    that failed and are put off. Raises psycopg.Error when the database is away."""
    handled = 0
    for next_due in (_timer, _reminder):
        for _ in range(most):
            async with rt.pool.connection() as conn:
                if not await next_due(rt, conn):
                    break
            handled += 1
    return handled


async def _reminder(rt: Runtime, conn: Connection) -> bool:
    """Remind of one overdue escalation. Returns whether there was one."""
    due = await fetch_one(conn, EscalationRef, _sql.overdue_escalation, {"now": rt.clock.now()})
    if due is None:
        return False
    piece = f"{due.escalation_id} of case {due.case_id}"
    pause_s = await do_alone(conn, rt.pieces.reminders, piece, partial(remind, conn, rt.clock, rt.notifiers, due))
    if pause_s is not None:
        values = {"escalation_id": due.escalation_id, "now": rt.clock.now(), "due_at": later(rt, pause_s)}
        await conn.execute(_sql.postpone_escalation, values)
    return True


async def _timer(rt: Runtime, conn: Connection) -> bool:
    """Handle one due timer. Returns whether there was one."""
    due = await fetch_one(conn, TimerRef, _sql.due_timer, {"now": rt.clock.now()})
    if due is None:
        return False
    piece = f"{due.timer_id} of case {due.case_id}"
    pause_s = await do_alone(conn, rt.pieces.timers, piece, partial(_ring, rt, conn, due))
    if pause_s is not None:
        values = {"timer_id": due.timer_id, "now": rt.clock.now(), "due_at": later(rt, pause_s)}
        await conn.execute(_sql.postpone_timer, values)
    return True


async def _ring(rt: Runtime, conn: Connection, due: TimerRef) -> None:
    """End a due timer and do what it stands for."""
    case = await lock_case(conn, due.case_id)  # the case first, as every writer does, then the timer if still due
    timer = await fetch_one(conn, Timer, _sql.end_timer, {"timer_id": due.timer_id, "now": rt.clock.now()})
    if timer is None:
        return
    file = await load_case(conn, timer.case_id)
    if timer.kind == VERIFY:
        await verification_due(rt, conn, file, case)
    elif timer.kind == CLOSE_BY_HAND and case.state == CaseState.VERIFYING:
        await close(rt, conn, file, case, "closed by hand", case.plan.decisions.closed_by)
    elif timer.kind == LOOK_AGAIN and case.state == CaseState.OPEN:
        await _look_again(rt, conn, file, case)
    elif timer.kind == REFRESH:
        await refresh_due(conn, rt.clock, file, case)
    elif timer.kind == TELL_CANCELLED:
        await _tell_cancelled(rt, conn, file, case)
    elif timer.kind == BY_HAND and case.control is Control.BY_HAND and case.state not in FINAL_CASE_STATES:
        await _ask_how_it_stands(rt, conn, file, case)
    elif timer.kind == OVERDUE and case.state in (CaseState.COMMITTED, CaseState.IN_PROGRESS):
        summary = f"The repair window ended {file.policy.overdue_h:g} h ago and the work is not reported as done"
        await escalate(conn, rt.clock, rt.notifiers, file, case, "work_overdue", summary, {"step": "work"})


async def _ask_how_it_stands(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> None:
    """A person took over and nothing was heard since: that person is asked, then the lines."""
    actor = case.plan.decisions.manual
    user = await fetch_one(conn, PersonRef, _sql.person_of_user, {"user_id": actor.removeprefix("user:")})
    who = actor.removeprefix("user:")
    summary = f"{who} handles the case by hand and nothing was heard of it since; how does it stand?"
    first = user.person_id if user else ""
    await escalate(conn, rt.clock, rt.notifiers, file, case, "taken_over", summary, {"step": "by_hand"}, first=first)


async def _look_again(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> None:
    """Nothing was arranged yet: over when the device has found it healthy for a while, else judged anew."""
    settled_before = rt.clock.now() - timedelta(hours=file.policy.look_again_h)
    where = {"asset_id": case.asset_id, "slot": case.slot, "settled_before": settled_before}
    recovered = await fetch_one(conn, Moment, _sql.recovered_since, where)
    if recovered is not None:
        reason = f"The device has found it healthy again since {recovered.at:%Y-%m-%d %H:%M} UTC; nothing was arranged"
        await cancel_case(conn, rt.clock, SYSTEM, case.case_id, reason)
        return
    latest = await fetch_one(conn, FindingRevision, _sql.latest_revision, {"finding_id": case.finding_id})
    if latest is not None:
        await defer_triage(conn, latest.finding_id, latest.revision)


async def _tell_cancelled(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> None:
    """Tell the customer that the announced repair does not take place.

    This holds also when the plan was given up before the case ended. A case that nobody was told of ends silently.
    """
    holding = holders_of(file.acts)
    if not holding or (file.plan.booking.announced is None and file.plan.unread is None):
        return
    try:
        announced = file.plan.booking.announced or announced_window(holding[-1].told)
    except BadInput as error:
        text = f"The customer is to be told by hand: the announced appointment cannot be read ({error})"
        await note(conn, rt.clock, case, "cancellation_not_told", text)
        return
    plan = replace(case.plan, booking=replace(case.plan.booking, announced=announced))
    file = replace(file, case=replace(file.case, plan=plan))
    owner = await person(conn, case.owner_id)
    revision, channels = next_revision(file.acts), telling.refused(case, file.acts)
    for number, holder in enumerate(holding):
        composed = messages.cancellation(file, owner.name, rt.clock.now(), revision)
        tag = holder.person_id if number else ""
        await tell_holder(rt, conn, case, composed, holder, revision, tag=tag, channels=channels)
    await wake(conn, rt.clock, case)
