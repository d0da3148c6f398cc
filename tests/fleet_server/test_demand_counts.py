"""Distributions of counts: exact against enumeration, wider with a cohort factor, never out of bounds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_server.insights.demand.counts import NONE, Count, bernoulli_sum, negative_binomial, plus, total

chances = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=0, max_size=200)


def probability(count: Count, number: int) -> float:
    at = number - count.first
    return float(count.probs[at]) if 0 <= at < count.probs.size else 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_a_small_sum_is_what_enumeration_says(p: list[float]) -> None:
    exact = np.zeros(len(p) + 1)
    for outcome in itertools.product((0, 1), repeat=len(p)):
        exact[sum(outcome)] += math.prod(q if happens else 1 - q for q, happens in zip(p, outcome, strict=True))
    count = bernoulli_sum(np.array(p))
    assert [probability(count, k) for k in range(len(p) + 1)] == pytest.approx(exact.tolist(), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(chances, st.sampled_from((0.0, 0.3, 1.0)))
def test_a_sum_is_a_distribution_with_the_right_mean_and_bounds(p: list[float], sigma: float) -> None:
    count = bernoulli_sum(np.array(p), sigma)
    assert count.probs.min() >= 0 and count.probs.sum() == pytest.approx(1)
    assert count.first >= 0 and count.first + count.probs.size - 1 <= len(p)
    assert count.mean == pytest.approx(sum(p), abs=1e-6 * max(1, len(p)))
    low, high = count.interval(0.8)
    assert 0 <= low <= high <= len(p)
    assert count.at_most(high) - count.at_most(low - 1) >= 0.8 - 1e-6
    assert count.at_most(-1) == 0 and count.at_most(len(p)) == pytest.approx(1)


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_quantiles_rise_with_the_share(one: float, other: float) -> None:
    count = bernoulli_sum(np.linspace(0.1, 0.9, 40), 0.3)
    assert (count.quantile(one) <= count.quantile(other)) == (one <= other) or count.quantile(one) == count.quantile(
        other
    )


def test_values_that_are_no_probabilities_are_bounded_or_dropped() -> None:
    count = bernoulli_sum(np.array([np.nan, -1.0, 2.0, np.inf]))
    assert (count.first, count.mean) == (2, 2.0)
    assert bernoulli_sum(np.array([])) is NONE


def test_a_cohort_factor_widens_the_sum_and_keeps_its_mean() -> None:
    p = np.full(200, 0.2)
    alone, together = bernoulli_sum(p), bernoulli_sum(p, 0.5)
    assert together.mean == pytest.approx(alone.mean, rel=1e-6)
    (low, high), (lower, higher) = alone.interval(0.8), together.interval(0.8)
    assert lower < low and higher > high


def test_many_components_stay_cheap_and_exact() -> None:
    p = np.random.default_rng(1).uniform(0, 0.02, 20_000)
    count = bernoulli_sum(p)
    spread = math.sqrt((p * (1 - p)).sum())
    assert count.mean == pytest.approx(p.sum(), rel=1e-9)
    assert count.interval(0.8) == pytest.approx((p.sum() - 1.2816 * spread, p.sum() + 1.2816 * spread), abs=1.5)
    assert count.probs.size < 20 * spread


@pytest.mark.parametrize(("shape", "exposure", "ahead"), [(0.5, 10.0, 1.0), (0.5, 1.0, 50.0), (900.0, 3.0, 2.0)])
def test_a_rate_known_roughly_gives_the_simulated_counts(shape: float, exposure: float, ahead: float) -> None:
    rng = np.random.default_rng(5)
    drawn = rng.poisson(rng.gamma(shape, 1 / exposure, 40_000) * ahead)
    count = negative_binomial(shape, exposure, ahead)
    assert count.mean == pytest.approx(shape * ahead / exposure, rel=1e-6)
    for share in (0.1, 0.5, 0.9):
        assert count.quantile(share) == pytest.approx(np.quantile(drawn, share), rel=0.04, abs=1)


def test_nothing_ahead_is_nothing_and_sums_add_up() -> None:
    assert negative_binomial(0.5, 1.0, 0.0) is NONE
    parts = [bernoulli_sum(np.array([0.5, 0.25])), negative_binomial(2.0, 4.0, 1.0)]
    assert total(parts).mean == pytest.approx(1.25)
    assert plus(*parts).mean == pytest.approx(1.25)
