"""What becomes of a case when something about it was tried often enough: a message undoes nothing, a plan that cannot
be made is given up, and nobody is asked about a step that nothing depends on any more. Written down here by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from support.case_files import BOOKED, case

from fleet_server.resolution.acts import when_given_up
from fleet_server.resolution.plan import Decisions, Plan
from fleet_server.resolution.states import CaseState, Undoing

PLANNING = ("entitlement", "reservation", "window", "work_order", "dispatch", "parts", "load", "engineers")
"""Kinds of acts that arrange the repair, and the steps that only read another system."""
STATES = [state.value for state in CaseState]
BY_HAND = replace(BOOKED, decisions=Decisions(manual="anna"))
PINNED = replace(BOOKED, decisions=Decisions(keep_plan="anna"))


@pytest.mark.parametrize("plan", [BOOKED, BY_HAND, PINNED], ids=["automatic", "by_hand", "pinned"])
@pytest.mark.parametrize("state", STATES)
def test_a_message_undoes_nothing_and_is_always_asked_about(state: str, plan: Plan) -> None:
    before = case(state, plan, replanning=state == "committed" and plan is BOOKED)
    assert when_given_up(before, "message") == before


@pytest.mark.parametrize(("state", "what"), list(itertools.product(("confirmed", "planning"), PLANNING)))
def test_a_plan_that_cannot_be_made_is_given_up(state: str, what: str) -> None:
    asked = when_given_up(case(state, BOOKED), what)
    assert asked is not None
    asked.require_answered()
    assert (asked.state, asked.plan.undoing) == (state, Undoing.EVERYTHING)


@pytest.mark.parametrize("what", PLANNING)
def test_a_committed_plan_stands_while_its_window_cannot_be_moved(what: str) -> None:
    moving = case("committed", BOOKED, replanning=True)
    assert when_given_up(moving, what) == moving


NOTHING_DEPENDS: list[tuple[str, Plan, dict[str, Any]]] = [
    *((state, BOOKED, {}) for state in ("open", "in_progress", "verifying", "closed", "cancelled", "false_alarm")),
    *((state, BOOKED, {"replanning": True}) for state in ("in_progress", "verifying", "closed")),
    *((state, BY_HAND, {}) for state in STATES),
    ("committed", BOOKED, {}),
    ("committed", PINNED, {}),
]


@pytest.mark.parametrize(("state", "plan", "row"), NOTHING_DEPENDS)
def test_nobody_is_asked_about_a_step_that_nothing_depends_on_any_more(
    state: str, plan: Plan, row: dict[str, Any]
) -> None:
    assert [what for what in PLANNING if when_given_up(case(state, plan, **row), what) is not None] == []
