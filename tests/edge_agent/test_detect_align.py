"""Asynchronous channels become ticks."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.detection.input.align import Aligner, Frame

S = 1_000_000
BASE = 1_790_000_000 * S


def feed(aligner: Aligner, *items: tuple[int, float, float]) -> list[Frame]:
    return [frame for channel, at_s, value in items for frame in aligner.add(channel, BASE + int(at_s * S), value)]


def test_a_row_closes_when_all_have_reported() -> None:
    aligner = Aligner(2, 0)
    assert feed(aligner, (0, 1, 5.0)) == []
    (frame,) = feed(aligner, (1, 1.2, 6.0))
    assert frame.row.tolist() == [5.0, 6.0] and frame.time_us == BASE + int(1.2 * S)


def test_a_slow_channel_is_held_then_missing() -> None:
    aligner = Aligner(2, 0)
    for tick in range(60):
        items = [(0, float(tick), float(tick))]
        if tick % 5 == 0 and tick <= 30:
            items.append((1, tick + 0.1, 100.0 + tick))
        frames = feed(aligner, *items)
    assert len(frames) == 1
    assert math.isnan(frames[0].row[1])
    held = Aligner(2, 0)
    rows = []
    for tick in range(30):
        items = [(0, float(tick), float(tick))]
        if tick % 5 == 0:
            items.append((1, tick + 0.1, 100.0 + tick))
        rows += feed(held, *items)
    assert 28 <= len(rows) <= 31
    assert all(math.isfinite(frame.row[1]) for frame in rows[2:])


def test_a_dropped_out_fast_channel_does_not_stop_the_ticks() -> None:
    aligner = Aligner(2, 0)
    for tick in range(20):
        feed(aligner, (0, tick, 1.0), (1, tick, 1.0))
    frames = feed(aligner, *[(0, tick, 2.0) for tick in range(20, 60)])
    assert len(frames) >= 38
    assert math.isnan(frames[-1].row[1])


def test_dense_samples_are_averaged_over_longer_ticks() -> None:
    aligner = Aligner(1, 10 * S)
    frames = feed(aligner, *[(0, tick * 0.1, float(tick % 2)) for tick in range(1000)])
    assert 9 <= len(frames) <= 11
    assert abs(frames[3].row[0] - 0.5) < 0.05


def test_late_and_repeated_samples_are_dropped_and_counted() -> None:
    aligner = Aligner(1, 0)
    feed(aligner, (0, 1, 1.0), (0, 2, 2.0))
    assert feed(aligner, (0, 2, 9.0), (0, 1.5, 9.0)) == []
    assert aligner.late == 2


def test_a_lost_sample_does_not_skew_the_rows_after_it() -> None:
    aligner = Aligner(2, 0)
    frames = feed(
        aligner, *[(c, tick + 0.01 * c, float(tick)) for tick in range(60) for c in (0, 1) if (tick, c) != (30, 0)]
    )
    assert [frame.row.tolist() for frame in frames[-25:]] == [[float(tick)] * 2 for tick in range(35, 60)]


def test_after_a_clock_set_back_the_rows_are_of_one_moment() -> None:
    aligner = Aligner(2, 0)
    feed(aligner, *[(c, 10_000 + tick, 1.0) for tick in range(20) for c in (0, 1)])
    frames = feed(aligner, *[(c, tick, float(tick)) for tick in range(30) for c in (0, 1)])
    assert len(frames) >= 20 and all(frame.row[0] == frame.row[1] for frame in frames[3:])


def test_a_clock_set_back_is_followed_after_a_while() -> None:
    aligner = Aligner(1, 0)
    feed(aligner, *[(0, 10_000 + tick, 1.0) for tick in range(10)])
    assert len(feed(aligner, *[(0, tick, 1.0) for tick in range(20)])) >= 14


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200), st.floats(allow_nan=True)), max_size=200))
def test_anything_goes_and_restarts_change_nothing(items: list[tuple[int, int, float]]) -> None:
    one, two = Aligner(3, 0), Aligner(3, 0)
    for channel, at_s, value in items:
        two.load(one.state())
        first = one.add(channel, BASE + at_s * S, value)
        assert len(first) <= 2
        assert len(two.add(channel, BASE + at_s * S, value)) == len(first)
        two = Aligner(3, 0)
