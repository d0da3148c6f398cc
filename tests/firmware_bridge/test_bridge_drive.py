"""The drive model: healthy is steady, wear runs away, heat follows, it seizes when it should; seeds repeat it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.devices.drive import DriveIdentity, DriveSettings, SimulatedDrive
from firmware_bridge.devices.drive_model import DriveModel, DriveParams, run_to_failure, varied
from firmware_bridge.devices.endpoint import Burst, Row
from firmware_bridge.messages import AckStatus, CommandKind
from fleet_core.errors import BadConfig

PARAMS = DriveParams(healthy_h=30, seize_after_onset_h=60)


@pytest.mark.parametrize("seed", range(5))
def test_a_course_looks_like_a_bearing_failing(seed: int) -> None:
    course = run_to_failure(PARAMS, np.random.default_rng(seed))
    rms, hours = course.vibration_rms_g, course.hours
    healthy = rms[hours < 30]
    assert 0.8 * 90 < hours[-1] < 1.2 * 90
    assert healthy.std() / healthy.mean() < 0.12
    assert rms[-1] > 8 * healthy.mean()
    worn = rms[hours > 30]
    levels = [chunk.mean() for chunk in np.array_split(worn[len(worn) // 2 :], 6)]
    assert levels == sorted(levels)
    assert np.all(np.diff(course.wear) >= 0)
    assert course.wear[-1] < 1.0 and course.wear[hours < 30].max() < 0.01
    assert course.bearing_temperature_cel[-6:].mean() > course.bearing_temperature_cel[hours < 30].mean() + 10
    assert course.bearing_temperature_cel.max() < 180
    assert len({len(column) for column in (hours, rms, course.speed_rpm, course.motor_current_a)}) == 1


def test_the_same_seed_is_the_same_course() -> None:
    first, again, other = (run_to_failure(PARAMS, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.vibration_rms_g, again.vibration_rms_g)
    assert (
        first.vibration_rms_g.shape != other.vibration_rms_g.shape
        or (first.vibration_rms_g != other.vibration_rms_g).any()
    )


def test_degradation_is_visible_long_before_seizure() -> None:
    course = run_to_failure(PARAMS, np.random.default_rng(1))
    healthy = course.vibration_rms_g[course.hours < 30]
    left_h = course.hours[-1] - course.hours
    level = course.vibration_rms_g[(left_h > 24) & (left_h < 26)].mean()
    assert level > healthy.mean() + 5 * healthy.std()


@pytest.mark.parametrize("age_h", [0.0, 50.0, 75.0, 88.0])
def test_the_waveform_agrees_with_the_rms_sensor(age_h: float) -> None:
    model = DriveModel(PARAMS, np.random.default_rng(2), age_h)
    bursts = np.array([model.waveform() for _ in range(40)])
    sensor = np.mean([model.vitals().vibration_rms_g for _ in range(40)])
    assert np.sqrt((bursts**2).mean()) == pytest.approx(sensor, rel=0.06)


def test_impulses_first_then_noise() -> None:
    def kurtosis(age_h: float) -> float:
        model = DriveModel(PARAMS, np.random.default_rng(2), age_h)
        waves = np.array([model.waveform() for _ in range(20)])
        return float(((waves / waves.std()) ** 4).mean())

    healthy, early, late = kurtosis(0), kurtosis(78), kurtosis(89.9)
    assert healthy < 5 < early
    assert late < early


def test_the_envelope_carries_the_ball_pass_frequency() -> None:
    params = replace(PARAMS, growth_jitter=0.0)
    model = DriveModel(params, np.random.default_rng(3), 80.0)
    speed_hz = model.vitals().speed_rpm / 60
    power = np.zeros(1281)
    for _ in range(30):
        envelope = np.abs(model.waveform()) ** 2
        power += np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
    peak_hz = float(np.argmax(power[3:40]) + 3) * 10.0
    assert peak_hz == pytest.approx(params.bpfo_orders * speed_hz, abs=15) or peak_hz == pytest.approx(
        2 * params.bpfo_orders * speed_hz, abs=15
    )


def test_a_seized_drive_stands_still_and_cools() -> None:
    model = DriveModel(PARAMS, np.random.default_rng(1), 88.0)
    while not model.seized:
        model.step(0.5)
    hot = model.vitals()
    model.step(6)
    cold = model.vitals()
    assert cold.speed_rpm < 10 and cold.motor_current_a < 0.5 and cold.vibration_rms_g < 0.05
    assert cold.bearing_temperature_cel < hot.bearing_temperature_cel - 5


def test_a_fleet_scatters() -> None:
    rng = np.random.default_rng(6)
    lives = [run_to_failure(varied(PARAMS, rng), rng, step_s=1800).hours[-1] for _ in range(12)]
    assert np.std(lives) > 5 and min(lives) > 20


def drive(history_h: float = 0.0, start_at_age_h: float = 0.0) -> SimulatedDrive:
    settings = DriveSettings(PARAMS, seed=1, history_h=history_h, start_at_age_h=start_at_age_h)
    return SimulatedDrive(DriveIdentity(), settings)


def test_the_stored_past_is_healthy_and_in_order() -> None:
    simulated = drive(history_h=30)
    past = list(simulated.readings(0.0, 0.0))
    rows = [record for record in past if isinstance(record, Row)]
    assert len(rows) == 181 and len(past) - len(rows) == 31
    assert rows[0].ticks == -30 * 3600 * 1_000_000 and rows[-1].ticks == 0
    assert max(row.values[4] for row in rows) < 0.15
    assert [record.ticks for record in past] == sorted(record.ticks for record in past)


def test_readings_come_once_whatever_the_pace() -> None:
    slow, fast = drive(), drive()
    at_once = [r for r in slow.readings(7200, 0.0) if isinstance(r, Row)]
    piecewise = [r for t in range(0, 7201, 100) for r in fast.readings(t, 0.0) if isinstance(r, Row)]
    assert [row.ticks for row in at_once] == [row.ticks for row in piecewise]
    assert len(at_once) == 13


def test_commands_of_the_drive() -> None:
    simulated = drive()
    list(simulated.readings(600, 0.0))
    assert simulated.carry_out(CommandKind.SET_PERIOD, 60_000) is AckStatus.OK
    assert simulated.carry_out(CommandKind.SET_PERIOD, 1) is AckStatus.REFUSED
    assert simulated.carry_out(CommandKind.HELLO, 0) is AckStatus.UNSUPPORTED
    assert simulated.describe().metrics[0].period_ms == 60_000
    assert [r.ticks // 60_000_000 for r in simulated.readings(900, 0.0) if isinstance(r, Row)] == [11, 12, 13, 14, 15]
    assert simulated.carry_out(CommandKind.SNAPSHOT, 0) is AckStatus.OK
    assert any(isinstance(record, Burst) for record in simulated.readings(960, 0.0))


def test_settings_are_checked() -> None:
    for bad in ({"history_h": -1.0}, {"sample_period_s": 0.0}, {"params": replace(PARAMS, seize_after_onset_h=0)}):
        with pytest.raises(BadConfig):
            DriveSettings(**bad)
