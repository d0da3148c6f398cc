"""Signatures: bounded, nothing of the future in them, the same for past and living courses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.prognosis.signatures import (
    BINS,
    MAX_COURSE_H,
    canonical_course,
    course_signature,
    covered_bins,
    height,
    signatures,
)

ratios = st.lists(st.floats(0.2, 50.0), min_size=12, max_size=120)


@given(ratios, st.integers(2, 10), st.floats(0.3, 40.0))
def test_nothing_later_enters_a_signature(values: list[float], cut: int, other: float) -> None:
    hours = np.arange(len(values), dtype=float)
    ratio = np.array(values)
    changed = ratio.copy()
    changed[cut + 1 :] = other
    at = np.array([float(cut)])
    assert np.array_equal(signatures(hours, ratio, at), signatures(hours, changed, at))


@given(ratios)
def test_a_higher_course_has_no_lower_signature(values: list[float]) -> None:
    hours, ratio = np.arange(len(values), dtype=float), np.array(values)
    at = hours[-1:]
    assert (signatures(hours, ratio * 1.1, at) >= signatures(hours, ratio, at) - 1e-9).all()


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(allow_nan=True, allow_infinity=True)), max_size=400))
def test_canonical_course_is_bounded_ordered_and_finite(points: list[tuple[float, float]]) -> None:
    ages, values = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    hours_before, ratio = canonical_course(ages, np.clip(values, -1e9, 1e9))
    assert hours_before.size <= 350
    assert np.isfinite(ratio).all()
    assert (np.diff(hours_before) < 0).all()
    assert (hours_before <= MAX_COURSE_H).all()


def test_dense_data_is_thinned_to_its_mean() -> None:
    ages = np.linspace(0, 200, 100_000)
    hours_before, ratio = canonical_course(ages, np.full(ages.size, 1.5))
    assert 250 < hours_before.size <= 350
    assert np.allclose(ratio, 1.5)


def test_living_and_past_course_have_the_same_signature() -> None:
    hours = np.arange(0, 200.0, 1 / 6)
    ratio = 1.0 + 0.002 * np.maximum(hours - 100, 0) ** 1.5
    past = signatures(hours, ratio, hours[-1:])[0]
    living, covered = course_signature(*canonical_course(hours[-1] - hours, ratio))
    assert covered.all()
    assert np.allclose(past, living, atol=0.08)


def test_a_short_course_is_compared_where_it_has_data_only() -> None:
    assert covered_bins(5.0).tolist() == [True, True, True, False, False, False]
    assert covered_bins(0.0).tolist() == [True] + [False] * (BINS - 1)
    hours = np.arange(0, 5.0, 1 / 6)
    signature, covered = course_signature(*canonical_course(hours[-1] - hours, np.full(hours.size, 2.0)))
    assert np.allclose(signature[covered], height(np.array([2.0]))[0], atol=0.01)


def test_one_point_is_no_course() -> None:
    with pytest.raises(BadInput):
        signatures(np.array([1.0]), np.array([1.0]), np.array([1.0]))
