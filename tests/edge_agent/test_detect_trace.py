"""A component's trace: two resolutions in bounded memory, the same by blocks and by rows, over restarts too."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detection import snapshot
from edge_agent.detection.trace.memory import (
    MAX_FINDINGS,
    MAX_MARKERS,
    MAX_SHOT_SAMPLES,
    Trace,
    load_trace,
)
from edge_agent.detection.trace.records import LearntFrom, MarkerKind, Ticks
from fleet_core.errors import BadInput
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding, Waveform

START_US = 1_790_000_000_000_000
CHANNELS = 3
VOTES = ("cusum", "level")
LEARNT = LearntFrom(144, START_US, START_US + 144, "ab" * 32, np.full(CHANNELS, 4.0, dtype=np.float32))


def rows(count: int, seed: int = 1) -> tuple[Any, ...]:
    """Times, values, expected, deviation, evidence, states, votes of so many ticks, some values missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 5, (count, CHANNELS))
    values[rng.random(values.shape) < 0.05] = np.nan
    return (
        START_US + 1_000_000 * np.arange(count),
        values,
        np.full(values.shape, 50.0),
        (values - 50) / 5,
        rng.random(count) * 2,
        rng.integers(1, 5, count),
        rng.random((count, len(VOTES))),
    )


def fed(table: tuple[Any, ...], sizes: list[int] | int, trace: Trace | None = None, start: int = 0) -> Trace:
    if trace is None:
        trace = Trace(CHANNELS, recent=128, whole=16)
        trace.note_learnt(START_US, MarkerKind.LEARNT, LEARNT, VOTES)
    count, turn = len(table[0]), 0
    while start < count:
        size = sizes if isinstance(sizes, int) else sizes[turn % len(sizes)]
        trace.add(*(column[start : start + size] for column in table))
        start, turn = start + size, turn + 1
    return trace


def assert_same(one: Ticks, two: Ticks) -> None:
    for name in Ticks.__slots__:
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-5, err_msg=name)


def finding(number: int = 1, severity: float = 0.2, revision: int = 1) -> Finding:
    return Finding(
        finding_id=f"00000000-0000-0000-0000-{number:012d}",
        revision=revision,
        component="drive_bearing",
        state=DetectionState.DEGRADING,
        score=0.6,
        severity=severity,
        detected_us=START_US + revision,
        onset_us=START_US,
        channels=(ChannelEvidence("vibration", "[g]", 1.0, 0.1, 0.01, 0.2),),
        signature=(0.5,),
        detectors={"cusum": 2.0},
        indicator_metric="vibration",
        indicator_baseline=0.1,
        indicator_sigma=0.01,
    )


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 700), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_blocks_of_any_size_leave_what_single_rows_do(count: int, sizes: list[int]) -> None:
    table = rows(count)
    by_rows, by_blocks = fed(table, 1), fed(table, sizes)
    assert_same(by_rows.recent(), by_blocks.recent())
    assert_same(by_rows.whole(), by_blocks.whole())
    assert by_rows.peak is not None and by_blocks.peak is not None
    assert by_rows.peak.time_us == by_blocks.peak.time_us
    np.testing.assert_array_equal(by_rows.peak.votes, by_blocks.peak.votes)


def test_spans_hold_means_and_extremes_of_their_ticks() -> None:
    table = rows(1000)
    whole = fed(table, 64).whole()
    times, values, _, deviation, evidence, states, _ = table
    assert whole.ticks_each == 64 and len(whole) == 16
    for index in range(len(whole)):
        part = slice(64 * index, 64 * (index + 1))
        assert (whole.first_us[index], whole.last_us[index]) == (times[part][0], times[part][-1])
        np.testing.assert_allclose(whole.low[index], np.nanmin(values[part], axis=0), rtol=1e-6)
        np.testing.assert_allclose(whole.high[index], np.nanmax(values[part], axis=0), rtol=1e-6)
        np.testing.assert_allclose(whole.values[index], np.nanmean(values[part], axis=0), rtol=5e-3)
        np.testing.assert_allclose(whole.evidence[index], evidence[part].mean(), rtol=1e-5)
        assert whole.peak[index] == pytest.approx(evidence[part].max(), rel=1e-6)
        assert whole.states[index] == states[part].max()
    assert np.nanmax(np.abs(whole.deviation)) < np.nanmax(np.abs(deviation))


def test_the_newest_ticks_are_kept_as_they_were() -> None:
    table = rows(500)
    recent = fed(table, 37).recent()
    assert len(recent) == 128 and recent.ticks_each == 1
    np.testing.assert_array_equal(recent.first_us, table[0][-128:])
    np.testing.assert_allclose(recent.values, table[1][-128:], rtol=1e-6)
    np.testing.assert_array_equal(recent.states, table[5][-128:])


def test_memory_is_bounded_over_a_long_life() -> None:
    trace = Trace(8)
    count = 4096
    block = (np.ones((count, 8)),) * 3
    for turn in range(50):
        times = START_US + 1_000_000 * (turn * count + np.arange(count))
        trace.add(times, *block, np.zeros(count), np.ones(count, dtype=int))
    whole = trace.whole()
    assert 192 <= len(whole) <= 384 and whole.last_us[-1] == START_US + 1_000_000 * (50 * count - 1)
    assert len(snapshot.dump(trace.state())) < 64_000


@pytest.mark.filterwarnings("error")
def test_odd_numbers_are_missing_and_raise_nothing() -> None:
    trace = Trace(2, recent=128, whole=4)
    odd = np.array([[np.nan, 1.0], [np.inf, 2.0], [-np.inf, 3.0], [1e300, -1e300]])
    unknown = np.full(odd.shape, np.nan)
    for turn in range(64):
        times = START_US + 4 * turn + np.arange(4)
        trace.add(times, odd, unknown, unknown, np.array([np.nan, 1.0, 2.0, 1e300]), np.zeros(4, dtype=int))
    whole = trace.whole()
    assert np.isfinite(whole.values[:, 1]).all() and np.isnan(whole.expected).all()
    assert len(trace.recent()) == 128


def test_a_restart_changes_nothing() -> None:
    table = rows(900)
    straight = fed(table, 50)
    half = fed(tuple(column[:400] for column in table), 50)
    again = load_trace(snapshot.load(snapshot.dump(half.state())))
    fed(table, 50, again, start=400)
    assert_same(straight.recent(), again.recent())
    assert_same(straight.whole(), again.whole())
    assert straight.peak is not None and again.peak is not None and straight.peak.time_us == again.peak.time_us
    assert again.learnt is not None and again.learnt.digest == LEARNT.digest
    np.testing.assert_array_equal(straight.newest_votes(), again.newest_votes())


def test_what_was_noted_survives_a_restart() -> None:
    trace = fed(rows(10), 10)
    trace.note_finding(finding(1, 0.3))
    trace.note_waveform(Waveform("vibration", START_US, 25_600.0, array("f", range(10_000))), learning=True)
    trace.note_waveform(Waveform("vibration", START_US + 1, 25_600.0, array("f", [1.0] * 64)), learning=False)
    again = load_trace(snapshot.load(snapshot.dump(trace.state())))
    assert again.findings == trace.findings and again.markers == trace.markers
    shots = again.waveforms["vibration"]
    assert len(shots["healthy"].values) == MAX_SHOT_SAMPLES and len(shots["now"].values) == 64
    assert shots["now"].sample_rate_hz == 25_600.0


def shaped(channels: int, recent: int, whole: int) -> dict[str, Any]:
    return {"shape": {"channels": channels, "recent": recent, "whole": whole}}


def damaged(state: dict[str, Any], **change: Any) -> dict[str, Any]:
    return {**state, **change}


def test_a_damaged_state_is_refused() -> None:
    whole = fed(rows(300), 50)
    state = whole.state()
    spans = state["spans"]
    assert load_trace(state, like=whole).shape == load_trace(state).shape == whole.shape
    for wrong in (
        damaged(state, shape={**state["shape"], "channels": CHANNELS + 1}),
        damaged(state, ring=np.zeros((4, 4))),
        damaged(state, spans={**spans, "used": 99}),
        damaged(state, spans={**spans, "means": np.zeros(3)}),
        damaged(state, findings=[{"detected_us": 1, "finding": "no finding", "slow": False}]),
        damaged(state, learnt={"rows": 1}),
        damaged(state, markers=None),
        damaged(state, markers=[{"time_us": START_US, "kind": "of no kind", "text": ""}]),
        {},
    ):
        with pytest.raises(BadInput):
            load_trace(wrong, like=whole)
    early = damaged(state, ring_times_us=np.zeros(len(state["ring_times_us"])))
    for wrong_shape in (early, None, {}, {"shape": {"channels": 1}}, shaped(10**9, 128, 16), shaped(1, 10**9, 16)):
        with pytest.raises(BadInput):
            load_trace(wrong_shape)


def test_lists_are_bounded_and_the_most_severe_revision_counts() -> None:
    trace = Trace(CHANNELS)
    for number in range(2 * MAX_MARKERS):
        trace.mark(START_US + number, MarkerKind.STATE, "watch")
    assert len(trace.markers) == MAX_MARKERS and trace.markers[-1].time_us == START_US + 2 * MAX_MARKERS - 1
    for number in range(MAX_FINDINGS + 3):
        trace.note_finding(finding(number))
    assert len(trace.findings) == MAX_FINDINGS
    newest = finding(MAX_FINDINGS + 2)
    trace.note_finding(replace(newest, revision=2, severity=0.9, detected_us=START_US + 500))
    trace.note_finding(replace(newest, revision=3, severity=0.1, detected_us=START_US + 900))
    told = trace.findings[newest.finding_id]
    assert (told.detected_us, told.finding.revision) == (newest.detected_us, 2)


def test_a_new_baseline_starts_the_worst_moment_anew_and_a_refit_does_not() -> None:
    trace = fed(rows(200), 50)
    assert trace.whole() and trace.peak is not None
    trace.note_learnt(START_US + 10**9, MarkerKind.REFITTED, replace(LEARNT, rows=288), VOTES)
    assert trace.peak is not None
    trace.note_learnt(START_US + 10**9, MarkerKind.RELEARNT, LEARNT, VOTES)
    assert trace.peak is None
