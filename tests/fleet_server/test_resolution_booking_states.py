"""What a case does about its booking, and who has the word: the three tables, written down here once more by hand."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import pytest
from support.case_files import BOOKED, JONAS, NOW, WINDOW, act, case

import fleet_server
from fleet_core.errors import BadInput
from fleet_server.resolution.case import Case, Event, StatesDiffer
from fleet_server.resolution.plan import Decisions, Plan, Replanning, read_plan, write_plan
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
    drawings,
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
    ("by_hand", "hand_back"): "automatic",
    ("automatic", "hand_back"): "automatic",
    ("asked", "hand_back"): "asked",
}
CONTROL_STATES = ["automatic", "asked", "by_hand"]
CONTROL_EVENTS = ["ask", "answered", "take_over", "hand_back"]


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


def test_a_row_of_the_database_is_read() -> None:
    row: dict[str, Any] = {"state": "committed", "plan": {"manual": "anna"}}
    read = replace(case(), **row)
    assert read.state is CaseState.COMMITTED
    assert read.plan == Plan(decisions=Decisions(manual="anna"))


@pytest.mark.parametrize("stored", [{"windov": 1, "manual": "anna"}, {"window": {"start": "soon"}, "manual": "anna"}])
def test_a_plan_that_cannot_be_read_is_kept_whole_beside_what_can(stored: dict[str, Any]) -> None:
    read = replace(case(), plan=cast("Plan", stored))
    assert (read.plan.unread, read.plan.decisions.manual) == (stored, "anna")
    assert read.plan.unread_because
    again = read_plan(json.loads(json.dumps(write_plan(read.plan))))
    assert again == read.plan


@pytest.mark.parametrize("stored", [None, [], 3, "plan"])
def test_a_plan_that_is_no_object_is_kept_and_none_is_read(stored: Any) -> None:
    plan = replace(case(), plan=stored).plan
    assert (plan.unread, bool(plan.unread_because), plan.booking) == (stored, True, Plan().booking)


def test_a_state_that_there_is_not_is_bad_input() -> None:
    with pytest.raises(BadInput, match="asleep"):
        replace(case(), state=cast("CaseState", "asleep"))
    with pytest.raises(BadInput, match="asleep"):
        act("window", "asleep")


@pytest.mark.parametrize(
    ("outcome", "completed_at"),
    [
        ({"completed_at": "yesterday"}, None),
        ({"completed_at": "2026-01-05T08:00:00"}, None),
        (None, None),
        ({"failed": True}, None),
        ({"completed_at": None}, None),
        ({"completed_at": 20260105}, None),
        ({"completed_at": NOW.isoformat()}, NOW),
    ],
)
def test_when_the_work_was_done_stands_in_the_outcome(
    outcome: dict[str, object] | None, completed_at: datetime | None
) -> None:
    assert case("verifying", BOOKED, outcome=outcome).completed_at == completed_at


@pytest.mark.parametrize(
    ("replanning", "next_window", "event", "after"),
    [
        (False, False, "deadline_moved", True),
        (True, False, "booked", True),
        (True, True, "next_dropped", True),
        (True, True, "amended", False),
        (True, True, "stopped", False),
        (True, False, "kept", False),
        (False, False, "booked", False),
    ],
)
def test_the_row_says_whether_a_move_goes_on(replanning: bool, next_window: bool, event: str, after: bool) -> None:
    moved = Replanning(next_window=WINDOW, next_engineer=JONAS) if next_window else Replanning()
    before = case("committed", replace(BOOKED, replanning=moved), replanning=replanning)
    assert before.after(MoveEvent(event)).replanning is after


def test_taking_over_leaves_the_questions_as_they_are() -> None:
    for escalated in (False, True):
        assert case("planning", escalated=escalated).after(ControlEvent.TAKE_OVER).escalated is escalated


MARKED = replace(BOOKED, replanning=Replanning(next_window=WINDOW, next_engineer=JONAS))
"""A move whose earlier window is booked."""
PINNED = replace(BOOKED, decisions=Decisions(keep_plan="anna"))
BY_HAND = replace(BOOKED, decisions=Decisions(manual="anna"))
UNDONE = replace(BOOKED, undoing=Undoing.EVERYTHING)
LIFE: list[tuple[str, str, Plan, dict[str, Any], StrEnum, Plan, str]] = [
    # the event, state and plan and row before it, the event, the plan with what it brings, the states after it
    ("confirm", "open", Plan(), {}, CaseEvent.CONFIRM, Plan(), "confirmed stays nothing automatic"),
    ("plan", "confirmed", Plan(), {}, CaseEvent.PLAN, Plan(), "planning stays nothing automatic"),
    ("commit", "planning", BOOKED, {}, CaseEvent.COMMIT, BOOKED, "committed stays nothing automatic"),
    ("replan", "committed", BOOKED, {}, CaseEvent.REPLAN, BOOKED, "planning stays nothing automatic"),
    ("start", "committed", BOOKED, {}, CaseEvent.START, BOOKED, "in_progress stays nothing automatic"),
    ("complete", "in_progress", BOOKED, {}, CaseEvent.COMPLETE, BOOKED, "verifying stays nothing automatic"),
    ("verify", "verifying", BOOKED, {}, CaseEvent.VERIFY, BOOKED, "closed stays nothing automatic"),
    ("reopen", "verifying", BOOKED, {}, CaseEvent.REOPEN, BOOKED, "confirmed stays nothing automatic"),
    ("cancel", "planning", BOOKED, {}, CaseEvent.CANCEL, BOOKED, "cancelled stays nothing automatic"),
    ("reject", "planning", BOOKED, {}, CaseEvent.REJECT, BOOKED, "false_alarm stays nothing automatic"),
    ("deadline", "committed", BOOKED, {}, MoveEvent.DEADLINE_MOVED, BOOKED, "committed looking nothing automatic"),
    ("booked", "committed", BOOKED, {"replanning": True}, MoveEvent.BOOKED, MARKED,
     "committed moving nothing automatic"),
    ("dropped", "committed", MARKED, {"replanning": True}, MoveEvent.NEXT_DROPPED, BOOKED,
     "committed looking nothing automatic"),
    ("amended", "committed", MARKED, {"replanning": True}, MoveEvent.AMENDED, BOOKED,
     "committed stays nothing automatic"),
    ("stopped", "committed", MARKED, {"replanning": True}, MoveEvent.STOPPED, MARKED,
     "committed stays nothing automatic"),
    ("kept", "committed", BOOKED, {"replanning": True}, MoveEvent.KEPT, PINNED, "committed pinned nothing automatic"),
    ("new_plan", "committed", PINNED, {}, MoveEvent.NEW_PLAN, BOOKED, "committed stays nothing automatic"),
    ("no_engineer", "planning", BOOKED, {}, UndoingEvent.NO_ENGINEER, replace(BOOKED, undoing=Undoing.WINDOW),
     "planning stays window automatic"),
    ("give_up", "planning", BOOKED, {}, UndoingEvent.GIVE_UP, UNDONE, "planning stays everything automatic"),
    ("released", "planning", UNDONE, {}, UndoingEvent.RELEASED, BOOKED, "planning stays nothing automatic"),
    ("ask", "planning", BOOKED, {}, ControlEvent.ASK, BOOKED, "planning stays nothing asked"),
    ("answered", "planning", BOOKED, {"escalated": True}, ControlEvent.ANSWERED, BOOKED,
     "planning stays nothing automatic"),
    ("take_over", "planning", BOOKED, {}, ControlEvent.TAKE_OVER, BY_HAND, "planning stays nothing by_hand"),
    ("hand_back", "planning", BY_HAND, {}, ControlEvent.HAND_BACK, BOOKED, "planning stays nothing automatic"),
]  # fmt: skip


def _words(of: Case) -> str:
    assert of.states == of.answered
    return f"{of.state} {of.move} {of.plan.undoing} {of.control}"


@pytest.mark.parametrize(
    ("state", "before", "row", "event", "brings", "after"), [life[1:] for life in LIFE], ids=[life[0] for life in LIFE]
)
def test_a_case_is_after_each_event_what_the_tables_say(
    state: str, before: Plan, row: dict[str, Any], event: Event, brings: Plan, after: str
) -> None:
    changed = replace(case(state, before, **row).after(event), plan=brings)
    changed.require_answered()
    assert _words(changed) == after


def test_each_event_has_its_case() -> None:
    assert {life[4] for life in LIFE} == {*CaseEvent, *MoveEvent, *UndoingEvent, *ControlEvent}


@pytest.mark.parametrize(
    ("before", "row", "event", "forgetful"),
    [
        (BOOKED, {"replanning": True}, MoveEvent.BOOKED, BOOKED),
        (MARKED, {"replanning": True}, MoveEvent.NEXT_DROPPED, MARKED),
        (BOOKED, {}, MoveEvent.KEPT, BOOKED),
        (PINNED, {}, MoveEvent.NEW_PLAN, PINNED),
        (BOOKED, {}, UndoingEvent.GIVE_UP, BOOKED),
        (BOOKED, {}, ControlEvent.TAKE_OVER, BOOKED),
    ],
)
def test_an_event_without_what_it_brings_is_noticed(
    before: Plan, row: dict[str, Any], event: Event, forgetful: Plan
) -> None:
    with pytest.raises(StatesDiffer):
        replace(case("committed", before, **row).after(event), plan=forgetful).require_answered()


@pytest.mark.parametrize(
    "changes",
    [
        {"state": CaseState.IN_PROGRESS},
        {"escalated": True},
        {"replanning": False},
        {"plan": MARKED.unmoved()},
        {"plan": replace(MARKED, undoing=Undoing.WINDOW)},
        {"plan": replace(MARKED, decisions=Decisions(keep_plan="anna"))},
        {"plan": replace(MARKED, decisions=Decisions(manual="anna"))},
    ],
)
def test_a_state_that_changes_without_an_event_is_noticed(changes: dict[str, Any]) -> None:
    moving = case("committed", MARKED, replanning=True)
    moving.require_answered()
    with pytest.raises(StatesDiffer):
        replace(moving, **changes).require_answered()


def test_an_event_counts_for_the_next_before_what_it_brings_stands() -> None:
    kept = case("committed", BOOKED, replanning=True).after(MoveEvent.KEPT, MoveEvent.STOPPED)
    assert kept.answered is not None and kept.answered.move is Move.PINNED


def test_events_one_by_one_lead_where_they_lead_together() -> None:
    kept = case("committed", BOOKED, replanning=True).after(MoveEvent.KEPT).after(MoveEvent.STOPPED)
    assert kept.answered is not None and kept.answered.move is Move.PINNED


def test_what_the_tables_answered_is_no_part_of_the_row() -> None:
    before = case("committed", BOOKED, replanning=True)
    kept = before.after(MoveEvent.KEPT)
    assert kept == replace(before, replanning=False)
    assert "answered" not in repr(kept)


def test_a_case_is_called_by_its_number() -> None:
    assert case(number=123).name == "FS-000123"


@pytest.mark.parametrize(("heading", "table"), [("Move", MOVE), ("Undoing", UNDOING), ("Control", CONTROL)])
def test_each_machine_is_drawn_whole(heading: str, table: dict[tuple[str, str], str]) -> None:
    first, begin, *lines = drawings()[heading].splitlines()
    assert (first, begin) == ("stateDiagram-v2", f"    [*] --> {next(iter(table))[0]}")
    assert sorted(lines) == sorted(f"    {state} --> {after}: {event}" for (state, event), after in table.items())


def test_the_machines_of_cases_and_acts_are_drawn_too() -> None:
    drawn = drawings()
    assert list(drawn) == ["Case", "Move", "Undoing", "Control", "Act"]
    assert "[*] --> open" in drawn["Case"] and "[*] --> intended" in drawn["Act"]


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
