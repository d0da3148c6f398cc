"""What a person can be asked, in which words, and what can be answered. Data only; pure.

``REASONS`` is the one table of why a case is handed to a person: the worker takes the choices from it, the pages the
title. ``OPTIONS`` says what a choice is called and what follows; ``decisions.CHOICES`` does it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


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
}


def reason_label(reason: str) -> str:
    """The question's title; of a reason this version does not know, its code in words."""
    known = REASONS.get(reason)
    return known.label if known else reason.replace("_", " ").capitalize()


def options_for(reason: str, without: Collection[str] = ()) -> list[dict[str, str]]:
    """The choices as they are stored and shown (``code``, ``label``, ``effect``), but for ``without``."""
    codes = [code for code in REASONS[reason].options if code not in without]
    return [{"code": code, "label": OPTIONS[code].label, "effect": OPTIONS[code].effect} for code in codes]
