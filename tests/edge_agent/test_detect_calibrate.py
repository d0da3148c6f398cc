"""Baselines and calibrated thresholds: robust, honest about autocorrelation, near their stated rate."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.detection.baseline import fit_baseline, lag
from edge_agent.detection.calibrate import cluster_excesses, persistence, tail_threshold, wander
from edge_agent.detection.health import ChannelHealth
from edge_agent.detection.judge import growing

NO_REGIME = np.zeros((500, 0))


def fit(rows: np.ndarray):  # type: ignore[no-untyped-def]  # shorthand
    none = np.zeros((len(rows), 0))
    return fit_baseline(rows, none, none)


def test_outliers_do_not_move_the_baseline() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(10, 1, (300, 1))
    rows[::50] = 1e6
    baseline = fit(rows)
    assert baseline.centre[0] == pytest.approx(10, abs=0.3)
    assert baseline.scale[0] == pytest.approx(1, rel=0.3)


def test_what_the_regime_explains_is_taken_out() -> None:
    rng = np.random.default_rng(2)
    load = rng.uniform(500, 1500, (300, 1))
    rows = 0.02 * load + rng.normal(0, 0.5, (300, 1))
    baseline = fit_baseline(rows, load, lag(load))
    assert baseline.scale[0] < 0.8
    terms = baseline.terms(np.array([1500.0]), np.array([1000.0]))
    assert abs(baseline.deviation(np.array([30.0]), terms)[0]) < 3


def test_missing_and_constant_channels_are_survived() -> None:
    rows = np.column_stack((np.full(100, np.nan), np.full(100, 5.0), np.arange(100.0)))
    baseline = fit(rows)
    deviation = baseline.deviation(np.array([1.0, 5.0, 50.0]), np.zeros(0))
    assert np.isnan(deviation[0]) and deviation[1] == 0 and abs(deviation[2]) < 1


def test_threshold_keeps_near_the_stated_rate_on_independent_noise() -> None:
    rng = np.random.default_rng(3)
    rate = 1e-3
    hits = []
    for _ in range(40):
        limit = tail_threshold(np.abs(rng.normal(size=(144, 1))), rate).limit[0]
        hits.append(float((np.abs(rng.normal(size=20_000)) > limit).mean()))
    assert np.mean(hits) < 3 * rate


def test_neighbouring_exceedances_are_one_event() -> None:
    statistics = np.zeros(100)
    statistics[10:14] = (1, 3, 2, 1)
    statistics[60] = 5
    assert cluster_excesses(statistics, 0.5).tolist() == [2.5, 4.5]


def test_wandering_channels_get_room_and_steady_ones_hardly_any() -> None:
    rng = np.random.default_rng(4)
    steady = rng.normal(size=(288, 20))
    walking = np.cumsum(rng.normal(size=(288, 20)), axis=0) / 5
    assert np.median(wander(steady, 4.0)) < 1.3
    assert np.median(wander(walking, 4.0)) > 2.0


def test_persistence_follows_the_correlation() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=2000)
    slow = np.convolve(noise, np.ones(20) / 20, mode="valid")
    assert persistence(noise) == 1
    assert persistence(slow) > 6


def test_a_settled_step_is_told_from_a_growing_fault() -> None:
    rng = np.random.default_rng(6)
    step = (10 + rng.normal(0, 0.5, 36)).tolist()
    growth = (10 * np.exp(np.arange(36) / 30) + rng.normal(0, 0.3, 36)).tolist()
    assert not growing(step)
    assert growing(growth)


def test_stuck_is_judged_by_what_the_channel_used_to_do() -> None:
    rng = np.random.default_rng(7)
    rows = [np.array([value, 1.0]) for value in rng.normal(size=144)]
    health = ChannelHealth(2)
    health.learnt(rows)
    for _ in range(40):
        row = health.check(np.array([0.1, 1.0]))
    assert health.stuck.tolist() == [True, False]
    assert np.isnan(row[0]) and row[1] == 1.0
