"""The state machines of a case and of an act, written down here once more: what may follow what, and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import fleet_server
from fleet_server.resolution.states import (
    ACT_TRANSITIONS,
    CASE_TRANSITIONS,
    FINAL_CASE_STATES,
    LIVE_ACT_STATES,
    ActEvent,
    ActState,
    CaseEvent,
    CaseState,
    ForbiddenTransition,
    drawings,
    mermaid,
    next_act_state,
    next_case_state,
)

# by hand, and as the database keeps them: neither the table nor the enumerations are read here
CASE = {
    ("open", "confirm"): "confirmed",
    ("open", "cancel"): "cancelled",
    ("open", "reject"): "false_alarm",
    ("confirmed", "plan"): "planning",
    ("confirmed", "cancel"): "cancelled",
    ("confirmed", "reject"): "false_alarm",
    ("planning", "commit"): "committed",
    ("planning", "cancel"): "cancelled",
    ("planning", "reject"): "false_alarm",
    ("committed", "replan"): "planning",
    ("committed", "start"): "in_progress",
    ("committed", "cancel"): "cancelled",
    ("committed", "reject"): "false_alarm",
    ("in_progress", "complete"): "verifying",
    ("in_progress", "replan"): "planning",
    ("in_progress", "cancel"): "cancelled",
    ("in_progress", "reject"): "false_alarm",
    ("verifying", "verify"): "closed",
    ("verifying", "reopen"): "confirmed",
    ("verifying", "cancel"): "cancelled",
    ("verifying", "reject"): "false_alarm",
}
CASE_STATES = [
    "open",
    "confirmed",
    "planning",
    "committed",
    "in_progress",
    "verifying",
    "closed",
    "cancelled",
    "false_alarm",
]
CASE_EVENTS = ["confirm", "plan", "commit", "replan", "start", "complete", "verify", "reopen", "cancel", "reject"]
ACT = {
    ("intended", "accept"): "held",
    ("intended", "refuse"): "refused",
    ("intended", "lose"): "unknown",
    ("intended", "release"): "released",
    ("intended", "differ"): "unwanted",
    ("unknown", "accept"): "held",
    ("unknown", "refuse"): "refused",
    ("unknown", "lose"): "unknown",
    ("unknown", "absent"): "intended",
    ("unknown", "release"): "released",
    ("unknown", "differ"): "unwanted",
    ("unwanted", "release"): "released",
    ("held", "consume"): "consumed",
    ("held", "release"): "released",
}
ACT_STATES = ["intended", "held", "refused", "unknown", "consumed", "released", "unwanted"]
ACT_EVENTS = ["accept", "refuse", "lose", "absent", "consume", "release", "differ"]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(CASE_STATES, CASE_EVENTS)))
def test_a_case_goes_where_it_should_or_nowhere(state: str, event: str) -> None:
    if (state, event) in CASE:
        assert next_case_state(CaseState(state), CaseEvent(event)) == CASE[state, event]
    else:
        with pytest.raises(ForbiddenTransition, match=f"a case that is {state} cannot {event}"):
            next_case_state(CaseState(state), CaseEvent(event))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ACT_STATES, ACT_EVENTS)))
def test_an_act_goes_where_it_should_or_nowhere(state: str, event: str) -> None:
    if (state, event) in ACT:
        assert next_act_state(ActState(state), ActEvent(event)) == ACT[state, event]
    else:
        with pytest.raises(ForbiddenTransition, match=f"an act that is {state} cannot {event}"):
            next_act_state(ActState(state), ActEvent(event))


def test_there_are_no_other_states_and_events() -> None:
    assert (list(CaseState), list(CaseEvent)) == (CASE_STATES, CASE_EVENTS)
    assert (list(ActState), list(ActEvent)) == (ACT_STATES, ACT_EVENTS)


def test_a_finished_case_stays_as_it_is() -> None:
    assert set(FINAL_CASE_STATES) == {"closed", "cancelled", "false_alarm"}
    assert not [state for state, _ in CASE_TRANSITIONS if state in FINAL_CASE_STATES]


def test_an_act_that_may_bind_another_system_is_live() -> None:
    assert set(LIVE_ACT_STATES) == {"intended", "unknown", "held", "unwanted"}


def test_every_case_state_is_reached_and_every_unfinished_one_can_be_ended() -> None:
    assert {CaseState.OPEN, *CASE_TRANSITIONS.values()} == set(CaseState)
    leaving = {state for state, _ in CASE_TRANSITIONS}
    assert leaving == set(CaseState) - FINAL_CASE_STATES
    assert all((state, CaseEvent.CANCEL) in CASE_TRANSITIONS for state in leaving)


def test_every_machine_is_drawn_under_its_heading() -> None:
    first = {heading: drawing.splitlines()[1].split()[-1] for heading, drawing in drawings().items()}
    assert first == {"Case": "open", "Move": "stays", "Undoing": "nothing", "Control": "automatic", "Act": "intended"}


def test_something_in_the_server_fires_every_event() -> None:
    package = Path(fleet_server.__file__).parent
    code = "".join(file.read_text(encoding="utf-8") for file in package.rglob("*.py") if file.name != "states.py")
    events = [*CaseEvent, *ActEvent]
    assert [event for event in events if f"{type(event).__name__}.{event.name}" not in code] == []


def test_the_diagram_is_drawn_from_the_table() -> None:
    drawn = mermaid(CASE_TRANSITIONS)
    assert drawn.startswith("stateDiagram-v2\n    [*] --> open\n")
    assert drawn.count(" --> ") == len(CASE_TRANSITIONS) + 1 + len(FINAL_CASE_STATES)
    assert mermaid(ACT_TRANSITIONS).splitlines() == [
        "stateDiagram-v2",
        "    [*] --> intended",
        *(f"    {state} --> {after}: {event}" for (state, event), after in ACT.items()),
        *(f"    {state} --> [*]" for state in ("refused", "released", "consumed")),
    ]
