"""Physics of a drive: a motor, a bearing that wears until it seizes, heat and vibration. Pure and seeded.

The model puts a few well-known ideas together. It generates plausible run-to-failure courses; it is not fit for
designing a bearing:

* Wear ``W`` (0 new, 1 seized). Nothing grows during the incubation (``healthy_h``); then, as Paris and Erdogan (1963)
  found for cracks, growth feeds on what has grown: ``dW/dt = C * W**m * load**p`` with m > 1, which runs away in
  finite time. ``C`` is chosen so that seizure comes ``seize_after_onset_h`` later under the average load; ``p = 3`` is
  the load exponent of ball bearings (ISO 281). The rate jitters, so courses are ragged but never heal.
* Vibration. Shaft harmonics grow with the square of speed (unbalance, misalignment). A local defect is struck at
  the ball-pass frequency of the outer race and rings a resonance (McFadden and Smith, 1984), with slip; as the
  damage spreads, the impulses drown in broadband noise, so kurtosis rises first and falls again near the end.
* Friction torque rises with wear, costs current and heats the bearing; two thermal masses (bearing, motor)
  exchange heat with each other and with ambient air that follows the time of day.
* Load and speed follow a shift pattern with hour-to-hour variation.

Units are in the names; vibration is in g (9.81 m/s2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SAMPLE_RATE_HZ = 25_600.0
WAVEFORM_LENGTH = 2560
INITIAL_WEAR = 0.004
SUBSTEP_H = 1 / 60

_SHIFT_DEMAND = (0.72, 0.95, 1.0)  # nights, mornings, afternoons: 22-6, 6-14, 14-22 h
_LOAD_EXPONENT = 3.0
_MEAN_LOAD_EFFECT = sum(demand**_LOAD_EXPONENT for demand in _SHIFT_DEMAND) / len(_SHIFT_DEMAND)


@dataclass(frozen=True, slots=True)
class DriveParams:
    """Parameters of one drive. ``healthy_h`` may be negative: the wear then began before the story does."""

    healthy_h: float = 30.0
    seize_after_onset_h: float = 60.0
    growth_exponent: float = 1.4
    growth_jitter: float = 0.35
    start_hour: float = 8.0
    rated_speed_rpm: float = 1500.0
    bpfo_orders: float = 3.585  # a 6205 deep-groove ball bearing
    resonance_hz: float = 4200.0
    damping: float = 0.04
    unbalance_g: float = 0.09
    misalignment_g: float = 0.05
    noise_g: float = 0.045
    defect_g: float = 16.0  # impulse amplitude at W = 1
    spread_g: float = 1.3  # broadband noise at W = 1
    rated_current_a: float = 6.0
    friction_share: float = 0.12  # of the rated torque, when healthy
    friction_growth: float = 5.0
    ambient_cel: float = 22.0
    measurement_noise: float = 0.02


@dataclass(frozen=True, slots=True)
class DriveVitals:
    """One reading of every sensor."""

    speed_rpm: float
    motor_current_a: float
    motor_temperature_cel: float
    bearing_temperature_cel: float
    vibration_rms_g: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A run to failure as equally long arrays, one entry for every reading. ``hours`` count from the start of the run;
    the last entry is at seizure.
    """

    hours: Floats
    speed_rpm: Floats
    motor_current_a: Floats
    motor_temperature_cel: Floats
    bearing_temperature_cel: Floats
    vibration_rms_g: Floats
    wear: Floats


class DriveModel:
    """The state of one drive. ``step`` moves time; ``vitals`` and ``waveform`` read the sensors, with noise.

    ``age_h`` may start negative (the drive has a stored past) or beyond ``healthy_h`` (the drive is already worn).
    """

    def __init__(self, params: DriveParams, rng: np.random.Generator, age_h: float = 0.0) -> None:
        self.params = params
        self.age_h = age_h
        self._rng = rng
        self._growth_per_h = _growth_per_h(params)
        self.wear = _wear_at(params, age_h - params.healthy_h)
        self._load_drift = 0.0
        self._bearing_cel = self._motor_cel = self._ambient_cel() + 15.0
        for _ in range(round(6 / SUBSTEP_H)):  # reach thermal balance before anybody looks
            self._heat(SUBSTEP_H)

    @property
    def seized(self) -> bool:
        return self.wear >= 1.0

    def step(self, dt_h: float) -> None:
        """Let ``dt_h`` hours pass."""
        left_h = dt_h
        while left_h > 1e-12:
            substep_h = min(left_h, SUBSTEP_H)
            self._grow(substep_h)
            self._heat(substep_h)
            self.age_h += substep_h
            left_h -= substep_h

    def vitals(self) -> DriveVitals:
        """Read the sensors now."""
        noise = self._rng.normal(0.0, 1.0, 5)
        relative = 1.0 + self.params.measurement_noise * noise
        unbalance, misalignment, defect, broadband = self._vibration_parts()
        harmonics = (unbalance**2 + misalignment**2) / 2
        ringing = defect**2 * self._bpfo_hz() / (4 * self.params.damping * 2 * math.pi * self.params.resonance_hz)
        return DriveVitals(
            speed_rpm=max(0.0, self._speed_rpm() + 2.0 * noise[0]),
            motor_current_a=float(self._current_a() * relative[1]),
            motor_temperature_cel=float(self._motor_cel + 0.25 * noise[2]),
            bearing_temperature_cel=float(self._bearing_cel + 0.25 * noise[3]),
            vibration_rms_g=float(math.sqrt(harmonics + ringing + broadband**2) * relative[4]),
        )

    def waveform(self) -> Floats:
        """A burst of WAVEFORM_LENGTH accelerations in g at SAMPLE_RATE_HZ; its RMS agrees with ``vitals``."""
        time_s = np.arange(WAVEFORM_LENGTH) / SAMPLE_RATE_HZ
        unbalance, misalignment, defect, broadband = self._vibration_parts()
        phase, phase_2 = self._rng.uniform(0, 2 * math.pi, 2)
        turns = 2 * math.pi * self._speed_rpm() / 60 * time_s
        signal = unbalance * np.sin(turns + phase) + misalignment * np.sin(2 * turns + phase_2)
        signal += self._rng.normal(0.0, broadband, WAVEFORM_LENGTH)
        if defect > 0 and self._bpfo_hz() > 0:
            signal += self._impulses(time_s, defect)
        return np.asarray(signal, dtype=np.float64)

    def _impulses(self, time_s: Floats, amplitude_g: float) -> Floats:
        """The ringing of the resonance: every passing ball strikes the defect once, and balls slip by about 1 %."""
        params, period_s = self.params, 1 / self._bpfo_hz()
        omega = 2 * math.pi * params.resonance_hz
        lead_s = 6 / (params.damping * omega)  # impulses before the burst still ring into it
        count = math.ceil((time_s[-1] + lead_s) / period_s) + 1
        gaps_s = period_s * (1 + self._rng.normal(0.0, 0.01, count))
        starts_s = np.cumsum(gaps_s) - lead_s - period_s * self._rng.uniform()
        strengths = amplitude_g * np.clip(self._rng.normal(1.0, 0.12, count), 0.5, 1.5)
        after_s = np.maximum(time_s[None, :] - starts_s[:, None], 0.0)
        rings = np.exp(-params.damping * omega * after_s) * np.sin(omega * after_s)
        return np.asarray(strengths @ rings, dtype=np.float64)

    def _vibration_parts(self) -> tuple[float, float, float, float]:
        """Amplitudes of shaft order 1 and 2, of the impulses, and the RMS of the broadband noise, in g."""
        params = self.params
        if self.seized:
            return 0.0, 0.0, 0.0, 0.2 * params.noise_g
        ratio = (self._speed_rpm() / params.rated_speed_rpm) ** 2
        defect = params.defect_g * self.wear**0.7 * ratio
        broadband = math.hypot(params.noise_g, params.spread_g * self.wear**1.5) * ratio
        return params.unbalance_g * ratio, params.misalignment_g * ratio, defect, broadband

    def _grow(self, dt_h: float) -> None:
        self._load_drift += -self._load_drift * dt_h / 2.0 + 0.03 * math.sqrt(dt_h) * self._rng.normal()
        healthy_left_h = self.params.healthy_h - self.age_h
        grow_h = dt_h - max(0.0, healthy_left_h)
        if grow_h <= 0 or self.seized:
            return
        jitter = math.exp(self.params.growth_jitter * self._rng.normal() - self.params.growth_jitter**2 / 2)
        stress = self._load() ** _LOAD_EXPONENT / _MEAN_LOAD_EFFECT * jitter
        rate = self._growth_per_h * self.wear**self.params.growth_exponent * stress
        self.wear = min(1.0, self.wear + rate * grow_h)

    def _heat(self, dt_h: float) -> None:
        """One explicit Euler step of two coupled thermal masses (time constants 0.4 h and 0.9 h)."""
        ambient = self._ambient_cel()
        turning = 0.0 if self.seized else self._speed_rpm() / self.params.rated_speed_rpm
        bearing_rise = 14.0 * (self._friction() / self.params.friction_share) * turning
        motor_rise = 30.0 * (self._current_a() / self.params.rated_current_a) ** 2
        exchange = 0.25 * (self._motor_cel - self._bearing_cel)
        self._bearing_cel += dt_h / 0.4 * (ambient + bearing_rise + exchange - self._bearing_cel)
        self._motor_cel += dt_h / 0.9 * (ambient + motor_rise - exchange - self._motor_cel)

    def _friction(self) -> float:
        """Friction torque as a share of the rated torque; warm grease is thinner."""
        grease = math.exp(-(min(self._bearing_cel, 90.0) - 40.0) / 150.0)
        return self.params.friction_share * grease * (1 + self.params.friction_growth * self.wear**0.8)

    def _current_a(self) -> float:
        if self.seized:
            return 0.2  # the drive tripped on locked rotor; its electronics remain
        return self.params.rated_current_a * (0.15 + 0.65 * self._load() + self._friction())

    def _load(self) -> float:
        """Share of the rated load."""
        hour = (self.params.start_hour + self.age_h) % 24
        demand = _SHIFT_DEMAND[int((hour - 6) % 24 // 8 + 1) % 3]
        return min(1.2, max(0.3, demand * (1 + self._load_drift)))

    def _speed_rpm(self) -> float:
        if self.seized:
            return 0.0
        return self.params.rated_speed_rpm * (0.8 + 0.2 * min(1.0, self._load()))

    def _bpfo_hz(self) -> float:
        return self.params.bpfo_orders * self._speed_rpm() / 60

    def _ambient_cel(self) -> float:
        hour = self.params.start_hour + self.age_h
        return self.params.ambient_cel + 2.5 * math.sin(2 * math.pi * (hour - 9) / 24)


def run_to_failure(params: DriveParams, rng: np.random.Generator, step_s: float = 600.0) -> Trajectory:
    """Play one drive from its start to seizure, reading it every ``step_s``.

    Seizure is late under light load: the run is cut (unseized) at three times the expected life.
    """
    model = DriveModel(params, rng)
    end_h = 3 * max(1.0, params.healthy_h + params.seize_after_onset_h)
    rows: list[tuple[float, ...]] = []
    while not model.seized and model.age_h < end_h:
        v = model.vitals()
        rows.append(
            (
                model.age_h,
                v.speed_rpm,
                v.motor_current_a,
                v.motor_temperature_cel,
                v.bearing_temperature_cel,
                v.vibration_rms_g,
                model.wear,
            )
        )
        model.step(step_s / 3600)
    columns = np.array(rows, dtype=np.float64).T
    return Trajectory(*columns)


def varied(params: DriveParams, rng: np.random.Generator) -> DriveParams:
    """The parameters of another drive of the same kind: life, growth, resonance and levels scatter as in a fleet."""

    def scattered(value: float, sigma: float) -> float:
        return float(value * math.exp(rng.normal(0.0, sigma)))

    return replace(
        params,
        healthy_h=scattered(params.healthy_h, 0.3),
        seize_after_onset_h=scattered(params.seize_after_onset_h, 0.25),
        growth_exponent=float(rng.uniform(1.25, 1.8)),
        start_hour=float(rng.uniform(0, 24)),
        resonance_hz=scattered(params.resonance_hz, 0.1),
        unbalance_g=scattered(params.unbalance_g, 0.15),
        misalignment_g=scattered(params.misalignment_g, 0.15),
        noise_g=scattered(params.noise_g, 0.1),
        defect_g=scattered(params.defect_g, 0.2),
        spread_g=scattered(params.spread_g, 0.2),
        friction_growth=scattered(params.friction_growth, 0.15),
        ambient_cel=float(params.ambient_cel + rng.normal(0.0, 2.0)),
    )


def _growth_per_h(params: DriveParams) -> float:
    """C of the growth law: wear grows from INITIAL_WEAR to 1 in ``seize_after_onset_h`` under the average load."""
    below = params.growth_exponent - 1
    return (INITIAL_WEAR**-below - 1) / (below * max(params.seize_after_onset_h, 1e-6))


def _wear_at(params: DriveParams, since_onset_h: float) -> float:
    """The growth law's closed form under the average load."""
    if since_onset_h <= 0:
        return INITIAL_WEAR
    below = params.growth_exponent - 1
    left = INITIAL_WEAR**-below - below * _growth_per_h(params) * since_onset_h
    return 1.0 if left <= 1 else float(left ** (-1 / below))
