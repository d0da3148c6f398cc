"""A simulated drive as a device: identity, metrics and timed readings of the physical model. Pure.

Story time ``t_s`` counts from the moment the device was switched on; readings before zero are its stored past. Wear
starts ``healthy_h`` after zero, so a stored past of any length is healthy unless ``start_at_age_h`` makes the drive
older.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from firmware_bridge.devices.drive_model import SAMPLE_RATE_HZ, DriveModel, DriveParams
from firmware_bridge.devices.endpoint import Burst, Record, Row
from firmware_bridge.messages import AckStatus, CommandKind, Describe, Hello, MetricInfo
from firmware_bridge.waveforms import quantised
from fleet_core import assets
from fleet_core.errors import BadConfig
from fleet_core.telemetry import ComponentSpec

TICK_HZ = 1_000_000
MAX_HISTORY_H = 24 * 60
BEARING, MOTOR = "drive_bearing", "drive_motor"
VIBRATION = MetricInfo(6, "vibration", "[g]", BEARING, 3_600_000, SAMPLE_RATE_HZ)


@dataclass(frozen=True, slots=True)
class DriveIdentity:
    model: str = "AMR-200"
    serial: str = "AMR200-0017"
    firmware: str = "4.1.0"
    bearing_serial: str = "BRG-1"
    bearing_part_no: str = "P-6205"
    motor_serial: str = "MOT-1"
    motor_part_no: str = "P-BLDC400"


@dataclass(frozen=True, slots=True)
class DriveSettings:
    """``start_at_age_h``: the age at switch-on; ``history_h`` of readings lie before it."""

    params: DriveParams = field(default_factory=DriveParams)
    seed: int = 1
    start_at_age_h: float = 0.0
    history_h: float = 0.0
    sample_period_s: float = 600.0
    waveform_period_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.history_h <= MAX_HISTORY_H:
            raise BadConfig(f"history must lie in 0..{MAX_HISTORY_H} h")
        if min(self.sample_period_s, self.waveform_period_s) < 1:
            raise BadConfig("sampling periods must be at least 1 s")
        if self.params.seize_after_onset_h <= 0:
            raise BadConfig("seize-after must be positive")


class SimulatedDrive:
    """Produces the readings that are due; the module's docstring explains its time."""

    def __init__(self, identity: DriveIdentity, settings: DriveSettings) -> None:
        self._identity = identity
        self._sample_period_s = settings.sample_period_s
        self._waveform_period_s = settings.waveform_period_s
        start_age_h = settings.start_at_age_h - settings.history_h
        self.model = DriveModel(settings.params, np.random.default_rng(settings.seed), start_age_h)
        self._now_s = self._sample_at_s = self._waveform_at_s = -settings.history_h * 3600

    def hello(self, boot: int) -> Hello:
        me = self._identity
        components = (
            ComponentSpec(BEARING, assets.BEARING, me.bearing_serial, me.bearing_part_no),
            ComponentSpec(MOTOR, assets.MOTOR, me.motor_serial, me.motor_part_no),
        )
        return Hello(me.model, me.serial, me.firmware, boot, components, TICK_HZ)

    def describe(self) -> Describe:
        sample_ms, waveform_ms = round(self._sample_period_s * 1000), round(self._waveform_period_s * 1000)
        return Describe(
            (
                MetricInfo(1, "speed_rpm", "/min", "", sample_ms),
                MetricInfo(2, "motor_current_a", "A", MOTOR, sample_ms),
                MetricInfo(3, "motor_temperature_cel", "Cel", MOTOR, sample_ms),
                MetricInfo(4, "bearing_temperature_cel", "Cel", BEARING, sample_ms),
                MetricInfo(5, "vibration_rms_g", "[g]", BEARING, sample_ms),
                replace(VIBRATION, period_ms=waveform_ms),
            )
        )

    @property
    def next_due_s(self) -> float:
        return min(self._sample_at_s, self._waveform_at_s)

    def readings(self, until_s: float, boot_s: float) -> Iterator[Record]:
        """The readings due until ``until_s``, in order; their ticks count from ``boot_s``."""
        while self.next_due_s <= until_s:
            due_s = self.next_due_s
            self.model.step(max(0.0, due_s - self._now_s) / 3600)
            self._now_s = max(self._now_s, due_s)
            ticks = round((due_s - boot_s) * TICK_HZ)
            if self._sample_at_s <= due_s:
                self._sample_at_s += self._sample_period_s
                yield self._row(ticks)
            if self._waveform_at_s <= due_s:
                self._waveform_at_s += self._waveform_period_s
                data, scale = quantised(self.model.waveform())
                yield Burst(ticks, VIBRATION, data, scale)

    def carry_out(self, kind: CommandKind, argument: int) -> AckStatus:
        """Carry out a command that concerns the drive itself."""
        if kind is CommandKind.SET_PERIOD:
            if argument < 1000:
                return AckStatus.REFUSED
            self._sample_at_s += argument / 1000 - self._sample_period_s
            self._sample_at_s = max(self._sample_at_s, self._now_s + 1e-6)
            self._sample_period_s = argument / 1000
            return AckStatus.OK
        if kind is CommandKind.SNAPSHOT:
            self._waveform_at_s = self._sample_at_s  # the waveform is taken with the next reading
            return AckStatus.OK
        return AckStatus.OK if kind is CommandKind.IDENTIFY else AckStatus.UNSUPPORTED

    def _row(self, ticks: int) -> Row:
        v = self.model.vitals()
        values = (
            v.speed_rpm,
            v.motor_current_a,
            v.motor_temperature_cel,
            v.bearing_temperature_cel,
            v.vibration_rms_g,
        )
        return Row(ticks, tuple(float(np.float32(value)) for value in values))  # a sensor resolves no more
