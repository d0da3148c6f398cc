"""Evidence and the state machine around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.detection import fuse
from edge_agent.detection.settings import DetectionSettings
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState

S = DetectionState
EVIDENCE = st.floats(0, fuse.EVIDENCE_LIMIT)


def tracker() -> fuse.StateTracker:
    made = fuse.StateTracker(DetectionSettings())
    made.learned()
    return made


def feed(made: fuse.StateTracker, evidence: float, ticks: int) -> list[DetectionState]:
    return [state for _ in range(ticks) for state in made.take(evidence)]


def test_every_unlisted_transition_fails() -> None:
    for state in DetectionState:
        for signal in fuse.Signal:
            if (state, signal) in fuse.TRANSITIONS:
                assert fuse.advance(state, signal) is fuse.TRANSITIONS[state, signal]
            else:
                with pytest.raises(BadInput, match="transition"):
                    fuse.advance(state, signal)


def test_an_alarm_needs_persistence() -> None:
    made = tracker()
    assert feed(made, 5.0, 2) == []
    assert feed(made, 0.0, 1) == []
    assert feed(made, 5.0, 3) == [S.WATCH, S.DEGRADING]


def test_levels_between_release_and_limit_hold_the_state() -> None:
    made = tracker()
    feed(made, 1.2, 5)
    assert made.state is S.DEGRADING
    assert feed(made, 0.8, 100) == []
    assert feed(made, 0.1, 5) == [S.WATCH, S.HEALTHY]


def test_while_learning_nothing_moves() -> None:
    made = fuse.StateTracker(DetectionSettings())
    assert feed(made, 9.0, 50) == []
    assert made.state is S.LEARNING


@given(st.lists(EVIDENCE, max_size=200))
def test_states_move_only_along_the_table(course: list[float]) -> None:
    made = tracker()
    before = made.state
    for evidence in course:
        for state in made.take(evidence):
            assert state in {after for (start, _), after in fuse.TRANSITIONS.items() if start is before}
            before = state


@given(EVIDENCE, EVIDENCE)
def test_score_and_severity_are_bounded_and_monotone(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert 0 <= fuse.score(low) <= fuse.score(high) <= 1
    assert 0 <= fuse.severity(low) <= fuse.severity(high) <= 1


@given(st.lists(EVIDENCE, min_size=1, max_size=60), st.floats(0, 5))
def test_joining_is_monotone(ratios: list[float], more: float) -> None:
    base = np.array(ratios)
    raised = base.copy()
    raised[0] += more
    assert fuse.within(raised) >= fuse.within(base) - 1e-9
    assert fuse.between(raised) >= fuse.between(base) - 1e-9


def test_a_forgotten_component_learns() -> None:
    made = tracker()
    feed(made, 9.0, 5)
    assert made.state is S.CRITICAL
    made.forget()
    assert made.state is S.LEARNING
