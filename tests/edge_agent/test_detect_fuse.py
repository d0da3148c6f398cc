"""Evidence and the state machine around it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.detection import fusion
from edge_agent.detection.judging import states
from edge_agent.detection.settings import DetectionSettings
from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState

S = DetectionState
EVIDENCE = st.floats(0, fusion.EVIDENCE_LIMIT)


def tracker() -> states.StateTracker:
    made = states.StateTracker(DetectionSettings())
    made.learned()
    return made


def feed(made: states.StateTracker, evidence: float, ticks: int) -> list[DetectionState]:
    return [state for _ in range(ticks) for state in made.take(evidence)]


def test_every_unlisted_transition_fails() -> None:
    for state in DetectionState:
        for signal in states.Signal:
            if (state, signal) in states.TRANSITIONS:
                assert states.advance(state, signal) is states.TRANSITIONS[state, signal]
            else:
                with pytest.raises(BadInput, match="transition"):
                    states.advance(state, signal)


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
    made = states.StateTracker(DetectionSettings())
    assert feed(made, 9.0, 50) == []
    assert made.state is S.LEARNING


@given(st.lists(EVIDENCE, max_size=200))
def test_states_move_only_along_the_table(course: list[float]) -> None:
    made = tracker()
    before = made.state
    for evidence in course:
        for state in made.take(evidence):
            assert state in {after for (start, _), after in states.TRANSITIONS.items() if start is before}
            before = state


@given(EVIDENCE, EVIDENCE)
def test_score_and_severity_are_bounded_and_monotone(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert 0 <= fusion.score(low) <= fusion.score(high) <= 1
    assert 0 <= fusion.severity(low) <= fusion.severity(high) <= 1


@given(st.lists(EVIDENCE, min_size=1, max_size=60), st.floats(0, 5), st.integers(0, 60), st.floats(0.34, 1))
def test_joining_is_monotone(ratios: list[float], more: float, place: int, alone: float) -> None:
    base = np.array([ratios])
    raised = base.copy()
    raised[0, place % len(ratios)] += more
    starts = np.unique([0, len(ratios) // 3, len(ratios) // 2])
    assert (fusion.within(raised, starts) >= fusion.within(base, starts) - 1e-9).all()
    assert (fusion.between(raised, alone) >= fusion.between(base, alone) - 1e-9).all()


@given(st.lists(st.lists(EVIDENCE, min_size=6, max_size=6), min_size=1, max_size=20))
def test_rows_are_joined_each_for_itself(table: list[list[float]]) -> None:
    ratios, starts = np.array(table), np.array([0, 1, 4])
    joined = fusion.within(ratios, starts)
    assert joined.shape == (len(table), 3) and (joined <= fusion.EVIDENCE_LIMIT).all()
    singles = [fusion.within(row[None], starts) for row in ratios]
    assert np.array_equal(joined, np.concatenate(singles))
    assert np.array_equal(
        fusion.between(joined, 0.75), np.concatenate([fusion.between(each, 0.75) for each in singles])
    )


def test_three_must_agree_or_one_be_sure() -> None:
    assert fusion.between(np.array([[3.0, 0.0, 0.0, 0.0]]), 0.0)[0] == pytest.approx(1.0)
    assert fusion.between(np.array([[3.0, 3.0, 3.0, 0.0]]), 0.0)[0] == pytest.approx(3.0)
    assert fusion.between(np.array([[3.0, 0.0, 0.0, 0.0]]), 0.75)[0] == pytest.approx(2.25)
    assert fusion.between(np.array([[2.0]]), 0.0)[0] == pytest.approx(2.0)


@given(st.lists(EVIDENCE, max_size=100))
def test_a_tracker_restored_goes_on_as_the_other(course: list[float]) -> None:
    one, two = tracker(), tracker()
    for evidence in course:
        passed = one.take(evidence)
        two.load(str(two.state), two.counters())
        assert two.take(evidence) == passed
    assert one.state is two.state and one.counters() == two.counters()


def test_a_forgotten_component_learns() -> None:
    made = tracker()
    feed(made, 9.0, 5)
    assert made.state is S.CRITICAL
    made.forget()
    assert made.state is S.LEARNING


@given(st.lists(EVIDENCE, max_size=80), st.integers(1, 30), st.integers(1, 4))
def test_ticks_taken_together_leave_what_they_leave_one_by_one(course: list[float], width: int, persists: int) -> None:
    one, many = tracker(), tracker()
    one.raise_ticks = many.raise_ticks = persists
    start = 0
    while start < len(course):
        steady = many.steady(np.array(course[start : start + width]))
        if not steady:
            many.take(course[start])
        taken = course[start : start + max(1, steady)]
        passed = [state for evidence in taken for state in one.take(evidence)]
        assert not steady or not passed
        assert one.state is many.state and one.counters() == many.counters()
        start += len(taken)
