"""The time map: delays do not age samples, drift and clock steps are followed, time never runs backwards."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.timemap import WINDOW, TimeMap

BOOT_US = 1_790_000_000_000_000


def test_the_shortest_delay_counts() -> None:
    time_map = TimeMap(1_000_000)
    rng = random.Random(3)
    for second in range(100):
        true_us = second * 1_000_000
        time_map.observe(true_us, BOOT_US + true_us + rng.randint(500, 80_000))
    assert abs(time_map.to_us(100_000_000) - BOOT_US - 100_000_000) < 10_000


def test_other_tick_rates_and_the_past() -> None:
    time_map = TimeMap(1000)
    assert not time_map.ready
    time_map.observe(5000, BOOT_US + 5_000_000)
    assert time_map.ready
    assert time_map.to_us(-1000) == BOOT_US - 1_000_000


def test_a_clock_step_forward_is_followed_within_a_window() -> None:
    time_map = TimeMap(1_000_000)
    for second in range(WINDOW + 10):
        step_us = 3_600_000_000 if second >= 10 else 0
        time_map.observe(second * 1_000_000, BOOT_US + second * 1_000_000 + step_us)
    assert time_map.to_us(0) == BOOT_US + 3_600_000_000


def test_a_fast_crystal_is_followed() -> None:
    time_map = TimeMap(1_000_000)
    for second in range(20_000):
        ticks = round(second * 1_000_000 * 1.0001)  # 100 ppm
        time_map.observe(ticks, BOOT_US + second * 1_000_000)
    assert abs(time_map.to_us(ticks) - BOOT_US - 19_999 * 1_000_000) < 10_000


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(-(10**8), 10**9)), min_size=2, max_size=200))
def test_mapped_time_never_runs_backwards(steps: list[tuple[int, int]]) -> None:
    time_map = TimeMap(1_000_000)
    ticks, previous = 0, None
    for advance, delay_us in steps:
        ticks += advance
        time_map.observe(ticks, BOOT_US + ticks + delay_us)
        mapped = time_map.to_us(ticks)
        assert previous is None or mapped > previous
        previous = mapped
