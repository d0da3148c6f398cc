"""Runs, rests, stopped or failed: told from the vitals of the simulated drive, and of machines made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from firmware_bridge.devices.drive_model import DriveModel, DriveParams
from fleet_core.assets import COMPONENT_TYPES
from fleet_server.health.running import (
    CriticalSpan,
    Facts,
    Part,
    Running,
    Why,
    assess_running,
    stands_now,
)
from fleet_server.health.standstill import Course, Tells, stops, tells

NOW = datetime(2026, 1, 9, 8, 0, tzinfo=UTC)  # a Friday
STEP = timedelta(minutes=10)
UNITS = {
    "speed_rpm": ("/min", ""), "motor_current_a": ("A", "drive_motor"), "vibration_rms_g": ("[g]", "drive_bearing"),
    "motor_temperature_cel": ("Cel", "drive_motor"),
}  # fmt: skip


def course(metric: str, unit: str, values: list[float], *, end: datetime = NOW, slot: str = "", healthy: float = 0.0):
    times = tuple(end - STEP * (len(values) - 1 - i) for i in range(len(values)))
    return Course(metric, unit, slot, times, tuple(values), healthy)


def drive(wear_h: float = 20.0, after_h: float = 6.0, seed: int = 1) -> tuple[list[Course], datetime]:
    """The vitals of a simulated drive that wears, seizes and is read for ``after_h`` more, and when it seized."""
    model = DriveModel(DriveParams(healthy_h=30.0, seize_after_onset_h=wear_h), np.random.default_rng(seed))
    read: dict[str, list[float]] = {name: [] for name in UNITS}
    seized_step, left = None, round(after_h * 6)
    while left:
        model.step(1 / 6)
        vitals = model.vitals()
        for name in UNITS:
            read[name].append(getattr(vitals, name))
        if model.seized:
            seized_step, left = seized_step or len(read["speed_rpm"]), left - 1
    assert seized_step is not None
    size = len(read["speed_rpm"])
    healthy = float(np.median(read["vibration_rms_g"][:60]))
    made = [
        course(name, unit, read[name], slot=slot, healthy=healthy if name == "vibration_rms_g" else 0.0)
        for name, (unit, slot) in UNITS.items()
    ]
    return made, NOW - STEP * (size - seized_step)


def facts(courses: list[Course], critical: tuple[CriticalSpan, ...] = (), **changes) -> Facts:
    vibration = next((one for one in courses if one.slot == "drive_bearing"), None)
    bearing = Part("drive_bearing", "bearing", vibration, critical)
    values = {"now": NOW, "last_seen_at": NOW, "silent_after": timedelta(minutes=50)}
    return Facts(**{**values, "parts": (bearing, Part("drive_motor", "motor")), "courses": tuple(courses), **changes})


def daily(days: int, runs: tuple[int, int] = (6, 22), *, end: datetime = NOW, level: float = 1400.0) -> list[float]:
    """A speed over some days to ``end`` of a machine that runs between two hours of each day."""
    size = days * 144
    hours = [(end - STEP * (size - 1 - i)).hour for i in range(size)]
    return [level if runs[0] <= hour < runs[1] else 0.0 for hour in hours]


@pytest.mark.parametrize("seed", range(8))
def test_a_drive_that_seized_at_its_critical_level_has_failed(seed: int) -> None:
    courses, seized_at = drive(seed=seed)
    told = facts(courses, (CriticalSpan(seized_at - timedelta(hours=3), None),))
    found = assess_running(told)
    assert found.asset.state is Running.FAILED and found.asset.why is Why.CRITICAL_THEN_STANDSTILL
    assert abs(found.asset.since - seized_at) <= 2 * STEP
    assert "drive bearing was critical, then it stood still" in found.asset.text
    assert found.parts["drive_motor"].stands and found.parts["drive_motor"].state is not Running.FAILED


@pytest.mark.parametrize("seed", range(8))
def test_a_drive_that_wears_and_runs_is_running(seed: int) -> None:
    courses, seized_at = drive(seed=seed)
    cut = [replace(one, times=one.times[:-40], values=one.values[:-40]) for one in courses]
    now = cut[0].times[-1]
    told = facts(cut, (CriticalSpan(now - timedelta(hours=2), None),), now=now, last_seen_at=now)
    assert now < seized_at
    found = assess_running(told)
    assert {found.asset.state, *(one.state for one in found.parts.values())} == {Running.RUNNING}
    assert stands_now(told) is None


def test_without_a_critical_course_it_only_rests() -> None:
    courses, _ = drive()
    assert assess_running(facts(courses)).asset.state is Running.RESTING


def test_what_was_critical_long_before_and_subsided_did_not_fail() -> None:
    courses, seized_at = drive()
    over = CriticalSpan(seized_at - timedelta(hours=9), seized_at - timedelta(hours=3))
    assert assess_running(facts(courses, (over,))).asset.state is Running.RESTING


def test_a_device_that_calls_it_calmer_because_it_stands_does_not_hide_the_failure() -> None:
    courses, seized_at = drive()
    span = CriticalSpan(seized_at - timedelta(hours=4), seized_at + timedelta(minutes=40))
    assert assess_running(facts(courses, (span,))).asset.state is Running.FAILED


def test_a_short_stop_is_no_state_yet_but_nothing_is_judged_by_it() -> None:
    courses, seized_at = drive(after_h=1 / 3)
    told = facts(courses, (CriticalSpan(seized_at - timedelta(hours=3), None),))
    assert assess_running(told).asset.state is not Running.FAILED
    courses, seized_at = drive(after_h=0.7)
    told = facts(courses, (CriticalSpan(seized_at - timedelta(hours=3), None),))
    assert stands_now(told) is not None


@pytest.mark.parametrize("hour", range(0, 24, 3))
@pytest.mark.parametrize("critical", [False, True])
@pytest.mark.parametrize("days", [3, 10])
def test_a_robot_parked_overnight_as_usual_never_failed(hour: int, critical: bool, days: int) -> None:
    end = NOW.replace(hour=hour)
    speed = daily(days, end=end)
    vibration = [0.2 if value else 0.006 for value in speed]
    courses = [course("speed_rpm", "/min", speed, end=end)]
    courses.append(course("vibration_rms_g", "[g]", vibration, end=end, slot="drive_bearing", healthy=0.06))
    spans = (CriticalSpan(end - timedelta(days=2), None),) if critical else ()
    found = assess_running(facts(courses, spans, now=end, last_seen_at=end))
    assert found.asset.state is (Running.RUNNING if 6 <= hour < 22 else Running.RESTING)


def test_a_weekend_is_no_failure_whether_one_was_seen_before_or_not() -> None:
    friday = datetime(2026, 1, 9, 22, 0, tzinfo=UTC)
    for days in (4, 12):
        for later_h in (8, 20, 40, 55):
            end = friday + timedelta(hours=later_h)
            size = (days * 24 + later_h) * 6
            times = [end - STEP * (size - 1 - i) for i in range(size)]
            speed = [1400.0 if at.weekday() < 5 and 6 <= at.hour < 22 else 0.0 for at in times]
            vibration = [0.2 if value else 0.006 for value in speed]
            courses = [
                course("speed_rpm", "/min", speed, end=end),
                course("vibration_rms_g", "[g]", vibration, end=end, slot="drive_bearing", healthy=0.06),
            ]
            told = facts(courses, (CriticalSpan(friday - timedelta(days=1), None),), now=end, last_seen_at=end)
            assert assess_running(told).asset.state is Running.RESTING, (days, later_h)


def test_a_usual_stop_that_does_not_end_is_a_failure_at_last() -> None:
    end = NOW.replace(hour=15)
    speed = daily(10, end=end)
    stopped = [value if i < len(speed) - 17 * 6 else 0.0 for i, value in enumerate(speed)]
    vibration = [0.2 if value else 0.006 for value in stopped]
    courses = [
        course("speed_rpm", "/min", stopped, end=end),
        course("vibration_rms_g", "[g]", vibration, end=end, slot="drive_bearing", healthy=0.06),
    ]
    told = facts(courses, (CriticalSpan(end - timedelta(days=2), None),), now=end, last_seen_at=end)
    assert assess_running(told).asset.state is Running.FAILED


def standing(kind: str, level: float, rest: list[float], **changes) -> Facts:
    """A critical drive that ran for a day and stands for two hours; ``kind`` is one more vital of it."""
    speed = course("speed_rpm", "/min", [1400.0] * 144 + [0.0] * 12)
    vibration = course("vibration_rms_g", "[g]", [0.3] * 144 + [0.006] * 12, slot="drive_bearing", healthy=0.06)
    more = course(kind, "A" if "current" in kind else "/min", [level] * 144 + rest)
    return facts([speed, vibration, more], **changes)


def test_a_command_to_run_or_a_blocked_shaft_is_a_stop_that_should_not_be() -> None:
    asked = assess_running(standing("speed_command_rpm", 1400.0, [1400.0] * 12))
    assert (asked.asset.state, asked.asset.why) == (Running.STOPPED, Why.COMMANDED)
    blocked = assess_running(standing("motor_current_a", 4.0, [9.0] * 12))
    assert (blocked.asset.state, blocked.asset.why) == (Running.STOPPED, Why.BLOCKED)
    rest = assess_running(standing("speed_command_rpm", 1400.0, [0.0] * 12))
    assert (rest.asset.state, rest.asset.why) == (Running.RESTING, Why.AT_REST)


def test_maintenance_and_repair_are_meant_whatever_was_critical() -> None:
    critical = (CriticalSpan(NOW - timedelta(hours=20), None),)
    for changes, why in (
        ({"maintained_until": NOW + timedelta(hours=1)}, Why.MAINTENANCE),
        ({"being_repaired": True}, Why.REPAIR),
    ):
        found = assess_running(standing("motor_current_a", 4.0, [0.2] * 12, critical=critical, **changes))
        assert (found.asset.state, found.asset.why) == (Running.RESTING, why)


def test_a_dead_sensor_on_a_running_machine_is_no_standstill() -> None:
    for dead in ("speed", "vibration"):
        speed = course("speed_rpm", "/min", [1400.0] * 144 + [0.0 if dead == "speed" else 1400.0] * 12)
        rest = 0.0 if dead == "vibration" else 0.3
        vibration = course("vibration_rms_g", "[g]", [0.3] * 144 + [rest] * 12, slot="drive_bearing", healthy=0.06)
        found = assess_running(facts([speed, vibration], (CriticalSpan(NOW - timedelta(hours=20), None),)))
        assert found.asset.state is Running.RUNNING, dead


def test_a_repaired_bearing_that_shakes_twenty_times_less_does_not_stand() -> None:
    values = [0.06] * 300 + [0.3] * 30 + [1.2] * 30 + [0.06] * 60
    assert stops(course("vibration_rms_g", "[g]", values, healthy=0.06)) == ()
    found = assess_running(facts([course("vibration_rms_g", "[g]", values, slot="drive_bearing", healthy=0.06)]))
    assert found.asset.state is Running.RUNNING


def test_one_odd_value_neither_begins_nor_ends_a_stop() -> None:
    (stop,) = stops(course("speed_rpm", "/min", [1400.0] * 50 + [0.0] * 6 + [900.0] + [0.0] * 6))
    assert stop.until is None and stop.values == 13
    assert stops(course("speed_rpm", "/min", [1400.0] * 50 + [0.0] + [1400.0] * 9)) == ()


def test_a_fan_that_fell_to_nothing_failed_while_its_host_runs() -> None:
    fan = course(
        "fan_speed_rpm", "/min", [2000.0 - 12 * i for i in range(140)] + [0.0] * 12, slot="fan", healthy=2000.0
    )
    critical = (CriticalSpan(NOW - timedelta(hours=6), None),)
    parts = (Part("fan", "fan", fan, critical), Part("host", "host"))
    found = assess_running(facts([fan], parts=parts))
    assert not COMPONENT_TYPES["fan"].may_stand_still
    assert found.parts["fan"].state is Running.FAILED and found.asset.state is Running.FAILED
    assert found.parts["host"].state is Running.RUNNING
    calm = assess_running(facts([fan], parts=(replace(parts[0], critical=()), parts[1])))
    assert (calm.parts["fan"].state, calm.parts["fan"].why) == (Running.STOPPED, Why.NEVER_STANDS)


@pytest.mark.parametrize("kind", ["host", "battery", "bearing", "disk"])
def test_a_component_that_was_critical_and_fell_silent_failed_unless_something_else_explains_it(kind: str) -> None:
    heard = NOW - timedelta(hours=5)
    part = Part("it", kind, None, (CriticalSpan(heard - timedelta(hours=2), None),))
    told = facts([], parts=(part,), last_seen_at=heard)
    found = assess_running(told)
    assert (found.asset.state, found.asset.why, found.asset.since) == (
        Running.FAILED, Why.CRITICAL_THEN_SILENCE, heard,
    )  # fmt: skip
    healthy = replace(part, critical=())
    for changes in (
        {"parts": (healthy,)},
        {"said_farewell": True},
        {"others_heard": False},
        {"now": heard + timedelta(hours=1)},
        {"maintained_until": NOW + timedelta(hours=1)},
        {"being_repaired": True},
    ):
        assert assess_running(replace(told, **changes)).asset.state is Running.SILENT, changes


def test_a_machine_at_rest_that_falls_silent_has_not_failed() -> None:
    end = NOW - timedelta(hours=5)
    speed = course("speed_rpm", "/min", [1400.0] * 144 + [0.0] * 12, end=end)
    found = assess_running(facts([speed], last_seen_at=end))
    assert found.asset.state is Running.SILENT


def test_a_machine_that_seized_and_then_fell_silent_stays_failed() -> None:
    courses, seized_at = drive()
    spans = (CriticalSpan(seized_at - timedelta(hours=3), None),)
    found = assess_running(facts(courses, spans, now=NOW + timedelta(days=3)))
    assert (found.asset.state, found.asset.why) == (Running.FAILED, Why.CRITICAL_THEN_STANDSTILL)


def test_a_backlog_that_is_still_coming_is_no_standstill_of_now() -> None:
    courses, seized_at = drive()
    spans = (CriticalSpan(seized_at - timedelta(hours=3), None),)
    later = NOW + timedelta(hours=9)
    assert assess_running(facts(courses, spans, now=later, last_seen_at=later)).asset.state is not Running.FAILED


def test_what_sends_nothing_that_tells_is_unknown_and_poor_data_raise_nothing() -> None:
    assert assess_running(facts([])).asset.state is Running.UNKNOWN
    assert assess_running(facts([], last_seen_at=None)).asset.state is Running.UNKNOWN
    for values in ([], [0.0], [0.0] * 40, [1.0], [1.0, 0.0]):
        assert assess_running(facts([course("speed_rpm", "/min", values)])).asset.state in Running


@pytest.mark.parametrize(
    ("metric", "unit", "what"),
    [
        ("speed_rpm", "/min", Tells.MOTION), ("vibration_rms_g", "[g]", Tells.MOTION), ("flow", "L/min", Tells.MOTION),
        ("motor_current_a", "A", Tells.EFFORT), ("drive_load", "%", Tells.LOAD),
        ("speed_setpoint", "/min", Tells.COMMAND), ("motor_temperature_cel", "Cel", None), ("cpu_load", "%", None),
        ("vibration_kurtosis", "1", None), ("battery_voltage_v", "V", None), ("capacity", "A.h", None),
    ],
)  # fmt: skip
def test_which_vitals_tell(metric: str, unit: str, what: Tells | None) -> None:
    assert tells(metric, unit) is what
