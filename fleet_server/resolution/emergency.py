"""What follows for a case when its component is taken for failed, and when it runs again after all.

The evidence makes a *candidate* of an outcome: it is noted with how the last forecast fared, and the person who
reports the work says what it was. Meanwhile the case goes the emergency way, as far as nobody decided otherwise: a
case that was watched, or waited for an answer about evidence or lateness, goes on; a booked window is moved when an
earlier one is free; what the policy has people approve is still asked. The owner and the site's director are told at
once, by every channel that reaches them.

Runs in the caller's transaction, once for each failure: the plan remembers it (``plan.Emergency``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fleet_core.telemetry import Finding
from fleet_server.health.running import RunningState, Why
from fleet_server.resolution import messages
from fleet_server.resolution.case import Case, Event
from fleet_server.resolution.escalations import intend_message, person
from fleet_server.resolution.jobs import defer_triage
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.plan import Emergency
from fleet_server.resolution.records import SYSTEM, CaseFile, change_case, load_case, note, wake
from fleet_server.resolution.rows import Count, FindingRevision, FindingRow, Forecast, Found, JudgedAsset, Person
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseEvent, CaseState, Control, ControlEvent, Move, MoveEvent, UndoingEvent
from fleet_server.resolution.triage import open_case
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
ANSWERED_BY_FAILURE = ("abstained", "conflicting_evidence", "no_part_in_time", "no_window_in_time", "deadline_moved")
"""Questions about evidence and lateness: when the machine has failed, there is nothing left to weigh."""
BEFORE_THE_REPAIR = (CaseState.OPEN, CaseState.CONFIRMED, CaseState.PLANNING, CaseState.COMMITTED)


async def begin_emergency(rt: Runtime, conn: Connection, asset_id: str, slot: str, failed: RunningState) -> None:
    """Have a component's case go the emergency way; opens one where there is none. Nothing when that was done, when its
    repair has begun, or when its case ended after it had failed.

    Raises Permanent when nobody can own a case.
    """
    where = {"asset_id": asset_id, "slot": slot}
    await conn.execute(_sql.lock_component, where)
    case = await fetch_one(conn, Case, _sql.open_case_of, where)
    if case is None:
        case = await _new_case(rt, conn, asset_id, slot, failed.since)
    if case is None or case.state not in BEFORE_THE_REPAIR or case.plan.is_emergency:
        return
    silent = failed.why is Why.CRITICAL_THEN_SILENCE
    emergency = Emergency(failed.since, failed.text, silent, case.plan.emergency.alerts)
    case = replace(case, urgency="immediate", plan=replace(case.plan, emergency=emergency))
    text = f"Taken for failed since {failed.since:%Y-%m-%d %H:%M} UTC: {failed.text}"
    shown = {"since": failed.since, "why": failed.why, "evidence": failed.evidence}
    await note(conn, rt.clock, case, "failed", text, shown)
    await _note_candidate(rt, conn, case, failed)
    case = await _go_on(rt, conn, case)
    await wake(conn, rt.clock, await _tell(rt, conn, case))
    CASES.labels("emergency").inc()


async def end_emergency(rt: Runtime, conn: Connection, asset_id: str, slot: str, runs: RunningState) -> None:
    """A component that was taken for failed runs: its case goes on as before, and those who were told are told so."""
    where = {"asset_id": asset_id, "slot": slot}
    await conn.execute(_sql.lock_component, where)
    case = await fetch_one(conn, Case, _sql.open_case_of, where)
    if case is None or not case.plan.is_emergency or case.state not in BEFORE_THE_REPAIR:
        return
    had_failed = case.plan.emergency
    case = replace(case, plan=replace(case.plan, emergency=Emergency(alerts=had_failed.alerts)))
    text = f"It runs again since {runs.since:%Y-%m-%d %H:%M} UTC: it had only stopped"
    await note(conn, rt.clock, case, "runs_again", text, {"stood_since": had_failed.failed_at, "since": runs.since})
    await wake(conn, rt.clock, await _tell(rt, conn, case, runs.since))
    latest = await fetch_one(conn, FindingRevision, _sql.latest_revision, {"finding_id": case.finding_id})
    if latest is not None:
        await defer_triage(conn, latest.finding_id, latest.revision)


async def _new_case(rt: Runtime, conn: Connection, asset_id: str, slot: str, failed_at: datetime) -> Case | None:
    """A case for a failed component, on its newest finding; None when there is none, or a case ended since."""
    where = {"asset_id": asset_id, "slot": slot, "at": failed_at}
    row = await fetch_one(conn, FindingRow, _sql.newest_finding_of, where)
    asset = await fetch_one(conn, JudgedAsset, _sql.asset_row, where)
    if row is None or asset is None or await fetch_one(conn, Found, _sql.case_ended_after, where) is not None:
        return None
    return await open_case(rt, conn, row, Finding.from_json(row.body_text), asset)


async def _go_on(rt: Runtime, conn: Connection, case: Case) -> Case:
    """The case as the emergency has it go on, where neither a person has the word nor a question stands that counts."""
    if case.control is Control.BY_HAND:
        return case
    values = {
        "case_id": case.case_id, "now": rt.clock.now(), "actor": SYSTEM, "decision": "evidence_changed",
        "note": "The machine has failed", "reasons": list(ANSWERED_BY_FAILURE),
    }  # fmt: skip
    await conn.execute(_sql.withdraw_questions, values)
    left = await fetch_one(conn, Count, _sql.open_escalations, {"case_id": case.case_id})
    events: list[Event] = []
    if case.escalated and (left is None or left.n == 0):
        events.append(ControlEvent.ANSWERED)
    if case.state is CaseState.OPEN:
        events.append(CaseEvent.CONFIRM)
    elif case.state is CaseState.PLANNING and case.plan.booking.window is not None:
        events.append(UndoingEvent.NO_ENGINEER)  # the window that was found is given back, an earlier one is looked for
    elif case.state is CaseState.COMMITTED and case.move is Move.STAYS and case.plan.booking.window is not None:
        events += [MoveEvent.DEADLINE_MOVED] if case.plan.booking.window.start > rt.clock.now() else []
    case = case.after(*events)
    return replace(case, waits_for="" if not case.escalated else case.waits_for)


async def _note_candidate(rt: Runtime, conn: Connection, case: Case, failed: RunningState) -> None:
    """The outcome that the evidence suggests, and how the last forecast fared by it; a person confirms it."""
    of = {"case_id": case.case_id, "at": failed.since}
    said = await fetch_one(conn, Forecast, _sql.last_forecast_of, of)
    shown: dict[str, object] = {"failed": True, "failed_at": failed.since}
    text = f"Outcome candidate: failed at {failed.since:%Y-%m-%d %H:%M} UTC; the report of the work confirms it or not"
    if said is not None:
        lived_h = (failed.since - said.made_at).total_seconds() / 3600
        inside = said.rul_p10_h <= lived_h <= said.rul_p90_h
        shown |= {"forecast_made_at": said.made_at, "lived_h": round(lived_h, 2), "inside_interval": inside}
        text += f". The last forecast said {said.rul_p10_h:.0f} to {said.rul_p90_h:.0f} h, it was {lived_h:.0f} h"
    await note(conn, rt.clock, case, "outcome_candidate", text, shown)


async def _tell(rt: Runtime, conn: Connection, case: Case, runs_since: datetime | None = None) -> Case:
    """Tell the owner and the site's director, at once and by every channel that reaches them. Returns the case."""
    number = case.plan.emergency.alerts
    emergency = replace(case.plan.emergency, alerts=number + 1)
    case = await change_case(conn, replace(case, plan=replace(case.plan, emergency=emergency)))
    file: CaseFile = await load_case(conn, case.case_id)
    owner = await person(conn, case.owner_id)
    director = await fetch_one(conn, Person, _sql.directors, {"tenant_id": case.tenant_id, "site_id": case.site_id})
    for to, purpose in ((owner, "alert"), (director, "failure")):
        if to is None:
            await note(conn, rt.clock, case, "nobody_to_tell", "No operations director is registered for the site")
            continue
        now = rt.clock.now()
        if runs_since is not None:
            composed = messages.runs_again(file, owner.name, runs_since, now, purpose)
        else:
            composed = messages.failure(file, owner.name, now, purpose)
        told = await intend_message(conn, rt.clock, rt.notifiers, case, composed, to, sequence=number)
        if not told:
            text = f"{to.name} cannot be told of the failure: no channel reaches them"
            await note(conn, rt.clock, case, "nobody_to_tell", text)
    return case
