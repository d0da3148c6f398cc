"""A case at rest names who answers for it, what it waits for, and until when. Pure: (case file, people, now) -> what is
broken.

The invariant. Every open case has an owner who is active and can be reached, and waits for one of these: something in
progress with a time, a question that was sent to somebody who is there and falls due, or an engineer at work with a
time by which he is missed. No message waits without a time; no question is open whose cause has gone, so none of an
ended case, but that about a message that still has to reach the customer.

The worker's sweep checks and repairs it in production (``rest_sweep.py``), the simulation after every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet_server.resolution import telling
from fleet_server.resolution.questions import what_changed
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.requests import planned_engineer
from fleet_server.resolution.rows import Act, Question
from fleet_server.resolution.states import FINAL_CASE_STATES, ActState, CaseState, Control

LATE = timedelta(hours=1)
"""How late what is due may be taken up (a worker that was away, a retry's pause) before it counts as forgotten."""
BY_HAND = "taken_over"
"""The timer after which a case that is handled by hand is asked about."""
_TIMERS = {
    CaseState.OPEN: ("look_again",),
    CaseState.COMMITTED: ("work_overdue",),
    CaseState.IN_PROGRESS: ("work_overdue",),
    CaseState.VERIFYING: ("verify", "close_by_hand"),
}
"""State -> the timers one of which brings the case on when nothing else does."""


class Kind(StrEnum):
    """What can be broken; the sweep counts by it."""

    OWNER_LEFT = "owner_left"
    OWNER_UNREACHABLE = "owner_unreachable"
    ENGINEER_LEFT = "engineer_left"
    NO_TIME = "no_time"
    TAKEN_OVER_WITHOUT_TIME = "taken_over_without_time"
    MESSAGE_WITHOUT_TIME = "message_without_time"
    QUESTION_UNSENT = "question_unsent"
    QUESTION_FORGOTTEN = "question_forgotten"
    QUESTION_WITHOUT_CAUSE = "question_without_cause"


@dataclass(frozen=True, slots=True)
class Contact:
    """A person as far as the invariant goes. ``reachable``: some channel that is configured has an address."""

    active: bool
    reachable: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """One breach. ``text`` is for people; ``question`` is the one that it concerns, if it concerns one."""

    kind: Kind
    text: str
    question: Question | None = None


def broken(file: CaseFile, people: Mapping[str, Contact], now: datetime) -> list[Broken]:
    """What of the invariant does not hold for a case that nobody is working on at this moment; [] when all does.

    ``people``: by id, everybody the case names; one who is missing there counts as gone.
    """
    found = [*_messages(file, now), *_questions(file, people, now)]
    if file.case.state not in FINAL_CASE_STATES:
        found += [*_who(file, people), *_why(file, now)]
    return found


def _who(file: CaseFile, people: Mapping[str, Contact]) -> list[Broken]:
    owner = people.get(file.case.owner_id)
    found = []
    if owner is None or not owner.active:
        found.append(Broken(Kind.OWNER_LEFT, f"its owner {file.case.owner_id} is not active any more"))
    elif not owner.reachable:
        found.append(Broken(Kind.OWNER_UNREACHABLE, f"no channel reaches its owner {file.case.owner_id}"))
    coming = file.held("dispatch")
    engineer = planned_engineer(coming) if coming and not is_asked(file, "engineer_left") else ""
    if file.plan.decisions.keep_plan:  # a person looked at it
        engineer = ""
    known = people.get(engineer) if engineer else None
    if known is not None and not known.active and file.case.state in (CaseState.COMMITTED, CaseState.IN_PROGRESS):
        found.append(Broken(Kind.ENGINEER_LEFT, f"the engineer {engineer} is not active any more"))
    return found


def _why(file: CaseFile, now: datetime) -> list[Broken]:
    """Whether something brings the case on, and when."""
    if file.questions:
        return []
    kinds = _TIMERS.get(file.case.state, ())
    if file.case.control is Control.BY_HAND:
        if any(timer.kind == BY_HAND for timer in file.timers):
            return []
        return [Broken(Kind.TAKEN_OVER_WITHOUT_TIME, "it is handled by hand, and nobody will ask how it goes")]
    if any(timer.kind in kinds and timer.due_at > now - LATE for timer in file.timers):
        return []
    if file.case.next_at is not None and file.case.next_at > now - LATE:
        return []
    return [Broken(Kind.NO_TIME, f"it is {file.case.state} and nothing brings it on")]


def _messages(file: CaseFile, now: datetime) -> list[Broken]:
    """A pending act is done when the case is next looked at: that must have a time."""
    pending = [act for act in file.acts if act.kind == "message" and act.state in telling.PENDING]
    next_at = file.case.next_at
    if not pending or (next_at is not None and next_at > now - LATE):
        return []
    return [Broken(Kind.MESSAGE_WITHOUT_TIME, f"its {act.purpose} waits without a time") for act in pending]


def _questions(file: CaseFile, people: Mapping[str, Contact], now: datetime) -> list[Broken]:
    found = []
    for question in file.questions:
        changed = what_changed(question.reason, file.case, file.acts, question.step)
        to = people.get(question.to_person)
        if changed:
            found.append(Broken(Kind.QUESTION_WITHOUT_CAUSE, f"{question.reason} is asked though {changed}", question))
        elif question.due_at <= now - LATE:
            found.append(
                Broken(Kind.QUESTION_FORGOTTEN, f"{question.reason} was due {question.due_at:%Y-%m-%d %H:%M}", question)
            )
        elif to is None or not to.active or not was_sent(file.acts, question):
            text = f"{question.reason} did not reach {question.to_person}"
            found.append(Broken(Kind.QUESTION_UNSENT, text, question))
    return found


def is_asked(file: CaseFile, reason: str) -> bool:
    """Whether somebody is asked that."""
    return any(question.reason == reason for question in file.questions)


def was_sent(acts: Sequence[Act], question: Question) -> bool:
    """Whether a message of the question to whom it is with was accepted, or is on its way."""
    return any(
        act.purpose == telling.ESCALATION
        and str(question.escalation_id) in act.idempotency_key
        and act.request.get("to") == question.to_person
        and act.state in (ActState.HELD, *telling.PENDING)
        for act in acts
        if act.kind == "message"
    )
