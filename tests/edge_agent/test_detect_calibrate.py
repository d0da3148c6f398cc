"""Calibrated thresholds: robust, honest about autocorrelation, near their stated rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.detectors.ewma import Config, Ewma
from edge_agent.detection.healthy.calibrate import (
    cluster_excesses,
    folds_of,
    rehearse,
    scarcity,
    tail_threshold,
    wander,
)
from edge_agent.detection.sustained import persistence


@given(st.integers(24, 2000), st.integers(2, 8))
def test_folds_cover_every_row_once_and_are_alike(count: int, folds: int) -> None:
    parts = folds_of(count, folds)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_threshold_keeps_near_the_stated_rate_on_independent_noise() -> None:
    rng = np.random.default_rng(3)
    rate = 1e-3
    hits = []
    for _ in range(40):
        limit = tail_threshold(np.abs(rng.normal(size=(144, 1))), rate).limit[0]
        hits.append(float((np.abs(rng.normal(size=20_000)) > limit).mean()))
    assert np.mean(hits) < 3 * rate


def test_a_rarer_false_alarm_asks_for_a_wider_limit() -> None:
    statistics = np.abs(np.random.default_rng(4).normal(size=(300, 3)))
    often, rarely = tail_threshold(statistics, 1e-3), tail_threshold(statistics, 1e-6)
    assert (rarely.limit > often.limit).all() and np.array_equal(often.typical, rarely.typical)


def test_who_has_seen_days_believes_the_last_of_what_it_saw() -> None:
    statistics = np.abs(np.random.default_rng(5).normal(size=(1440, 2)))
    statistics[700, 0] = 9.0
    threshold = tail_threshold(statistics, 1e-6, 1.5)
    above = threshold.limit - threshold.typical
    assert (above >= 1.5 * (statistics.max(axis=0) - threshold.typical) - 1e-9).all()
    # a tail in the square is the thinner one
    assert threshold.limit[1] < tail_threshold(statistics, 1e-6).limit[1]


@pytest.mark.parametrize("beyond", [0.0, 1.5])
def test_statistics_that_never_moved_have_a_limit_above_them(beyond: float) -> None:
    threshold = tail_threshold(np.full((144, 2), 3.0), 1e-5, beyond)
    assert (threshold.limit > threshold.typical).all() and np.isfinite(threshold.limit).all()
    assert threshold.ratio(np.full((1, 2), 3.0)).tolist() == [[0.0, 0.0]]


def test_a_ratio_is_one_at_the_limit_and_linear_beyond() -> None:
    threshold = tail_threshold(np.abs(np.random.default_rng(6).normal(size=(200, 1))), 1e-4)
    span = threshold.limit - threshold.typical
    ratios = threshold.ratio(threshold.typical + span * np.array([[-1.0], [0.0], [1.0], [5.0]]))
    assert ratios[:, 0].tolist() == pytest.approx([0.0, 0.0, 1.0, 5.0])


def test_neighbouring_exceedances_are_one_event() -> None:
    statistics = np.zeros(100)
    statistics[10:14] = (1, 3, 2, 1)
    statistics[60] = 5
    assert cluster_excesses(statistics, 0.5).tolist() == [2.5, 4.5]
    assert cluster_excesses(statistics, 5.0).size == 0


def test_wandering_channels_get_room_and_steady_ones_hardly_any() -> None:
    rng = np.random.default_rng(4)
    steady = rng.normal(size=(288, 20))
    walking = np.cumsum(rng.normal(size=(288, 20)), axis=0) / 5
    assert np.median(wander(steady, 4.0)) < 1.3
    assert np.median(wander(walking, 4.0)) > 2.0
    assert (wander(np.zeros((144, 2)), 4.0) >= 1).all()


def test_few_values_get_room() -> None:
    rng = np.random.default_rng(7)
    held = np.repeat(rng.normal(size=12), 12)
    room = scarcity(np.column_stack((rng.normal(size=144), held, np.full(144, 1.0), np.full(144, np.nan))))
    assert room[0] == pytest.approx(1.0)
    assert 1.2 < room[1] < room[2] == room[3]


def test_persistence_follows_the_correlation() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=2000)
    slow = np.convolve(noise, np.ones(20) / 20, mode="valid")
    assert persistence(noise) == 1
    assert persistence(slow) > 6
    assert persistence(np.zeros(100)) >= 1


def test_a_rehearsal_judges_every_row_by_models_that_have_not_seen_it() -> None:
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(240, 2))
    rows[200:, 0] += 25.0  # a stretch unlike all the others
    none, times_us = np.zeros((240, 0)), np.arange(240, dtype=np.int64) * 60_000_000
    detector = Ewma(Config(), DetectorDeps(2))
    rehearsal = rehearse(rows, none, none, times_us, (), [detector], 6, 4.0)
    assert rehearsal.deviations.shape == (240, 2) and rehearsal.statistics[0].shape == (240, 4)
    # fitted with the stretch in it, the channel's own spread would swallow it
    assert np.median(rehearsal.deviations[200:, 0]) > 15
    assert rehearsal.wander[0] > rehearsal.wander[1] >= 1
    assert np.array_equal(detector.run(np.zeros((1, 2))) > 0, [[True, True, True, True]])
