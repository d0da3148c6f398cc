"""Operating modes and standstill on courses whose modes are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.features.modes import DWELL_ROWS, MAX_MODES, STOP_ROWS, Modes, Stops


def duty(rng: np.random.Generator, *levels: float, rows: int = 60, ramp: int = 8) -> np.ndarray:
    """A load that stays ``rows`` at each level and ramps between, and a speed that follows it."""
    parts = [np.full(rows, levels[0])]
    for before, after in itertools.pairwise(levels):
        parts += [np.linspace(before, after, ramp + 2)[1:-1], np.full(rows, after)]
    load = np.concatenate(parts)
    return np.column_stack((load + 0.5 * rng.normal(size=load.size), 1000 + 10 * load + 5 * rng.normal(size=load.size)))


def fitted(seed: int = 1, *levels: float) -> Modes:
    modes = Modes(2)
    modes.fit(duty(np.random.default_rng(seed), *(levels or (20, 60, 20, 100, 60, 20))))
    return modes


def test_three_loads_are_three_modes_and_ramps_none() -> None:
    modes = fitted()
    assert modes.count == modes.learnt == 3
    found, known = modes.assign(np.array([[20.0, 1200], [60, 1600], [100, 2000], [40, 1400]]))
    assert len(set(found[:3])) == 3 and known.tolist() == [True, True, True, False]


def test_a_new_load_is_unknown_until_it_stays() -> None:
    modes = fitted(2, 20, 60)
    rows = duty(np.random.default_rng(3), 150)
    found, known = modes.assign(rows)
    assert not known[: DWELL_ROWS - 1].any() and known[DWELL_ROWS + 1 :].mean() > 0.9
    assert (modes.learnt, modes.count) == (2, 3) and found[-1] == 2


def test_a_load_without_modes_is_one_mode() -> None:
    modes = Modes(1)
    rows = np.random.default_rng(4).normal(50, 10, size=(500, 1))
    modes.fit(rows)
    assert modes.count == 1
    assert modes.assign(rows)[1].mean() > 0.95


def test_modes_are_bounded_and_the_rest_stays_unknown() -> None:
    modes = fitted(5, *(100.0 * level for level in range(MAX_MODES + 4)))
    assert modes.count == MAX_MODES
    found, known = modes.assign(duty(np.random.default_rng(6), 5000))
    assert not known.any() and (found >= 0).all()


def test_missing_regimes() -> None:
    modes = fitted()
    found, known = modes.assign(np.array([[np.nan, np.nan], [np.nan, 1600.0]]))
    assert found[0] == -1 and not known[0] and known[1]
    blank = Modes(2)
    assert blank.assign(np.zeros((3, 2)))[0].tolist() == [-1, -1, -1]
    blank.fit(np.full((50, 2), np.nan))
    assert blank.count == 0 and not blank.assign(np.ones((40, 2)))[1].any()
    none = Modes(0)
    none.fit(np.zeros((50, 0)))
    assert not none.assign(np.zeros((4, 0)))[1].any()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([20.0, 60.0, 150.0, 400.0]), min_size=1, max_size=6), st.integers(1, 50))
def test_blocks_equal_rows_and_a_restart_changes_nothing(levels: list[float], size: int) -> None:
    rows = duty(np.random.default_rng(7), *levels, rows=20, ramp=3)
    rows[5::17, 0] = np.nan
    whole, parts = fitted(), fitted()
    expected = whole.assign(rows)
    results = []
    for start in range(0, len(rows), size):
        resumed = Modes(2)
        resumed.load(parts.state())
        results.append(resumed.assign(rows[start : start + size]))
        parts = resumed
    assert np.concatenate([mode for mode, _ in results]).tolist() == expected[0].tolist()
    assert np.concatenate([known for _, known in results]).tolist() == expected[1].tolist()
    with pytest.raises(ValueError, match="other"):
        Modes(3).load(parts.state())


def running(rows: int, seed: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack((1500 + 20 * rng.normal(size=rows), 0.1 + 0.01 * rng.normal(size=rows)))


def test_a_stop_is_everything_near_nothing_for_a_while() -> None:
    stops = Stops(2)
    stops.fit(running(200))
    assert stops.usable == 2
    rows = running(30, 9)
    rows[10:20] = (2.0, 0.001)
    rows[25, :] = 0.0
    stopped = stops.run(rows)
    assert np.flatnonzero(stopped).tolist() == list(range(10 + STOP_ROWS - 1, 20))


def test_one_dead_sensor_stops_nothing() -> None:
    stops = Stops(2)
    stops.fit(running(200))
    rows = running(30, 9)
    rows[10:, 0] = 0.0
    assert not stops.run(rows).any()
    rows[10:, 1] = np.nan  # half of them silent: too little to call it a stop
    assert not stops.run(rows).any()


def test_what_often_rests_near_nothing_cannot_tell_a_stop() -> None:
    stops = Stops(1)
    stops.fit(np.random.default_rng(10).exponential(size=(300, 1)))
    assert stops.usable == 0 and not stops.run(np.zeros((10, 1))).any()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 8))
def test_stops_in_blocks_and_after_a_restart(still: list[bool], size: int) -> None:
    rows = running(len(still))
    rows[np.array(still)] = 0.0
    whole, parts = Stops(2), Stops(2)
    for stops in (whole, parts):
        stops.fit(running(200))
    expected = whole.run(rows).tolist()
    result = []
    for start in range(0, len(rows), size):
        resumed = Stops(2)
        resumed.load(parts.state())
        result += resumed.run(rows[start : start + size]).tolist()
        parts = resumed
    assert result == expected
    with pytest.raises(ValueError, match="other"):
        Stops(3).load(parts.state())
