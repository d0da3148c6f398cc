"""The tables of the state machines: complete, closed, and nothing else is possible."""

from __future__ import annotations

import itertools

import pytest

from fleet_server.resolution.states import (
    ACT_TRANSITIONS,
    CASE_TRANSITIONS,
    FINAL_CASE_STATES,
    ActEvent,
    ActState,
    CaseEvent,
    CaseState,
    ForbiddenTransition,
    mermaid,
    next_act_state,
    next_case_state,
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(CaseState, CaseEvent)))
def test_only_listed_case_transitions_happen(state: CaseState, event: CaseEvent) -> None:
    if (state, event) in CASE_TRANSITIONS:
        assert next_case_state(state, event) is CASE_TRANSITIONS[(state, event)]
    else:
        with pytest.raises(ForbiddenTransition):
            next_case_state(state, event)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ActState, ActEvent)))
def test_only_listed_act_transitions_happen(state: ActState, event: ActEvent) -> None:
    if (state, event) in ACT_TRANSITIONS:
        assert next_act_state(state, event) is ACT_TRANSITIONS[(state, event)]
    else:
        with pytest.raises(ForbiddenTransition):
            next_act_state(state, event)


def test_every_case_state_is_reached_and_every_unfinished_one_can_be_ended() -> None:
    assert {CaseState.OPEN, *CASE_TRANSITIONS.values()} == set(CaseState)
    leaving = {state for state, _ in CASE_TRANSITIONS}
    assert leaving == set(CaseState) - FINAL_CASE_STATES
    assert all((state, CaseEvent.CANCEL) in CASE_TRANSITIONS for state in leaving)


def test_the_diagram_is_drawn_from_the_table() -> None:
    drawn = mermaid(CASE_TRANSITIONS)
    assert drawn.startswith("stateDiagram-v2\n    [*] --> open\n")
    assert drawn.count(" --> ") == len(CASE_TRANSITIONS) + 1 + len(FINAL_CASE_STATES)
