"""Sick sensors: what is missing, stuck or spikes is left out; what truly moved is not."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.arrays import FloatArray
from edge_agent.detection.input.sensor_health import ChannelHealth, ranges


def moving(rows: int = 144, channels: int = 2, seed: int = 7) -> FloatArray:
    table = np.random.default_rng(seed).normal(size=(rows, channels))
    table[:, -1] = 1.0
    return table


def watching(rows: FloatArray | None = None) -> ChannelHealth:
    known = moving() if rows is None else rows
    health = ChannelHealth(known.shape[1])
    health.learnt(ranges(known))
    return health


def test_stuck_is_judged_by_what_the_channel_used_to_do() -> None:
    health = watching()
    rows = health.check(np.tile([0.1, 1.0], (40, 1)))
    assert health.stuck.tolist() == [True, False]
    assert np.isfinite(rows[:12, 0]).all() and np.isnan(rows[-1, 0]) and (rows[:, 1] == 1.0).all()
    moved = health.check(np.array([[0.2, 1.0]]))
    assert not health.stuck.any() and moved[0, 0] == 0.2


def test_standing_still_beyond_what_was_learnt_may_be_the_machine() -> None:
    health = watching()
    rows = health.check(np.tile([25.0, 1.0], (60, 1)))
    assert not health.stuck.any() and np.isfinite(rows[1:]).all()


def test_a_slow_channel_may_hold_its_values() -> None:
    rng = np.random.default_rng(1)
    held = np.repeat(rng.normal(size=24), 6)[:, None]
    health = watching(held)
    health.check(np.full((20, 1), 0.0))
    assert not health.stuck.any()
    health.check(np.full((20, 1), 0.0))
    assert health.stuck.all()


def test_missing_is_told_and_comes_back() -> None:
    health = watching()
    health.check(np.array([[np.nan, 1.0]]))
    assert health.missing.tolist() == [True, False]
    health.check(np.array([[0.0, 1.0]]))
    assert not health.missing.any()


def test_one_wild_reading_is_held_back_and_counted() -> None:
    health = watching()
    rows = moving(20, seed=8)
    wild = rows.copy()
    wild[10, 0] = 500.0
    checked = health.check(wild)
    assert checked[10, 0] == rows[9, 0] and np.array_equal(np.delete(checked, 10, axis=0), np.delete(wild, 10, axis=0))
    assert health.spikes.tolist() == [1, 0]


def test_a_true_jump_is_heard_one_reading_late() -> None:
    health = watching()
    rows = moving(20, seed=8)
    rows[10:, 0] += 100.0
    checked = health.check(rows)
    assert checked[10, 0] == rows[9, 0] and np.array_equal(checked[11:], rows[11:])


def test_before_learning_and_of_few_steps_nothing_is_held_back() -> None:
    wild = np.array([[0.0], [1e9], [0.0]])
    assert np.array_equal(ChannelHealth(1).check(wild), wild)
    gapped = np.full((144, 1), np.nan)
    gapped[::3] = moving(48, 1)
    assert np.array_equal(watching(gapped).check(wild), wild)


@pytest.mark.parametrize("seed", range(6))
def test_blocks_of_any_size_give_the_same_rows_also_over_a_restart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = moving(300, 3, seed)
    rows[rng.integers(0, 300, 8), rng.integers(0, 3, 8)] = 1e3
    rows[40:100, 0] = rows[40, 0]
    rows[rng.integers(0, 300, 30)] = np.nan
    rows[200:230, 1] = np.nan
    one, parts = watching(moving(144, 3)), watching(moving(144, 3))
    expected = np.concatenate([one.check(row[None]) for row in rows])
    found = []
    for part in np.split(rows, np.sort(rng.integers(1, 300, 7))):
        if not len(part):
            continue
        found.append(parts.check(part))
        again = ChannelHealth(3)
        again.load(parts.state())
        parts = again
    np.testing.assert_array_equal(np.concatenate(found), expected)
    assert np.array_equal(one.spikes, parts.spikes) and np.array_equal(one.stuck, parts.stuck)
    assert np.array_equal(one.missing, parts.missing) and np.array_equal(one.spiking, parts.spiking)
