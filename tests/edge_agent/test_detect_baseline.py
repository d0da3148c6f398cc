"""Baselines: robust, blind to what load explains, and modest where nothing is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy.baseline import (
    DEVIATION_LIMIT,
    Baseline,
    distinct_values,
    fit_baseline,
    lag,
    load_baseline,
)

MINUTE_US = 60_000_000


def times(count: int) -> IntArray:
    return np.arange(count, dtype=np.int64) * MINUTE_US


def fit(rows: FloatArray, regimes: FloatArray | None = None, own: tuple[int, ...] | None = None) -> Baseline:
    under = np.zeros((len(rows), 0)) if regimes is None else regimes
    return fit_baseline(rows, under, lag(under), times(len(rows)), own or (-1,) * under.shape[1])


def deviation(baseline: Baseline, rows: FloatArray, regimes: FloatArray | None = None) -> FloatArray:
    under = np.zeros((len(rows), 0)) if regimes is None else regimes
    return baseline.deviation(rows, under, under, times(len(rows)))


def test_outliers_do_not_move_the_baseline() -> None:
    rows = np.random.default_rng(1).normal(10, 1, (300, 1))
    rows[::50] = 1e6
    baseline = fit(rows)
    assert baseline.centre[0] == pytest.approx(10, abs=0.3)
    assert baseline.scale[0] == pytest.approx(1, rel=0.3)


def test_what_the_regime_explains_is_taken_out() -> None:
    rng = np.random.default_rng(2)
    load = rng.uniform(500, 1500, (300, 1))
    baseline = fit(0.02 * load + rng.normal(0, 0.5, (300, 1)), load)
    assert baseline.scale[0] < 0.8
    assert abs(deviation(baseline, np.array([[30.0]]), np.array([[1500.0]]))[0, 0]) < 3
    assert abs(deviation(baseline, np.array([[30.0]]), np.array([[600.0]]))[0, 0]) > 10


def test_heat_that_follows_load_late_is_expected() -> None:
    rng = np.random.default_rng(3)
    load = np.repeat(rng.uniform(0, 1, 40), 15)[:, None]
    rows = 40 + 20 * lag(load) + rng.normal(0, 0.3, (600, 1))
    baseline = fit(rows, load)
    assert baseline.scale[0] < 0.5
    expected = baseline.expected(load, lag(load), times(600))
    assert np.abs(expected - rows).mean() < 0.5


def test_a_regime_never_seen_makes_modest() -> None:
    rng = np.random.default_rng(4)
    load = rng.uniform(0, 1, (300, 1))
    baseline = fit(rng.normal(10, 1, (300, 1)), load)
    rows = np.array([[20.0]])
    known, unknown = (deviation(baseline, rows, np.array([[each]]))[0, 0] for each in (0.5, 6.0))
    assert known > 8 and unknown < known / 5


def test_no_channel_is_explained_by_itself() -> None:
    rng = np.random.default_rng(5)
    load = rng.normal(size=300)
    rows = np.column_stack((load, 2 * load + 0.1 * rng.normal(size=300)))
    baseline = fit(rows, load[:, None], (0,))
    assert baseline.scale[0] == pytest.approx(1, rel=0.3) and baseline.scale[1] < 0.3
    assert not baseline.weights[:, 0].any()


def test_skewed_levels_are_judged_by_their_ratio() -> None:
    rng = np.random.default_rng(6)
    rows = np.column_stack((np.exp(rng.normal(0, 1, 500)), rng.normal(10, 1, 500), rng.normal(0, 1, 500)))
    baseline = fit(rows)
    assert baseline.logged.tolist() == [1, 0, 0]
    ten, hundred = deviation(baseline, np.array([[10.0, 10, 0], [100.0, 10, 0]]))[:, 0]
    assert hundred - ten == pytest.approx(ten, rel=0.3)
    assert baseline.physical(np.zeros(3))[:2] == pytest.approx([1, 10], rel=0.2)
    assert np.isfinite(deviation(baseline, np.array([[-5.0, 0.0, 0.0]]))).all()


def test_missing_and_constant_channels_are_survived() -> None:
    rows = np.column_stack((np.full(100, np.nan), np.full(100, 5.0), np.arange(100.0), np.zeros(100)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = deviation(fit(rows), np.array([[1.0, 5.0, 50.0, 0.0]]))[0]
    assert np.isnan(found[0]) and found[1] == 0 and abs(found[2]) < 1 and found[3] == 0


def test_one_digit_of_a_constant_channel_is_no_shout() -> None:
    rows = np.full((200, 1), 20.0)
    rows[150:160] = 20.1
    assert abs(deviation(fit(rows), np.array([[20.1]]))[0, 0]) <= 4


def test_a_state_gives_the_same_baseline_back() -> None:
    rng = np.random.default_rng(7)
    load = rng.uniform(0, 1, (200, 2))
    baseline = fit(rng.normal(size=(200, 3)) + load[:, :1], load)
    rows = rng.normal(size=(50, 3))
    again = load_baseline(baseline.state(), channels=3, regimes=2)
    assert np.array_equal(deviation(baseline, rows, load[:50]), deviation(again, rows, load[:50]))


def test_a_lagged_course_in_parts_is_the_whole_one_and_skips_gaps() -> None:
    rng = np.random.default_rng(8)
    regimes = rng.normal(size=(100, 2))
    whole = lag(regimes)
    first = lag(regimes[:30])
    np.testing.assert_allclose(np.concatenate((first, lag(regimes[30:], first[-1]))), whole, rtol=1e-12)
    regimes[40:50] = np.nan
    gapped = lag(regimes)
    assert np.isfinite(gapped).all() and np.array_equal(gapped[40:50], np.tile(gapped[39], (10, 1)))
    assert lag(np.zeros((5, 0))).shape == (5, 0)


def test_repeats_of_a_held_value_count_once() -> None:
    assert distinct_values(np.array([1.0, 1, 2, np.nan, 2, 1])) == 3
    assert distinct_values(np.array([np.nan])) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.one_of(st.just(np.nan), st.floats(-1e9, 1e9))] * 3),
        min_size=1,
        max_size=40,
    )
)
def test_whatever_the_rows_deviations_are_bounded(table: list[tuple[float, ...]]) -> None:
    rows = np.array(table)
    regimes = rows[:, :1]
    found = deviation(fit(rows, regimes), rows, regimes)
    # a value in a channel that never showed any while learning cannot occur: these are the rows learnt from
    assert np.array_equal(np.isnan(found), np.isnan(rows))
    assert np.nanmax(np.abs(np.append(found, 0.0))) <= DEVIATION_LIMIT
