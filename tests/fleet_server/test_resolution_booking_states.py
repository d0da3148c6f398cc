"""What a case does about its booking, and who has the word: the three tables, written down here once more by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import pytest
from support.case_files import BOOKED, JONAS, WINDOW, case

import fleet_server
from fleet_server.resolution.plan import Decisions, Plan, Replanning
from fleet_server.resolution.states import (
    CaseEvent,
    CaseState,
    Control,
    ControlEvent,
    ForbiddenTransition,
    Move,
    MoveEvent,
    Undoing,
    UndoingEvent,
    next_control,
    next_move,
    next_undoing,
)

MOVE = {
    ("stays", "deadline_moved"): "looking",
    ("stays", "booked"): "stays",
    ("stays", "next_dropped"): "stays",
    ("stays", "stopped"): "stays",
    ("stays", "kept"): "pinned",
    ("stays", "new_plan"): "stays",
    ("looking", "booked"): "moving",
    ("looking", "stopped"): "stays",
    ("looking", "kept"): "pinned",
    ("looking", "new_plan"): "stays",
    ("moving", "next_dropped"): "looking",
    ("moving", "amended"): "stays",
    ("moving", "stopped"): "stays",
    ("moving", "kept"): "pinned",
    ("moving", "new_plan"): "stays",
    ("pinned", "booked"): "pinned",
    ("pinned", "next_dropped"): "pinned",
    ("pinned", "stopped"): "pinned",
    ("pinned", "kept"): "pinned",
    ("pinned", "new_plan"): "stays",
}
MOVE_STATES = ["stays", "looking", "moving", "pinned"]
MOVE_EVENTS = ["deadline_moved", "booked", "next_dropped", "amended", "stopped", "kept", "new_plan"]
UNDOING = {
    ("nothing", "no_engineer"): "window",
    ("nothing", "give_up"): "everything",
    ("window", "released"): "nothing",
    ("window", "give_up"): "everything",
    ("everything", "no_engineer"): "everything",
    ("everything", "give_up"): "everything",
    ("everything", "released"): "nothing",
}
UNDOING_STATES = ["nothing", "window", "everything"]
UNDOING_EVENTS = ["no_engineer", "give_up", "released"]
CONTROL = {
    ("automatic", "ask"): "asked",
    ("automatic", "answered"): "automatic",
    ("automatic", "take_over"): "by_hand",
    ("asked", "ask"): "asked",
    ("asked", "answered"): "automatic",
    ("asked", "take_over"): "by_hand",
    ("by_hand", "ask"): "by_hand",
    ("by_hand", "answered"): "by_hand",
    ("by_hand", "take_over"): "by_hand",
}
CONTROL_STATES = ["automatic", "asked", "by_hand"]
CONTROL_EVENTS = ["ask", "answered", "take_over"]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(MOVE_STATES, MOVE_EVENTS)))
def test_a_move_goes_where_it_should_or_nowhere(state: str, event: str) -> None:
    if (state, event) in MOVE:
        assert next_move(Move(state), MoveEvent(event)) == MOVE[state, event]
    else:
        with pytest.raises(ForbiddenTransition, match=f"a move that is {state} cannot {event}"):
            next_move(Move(state), MoveEvent(event))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(UNDOING_STATES, UNDOING_EVENTS)))
def test_an_undoing_goes_where_it_should_or_nowhere(state: str, event: str) -> None:
    if (state, event) in UNDOING:
        assert next_undoing(Undoing(state), UndoingEvent(event)) == UNDOING[state, event]
    else:
        with pytest.raises(ForbiddenTransition, match=f"an undoing that is {state} cannot {event}"):
            next_undoing(Undoing(state), UndoingEvent(event))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(CONTROL_STATES, CONTROL_EVENTS)))
def test_the_word_goes_where_it_should(state: str, event: str) -> None:
    assert next_control(Control(state), ControlEvent(event)) == CONTROL[state, event]


@pytest.mark.parametrize(
    ("states", "events", "names", "happenings"),
    [
        (Move, MoveEvent, MOVE_STATES, MOVE_EVENTS),
        (Undoing, UndoingEvent, UNDOING_STATES, UNDOING_EVENTS),
        (Control, ControlEvent, CONTROL_STATES, CONTROL_EVENTS),
    ],
)
def test_there_are_no_other_states_and_events_and_each_event_is_fired(
    states: type[StrEnum], events: type[StrEnum], names: list[str], happenings: list[str]
) -> None:
    assert (list(states), list(events)) == (names, happenings)
    package = Path(fleet_server.__file__).parent
    code = "".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py") if file.name != "states.py")
    assert [event.name for event in events if f"{events.__name__}.{event.name}" not in code] == []


@pytest.mark.parametrize(
    ("replanning", "next_window", "keep_plan", "move"),
    [
        (False, False, "", "stays"),
        (True, False, "", "looking"),
        (True, True, "", "moving"),
        (False, False, "anna", "pinned"),
        (False, True, "", "stays"),  # a person stopped the move after its window was booked
    ],
)
def test_a_row_tells_whether_its_window_is_moved(
    replanning: bool, next_window: bool, keep_plan: str, move: str
) -> None:
    moved = Replanning(next_window=WINDOW, next_engineer=JONAS) if next_window else Replanning()
    plan = replace(BOOKED, replanning=moved, decisions=Decisions(keep_plan=keep_plan))
    assert case("committed", plan, replanning=replanning).move == move


@pytest.mark.parametrize(
    ("escalated", "manual", "control"),
    [(False, "", "automatic"), (True, "", "asked"), (False, "anna", "by_hand"), (True, "anna", "by_hand")],
)
def test_a_row_tells_who_has_the_word(escalated: bool, manual: str, control: str) -> None:
    plan = Plan(decisions=Decisions(manual=manual))
    assert case("planning", plan, escalated=escalated).control == control


def test_events_of_several_machines_change_a_case_at_once() -> None:
    before = case("committed", BOOKED, replanning=True, escalated=True)
    after = before.after(CaseEvent.REPLAN, MoveEvent.NEW_PLAN, UndoingEvent.GIVE_UP, ControlEvent.ANSWERED)
    assert (after.state, after.move, after.plan.undoing) == (CaseState.PLANNING, Move.STAYS, Undoing.EVERYTHING)
    assert (after.replanning, after.escalated) == (False, False)
    assert (before.state, before.plan.undoing) == (CaseState.COMMITTED, Undoing.NOTHING)


def test_an_event_that_does_not_fit_changes_nothing() -> None:
    with pytest.raises(ForbiddenTransition):
        case("committed", BOOKED).after(CaseEvent.REPLAN, MoveEvent.AMENDED)


def test_a_question_and_its_answer_leave_a_case_by_hand_where_it_is() -> None:
    by_hand = case("planning", Plan(decisions=Decisions(manual="anna")))
    asked = by_hand.after(ControlEvent.ASK)
    assert (asked.escalated, asked.control) == (True, Control.BY_HAND)
    assert not asked.after(ControlEvent.ANSWERED).escalated
