"""A message as it is true when its turn comes: composed again from the facts at the moment of sending, or not sent.

Between the intention of a message and its sending lie failures of mail servers, observing, and whole repairs. So what
is to be sent is composed anew (``messages.py``) from the case, its acts and the state of the machine; a message whose
cause has gone is dropped, with the reason for the case's timeline. What another person or channel was told does not
count: whoever never got the announcement gets the present plan as one, not as "moved".

Reads in a transaction of its own on the caller's connection; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleet_server.health.running import RunningState
from fleet_server.health.running_kept import assess_now
from fleet_server.notifiers.api import Message
from fleet_server.resolution import messages
from fleet_server.resolution.escalations import person
from fleet_server.resolution.holders import TAKING
from fleet_server.resolution.records import CaseFile, load_case
from fleet_server.resolution.requests import MessageRequest, read_request
from fleet_server.resolution.rows import Act, Found
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActState, CaseState
from fleet_server.resolution.stored import table_of
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
PLAN = ("announcement", "amendment")
MAY_HAVE_ARRIVED = (ActState.HELD, ActState.CONSUMED, ActState.UNKNOWN)
ENDED_UNREPAIRED = (CaseState.CANCELLED, CaseState.FALSE_ALARM)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message that is not sent, and why, for people."""

    because: str


async def true_now(rt: Runtime, conn: Connection, act: Act, request: MessageRequest) -> Message | Dropped:
    """The message of an act as it is to be sent now. Raises NotFound, BadInput and PlanIncomplete."""
    written = Message.from_json(request.message)
    async with conn.transaction():
        file, now = await load_case(conn, act.case_id), rt.clock.now()
        if written.purpose == "escalation":
            asked = {"escalation_id": request.question}
            open_still = not request.question or await fetch_one(conn, Found, _sql.question_is_open, asked) is not None
            return written if open_still else Dropped("the question was answered meanwhile")
        owner = await person(conn, file.case.owner_id)
        assessed = await assess_now(conn, file.asset.asset_id, now)
    decider = written.data.get("decided_by")  # a plan forgets who made it possible once it stands
    machine = assessed.asset if assessed is not None else None
    composed = _composed(
        file, act, request, written, owner.name, decider if isinstance(decider, str) else "", machine, now
    )
    if composed is None or isinstance(composed, Dropped):
        return composed or written
    return replace(
        written,
        subject=composed.subject,
        text=composed.text,
        html=composed.html,
        calendar=composed.calendar,
        data={**written.data, **composed.data},
    )


def _composed(
    file: CaseFile,
    act: Act,
    request: MessageRequest,
    written: Message,
    owner: str,
    decider: str,
    machine: RunningState | None,
    now: datetime,
) -> messages.Composed | Dropped | None:
    """The message composed anew, Dropped, or None where its purpose is not known here and it is sent as written."""
    told = _told_before(file, act, request)
    match written.purpose:
        case "announcement" | "amendment":
            return _plan_told(file, act, told, owner, decider, machine, now)
        case "cancellation":
            if not told:
                return Dropped("what it takes back was never announced to them")
            if file.plan.booking.announced is None:  # a plan that cannot be read: it was written from the announcement
                return None
            return messages.cancellation(file, owner, now, act.sequence)
        case "closing":
            return messages.closing(file, owner, announced=bool(told))
        case "alert" | "failure":
            return _failure_told(file, written, owner, now)
        case _:
            return None


def _plan_told(
    file: CaseFile,
    act: Act,
    told: Sequence[Act],
    owner: str,
    decider: str,
    machine: RunningState | None,
    now: datetime,
) -> messages.Composed | Dropped:
    booking = file.plan.booking
    if file.case.state in ENDED_UNREPAIRED:
        return Dropped("the repair does not take place any more")
    if booking.window is None or booking.engineer is None or booking.part is None:
        return Dropped("what it tells of is no longer booked")
    stays = bool(told) and _data(told[-1]).get("window") == table_of(booking.window)
    composed = messages.announcement(
        file, owner, now, act.sequence, decider, machine=machine, amends=bool(told), stays=stays
    )
    same = ("window", "engineer")
    if told and all(_data(told[-1]).get(name) == composed.data.get(name) for name in same):
        return Dropped("they were told of this window already")
    return composed


def _failure_told(file: CaseFile, written: Message, owner: str, now: datetime) -> messages.Composed | Dropped:
    since = written.data.get("runs_since")
    if isinstance(since, str):
        if file.plan.is_emergency:
            return Dropped("it stands still again")
        return messages.runs_again(file, owner, datetime.fromisoformat(since), now, written.purpose)
    if not file.plan.is_emergency:
        return Dropped("it runs again")
    if file.case.state in (*ENDED_UNREPAIRED, CaseState.VERIFYING, CaseState.CLOSED):
        return Dropped("its case went on meanwhile: it was repaired, or ended")
    return messages.failure(file, owner, now, written.purpose)


def _told_before(file: CaseFile, act: Act, request: MessageRequest) -> list[Act]:
    """What of the plan the same person may have been told by the same channel before, oldest first; nothing of what was
    taken back from the person."""
    told: list[Act] = []
    for other in file.acts:
        if other.kind != "message" or other.act_id == act.act_id or other.purpose not in (*PLAN, *TAKING):
            continue
        read = read_request(other, MessageRequest)
        if read.to != request.to or read.channel != request.channel or other.state not in MAY_HAVE_ARRIVED:
            continue
        if other.purpose == "withdrawal":
            told.clear()
        elif other.purpose in PLAN:
            told.append(other)
    return told


def _data(act: Act) -> dict[str, object]:
    data = read_request(act, MessageRequest).message.get("data")
    return data if isinstance(data, dict) else {}
