"""Standstill: a machine that merely stands is neither judged nor learnt; a broken one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection, Event
from edge_agent.detection.input.standstill import (
    Standstill,
    is_activity,
    is_witness,
)
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.tuning import SETTLE_PER_DAY_US, SETTLE_US, US_PER_HOUR
from fleet_core.assets import AssetClass
from fleet_core.telemetry import ComponentSpec, DetectionState, Finding, MetricSpec, Sample, StateChange

START_US, TICK_US = 1_790_000_000_000_000, 600_000_000
NAMES = ("speed_rpm", "motor_current_a", "motor_temperature_cel")
RUNNING, STANDING = (1500.0, 6.0, 45.0), (0.0, 0.1, 25.0)
SETTINGS = {"learn_ticks": 48, "learn_span_h": 0.0}


def asset(kind: AssetClass = AssetClass.ROBOT, component: str = "motor") -> AssetDescription:
    own = tuple(MetricSpec(name, "", "m", 600) for name in NAMES[1:])
    metrics = (MetricSpec(NAMES[0], "/min", "", 600), *own)
    return AssetDescription("robot-17", kind, "x", "s", metrics, (ComponentSpec("m", component, "M1"),))


def rows(count: int, level: tuple[float, float, float] = RUNNING, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array(level) + np.array([2.0, 0.02, 0.3]) * rng.normal(size=(count, 3)) * (np.array(level) > 0)


def play(detection: AssetDetection, values: np.ndarray, start: int = 0, block: int = 16) -> list[Event]:
    moments = START_US + (start + np.arange(len(values))) * TICK_US
    events: list[Event] = []
    for low in range(0, len(values), block):
        each = slice(low, low + block)
        events += detection.on_block(NAMES, moments[each], values[each]).events
    return events


def learnt(values: np.ndarray | None = None, **kinds: Any) -> AssetDetection:
    detection = build_detection(asset(**kinds), SETTINGS)
    play(detection, rows(200) if values is None else values)
    return detection


def told(events: list[Event]) -> list[tuple[object, ...]]:
    return [
        (each.state, each.previous, each.time_us, each.reason)
        if isinstance(each, StateChange)
        else (each.state, each.detected_us, each.revision)
        for each in events
    ]


def alarms(events: list[Event]) -> list[Event]:
    return [each for each in events if isinstance(each, Finding)]


STOP = np.concatenate((rows(36, STANDING, 2), rows(120, seed=3)))
"""Six hours, and running again."""


def test_a_stop_never_met_before_is_no_alarm_and_is_noted_once() -> None:
    detection = learnt()
    events = play(detection, STOP, 200)
    notes = [each for each in events if isinstance(each, StateChange)]
    assert [each.reason for each in notes] == [
        "stands still: neither judged nor learnt until it runs again",
        "runs again and has settled: judged again",
    ]
    assert alarms(events) == [] and all(each.state is each.previous is DetectionState.HEALTHY for each in notes)
    stood_us = notes[0].time_us - (START_US + 200 * TICK_US)
    assert stood_us == US_PER_HOUR
    assert notes[1].time_us == START_US + (200 + 36) * TICK_US + SETTLE_US
    assert detection.counts["standstill_rows"] == 36 + SETTLE_US // TICK_US
    assert detection.views()[0].standstill_since_us == 0


@pytest.mark.parametrize(
    ("kind", "component"),
    [(AssetClass.SERVER, "motor"), (AssetClass.ROBOT, "fan"), (AssetClass.VENTILATOR, "turbine")],
)
def test_what_must_not_stand_is_judged(kind: AssetClass, component: str) -> None:
    detection = learnt(kind=kind, component=component)
    assert alarms(play(detection, STOP, 200)) and not detection.counts["standstill_rows"]


def test_a_dead_speed_sensor_or_a_blocked_shaft_is_judged() -> None:
    for current in (6.0, 12.0):
        detection = learnt()
        assert alarms(play(detection, rows(60, (0.0, current, 70.0), 2), 200))
        assert not detection.counts["standstill_rows"]


def test_standstill_that_was_learnt_is_a_mode_and_is_judged() -> None:
    detection = learnt(np.concatenate((rows(20), rows(8, STANDING, 5), rows(170))))
    play(detection, rows(30, STANDING, 2), 198)
    assert not detection.counts["standstill_rows"]


def test_a_fault_that_shows_when_it_runs_again_is_found() -> None:
    hot = np.concatenate((rows(36, STANDING, 2), rows(120, (1500.0, 6.0, 60.0), 3)))
    found = alarms(play(learnt(), hot, 200))
    assert found and isinstance(found[0], Finding)
    assert found[0].detected_us - (START_US + 236 * TICK_US) <= SETTLE_US + US_PER_HOUR


def test_a_stop_that_does_not_end_is_said_and_stands_in_the_view() -> None:
    detection = learnt()
    events = play(detection, rows(8 * 144, STANDING, 2), 200)
    assert [each.reason for each in events if isinstance(each, StateChange)][1:] == [
        "has not run steadily for 7 days: nothing is judged until it does"
    ]
    assert detection.views()[0].standstill_since_us == START_US + 200 * TICK_US


def test_an_alarm_stays_through_a_stop() -> None:
    """A machine that is stopped because it is broken is still broken."""
    detection = learnt()
    play(detection, rows(40, (1500.0, 6.0, 60.0), 4), 200)
    state = detection.views()[0].state
    assert state in (DetectionState.DEGRADING, DetectionState.CRITICAL)
    play(detection, rows(60, STANDING, 2), 240)
    assert detection.views()[0].state is state


def test_however_often_it_stops_it_is_judged_for_most_of_the_time_it_runs() -> None:
    """Half an hour of each hour, at half past: it would settle for all of the other half."""
    cycles = np.concatenate([each for i in range(96) for each in (rows(3, STANDING, i), rows(3, seed=100 + i))])
    detection = learnt()
    play(detection, cycles, 200)
    running_us, days = 96 * 3 * TICK_US, 5
    passed_us = detection.counts["standstill_rows"] * TICK_US - 96 * 3 * TICK_US
    assert passed_us <= days * (SETTLE_PER_DAY_US + US_PER_HOUR) and passed_us < 0.75 * running_us


@pytest.mark.parametrize("cut", [10, 230, 240])
def test_blocks_equal_rows_and_a_restart_changes_nothing(cut: int) -> None:
    life = np.concatenate((rows(40), rows(30, seed=7), STOP[:100], rows(20, STANDING, 8), rows(40, seed=9)))
    one, whole, first = (build_detection(asset(), SETTINGS) for _ in range(3))
    alone = told(play(one, life, block=1))
    assert told(play(whole, life, block=64)) == alone and whole.counts == one.counts
    begun = play(first, life[:cut])
    again = build_detection(asset(), SETTINGS)
    again.restore(first.snapshot())
    assert told(begun + play(again, life[cut:], cut)) == alone and again.counts == one.counts
    assert again.views()[0].standstill_since_us == one.views()[0].standstill_since_us


def test_live_samples_are_passed_over_too() -> None:
    detection = build_detection(asset(), SETTINGS)
    events: list[Event] = []
    for tick, row in enumerate(np.concatenate((rows(200), STOP))):
        moment = START_US + tick * TICK_US
        readings = [Sample(name, moment, float(value)) for name, value in zip(NAMES, row, strict=True)]
        events += detection.on_samples(readings).events
    assert alarms(events) == [] and detection.counts["standstill_rows"] > 36


def test_a_snapshot_of_an_older_version_learns_from_the_rows_to_come() -> None:
    standstill = Standstill(["speed"], 0)
    for _ in range(40):
        standstill.take(np.array([1000.0]), np.zeros(0))
    standstill.learnt()
    assert not standstill.learning
    with pytest.raises(ValueError, match="another shape"):
        Standstill(["speed", "load"], 0).load(standstill.state())


@given(
    st.lists(st.sampled_from([0.0, 900.0, 1000.0, float("nan")]), min_size=1, max_size=80),
    st.integers(1, 30),
    st.integers(60, 7200),
)
def test_any_course_gives_the_same_in_blocks(speeds: list[float], block: int, step_s: int) -> None:
    def made() -> Standstill:
        standstill = Standstill(["speed"], 0)
        for index in range(30):
            standstill.take(np.array([1000.0 + index]), np.zeros(0))
        standstill.learnt()
        return standstill

    times = START_US + np.arange(len(speeds), dtype=np.int64) * step_s * 1_000_000
    activity, witness = np.array(speeds)[:, None], np.zeros((len(speeds), 0))
    expected, news = made().run(times, activity, witness)
    standstill, held = made(), list[bool]()
    said: dict[int, str] = {}
    for low in range(0, len(speeds), block):
        each = slice(low, low + block)
        part, some = standstill.run(times[each], activity[each], witness[each])
        held += part.tolist()
        said |= {low + row: text for row, text in some.items()}
    assert held == expected.tolist() and said == news
    assert all(held[index] for index, speed in enumerate(speeds) if speed == 0.0)


@pytest.mark.parametrize(
    ("name", "activity", "witness"),
    [
        ("speed_rpm", True, False),
        ("spindle-load", True, False),
        ("fan_speed", False, False),
        ("cpu_load", False, False),
        ("wind_speed", False, False),
        ("load_temperature", False, False),
        ("motor_current_a", False, True),
        ("vibration.rms_g", False, True),
        ("vibration.kurtosis", False, False),
    ],
)
def test_what_a_name_says(name: str, activity: bool, witness: bool) -> None:
    assert (is_activity(name), is_witness(name)) == (activity, witness)


def test_of_vitals_that_were_hardly_read_nothing_is_learnt() -> None:
    """The speed was read 20 times, the current never: fewer readings than standstill is told by."""
    values = rows(200)
    values[20:, 0] = values[:, 1] = np.nan
    detection = learnt(values)
    assert detection.views()[0].state is DetectionState.HEALTHY
    play(detection, rows(40, STANDING), 200)
    assert detection.counts["standstill_rows"] == 0


def test_a_load_alone_is_not_believed_without_a_witness() -> None:
    assert not Standstill(["load"], 0).possible
    assert Standstill(["load"], 1).possible and Standstill(["speed"], 0).possible
    assert not Standstill([], 3).possible
