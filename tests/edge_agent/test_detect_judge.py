"""Blocks of any size give what rows one by one give: states, scores, events and decisions; so does a restart.

The series are random and hurt by all that happens to series: steps, ramps, excursions, spikes, stuck and missing
channels, silences. Small learning periods and a fast slow plane bring every decision into a short series.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection, Event
from edge_agent.detection.judging.judge import ComponentJudge
from edge_agent.detection.judging.segment import Segment
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.settings import DetectionSettings
from fleet_core.assets import AssetClass
from fleet_core.telemetry import DetectionState, Finding, MetricSpec, StateChange

START_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
ALARMS = (DetectionState.DEGRADING, DetectionState.CRITICAL)
BUT_THE_NETWORK: dict[str, Any] = {
    name: {} for name in ("aakr", "cusum", "ewma", "level", "pca", "spectral", "virtual")
}
SLOW_AT_ONCE = {"detectors": BUT_THE_NETWORK, "slow_ticks": 4, "novelty": True}


def detection(channels: int, table: dict[str, Any] | None = None) -> AssetDetection:
    metrics = tuple(MetricSpec(f"v{index}") for index in range(channels))
    return build_detection(AssetDescription("robot-17", AssetClass.ROBOT, "m", "s", metrics), table or {})


def times(rows: int, step_s: float, silence_at: int = 0) -> np.ndarray:
    stamps = START_US + np.arange(rows, dtype=np.int64) * int(step_s * SECOND_US)
    if silence_at:
        stamps[silence_at:] += int(97.3 * step_s * SECOND_US)
    return stamps


def healthy(seed: int, rows: int, channels: int, period: int = 0) -> np.ndarray:
    """Correlated noise around 20, with a cycle of so many rows in the first channel."""
    table = np.random.default_rng(seed).normal(size=(rows, channels))
    for row in range(1, rows):
        table[row] = 0.6 * table[row - 1] + 0.8 * table[row]
    if period:
        table[:, 0] += 3 * np.sin(2 * np.pi * np.arange(rows) / period)
    return table + 20


def hurt(table: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed + 1000)
    rows, channels = table.shape
    for fault in rng.choice(["step", "ramp", "excursion", "spike", "missing", "stuck", "silent"], rng.integers(3, 8)):
        at, channel = int(rng.integers(rows // 8, rows - 60)), int(rng.integers(channels))
        length, size = int(rng.integers(5, rows // 4)), float(rng.choice([-1, 1]) * rng.uniform(1, 12))
        if fault == "step":
            table[at:, channel] += size
        elif fault == "ramp":
            table[at:, channel] += np.linspace(0, 2 * size, rows - at)
        elif fault == "excursion":
            table[at : at + length, channel] += size
        elif fault == "spike":
            table[at, channel] += 10 * size
        elif fault == "missing":
            table[at : at + length, channel] = np.nan
        elif fault == "stuck":
            table[at : at + length, channel] = table[at, channel]
        else:
            table[at : at + length // 2] = np.nan
    return table


def moments(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """When what was said. What a finding tells in detail may know of the block's later rows."""
    return [
        (each.component, each.state, each.time_us)
        if isinstance(each, StateChange)
        else (each.component, each.finding_id, each.revision, each.state, each.detected_us, each.onset_us)
        for each in events
    ]


@dataclasses.dataclass
class Shown:
    """What a series led to, block by block."""

    events: list[tuple[Any, ...]]
    score: np.ndarray
    states: list[DetectionState]
    tops: list[str]
    snapshot: bytes


def play(judged: AssetDetection, stamps: np.ndarray, table: np.ndarray, edges: Iterable[int]) -> Shown:
    names = [f"v{index}" for index in range(table.shape[1])]
    events: list[Event] = []
    scores, states, tops = [np.zeros(0)], [], []
    cuts = [0, *sorted(set(edges)), len(table)]
    for start, stop in itertools.pairwise(cuts):
        block = judged.on_block(names, stamps[start:stop], table[start:stop])
        (verdicts,) = block.verdicts.values()
        events += block.events
        scores.append(verdicts.score)
        states += verdicts.states
        tops += verdicts.top_channels
    return Shown(moments(events), np.concatenate(scores), states, tops, judged.snapshot())


def assert_same(one: Shown, other: Shown) -> None:
    differ = [index for index, pair in enumerate(zip(one.states, other.states, strict=True)) if pair[0] != pair[1]]
    assert not differ, f"states from row {differ[0]} on"
    np.testing.assert_allclose(one.score, other.score, rtol=0, atol=1e-6)
    assert one.tops == other.tops
    assert one.events == other.events


SERIES = [
    # seed, rows, channels, seconds, period, settings
    *((seed, 900, 2, 600, 144, {"learn_ticks": 36, **SLOW_AT_ONCE}) for seed in (0, 4)),
    *((seed, 700, 3, 1, 0, {"learn_ticks": 40, "learn_span_h": 0.0, **SLOW_AT_ONCE}) for seed in (2, 3)),
    (4, 600, 1, 1, 0, {"learn_ticks": 30, "slow_ticks": 3, "learn_span_h": 0.0, "detectors": BUT_THE_NETWORK}),
    (2, 500, 2, 30, 0, {"learn_ticks": 100, "learn_span_h": 0.0}),
    (
        0, 600, 2, 600, 0,
        {**SLOW_AT_ONCE, "learn_ticks": 30, "watch": 0.3, "alarm": 0.4, "critical": 1.0, "smoothing": 0.9},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("seed", "rows", "channels", "step_s", "period", "table"), SERIES)
def test_a_block_gives_what_its_rows_one_by_one_would(
    seed: int, rows: int, channels: int, step_s: float, period: int, table: dict[str, Any]
) -> None:
    values = hurt(healthy(seed, rows, channels, period), seed)
    stamps = times(rows, step_s, rows // 2 if seed % 2 else 0)
    expected = play(detection(channels, table), stamps, values, range(1, rows))
    rng = np.random.default_rng(seed)
    for edges in ((), rng.integers(1, rows, rows // 40).tolist()):
        assert_same(expected, play(detection(channels, table), stamps, values, edges))


def test_three_days_of_minutes() -> None:
    """A cadence at which a day is learnt at first: the young phase, refits and the slow plane."""
    rows = 3 * 1440
    values, stamps = healthy(1, rows, 2, 1440), times(rows, 60)
    values[1800:1900, 0] += 6.0
    values[2500:2520] = np.nan
    values[3300:, 1] += np.linspace(0, 40, rows - 3300)
    table = {"learn_ticks": 48, "slow_ticks": 8, "detectors": {"cusum": {}, "level": {}, "pca": {}}}
    expected = play(detection(2, table), stamps, values, range(1, rows))
    for edges in ((), range(100, rows, 777)):
        assert_same(expected, play(detection(2, table), stamps, values, edges))
    assert expected.states[1438] is DetectionState.LEARNING and expected.states[1441] is not DetectionState.LEARNING
    assert not any(state in ALARMS for state in expected.states[:3300]) and expected.states[-1] in ALARMS


@pytest.mark.parametrize("seed", [1, 3])
def test_a_restart_between_blocks_changes_nothing(seed: int) -> None:
    rows = 900
    table = {"learn_ticks": 40, "learn_span_h": 0.0, **SLOW_AT_ONCE}
    values, stamps = hurt(healthy(seed, rows, 3), seed), times(rows, 5)
    edges = np.random.default_rng(seed).integers(1, rows, 20).tolist()
    through = play(detection(3, table), stamps, values, edges)
    names = [f"v{index}" for index in range(3)]
    cuts = [0, *sorted(set(edges)), rows]
    judged = detection(3, table)
    states: list[DetectionState] = []
    scores: list[np.ndarray] = []
    events: list[Event] = []
    for start, stop in itertools.pairwise(cuts):
        kept = judged.snapshot()
        judged = detection(3, table)
        judged.restore(kept)
        assert judged.snapshot() == kept
        block = judged.on_block(names, stamps[start:stop], values[start:stop])
        (verdicts,) = block.verdicts.values()
        states += verdicts.states
        scores.append(verdicts.score)
        events += block.events
    assert states == through.states and moments(events) == through.events
    assert np.array_equal(np.concatenate(scores), through.score)
    assert judged.snapshot() == through.snapshot


def test_no_row_knows_of_a_later_one() -> None:
    rows = 700
    table = {"learn_ticks": 40, "learn_span_h": 0.0, **SLOW_AT_ONCE}
    values, stamps = hurt(healthy(7, rows, 3), 7), times(rows, 5)
    changed = values.copy()
    changed[450:] += 30.0
    one, other = (play(detection(3, table), stamps, each, ()) for each in (values, changed))
    assert one.states[:450] == other.states[:450]
    np.testing.assert_allclose(one.score[:450], other.score[:450], rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 60])
def test_one_channel_and_sixty(channels: int) -> None:
    rows = 400
    values, stamps = healthy(3, rows, channels), times(rows, 60)
    values[330:, 0] += np.linspace(3, 60, rows - 330)
    table = {"learn_ticks": 100, "learn_span_h": 0.0, "slow_ticks": 100}
    shown = play(detection(channels, table), stamps, values, ())
    assert not any(state in ALARMS for state in shown.states[:330])
    assert shown.states[-1] in ALARMS and shown.tops[-1] == "v0"
    assert ((shown.score >= 0) & (shown.score <= 1)).all()


def test_rows_without_any_value_show_what_stood_before_them() -> None:
    rows = 300
    values, stamps = healthy(5, rows, 2), times(rows, 60)
    values[200:240] = np.nan
    shown = play(detection(2, {"learn_ticks": 50, "learn_span_h": 0.0}), stamps, values, ())
    assert len(shown.states) == rows and set(shown.score[200:240]) == {shown.score[199]}
    assert set(shown.tops[200:240]) == {shown.tops[199]}


def test_a_series_of_nothing_never_learns() -> None:
    judged = detection(2)
    block = judged.on_block(("v0", "v1"), times(500, 60), np.full((500, 2), np.nan))
    (verdicts,) = block.verdicts.values()
    assert set(verdicts.states) == {DetectionState.LEARNING} and not block.events and not verdicts.score.any()


def test_a_constant_channel_beside_others_is_no_fault() -> None:
    rows = 900
    values = healthy(6, rows, 3)
    values[:, 1] = 7.0
    shown = play(detection(3, {"learn_ticks": 100, "learn_span_h": 0.0}), times(rows, 10), values, ())
    assert not any(state in ALARMS for state in shown.states)


def test_infinite_and_absurd_values_are_survived() -> None:
    rows = 400
    values = healthy(8, rows, 2)
    values[300:310, 0], values[320, 1], values[330, 0] = np.inf, 1e150, -np.inf
    shown = play(detection(2, {"learn_ticks": 100, "learn_span_h": 0.0}), times(rows, 60), values, ())
    assert np.isfinite(shown.score).all() and len(shown.states) == rows


def test_a_clock_that_jumps_ahead_or_back_is_survived() -> None:
    rows = 600
    table = {"learn_ticks": 100, "learn_span_h": 0.0, "slow_ticks": 4}
    for jump_s in (86_400 * 400, -86_400 * 3):
        stamps = times(rows, 60)
        stamps[300:] += jump_s * SECOND_US
        shown = play(detection(2, table), stamps, healthy(9, rows, 2), range(50, rows, 50))
        assert not any(state in ALARMS for state in shown.states) and np.isfinite(shown.score).all()


def test_a_channel_that_is_context_explains_the_others_and_creeps_as_it_likes() -> None:
    rng = np.random.default_rng(4)
    rows = 1500
    load = np.repeat(rng.uniform(0, 1, rows // 10), 10)
    load[500:] += np.linspace(-0.25, 0.3, rows)[500:]
    values = np.column_stack((load, 30 + 20 * load + 0.3 * rng.normal(size=rows)))
    alarms = {}
    for name in ("load", "pressure"):
        metrics = (MetricSpec(name), MetricSpec("temperature"))
        table = {"learn_ticks": 300, "learn_span_h": 0.0, "slow_ticks": 8}
        judged = build_detection(AssetDescription("r", AssetClass.ROBOT, "m", "s", metrics), table)
        (verdicts,) = judged.on_block((name, "temperature"), times(rows, 10), values).verdicts.values()
        alarms[name] = sum(state in ALARMS for state in verdicts.states)
    assert alarms["load"] == 0 < alarms["pressure"]


def test_one_wild_reading_is_held_back_and_two_are_heard() -> None:
    rows = 500
    table = {"learn_ticks": 150, "learn_span_h": 0.0, "novelty": False, "raise_ticks": 1}
    peaks = []
    for wild in (0, 1, 6):
        values = healthy(2, rows, 2)
        values[400 : 400 + wild, 0] += 400.0
        peaks.append(play(detection(2, table), times(rows, 60), values, ()).score[395:420].max())
    assert peaks[1] < peaks[0] + 0.15 and peaks[2] > 0.75


def test_findings_come_with_the_alarm_and_are_numbered() -> None:
    rows = 500
    values = healthy(3, rows, 3)
    values[350:, 2] += np.linspace(0, 60, rows - 350)
    judged = detection(3, {"learn_ticks": 120, "learn_span_h": 0.0})
    block = judged.on_block(("v0", "v1", "v2"), times(rows, 60), values)
    findings = [event for event in block.events if isinstance(event, Finding)]
    assert findings and [each.revision for each in findings] == list(range(1, len(findings) + 1))
    assert len({each.finding_id for each in findings}) == 1 and findings[-1].channels[0].metric == "v2"
    assert START_US + 340 * 60 * SECOND_US <= findings[0].onset_us <= findings[0].detected_us


def test_segments_cover_each_judged_row_once_in_order() -> None:
    rows = 400
    settings = DetectionSettings(learn_ticks=60, learn_span_h=0.0)
    values = hurt(healthy(11, rows, 2), 11)
    values[100:120] = np.nan
    judge = ComponentJudge(2, (), settings)
    segments: list[Segment] = list(judge.run(times(rows, 60), values, np.zeros((rows, 0))))
    taken = np.concatenate([each.times_us for each in segments])
    assert (np.diff(taken) > 0).all()
    assert set(times(rows, 60)[~np.isnan(values).all(axis=1)]) >= set(taken)
    for each in segments:
        assert len(each.times_us) == len(each.rows) == len(each.evidence) == len(each.shown)
        assert len(each.times_us) == 1 or not each.passed
        assert (each.evidence <= each.shown + 1e-12).all()
