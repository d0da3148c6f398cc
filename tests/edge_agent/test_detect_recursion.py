"""Recursions over blocks give what they give row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detection.recursion import CHUNK, Smoother, leaking_sums, room_for


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3 * CHUNK), st.lists(st.floats(0.001, 1.0), min_size=1, max_size=4), st.integers(0, 99))
def test_means_over_a_block_are_those_row_by_row(count: int, weights: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, memory = 100 * rng.normal(size=(count, 3)), rng.normal(size=(len(weights), 3))
    found = Smoother(tuple(weights)).run(memory, rows)
    assert found.shape == (count, len(weights), 3)
    for row, means in zip(rows, found, strict=True):
        memory = memory + np.array(weights)[:, None] * (row - memory)
        np.testing.assert_allclose(means, memory, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3 * CHUNK), st.floats(0.5, 0.9999), st.integers(0, 99), st.floats(0.1, 1e3))
def test_leaking_sums_over_a_block_are_those_row_by_row(count: int, keep: float, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    pushes, memory = size * rng.normal(size=(count, 2, 2)), np.abs(rng.normal(size=(2, 2)))
    found = leaking_sums(memory, pushes, keep)
    for push, sums in zip(pushes, found, strict=True):
        memory = np.maximum(0.0, keep * memory + push)
        np.testing.assert_allclose(sums, memory, rtol=1e-8, atol=1e-8 * size)


def test_a_new_memory_is_zero_and_has_its_shape() -> None:
    assert Smoother((0.5, 0.1)).zeros(4).tolist() == np.zeros((2, 4)).tolist()


@pytest.mark.parametrize("rows", [1, 144, 100_000])
def test_slow_means_of_few_rows_get_room(rows: int) -> None:
    fast, slow = room_for((0.2, 0.005), rows)
    assert 1 <= fast <= slow <= 2
