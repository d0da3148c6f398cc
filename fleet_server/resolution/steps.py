"""What a case does next. Pure: (case file, now) -> one step, or waiting until some time, or for an event.

The order of a plan is entitlement, part, window, work order, dispatch, commitment, announcement. Every step is found
from the rows alone, so a worker that starts after a crash goes on exactly where the rows say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet_server.resolution import telling
from fleet_server.resolution.questions import what_changed
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.requests import DispatchRequest, planned_engineer, read_request
from fleet_server.resolution.rows import Act
from fleet_server.resolution.states import ActState, CaseState, Control, Undoing

PENDING = (ActState.INTENDED, ActState.UNKNOWN)
UNDOABLE = ("reservation", "window", "work_order", "dispatch")
"""Kinds of acts that bind another system and are released when a plan is given up, last done first."""


class Step(StrEnum):
    END_QUESTIONS = "end_questions"
    WITHDRAW = "withdraw"
    SEND = "send"
    TELL_AGAIN = "tell_again"
    RELEASE = "release"
    UNWOUND = "unwound"
    CONSUME = "consume"
    ENTITLEMENT = "entitlement"
    APPROVAL = "approval"
    UNREADABLE = "unreadable"
    PART = "part"
    WINDOW = "window"
    WORK_ORDER = "work_order"
    DISPATCH = "dispatch"
    COMMIT = "commit"
    AMEND = "amend"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Next:
    """A step; ``act`` is the row it continues. For WAIT ``until`` is the domain time to look again, None: an event."""

    step: Step
    act: Act | None = None
    until: datetime | None = None


def next_step(file: CaseFile, now: datetime) -> Next:
    """The one thing to do now: end questions whose cause has gone, send what is due, undo what was given up, use up
    what was needed, else plan on.

    What a tenant who only observes pauses, a message or a plan, is looked at again after a while, whoever ends it.
    """
    if any(what_changed(one.reason, file.case, file.acts, one.step) for one in file.questions):
        return Next(Step.END_QUESTIONS)
    outdated = telling.outdated(file.case, file.acts)
    if outdated is not None:
        return Next(Step.WITHDRAW, outdated)
    paused = file.tenant.observe_only
    messages = [act for act in file.acts if act.kind == "message" and act.state in PENDING]
    for act in messages:
        if act.due_at <= now and (act.purpose in telling.TO_US or not paused):
            return Next(Step.SEND, act)
    found = _telling(file) or _undoing(file, now) or _using_up(file, now) or _planning(file, now)
    if found.step is not Step.WAIT:
        return found
    look_again = now + timedelta(hours=file.policy.look_again_h)
    times = [look_again if paused and act.purpose not in telling.TO_US else act.due_at for act in messages]
    return Next(Step.WAIT, until=_earliest([*times, found.until]))


def _telling(file: CaseFile) -> Next | None:
    """A person decided that the customer is told again what did not reach him."""
    if file.plan.decisions.tell_again and not file.tenant.observe_only:
        return Next(Step.TELL_AGAIN)
    return None


def _undoing(file: CaseFile, now: datetime) -> Next | None:
    """Release what the plan no longer needs: one window, or everything when the plan or the case was given up.

    None when there is nothing to undo. A held window is an act like the others: RELEASE cancels it in the WMS and
    makes the act ``released``. When nothing is held any more, UNWOUND lets the plan of a living case forget the window;
    the plan of an ended case keeps it as a record. An undoing that was under way when the case ended is finished here.
    What another system holds otherwise than asked is released in any state, before anything else is asked of it.
    """
    unwanted = [act for act in file.acts if act.state is ActState.UNWANTED]
    if unwanted:
        return _when_due(Step.RELEASE, unwanted[-1], now)
    undoing = file.plan.undoing
    if undoing is Undoing.WINDOW:
        window = file.live("window")
        if window is not None:
            return _when_due(Step.RELEASE, window, now)
        return Next(Step.UNWOUND)
    given_up = undoing is Undoing.EVERYTHING
    if not given_up and file.case.state not in (CaseState.CANCELLED, CaseState.FALSE_ALARM):
        return None
    held = [act for act in file.acts if act.kind in UNDOABLE and act.state in (*PENDING, ActState.HELD)]
    if held:
        return _when_due(Step.RELEASE, held[-1], now)
    return Next(Step.UNWOUND) if given_up else Next(Step.WAIT)


def _using_up(file: CaseFile, now: datetime) -> Next | None:
    """Mark what was held as used once the work is done, and give back an unused part; None before that."""
    if file.case.state not in (CaseState.VERIFYING, CaseState.CLOSED):
        return None
    for act in file.acts:
        if act.kind != "message" and act.state is ActState.HELD:
            unused = act.kind == "reservation" and not file.case.part_used
            return _when_due(Step.RELEASE if unused else Step.CONSUME, act, now)
    return Next(Step.WAIT)


def _planning(file: CaseFile, now: datetime) -> Next:
    """Go on with the plan, or with moving it, while nobody else has the word."""
    case = file.case
    if case.escalated or case.control is Control.BY_HAND:
        return Next(Step.WAIT)
    if file.plan.unread_because and case.state in (CaseState.CONFIRMED, CaseState.PLANNING, CaseState.COMMITTED):
        return Next(Step.UNREADABLE)
    if file.tenant.observe_only:
        paused = case.being_planned or case.being_moved
        return Next(Step.WAIT, until=now + timedelta(hours=file.policy.look_again_h) if paused else None)
    not_before = file.plan.retrying.not_before
    if not_before is not None and not_before > now:
        return Next(Step.WAIT, until=not_before)
    if case.being_planned:
        return _next_of_plan(file, now)
    if case.being_moved:
        return _next_of_move(file, now)
    return Next(Step.WAIT)


def _next_of_plan(file: CaseFile, now: datetime) -> Next:
    decisions = file.plan.decisions
    cover_lost = file.plan.unread is not None and file.plan.booking.entitlement is None
    if (file.held("entitlement") is None or cover_lost) and not decisions.without_cover:
        return _when_due(Step.ENTITLEMENT, _pending(file, "entitlement"), now)
    if file.policy.asks_a_person(file.asset.asset_class) and not decisions.approved_by:
        return Next(Step.APPROVAL)
    coming, gone = file.held("dispatch"), file.plan.replanning.gone_engineer
    if coming is not None and gone and planned_engineer(coming) == gone:
        return _when_due(Step.RELEASE, coming, now)
    for kind, step in (
        ("reservation", Step.PART),
        ("window", Step.WINDOW),
        ("work_order", Step.WORK_ORDER),
        ("dispatch", Step.DISPATCH),
    ):
        if file.held(kind) is None:
            return _when_due(step, _pending(file, kind), now)
    return Next(Step.COMMIT)


def _next_of_move(file: CaseFile, now: datetime) -> Next:
    """Book the earlier window, move the engineer, give up the old window, tell the customer."""
    moved = file.plan.replanning.next_window
    pending = _pending(file, "window")
    if moved is None or pending is not None:
        return _when_due(Step.WINDOW, pending, now)
    dispatch = file.latest("dispatch")
    if dispatch is None or dispatch.state is not ActState.HELD or _starts(dispatch) != moved.start:
        return _when_due(Step.DISPATCH, _pending(file, "dispatch"), now)
    newest = {"window": file.latest("window"), "dispatch": dispatch}
    for act in file.acts:
        if act.kind in newest and act.state is ActState.HELD and act is not newest[act.kind]:
            return _when_due(Step.RELEASE, act, now)
    return Next(Step.AMEND)


def _starts(dispatch: Act) -> datetime:
    return read_request(dispatch, DispatchRequest).start


def _pending(file: CaseFile, kind: str) -> Act | None:
    act = file.latest(kind)
    return act if act is not None and act.state in PENDING else None


def _when_due(step: Step, act: Act | None, now: datetime) -> Next:
    if act is not None and act.due_at > now:
        return Next(Step.WAIT, until=act.due_at)
    return Next(step, act)


def _earliest(times: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in times if moment is not None), default=None)
