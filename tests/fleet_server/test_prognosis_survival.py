"""Weighted Kaplan-Meier against worked examples and its own invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.survival import kaplan_meier, product_limit

cases = st.lists(st.tuples(st.floats(0.1, 1e4), st.booleans(), st.floats(0.01, 5.0)), min_size=1, max_size=60).filter(
    lambda items: any(failed for _, failed, _ in items)
)


def test_product_limit_of_a_worked_example() -> None:
    # Failures at 6 (three of 21), 7, 10, 13, 16, 22, 23; censored at 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35
    # (Freireich's 6-MP remission times, the textbook example): S(6) = 0.857, S(10) = 0.753, S(23) = 0.448.
    failures = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    values = np.array(failures + censored, dtype=float)
    failed = np.array([True] * len(failures) + [False] * len(censored))
    at, beyond = product_limit(values, failed, np.ones(values.size))
    curve = dict(zip(at.tolist(), beyond.round(3).tolist(), strict=True))
    assert (curve[6.0], curve[10.0], curve[23.0]) == (0.857, 0.753, 0.448)


def test_weights_count_as_copies() -> None:
    lives, failed = np.array([3.0, 5.0, 9.0]), np.array([True, False, True])
    weighted = product_limit(lives, failed, np.array([2.0, 1.0, 3.0]))
    copied = product_limit(np.repeat(lives, [2, 1, 3]), np.repeat(failed, [2, 1, 3]), np.ones(6))
    assert np.allclose(weighted[1], copied[1])


def test_censoring_lengthens_life() -> None:
    lives, weights = np.array([10.0, 20.0, 30.0, 40.0]), np.ones(4)
    known = kaplan_meier(lives, np.array([True, True, True, True]), weights)
    censored = kaplan_meier(lives, np.array([True, False, True, False]), weights)
    assert censored.quantile(0.5) > known.quantile(0.5)
    assert censored.quantile(0.9) > censored.known_to_h


@given(cases)
def test_a_curve_starts_at_one_never_rises_and_ends(items: list[tuple[float, bool, float]]) -> None:
    lives, failed, weights = (np.array(column) for column in zip(*items, strict=True))
    curve = kaplan_meier(lives, failed, weights)
    assert curve.hours[0] == 0.0
    assert curve.surviving[0] == 1.0
    assert curve.surviving[-1] == 0.0
    assert (np.diff(curve.surviving) <= 1e-12).all()
    assert (np.diff(curve.hours) >= 0).all()
    p10, p50, p90 = (curve.quantile(share) for share in (0.1, 0.5, 0.9))
    assert 0 <= p10 <= p50 <= p90 < np.inf
    assert 0.0 <= curve.p_fail(24) <= curve.p_fail(72) <= curve.p_fail(720) <= 1.0


@given(cases, st.floats(1.0, 6.0), st.floats(1.0, 6.0), st.floats(0.0, 100.0))
def test_stretching_widens_about_the_median_and_ageing_shortens(
    items: list[tuple[float, bool, float]], early: float, late: float, age_h: float
) -> None:
    lives, failed, weights = (np.array(column) for column in zip(*items, strict=True))
    curve = kaplan_meier(lives, failed, weights)
    wide = curve.stretched(early, late)
    assert wide.quantile(0.1) <= curve.quantile(0.1) + 1e-6
    assert wide.quantile(0.9) >= min(curve.quantile(0.9), 1e6) - 1e-6
    assert wide.quantile(0.5) == pytest.approx(curve.quantile(0.5), rel=1e-3, abs=0.02)
    older = curve.aged(age_h)
    assert older.surviving[0] == 1.0
    assert (np.diff(older.surviving) <= 1e-12).all()
    assert (np.diff(older.hours) >= 0).all()


def test_without_a_failure_there_is_no_curve() -> None:
    with pytest.raises(BadInput):
        kaplan_meier(np.array([5.0]), np.array([False]), np.array([1.0]))
