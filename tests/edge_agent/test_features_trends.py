"""Trends at several time constants against lines whose slope is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.features.trends import MIN_ROWS, Trends

HOUR_US = 3_600_000_000
START_US = 1_790_000_000_000_000


def hours(count: int, step_h: float = 1.0) -> np.ndarray:
    return START_US + (np.arange(count) * step_h * HOUR_US).astype(np.int64)


def test_a_straight_line_has_its_slope_at_every_scale_and_offset() -> None:
    times = hours(200)
    rows = np.column_stack((0.5 * np.arange(200), 1e9 - 2.0 * np.arange(200)))
    slopes = Trends(2, (3, 24, 96)).run(times, rows)
    assert slopes.shape == (200, 2, 3)
    assert slopes[-1, 0] == pytest.approx([0.5] * 3, rel=1e-9)
    assert slopes[-1, 1] == pytest.approx([-2.0] * 3, rel=1e-6)


def test_no_slope_before_half_a_time_constant() -> None:
    slopes = Trends(1, (2, 20)).run(hours(40), np.arange(40.0)[:, None])
    assert np.isnan(slopes[: MIN_ROWS - 1]).all() and np.isnan(slopes[9, 0, 1])
    assert slopes[MIN_ROWS, 0, 0] == pytest.approx(1.0) and slopes[10, 0, 1] == pytest.approx(1.0)


def test_the_short_scale_turns_first() -> None:
    rows = np.concatenate((np.zeros(200), np.arange(20.0)))[:, None]
    short, long = Trends(1, (5, 100)).run(hours(220), rows)[-1, 0]
    assert short == pytest.approx(1.0, abs=0.3) and 0 < long < 0.2


def test_levels_follow_and_a_gap_is_not_a_slope() -> None:
    trends = Trends(2, (10,))
    rows = np.full((60, 2), 4.0)
    rows[20:40, 0] = np.nan
    slopes = trends.run(hours(60), rows)
    assert slopes[-1, :, 0] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert trends.levels()[:, 0] == pytest.approx([4.0, 4.0])
    assert np.isnan(Trends(1, (10,)).levels()).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(-5, 5000), min_size=61, max_size=61), st.integers(0, 60), st.booleans())
def test_blocks_equal_rows_and_a_restart_changes_nothing(
    count: int, minutes: list[int], cut: int, with_gaps: bool
) -> None:
    rng = np.random.default_rng(count)
    times = START_US + np.cumsum(np.array(minutes[:count], dtype=np.int64)) * 60_000_000
    rows = 100 + rng.normal(size=(count, 3)).cumsum(axis=0)
    if with_gaps:
        rows[rng.random(rows.shape) < 0.3] = np.nan
    whole = Trends(3, (0.5, 8, 200))
    expected = whole.run(times, rows)
    parts = Trends(3, (0.5, 8, 200))
    first = [parts.run(times[i : i + 1], rows[i : i + 1]) for i in range(min(cut, count))]
    resumed = Trends(3, (0.5, 8, 200))
    resumed.load(parts.state())
    rest = resumed.run(times[cut:], rows[cut:])
    np.testing.assert_allclose(np.concatenate([*first, rest]), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(resumed.levels(), whole.levels(), rtol=1e-9)


def test_a_foreign_state_is_refused() -> None:
    with pytest.raises(ValueError, match="other"):
        Trends(2, (1,)).load(Trends(3, (1,)).state())
    with pytest.raises(ValueError, match="other"):
        Trends(2, (1,)).load(Trends(2, (2,)).state())
    with pytest.raises(ValueError, match="time constants"):
        Trends(2, (0.0,))
