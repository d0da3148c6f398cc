"""Evidence and the state machine around it."""

from __future__ import annotations

import itertools

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
EVIDENCE = st.floats(0, fusion.MOST_EVIDENCE)


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
    assert joined.shape == (len(table), 3) and (joined <= fusion.MOST_EVIDENCE).all()
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
        two.load(two.memory())
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


# by hand: the table in the code is not read here
NEXT = {
    ("learning", "learned"): "healthy",
    ("healthy", "raised"): "watch",
    ("watch", "raised"): "degrading",
    ("degrading", "raised"): "critical",
    ("critical", "subsided"): "degrading",
    ("degrading", "subsided"): "watch",
    ("watch", "subsided"): "healthy",
    ("learning", "forgotten"): "learning",
    ("healthy", "forgotten"): "learning",
    ("watch", "forgotten"): "learning",
    ("degrading", "forgotten"): "learning",
    ("critical", "forgotten"): "learning",
}
STATES = ("learning", "healthy", "watch", "degrading", "critical")
SIGNALS = ("learned", "raised", "subsided", "forgotten")


@pytest.mark.parametrize(("state", "signal"), list(itertools.product(STATES, SIGNALS)))
def test_a_detection_state_goes_where_it_should_or_nowhere(state: str, signal: str) -> None:
    if (state, signal) in NEXT:
        assert states.advance(S(state), states.Signal(signal)) == NEXT[state, signal]
    else:
        with pytest.raises(BadInput, match=f"transition: {signal} does not apply to {state}"):
            states.advance(S(state), states.Signal(signal))


def test_there_are_no_other_states_and_signals() -> None:
    assert {state.value for state in S} == set(STATES)
    assert {signal.value for signal in states.Signal} == set(SIGNALS)
    assert set(states.ALARMS) == {"degrading", "critical"} and set(states.UNALARMED) == {"healthy", "watch"}


SETTINGS = DetectionSettings(watch=1.0, alarm=2.0, critical=4.0, release=0.5, raise_ticks=3, release_ticks=5)


def set_up(state: DetectionState = S.HEALTHY) -> states.StateTracker:
    """A tracker in a state, its counters at nought."""
    made = states.StateTracker(SETTINGS)
    nought = dict.fromkeys(states.LEVELS, 0)
    made.load({"state": state.value, "raise_ticks": SETTINGS.raise_ticks, "above": nought, "below": nought})
    return made


@pytest.mark.parametrize(
    ("state", "level", "after"),
    [(S.HEALTHY, 1.0, S.WATCH), (S.WATCH, 2.0, S.DEGRADING), (S.DEGRADING, 4.0, S.CRITICAL)],
)
def test_a_state_rises_at_the_third_tick_at_the_next_level(state: S, level: float, after: S) -> None:
    made = set_up(state)
    assert feed(made, level, 2) == []
    assert made.take(level) == [after]
    below = set_up(state)
    assert feed(below, level - 0.01, 20) == [] and below.state is state


@pytest.mark.parametrize(
    ("state", "release", "after"),
    [(S.WATCH, 0.5, S.HEALTHY), (S.DEGRADING, 1.0, S.WATCH), (S.CRITICAL, 2.0, S.DEGRADING)],
)
def test_a_state_subsides_at_the_fifth_tick_below_half_its_level(state: S, release: float, after: S) -> None:
    made = set_up(state)
    assert feed(made, release - 0.01, 4) == []
    assert made.take(release - 0.01) == [after]
    at = set_up(state)
    assert feed(at, release, 20) == [] and at.state is state


def test_one_tick_between_begins_the_count_anew() -> None:
    rising, falling = set_up(S.WATCH), set_up(S.DEGRADING)
    assert feed(rising, 2.0, 2) + feed(rising, 1.9, 1) + feed(rising, 2.0, 2) == []
    assert rising.take(2.0) == [S.DEGRADING]
    assert feed(falling, 0.9, 4) + feed(falling, 1.0, 1) + feed(falling, 0.9, 4) == []
    assert falling.take(0.9) == [S.WATCH]


def test_great_evidence_passes_through_every_state_in_one_tick_and_so_does_none() -> None:
    made = set_up()
    assert feed(made, 9.0, 3) == [S.WATCH, S.DEGRADING, S.CRITICAL]
    assert feed(made, 0.0, 5) == [S.DEGRADING, S.WATCH, S.HEALTHY]


def test_counters_tell_the_ticks_above_each_level_and_below_each_release() -> None:
    made = set_up(S.WATCH)
    feed(made, 2.5, 2)
    assert made.counters() == [2, 2, 0, 0, 0, 0]
    made.take(0.6)
    assert made.counters() == [0, 0, 0, 0, 1, 1]
    made.take(0.4)
    assert made.counters() == [0, 0, 0, 1, 2, 2]
    made.counters().append(7)
    assert made.counters() == [0, 0, 0, 1, 2, 2]


def test_a_healthy_component_below_the_first_level_counts_nothing() -> None:
    made = set_up()
    feed(made, 0.99, 7)
    assert made.quiet(0.99) and not made.quiet(1.0) and not set_up(S.WATCH).quiet(0.99)
    assert made.counters() == [0] * 6
    made.take(1.5)
    assert made.counters() == [1, 0, 0, 0, 0, 1]
    made.take(0.1)
    assert made.counters() == [0] * 6


def test_learning_and_forgetting_begin_from_nothing() -> None:
    fresh = states.StateTracker(SETTINGS)
    assert (fresh.state, fresh.counters()) == (S.LEARNING, [0] * 6)
    fresh.learned()
    assert fresh.state is S.HEALTHY
    made = set_up(S.WATCH)
    made.take(2.0)
    made.forget()
    assert (made.state, made.counters()) == (S.LEARNING, [0] * 6)


def test_ticks_are_taken_together_up_to_the_one_that_moves_the_state() -> None:
    made = set_up()
    assert made.steady(np.array([0.2, 1.5, 1.5, 1.5, 1.5])) == 3
    assert made.state is S.HEALTHY and made.counters()[0] == 2
    watching = set_up(S.WATCH)
    assert watching.steady(np.array([0.4, 0.4, 0.4, 0.4, 0.4])) == 4
    assert watching.steady(np.array([0.4])) == 0  # this one moves it, and is left to be taken alone
    assert watching.counters()[3] == 4
    assert watching.steady(np.array([0.6, 0.6])) == 2  # nothing moves: all of them
    assert watching.counters()[3] == 0


def test_quiet_ticks_taken_together_calm_every_counter() -> None:
    made = set_up()
    made.take(1.5)
    assert made.steady(np.array([0.5, 0.99])) == 2
    assert made.counters() == [0] * 6


def test_no_ticks_are_taken_together_while_an_alarm_stands_or_nothing_came() -> None:
    quiet = np.zeros(3)
    assert [set_up(state).steady(quiet) for state in (S.LEARNING, *states.ALARMS)] == [0, 0, 0]
    assert set_up().steady(np.array([])) == 0


def test_a_score_halves_what_is_missing_to_one_with_each_limit() -> None:
    assert [fusion.score(evidence) for evidence in (-1.0, 0.0, 1.0, 2.0, 3.0)] == [0.0, 0.0, 0.5, 0.75, 0.875]
    assert fusion.score(np.array([0.0, 1.0])).tolist() == [0.0, 0.5]


def test_severity_rises_by_a_quarter_with_each_doubling_from_the_limit_to_sixteen() -> None:
    levels = [fusion.severity(evidence) for evidence in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 99.0)]
    assert levels == pytest.approx([0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0])


def test_within_a_detector_the_worst_leads_agreeing_ones_add_and_sixteen_is_the_bound() -> None:
    joined = fusion.within(np.array([[1.0, 1.0, 3.0], [2.0, 0.0, 99.0]]), np.array([0, 2]))
    assert joined == pytest.approx(np.array([[2.0**0.25, 3.0], [2.0, 16.0]]))


def test_one_detector_alone_counts_by_its_share_if_it_is_one_of_the_first() -> None:
    ratios = np.array([[4.0, 1.0, 1.0, 1.0]])
    assert fusion.between(ratios, 0.75)[0] == 3.0
    assert fusion.between(ratios, 0.75, np.array([0, 1]))[0] == 3.0
    assert fusion.between(ratios, 0.75, np.array([1, 2]))[0] == 2.0
    assert fusion.between(np.array([[0.4, 0.2]]), 1.0, np.array([1]))[0] == pytest.approx(0.3)
    assert fusion.between(np.array([[0.4]]), 0.0, np.array([], int)).tolist() == [0.4]
    assert fusion.between(np.zeros((1, 0)), 0.75).tolist() == [0.0]
