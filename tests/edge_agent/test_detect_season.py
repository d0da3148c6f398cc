"""The daily and weekly cycle: taken where held-out days say so, refused where it would be made up."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.healthy import season
from edge_agent.detection.healthy.baseline import fit_baseline

STEP_US = 600_000_000
START_US = 1_790_000_000_000_000
A_DAY = 144


def times(days: float) -> IntArray:
    return START_US + np.arange(int(days * A_DAY), dtype=np.int64) * STEP_US


def day(times_us: IntArray) -> FloatArray:
    """A day as machines have them: two shifts and a nightly job."""
    hour = times_us % season.DAY_US / season.DAY_US * 24
    return 3.0 * np.sin(2 * np.pi * hour / 24) + 1.5 * np.cos(4 * np.pi * hour / 24)


def noise(count: int, seed: int = 1, sigma: float = 1.0) -> FloatArray:
    return np.random.default_rng(seed).normal(0, sigma, (count, 1))


def test_a_daily_cycle_is_taken_and_predicts_the_days_to_come() -> None:
    known, later = times(5), times(9)[5 * A_DAY :]
    weights = season.fit(day(known)[:, None] + noise(len(known)), known)
    assert weights.shape == (season.DAY_TERMS, 1)
    error = day(later) - (season.terms(later, season.DAY_TERMS) @ weights)[:, 0]
    assert error.std() < 0.4 and day(later).std() > 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("walk", [False, True])
def test_noise_and_wandering_have_no_season(seed: int, walk: bool) -> None:
    known = times(6)
    residual = noise(len(known), seed)
    if walk:
        residual = np.cumsum(residual, axis=0) / 10
    assert season.fit(residual, known).shape == (0, 1)


def test_each_channel_is_judged_for_itself() -> None:
    known = times(5)
    residual = np.column_stack((day(known), np.zeros(len(known)))) + np.column_stack(
        (noise(len(known), 1), noise(len(known), 2))
    )
    weights = season.fit(residual, known)
    assert weights[:, 0].any() and not weights[:, 1].any()


def test_two_days_are_too_few_and_sparse_rows_as_well() -> None:
    short = times(2.5)
    assert season.fit(day(short)[:, None], short).shape == (0, 1)
    sparse = times(20)[::36]  # four rows a day
    assert season.fit(day(sparse)[:, None], sparse).shape == (0, 1)
    assert season.fit(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)).shape == (0, 2)


def test_a_week_with_its_quiet_days_is_taken_after_three() -> None:
    known, later = times(24), times(31)[24 * A_DAY :]

    def weekly(times_us: IntArray) -> FloatArray:
        weekday = times_us % season.WEEK_US / season.DAY_US
        return day(times_us) + 4.0 * np.cos(2 * np.pi * weekday / 7)

    weights = season.fit(weekly(known)[:, None] + noise(len(known)), known)
    assert weights.shape == (season.WEEK_TERMS, 1)
    error = weekly(later) - (season.terms(later, season.WEEK_TERMS) @ weights)[:, 0]
    assert error.std() < 0.5


def test_missing_rows_outliers_and_empty_channels_are_survived() -> None:
    known = times(5)
    cycle = day(known)[:, None] + noise(len(known))
    cycle[::7] = np.nan
    cycle[::50] = 1e6
    weights = season.fit(np.column_stack((cycle, np.full(len(known), np.nan), np.zeros(len(known)))), known)
    assert np.isfinite(weights).all() and weights[:, 0].any() and not weights[:, 1:].any()


def test_the_baseline_expects_the_hour_and_judges_the_rest() -> None:
    known = times(5)
    rows = 40 + day(known)[:, None] + noise(len(known), 3, 0.3)
    none = np.zeros((len(known), 0))
    baseline = fit_baseline(rows, none, none, known, ())
    assert baseline.season_weights.any() and baseline.scale[0] < 0.5
    noon, night = known[:A_DAY][np.argmax(day(known[:A_DAY]))], known[:A_DAY][np.argmin(day(known[:A_DAY]))]
    both = np.array([noon, night]) + 7 * season.DAY_US
    at = baseline.deviation(np.array([[40.0 + day(known).max()]] * 2), none[:2], none[:2], both)[:, 0]
    assert abs(at[0]) < 3 and at[1] > 8
