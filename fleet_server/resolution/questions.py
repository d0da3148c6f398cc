"""What a person can be asked, in which words, and what can be answered. Data only; pure.

``REASONS`` is the one table of why a case is handed to a person: the worker takes the choices from it, the pages the
title. ``OPTIONS`` says what a choice is called, and what follows; ``decisions.CHOICES`` does it. ``WHAT_CHANGED``
says of each reason whether it still holds: a question ends when its cause has gone, and no decision acts on one that
has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from fleet_server.resolution.case import Case
from fleet_server.resolution.rows import Act
from fleet_server.resolution.states import CaseState, Control
from fleet_server.resolution.telling import channel_of, undelivered


@dataclass(frozen=True, slots=True)
class Option:
    """A choice: its name on a button, and what follows from it."""

    label: str
    effect: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a person is asked: the question's title, and the codes of the choices, the most helpful first."""

    label: str
    options: tuple[str, ...]


OPTIONS: Mapping[str, Option] = {
    "retry": Option("Try again", "planning continues automatically"),
    "accept_late_window": Option(
        "Accept a late window", "a quiet window soon is booked even if it ends after the deadline"
    ),
    "accept_late_part": Option(
        "Accept a late part", "the part that arrives first is reserved, and a late window accepted"
    ),
    "accept_out_of_warranty": Option("Repair without cover", "planning continues; the repair is charged"),
    "accept_cost": Option("Accept the cost", "the part is reserved although it exceeds the limit"),
    "approve": Option("Approve", "everything is arranged automatically from here"),
    "act_anyway": Option("Arrange the repair", "the repair is planned on your judgement"),
    "watch": Option("Keep watching", "nothing is arranged until the evidence changes"),
    "keep_plan": Option("Keep the plan", "what is booked stays, whatever the deadline does"),
    "plan_again": Option("Plan again", "what is booked is released and a new plan is made"),
    "close_anyway": Option("Close the case", "the repair counts as verified by you"),
    "verify_longer": Option("Verify longer", "the vitals are observed for another period"),
    "still_on_it": Option("I am still on it", "nothing is arranged automatically; you are asked again later"),
    "hand_back": Option("Give it back", "what is booked stays, and automation goes on from here"),
    "done_by_hand": Option("It is done", "the case ends; what is held is released"),
    "take_over": Option("Take over by hand", "nothing more is arranged automatically for this case"),
    "false_alarm": Option("False alarm", "the case ends; what is held is released"),
}

_EVIDENCE = ("act_anyway", "watch", "take_over", "false_alarm")
_BOOKED = ("keep_plan", "plan_again", "take_over", "false_alarm")

REASONS: Mapping[str, Reason] = {
    "no_warranty": Reason("No warranty or contract", ("accept_out_of_warranty", "retry", "take_over", "false_alarm")),
    "no_part_in_time": Reason("No part before the deadline", ("accept_late_part", "retry", "take_over", "false_alarm")),
    "no_window_in_time": Reason(
        "No window before the deadline", ("accept_late_window", "retry", "take_over", "false_alarm")
    ),
    "no_engineer": Reason("No qualified engineer", ("retry", "take_over", "false_alarm")),
    "connector_down": Reason("Another system does not answer", ("retry", "take_over", "false_alarm")),
    "not_as_asked": Reason("Another system does not do as asked", ("retry", "take_over", "false_alarm")),
    "abstained": Reason("The prognosis abstains", _EVIDENCE),
    "conflicting_evidence": Reason("Conflicting evidence", _EVIDENCE),
    "policy_limit": Reason("Beyond the policy's limit", ("accept_cost", "retry", "take_over", "false_alarm")),
    "approval_required": Reason("Approval required", ("approve", "take_over", "false_alarm")),
    "plan_unreadable": Reason("The stored plan cannot be read", ("plan_again", "take_over", "false_alarm")),
    "deadline_moved": Reason("The deadline moved", _BOOKED),
    "verification_failed": Reason(
        "The repair did not hold", ("plan_again", "verify_longer", "close_anyway", "take_over", "false_alarm")
    ),
    "work_overdue": Reason("The work is overdue", _BOOKED),
    "engineer_left": Reason("The engineer is not here any more", _BOOKED),
    "taken_over": Reason(
        "Taken over, and nothing heard since", ("still_on_it", "hand_back", "done_by_hand", "take_over", "false_alarm")
    ),
}


_STANDS: Mapping[CaseState, str] = {
    CaseState.OPEN: "nothing is being arranged any more",
    CaseState.CONFIRMED: "a repair is being arranged",
    CaseState.PLANNING: "a repair is being arranged",
    CaseState.COMMITTED: "the repair is arranged",
    CaseState.IN_PROGRESS: "the work has begun",
    CaseState.VERIFYING: "the work was reported as done",
    CaseState.CLOSED: "the case is closed",
    CaseState.CANCELLED: "the case was cancelled",
    CaseState.FALSE_ALARM: "the case ended as a false alarm",
}


def _while_planned(case: Case, acts: Sequence[Act], step: str) -> str:
    """It stands in the way of a plan: over when there is no plan to be made any more."""
    if case.control is Control.BY_HAND:
        return "somebody handles the case by hand"
    return "" if case.being_planned else _STANDS[case.state]


def _while_not_done(case: Case, acts: Sequence[Act], step: str) -> str:
    """A message to the customer that does not get through, or a step of the plan that cannot be done."""
    if step == "message" or any(act.kind == "message" and channel_of(act) == step for act in acts):
        return "" if undelivered(case, acts) else "nothing is left that the customer has not been told"
    return "" if case.being_moved else _while_planned(case, acts, step)


def _while_in(*states: CaseState, by_hand: bool = True) -> Callable[[Case, Sequence[Act], str], str]:
    def changed(case: Case, acts: Sequence[Act], step: str) -> str:
        if case.state not in states:
            return _STANDS[case.state]
        return "" if by_hand or case.control is not Control.BY_HAND else "somebody handles the case by hand"

    return changed


def _while_unreadable(case: Case, acts: Sequence[Act], step: str) -> str:
    return "" if case.plan.unread_because else "the plan was made anew"


def _while_too_late(case: Case, acts: Sequence[Act], step: str) -> str:
    """The booked window ends after the deadline: over when either has moved so that it does not."""
    window = case.plan.booking.window
    if case.state is not CaseState.COMMITTED:
        return _STANDS[case.state]
    if window is not None and case.deadline_at is not None and window.end <= case.deadline_at:
        return "the booked window ends before the deadline again"
    return ""


def _while_by_hand(case: Case, acts: Sequence[Act], step: str) -> str:
    if case.closed_at is not None:
        return _STANDS[case.state]
    return "" if case.control is Control.BY_HAND else "the case was given back"


WHAT_CHANGED: Mapping[str, Callable[[Case, Sequence[Act], str], str]] = {
    "no_warranty": _while_planned,
    "no_part_in_time": _while_planned,
    "no_window_in_time": _while_planned,
    "no_engineer": _while_planned,
    "policy_limit": _while_planned,
    "approval_required": _while_planned,
    "connector_down": _while_not_done,
    "not_as_asked": _while_not_done,
    "abstained": _while_in(CaseState.OPEN, by_hand=False),
    "conflicting_evidence": _while_in(CaseState.OPEN, by_hand=False),
    "plan_unreadable": _while_unreadable,
    "deadline_moved": _while_too_late,
    "verification_failed": _while_in(CaseState.VERIFYING),
    "work_overdue": _while_in(CaseState.COMMITTED, CaseState.IN_PROGRESS),
    "engineer_left": _while_in(CaseState.COMMITTED, CaseState.IN_PROGRESS),
    "taken_over": _while_by_hand,
}
"""Reason -> (case, its acts, what could not be done) -> "" while the reason holds, else what changed, for people."""


def what_changed(reason: str, case: Case, acts: Sequence[Act], step: str = "") -> str:
    """Why there is nothing to decide any more; "" while there is. A question of a reason that this version does not
    know is left to people as long as the case lives."""
    changed = WHAT_CHANGED.get(reason)
    if changed is None:
        return _STANDS[case.state] if case.closed_at is not None else ""
    return changed(case, acts, step)


def reason_label(reason: str) -> str:
    """The question's title; of a reason this version does not know, its code in words."""
    known = REASONS.get(reason)
    return known.label if known else reason.replace("_", " ").capitalize()


def options_for(reason: str, without: Collection[str] = ()) -> list[dict[str, str]]:
    """The choices as they are stored and shown (``code``, ``label``, ``effect``), but for ``without``."""
    codes = [code for code in REASONS[reason].options if code not in without]
    return [{"code": code, "label": OPTIONS[code].label, "effect": OPTIONS[code].effect} for code in codes]
