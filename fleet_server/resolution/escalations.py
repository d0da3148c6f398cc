"""Handing over to a named person: why, with everything needed on one screen, what can be chosen, until when.

An escalation is a row with a due time in domain time, so it survives every restart. When it falls due undecided it goes
to the next line of the policy's chain (``chain.py``), and at the last one it is repeated, oftener and oftener, until
somebody decides or says to be on it. A message that does not arrive goes to the next person at once. Questions go to
people of ours, never to the customer's director.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_server.labels import case_label
from fleet_server.notifiers.api import Message, Notifier, Recipient
from fleet_server.resolution import messages
from fleet_server.resolution.at_rest import was_sent
from fleet_server.resolution.case import Case
from fleet_server.resolution.chain import wait_h, whom
from fleet_server.resolution.metrics import ESCALATIONS
from fleet_server.resolution.plan import write_plan
from fleet_server.resolution.questions import OPTIONS, options_for, reason_label, what_changed
from fleet_server.resolution.records import (
    SYSTEM,
    CaseFile,
    NotFound,
    change_case,
    intend,
    jsonb,
    load_case,
    lock_case,
    note,
    wake,
)
from fleet_server.resolution.rows import Act, Count, Escalation, EscalationRef, Followed, Person, Question
from fleet_server.resolution.states import FINAL_CASE_STATES, ControlEvent, ForbiddenTransition
from fleet_server.resolution.stored import storable
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
NO_LONGER_NEEDED = "no_longer_needed"
"""The decision of a question whose cause has gone before anybody decided."""
MOST_ACKNOWLEDGED = timedelta(days=7)
"""Nobody may silence a question for longer."""


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
    *,
    first: str = "",
) -> Case:
    """Hand the case to a person: to ``first`` when one is named, else along the policy's lines, its owner first.

    The case's row is held. Does nothing more while the same reason is open.
    """
    case, summary = case.after(ControlEvent.ASK), storable(summary)
    asked = await whom(conn, notifiers, file, clock.now(), first=first)
    to = asked.person if asked else await person(conn, case.owner_id)
    level = asked.level if asked else 0
    due_at = clock.now() + timedelta(hours=wait_h(file.policy, level, case.urgency, 0))
    options = options_for(reason, _pointless(case, detail or {}))
    values = {
        "escalation_id": uuid.uuid4(),
        "tenant_id": case.tenant_id,
        "case_id": case.case_id,
        "reason": reason,
        "summary": summary,
        "to_person": to.person_id,
        "level": level,
        "now": clock.now(),
        "due_at": due_at,
        "context": jsonb(context_of(file, case, detail or {})),
        "options": jsonb(options),
    }
    if await fetch_one(conn, EscalationRef, _sql.insert_escalation, values) is None:  # it is open already
        return await change_case(conn, case)
    ESCALATIONS.labels(reason).inc()
    passed = "".join(f"{why}; " for why in (asked.passed if asked else ("nobody can be reached",)))
    summary_line = f"{passed}{'handed' if passed else 'Handed'} to {to.name}: {summary}"
    shown = {"reason": reason, "to": to.name, "due_at": due_at, **(detail or {})}
    await note(conn, clock, case, "escalated", summary_line, shown)
    composed = messages.escalation(file, summary, due_at, options, reason)
    await intend_message(conn, clock, notifiers, case, composed, to, tag=str(values["escalation_id"]))
    return await wake(conn, clock, replace(case, waits_for=f"decision of {to.name}: {summary}"[:300]))


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
        **({"follows": _follows(file.follows)} if file.follows else {}),
        "plan": write_plan(case.plan),
        "acts": [_fields(act, ("kind", "purpose", "sequence", "state", "error", "external_ref")) for act in file.acts],
        **detail,
    }


def _follows(before: Followed) -> dict[str, object]:
    ended = {"opened_at": before.opened_at, "closed_at": before.closed_at, "ended_because": before.ended_because}
    return {"case_id": str(before.case_id), "name": case_label(before.number), "state": before.state, **ended}


def _fields(row: object, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(row, name) for name in names}


async def remind(conn: Connection, clock: Clock, notifiers: Mapping[str, Notifier], found: EscalationRef) -> None:
    """Nobody decided by the due time: the next line is asked, at the last one again; nothing when that changed
    meanwhile. Whoever said to be on it until now is asked again, before any other line."""
    case = await lock_case(conn, found.case_id)  # the case first, as every writer does
    overdue = await fetch_one(conn, Escalation, _sql.lock_escalation, {"escalation_id": found.escalation_id})
    if overdue is None or overdue.decided_at is not None or overdue.due_at > clock.now():
        return
    file = await load_case(conn, overdue.case_id)
    if what_changed(overdue.reason, case, file.acts, overdue.step):
        await conn.execute(_sql.postpone_escalation, _postponed(overdue, clock, file))
        await wake(conn, clock, case)  # it is ended there
        return
    last = len(file.policy.escalation_chain) - 1
    again = overdue.acknowledged_by is not None
    repeats = overdue.repeats + 1 if overdue.level >= last or again else 0
    level = overdue.level if again else min(overdue.level + 1, last)
    first = overdue.to_person if again else ""
    why = f"Not decided by {overdue.acknowledged_by} in the time named" if again else "Undecided when due"
    await _pass_on(conn, clock, notifiers, file, overdue, level=level, repeats=repeats, why=why, first=first)


async def not_reached(
    conn: Connection, clock: Clock, notifiers: Mapping[str, Notifier], case: Case, act: Act, error: str
) -> None:
    """A question's message was refused: the next channel, which is on its way already, or the next person at once."""
    file = await load_case(conn, case.case_id)
    question = next((one for one in file.questions if str(one.escalation_id) in act.idempotency_key), None)
    if question is None or question.to_person != act.request.get("to"):
        return
    others = [one for one in file.acts if one.act_id != act.act_id]
    if was_sent(others, question):
        return
    found = await fetch_one(conn, Escalation, _sql.lock_escalation, {"escalation_id": question.escalation_id})
    assert found is not None  # escalations are never deleted
    gone = [*found.unreached, question.to_person]
    await _pass_on(
        conn, clock, notifiers, file, found, level=found.level, repeats=found.repeats, why=f"Not delivered ({error})",
        unreached=gone,
    )  # fmt: skip


async def ask_another(
    conn: Connection, clock: Clock, notifiers: Mapping[str, Notifier], file: CaseFile, question: Question, why: str
) -> None:
    """Whom the question is with is not there any more, or never got it: it is asked anew along the lines."""
    found = await fetch_one(conn, Escalation, _sql.lock_escalation, {"escalation_id": question.escalation_id})
    if found is not None and found.decided_at is None:
        await _pass_on(conn, clock, notifiers, file, found, level=0, repeats=found.repeats, why=why)


async def _pass_on(
    conn: Connection,
    clock: Clock,
    notifiers: Mapping[str, Notifier],
    file: CaseFile,
    question: Escalation,
    *,
    level: int,
    repeats: int,
    why: str,
    unreached: Sequence[str] = (),
    first: str = "",
) -> None:
    """Ask whoever is next, with what has happened so far; the case's row is held.

    When nobody at all can be reached the question stays on the pages, and the lines are tried again when it is due.
    """
    now, case = clock.now(), file.case
    asked = await whom(conn, notifiers, file, now, level=level, unreached=unreached)
    if first and asked is not None and first not in unreached:
        asked = await whom(conn, notifiers, file, now, first=first) or asked
        asked = replace(asked, level=level)
    due_at = now + timedelta(hours=wait_h(file.policy, asked.level if asked else level, case.urgency, repeats))
    to = asked.person if asked else await person(conn, question.to_person)
    values = {
        "escalation_id": question.escalation_id,
        "now": now,
        "to_person": to.person_id,
        "due_at": due_at,
        "level": asked.level if asked else level,
        "repeats": repeats,
        "unreached": list(unreached),
    }
    await conn.execute(_sql.hand_over, values)
    if asked is None:
        text = f"{why}; nobody can be reached, the question stands on the pages: {question.summary}"
        await note(conn, clock, case, "nobody_reached", text, {"due_at": due_at})
        await wake(conn, clock, case)
        return
    text = "; ".join([why, *asked.passed, f"now with {to.name}: {question.summary}"])
    await note(conn, clock, case, "escalation_handed_over", text, {"to": to.name, "due_at": due_at})
    before = await person(conn, question.to_person)
    told = f"It was put to {before.name} and is not decided" if before.person_id != to.person_id else "Still undecided"
    summary = " ".join(
        [f"Reminder. {question.summary.rstrip('.')}.", f"{told}; asked first {question.raised_at:%d %b %H:%M} UTC."]
    )
    composed = messages.escalation(file, summary, due_at, question.options, question.reason)
    tag = f"{question.escalation_id}:{sum(str(question.escalation_id) in act.idempotency_key for act in file.acts)}"
    await intend_message(conn, clock, notifiers, case, composed, to, tag=tag)
    await wake(conn, clock, replace(case, waits_for=f"decision of {to.name}: {question.summary}"[:300]))


def _postponed(question: Escalation, clock: Clock, file: CaseFile) -> dict[str, object]:
    later = clock.now() + timedelta(hours=file.policy.look_again_h)
    return {"escalation_id": question.escalation_id, "now": clock.now(), "due_at": later}


async def lock_open_question(conn: Connection, escalation_id: uuid.UUID | str) -> tuple[Case, Escalation]:
    """A question and its case, both rows held. Raises NotFound, and ForbiddenTransition when it is decided."""
    where = {"escalation_id": escalation_id}
    found = await fetch_one(conn, EscalationRef, _sql.case_of_escalation, where)
    if found is None:
        raise NotFound(f"there is no escalation {escalation_id}")
    case = await lock_case(conn, found.case_id)
    question = await fetch_one(conn, Escalation, _sql.lock_escalation, where)
    assert question is not None  # escalations are never deleted
    if question.decided_at is not None:
        raise ForbiddenTransition(f"it was decided already: {question.decision} by {question.decided_by}")
    return case, question


async def acknowledge(
    conn: Connection, clock: Clock, actor: str, escalation_id: uuid.UUID | str, until: datetime
) -> None:
    """Somebody is on it until then: nobody is asked again meanwhile; then the repeats return.

    Raises NotFound, ForbiddenTransition for a question that is decided, BadInput for a time that is over or too far.
    """
    case, question = await lock_open_question(conn, escalation_id)
    if not clock.now() < until <= clock.now() + MOST_ACKNOWLEDGED:
        raise BadInput("until", f"must lie within the next {MOST_ACKNOWLEDGED / timedelta(hours=1):g} h")
    await conn.execute(_sql.acknowledge, {"escalation_id": question.escalation_id, "actor": actor, "until": until})
    text = f"{actor.removeprefix('user:')} is on it until {until:%Y-%m-%d %H:%M} UTC: {question.summary}"
    await note(conn, clock, case, "acknowledged", text, {"until": until, "reason": question.reason}, actor=actor)
    await wake(conn, clock, case)


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
