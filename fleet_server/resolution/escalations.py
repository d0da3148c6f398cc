"""Handing over to a named person: why, with everything needed on one screen, what can be chosen, until when.

An escalation is a row with a due time in domain time, so it survives every restart. When it falls due undecided it goes
once to the second line, with a reminder. Its message goes to the person, never to the customer's director.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from fleet_core.clock import Clock
from fleet_server.notifiers.api import Message, Notifier, Recipient
from fleet_server.resolution import messages
from fleet_server.resolution.case import Case
from fleet_server.resolution.metrics import ESCALATIONS
from fleet_server.resolution.plan import write_plan
from fleet_server.resolution.questions import OPTIONS, options_for, reason_label, what_changed
from fleet_server.resolution.records import (
    SYSTEM,
    CaseFile,
    change_case,
    intend,
    jsonb,
    load_case,
    lock_case,
    note,
    wake,
)
from fleet_server.resolution.rows import Count, Escalation, EscalationRef, Person
from fleet_server.resolution.states import FINAL_CASE_STATES, ControlEvent
from fleet_server.resolution.stored import storable
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
NO_LONGER_NEEDED = "no_longer_needed"
"""The decision of a question whose cause has gone before anybody decided."""
DUE_H = 24.0
"""Hours (domain time) until a decision is due when the policy names none for the case's urgency."""


def _pointless(case: Case, detail: Mapping[str, object]) -> set[str]:
    """Options that lead nowhere: all that goes on with a case that has ended, of which only a message can still be
    asked about; lateness accepted before; a late part when there is no part at all to wait for."""
    if case.state in FINAL_CASE_STATES:
        return OPTIONS.keys() - {"retry", "take_over"}
    if case.plan.decisions.accept_late:
        return {"accept_late_part", "accept_late_window"}
    return {"accept_late_part"} if detail.get("offers") == [] else set()


async def escalate(
    conn: Connection,
    clock: Clock,
    notifiers: Mapping[str, Notifier],
    file: CaseFile,
    case: Case,
    reason: str,
    summary: str,
    detail: Mapping[str, object] | None = None,
) -> Case:
    """Hand the case to its owner; the case's row is held. Does nothing more while the same reason is open."""
    case, summary = case.after(ControlEvent.ASK), storable(summary)
    due_h = file.policy.escalation_due_h.get(case.urgency, DUE_H)
    due_at = clock.now() + timedelta(hours=due_h)
    options = options_for(reason, _pointless(case, detail or {}))
    values = {
        "escalation_id": uuid.uuid4(),
        "tenant_id": case.tenant_id,
        "case_id": case.case_id,
        "reason": reason,
        "summary": summary,
        "to_person": case.owner_id,
        "now": clock.now(),
        "due_at": due_at,
        "context": jsonb(context_of(file, case, detail or {})),
        "options": jsonb(options),
    }
    if await fetch_one(conn, EscalationRef, _sql.insert_escalation, values) is None:  # it is open already
        return await change_case(conn, case)
    ESCALATIONS.labels(reason).inc()
    owner = await person(conn, case.owner_id)
    summary_line = f"Handed to {owner.name}: {summary}"
    shown = {"reason": reason, "to": owner.name, "due_at": due_at, **(detail or {})}
    await note(conn, clock, case, "escalated", summary_line, shown)
    composed = messages.escalation(file, summary, due_at, options)
    await intend_message(conn, clock, notifiers, case, composed, owner, tag=str(values["escalation_id"]))
    return await wake(conn, clock, replace(case, waits_for=f"decision of {owner.name}: {summary}"[:300]))


def context_of(file: CaseFile, case: Case, detail: Mapping[str, object]) -> dict[str, object]:
    """Everything a person needs to decide, on one screen, as JSON values."""
    wanted = ("abstained", "reason", "failure_mode", "p_fail", "rul_p10_h", "rul_p50_h", "rul_p90_h", "mode_share")
    shown = ("state", "failure_mode", "urgency", "impact", "deadline_at", "component_serial", "slot")
    return {
        "case": {"name": file.name, **_fields(case, shown)},
        "asset": _fields(file.asset, ("asset_id", "name", "model", "serial", "criticality")),
        "site": _fields(file.site, ("site_id", "name", "time_zone", "region")),
        "component": _fields(file.component, ("component_type", "serial", "part_no")),
        "prognosis": None if file.prognosis is None else _fields(file.prognosis, wanted),
        "plan": write_plan(case.plan),
        "acts": [_fields(act, ("kind", "purpose", "sequence", "state", "error", "external_ref")) for act in file.acts],
        **detail,
    }


def _fields(row: object, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(row, name) for name in names}


async def remind(conn: Connection, clock: Clock, notifiers: Mapping[str, Notifier], found: EscalationRef) -> None:
    """Hand an overdue escalation to the second line, once; nothing when it was decided or handed over meanwhile."""
    await lock_case(conn, found.case_id)  # the case first, as every writer does
    overdue = await fetch_one(conn, Escalation, _sql.lock_escalation, {"escalation_id": found.escalation_id})
    if overdue is None or overdue.decided_at is not None or overdue.reminded_at is not None:
        return
    file = await load_case(conn, overdue.case_id)
    wanted = {"person_id": overdue.to_person, "tenant_id": overdue.tenant_id}
    to = await fetch_one(conn, Person, _sql.second_line, wanted) or await person(conn, overdue.to_person)
    due_at = clock.now() + timedelta(hours=file.policy.escalation_due_h.get(file.case.urgency, DUE_H))
    values = {
        "now": clock.now(),
        "to_person": to.person_id,
        "due_at": due_at,
        "escalation_id": overdue.escalation_id,
    }
    await conn.execute(_sql.hand_over, values)
    text = f"Undecided when due, now with {to.name}: {overdue.summary}"
    await note(conn, clock, file.case, "escalation_handed_over", text, {"to": to.name, "due_at": due_at})
    composed = messages.escalation(file, f"Reminder. {overdue.summary}", due_at, overdue.options)
    tag = f"{overdue.escalation_id}:reminder"
    await intend_message(conn, clock, notifiers, file.case, composed, to, tag=tag)
    await wake(conn, clock, replace(file.case, waits_for=f"decision of {to.name}: {overdue.summary}"[:300]))


async def end_questions(conn: Connection, clock: Clock, file: CaseFile) -> None:
    """End the questions whose cause has gone; the record of each says what changed."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        for question in file.questions:
            changed = what_changed(question.reason, case, file.acts, question.step)
            if changed:
                values = {"escalation_id": question.escalation_id, "now": clock.now(), "actor": SYSTEM}
                await conn.execute(_sql.end_escalation, {**values, "decision": NO_LONGER_NEEDED, "note": changed})
                text = f"{reason_label(question.reason)}: no decision is needed any more, {changed}"
                await note(conn, clock, case, "question_ended", text, {"reason": question.reason, "changed": changed})
        left = await fetch_one(conn, Count, _sql.open_escalations, {"case_id": case.case_id})
        if case.escalated and (left is None or left.n == 0):
            waits_for = "" if case.waits_for.startswith("decision of ") else case.waits_for
            case = replace(case.after(ControlEvent.ANSWERED), waits_for=waits_for)
        await change_case(conn, case)


async def intend_message(
    conn: Connection,
    clock: Clock,
    notifiers: Mapping[str, Notifier],
    case: Case,
    composed: messages.Composed,
    to: Person,
    *,
    sequence: int = 0,
    tag: str = "",
    thread: Mapping[str, str] | None = None,
    channels: Collection[str] = (),
) -> list[str]:
    """Write down one message for each channel that reaches the person; returns the channels.

    ``thread``: channel -> key of the message that began the thread there; ``channels``: by these alone, () for all. A
    message intended before is not doubled.
    """
    recipient = Recipient(to.person_id, to.name, to.email, to.webhook_url)
    intended = []
    for channel, notifier in notifiers.items():
        address = notifier.address(recipient)
        if not address or (channels and channel not in channels):
            continue
        purpose = ":".join(filter(None, (composed.purpose, tag, channel)))
        message = Message(
            key=f"{case.case_id}:message:{purpose}:{sequence}",
            purpose=composed.purpose,
            to_name=to.name,
            to_address=address,
            subject=composed.subject,
            text=composed.text,
            html=composed.html,
            reply_to_key=(thread or {}).get(channel, ""),
            calendar=composed.calendar,
            data=composed.data,
        )
        request = {"channel": channel, "to": to.person_id, "message": message.to_json()}
        if composed.purpose == "escalation":
            request["question"] = tag.partition(":")[0]
        if await intend(conn, clock, case, "message", sequence, request, purpose):
            intended.append(channel)
    return intended


async def person(conn: Connection, person_id: str) -> Person:
    """A registered person: an owner, or whom a message went to."""
    row = await fetch_one(conn, Person, _sql.person_by_id, {"person_id": person_id})
    assert row is not None  # a foreign key says so
    return row
