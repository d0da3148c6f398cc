"""Simulated healthy assets, to count false alarms and to measure how long a known drift stays undetected.

The reference asset is the plain case: eight channels, each a level, a share of a changing load, a daily cycle and
autocorrelated noise with time constants up to an hour. A machine has a shift plan, set points and ramps, temperatures
that lag behind load and weather, and vibration that depends on load and speed. A server has days, weeks, nightly jobs
and bursts. Every channel carries white noise and wander with several time constants (on machines and servers up to
hours), partly shared between channels; then quantisation, short dropouts (NaN) and single spikes. All parameters are
drawn by the seed, so no two assets are alike.

``sigma`` of a channel, the unit of a ``Drift``, is exact. It is the standard deviation, over the rows of the asset, of
the healthy channel minus the same channel without noise, wander and weather (with the same load, set points, daily and
weekly cycle), before quantisation, dropouts and spikes. A drift changes only its own channel: without the drift, the
same seed gives the same rows in all other channels, bit for bit. Pure, seeded, vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Kind = Literal["reference", "machine", "server"]

CHANNELS = 8
US_PER_S = 1_000_000
DAY_S = 86_400.0
HOUR_S = 3_600.0
FIRST_DAY_S = 20_454 * DAY_S
"""2026-01-01T00:00Z; an asset's first row is up to four weeks later."""
DROPOUTS_PER_DAY = 0.05
SPIKES_PER_DAY = 0.1
SHARED_FACTORS = 2
NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class Drift:
    """A ramp of ``sigma_per_day`` healthy sigmas on one channel (name or index), beginning on day ``start_day``."""

    channel: str | int
    start_day: float
    sigma_per_day: float


@dataclass(frozen=True, slots=True)
class SimulatedAsset:
    """Aligned rows of one asset: times (n,), names (8,), values (n, 8) with NaN for dropouts, sigma (8,)."""

    times_us: NDArray[np.int64]
    names: tuple[str, ...]
    values: FloatArray
    sigma: FloatArray


@dataclass(frozen=True, slots=True)
class _Clock:
    """Local time of each row."""

    hour: FloatArray
    weekday: NDArray[np.int64]
    step_s: float


Model = Callable[[FloatArray, FloatArray], FloatArray]
"""A function of wander (n, 8) in unit variance and weather (n,) in kelvin that returns channels (n, 8)."""


def simulate_asset(
    seed: int,
    days: float,
    step_s: float = 60.0,
    *,
    drift: Drift | None = None,
    load_visible: bool = True,
    kind: Kind = "machine",
) -> SimulatedAsset:
    """Simulate one asset over ``days``, with a row every ``step_s`` seconds.

    ``load_visible=False`` replaces the load channel (a machine's ``load``, a server's ``requests``) by a channel that
    shows less of the load (``flow``, ``threads``), so that the other channels vary for reasons that are not recorded.

    Raises:
        ValueError: a size is out of range, or the channel of the drift is unknown.
    """
    rows = round(days * DAY_S / step_s) if step_s > 0 else 0
    if rows < 2:
        raise ValueError("an asset needs at least two rows: days * 86400 / step_s")
    random = np.random.default_rng([seed, list(MODELS).index(kind)])
    start_s = FIRST_DAY_S + float(random.integers(0, 28 * 24 * 60)) * 60.0
    seconds = start_s + np.arange(rows) * step_s
    local_s = seconds + HOUR_S * float(random.integers(-10, 11))
    clock = _Clock(
        np.asarray(local_s % DAY_S, np.float64) / HOUR_S, ((local_s // DAY_S).astype(np.int64) + 3) % 7, step_s
    )
    names, model = MODELS[kind](random, clock, load_visible)
    weather = _weather(random, clock)
    healthy = model(_wander(random, rows, step_s, kind == "reference"), weather)
    sigma = (healthy - model(np.zeros((rows, CHANNELS)), np.zeros(rows))).std(axis=0)
    values = _damage(random, healthy, sigma, step_s)
    if drift is not None:
        channel = names.index(drift.channel) if isinstance(drift.channel, str) else drift.channel
        since_days = np.maximum(np.arange(rows) * (step_s / DAY_S) - drift.start_day, 0.0)
        values[:, channel] += since_days * (drift.sigma_per_day * sigma[channel])
    values = _quantise(random, values, sigma)
    return SimulatedAsset(np.round(seconds * US_PER_S).astype(np.int64), names, values, sigma)


def _machine(random: np.random.Generator, clock: _Clock, load_visible: bool) -> tuple[tuple[str, ...], Model]:
    load, target = _shift_load(random, clock)
    variable_speed = random.random() < 0.6
    speed = 0.35 + 0.65 * lag(target, 120.0, clock.step_s) if variable_speed else 1.0 - 0.03 * load
    ambient = _daily(random, clock, random.uniform(1.0, 5.0)) + random.uniform(14.0, 28.0)
    winding_tau_s, cabinet_tau_s = random.uniform(15, 90) * 60.0, random.uniform(20, 120) * 60.0
    winding_rise = random.uniform(20, 60) * lag(load**1.7, winding_tau_s, clock.step_s)
    cabinet_rise = random.uniform(2, 12) * lag(load, cabinet_tau_s, clock.step_s)
    rated_rpm, rated_a, idle = random.uniform(700, 3000), 10 ** random.uniform(0.3, 2.0), random.uniform(0.15, 0.4)
    vibration = 10 ** random.uniform(-1.5, 0.7), random.uniform(0.1, 0.9), random.uniform(0.2, 1.5)
    pressure = random.uniform(1, 8), random.uniform(0.5, 3.0), random.uniform(0.0, 1.0)
    noise = 10 ** random.uniform(-2.3, -1.3, CHANNELS)
    roughness = random.uniform(0.05, 0.25, 2)

    def model(wander: FloatArray, weather: FloatArray) -> FloatArray:
        relative = 1.0 + noise * wander
        felt = lag(ambient + weather, cabinet_tau_s, clock.step_s)
        first = 100.0 * load * relative[:, 0] if load_visible else 40.0 * speed * (1.2 - 0.3 * load) * relative[:, 0]
        columns = (
            first,
            rated_rpm * speed * (1.0 + 0.2 * noise[1] * wander[:, 1]),
            rated_a * np.sqrt(idle**2 + load**2) * relative[:, 2],
            felt + winding_rise + 30.0 * noise[3] * wander[:, 3],
            felt + cabinet_rise + 15.0 * noise[4] * wander[:, 4],
            vibration[0] * np.exp(vibration[1] * load + vibration[2] * (speed - 1.0) + roughness[0] * wander[:, 5]),
            2.9 + 0.4 * np.exp(2.0 * roughness[1] * wander[:, 6]) + 0.2 * load,
            (pressure[0] + pressure[1] * speed**2 - pressure[2] * load) * relative[:, 7],
        )
        return np.stack(columns, axis=1)

    names = ("load" if load_visible else "flow", "speed", "motor_current", "winding_temperature")
    return (*names, "cabinet_temperature", "vibration_rms", "vibration_kurtosis", "pressure"), model


def _reference(random: np.random.Generator, clock: _Clock, load_visible: bool) -> tuple[tuple[str, ...], Model]:
    """The plain case: every channel is a level, a share of the load, a daily cycle and autocorrelated noise."""
    changes = random.random(len(clock.hour)) < clock.step_s / (random.uniform(1.0, 6.0) * HOUR_S)
    place = np.cumsum(changes)
    load = lag(random.uniform(0.2, 1.0, int(place[-1]) + 1)[place], random.uniform(1, 10) * 60.0, clock.step_s)
    level, unit = random.uniform(5.0, 100.0, CHANNELS), 10 ** random.uniform(-2.0, 1.0, CHANNELS)
    share = random.uniform(-4.0, 4.0, CHANNELS)
    days = np.stack([_daily(random, clock, random.uniform(0.0, 2.5)) for _ in range(CHANNELS)], axis=1)

    def model(wander: FloatArray, weather: FloatArray) -> FloatArray:
        values = unit * (level + share * load[:, None] + days + wander)
        if load_visible:
            values[:, 0] = 100.0 * (load + 0.01 * wander[:, 0])
        return np.asarray(values)

    return ("load" if load_visible else "channel_0", *(f"channel_{index}" for index in range(1, CHANNELS))), model


def _server(random: np.random.Generator, clock: _Clock, load_visible: bool) -> tuple[tuple[str, ...], Model]:
    rows = len(clock.hour)
    peak, weekend = random.uniform(0.3, 0.9), random.uniform(0.3, 1.0)
    day = np.clip(0.5 + _daily(random, clock, 0.5), 0.0, 1.0) ** random.uniform(0.7, 2.0)
    bursts = lag((random.random(rows) < clock.step_s / (random.uniform(2, 12) * HOUR_S)) * 1.0, 600.0, clock.step_s)
    demand = (0.1 + peak * day) * np.where(clock.weekday >= 5, weekend, 1.0) * (1.0 + random.uniform(0, 8) * bursts)
    job_hour, job_length = random.uniform(0, 24), random.uniform(0.3, 2.0)
    job = lag(((clock.hour - job_hour) % 24 < job_length) * random.uniform(0.5, 3.0), 120.0, clock.step_s)
    room = random.uniform(20, 27) + _daily(random, clock, random.uniform(0.1, 1.5))
    rise = random.uniform(10, 35) * lag(np.minimum(demand + 0.3 * job, 2.0), random.uniform(3, 15) * 60.0, clock.step_s)
    scale = 10 ** random.uniform(0.0, 3.0, CHANNELS)
    noise = random.uniform(0.03, 0.3, CHANNELS)
    cpu, memory, weather_share = random.uniform(20, 70), random.uniform(0.3, 0.7), random.uniform(0.0, 0.3)

    def model(wander: FloatArray, weather: FloatArray) -> FloatArray:
        spread = np.exp(noise * wander)
        busy = cpu * (demand + 0.2 * job) * spread[:, 1]
        temperature = room + weather_share * weather + rise + 4.0 * noise[6] * wander[:, 6]
        columns = (
            scale[0] * (demand if load_visible else 2.0 + 0.3 * demand) * spread[:, 0],
            100.0 * (1.0 - np.exp(-busy / 100.0)),
            100.0 * np.clip(memory + 0.1 * demand + 0.1 * noise[2] * wander[:, 2], 0.0, 1.0),
            scale[3] * (0.05 + demand) * spread[:, 3],
            scale[4] * (0.1 + 0.3 * demand + job) * spread[:, 4],
            (5.0 + 0.3 * scale[5] * demand) * spread[:, 5],
            temperature,
            1500.0 + 60.0 * np.maximum(temperature - 25.0, 0.0) + 300.0 * noise[7] * wander[:, 7],
        )
        return np.stack(columns, axis=1)

    names = ("requests" if load_visible else "threads", "cpu", "memory", "network", "disk_io")
    return (*names, "latency_ms", "board_temperature", "fan_speed"), model


MODELS: dict[Kind, Callable[[np.random.Generator, _Clock, bool], tuple[tuple[str, ...], Model]]] = {
    "machine": _machine,
    "server": _server,
    "reference": _reference,
}


def _shift_load(random: np.random.Generator, clock: _Clock) -> tuple[FloatArray, FloatArray]:
    """Load (n,) and the set point (n,) it ramps to, both 0..1: shifts on working days, set-point changes within."""
    start, length = random.uniform(5, 9), float(random.choice([8.0, 16.0, 24.0]))
    working_days = int(random.choice([5, 6, 7]))
    standby, low = random.uniform(0.05, 0.3), random.uniform(0.35, 0.7)
    # A shift that began before midnight belongs to the day before.
    since_start = (clock.hour - start) % 24.0
    day = np.where(clock.hour < start, (clock.weekday - 1) % 7, clock.weekday)
    at_work = (since_start < length) & (day < working_days)
    if random.random() < 0.5:
        at_work &= ~((since_start % 8.0 >= 4.0) & (since_start % 8.0 < 4.5))
    changes = random.random(len(day)) < clock.step_s / (random.uniform(0.5, 4.0) * HOUR_S)
    place = np.cumsum(changes)
    points = np.round(random.uniform(low, 1.0, int(place[-1]) + 1), 1 if random.random() < 0.5 else 3)
    target = np.where(at_work, points[place], standby)
    return lag(target, random.uniform(1, 12) * 60.0, clock.step_s), target


def _daily(random: np.random.Generator, clock: _Clock, amplitude: float) -> FloatArray:
    """A smooth daily cycle (n,), highest in the afternoon, with a second harmonic."""
    angle = 2 * np.pi * (clock.hour - random.uniform(13, 17)) / 24.0
    harmonic = random.uniform(-0.2, 0.2) * np.cos(2 * angle + random.uniform(0, 2 * np.pi))
    return np.asarray(amplitude * (np.cos(angle) + harmonic))


def _weather(random: np.random.Generator, clock: _Clock) -> FloatArray:
    """Weather (n,) in kelvin, by which the days differ: wander over one to four days, smoothed over hours."""
    tau_s = np.array([random.uniform(1.0, 4.0) * DAY_S])
    rough = correlated(random, len(clock.hour), tau_s, clock.step_s)[:, 0]
    return lag(random.uniform(0.5, 3.0) * rough, 3 * HOUR_S, clock.step_s)


def _wander(random: np.random.Generator, rows: int, step_s: float, plain: bool) -> FloatArray:
    """Noise (rows, 8) of about unit variance: white, minutes, hours, partly shared between channels.

    ``plain``: no time constant above an hour.
    """
    count = CHANNELS + SHARED_FACTORS
    minutes_s, hours_s = random.uniform(2, 20, count) * 60.0, random.uniform(0.7, 8, count) * HOUR_S
    if plain:
        hours_s = random.uniform(20, 60, count) * 60.0
    share = random.dirichlet((2.0, 2.0, 1.0), count)
    parts = (
        random.standard_normal((rows, count)),
        correlated(random, rows, minutes_s, step_s),
        correlated(random, rows, hours_s, step_s),
    )
    mixed = sum(np.sqrt(share[:, index]) * part for index, part in enumerate(parts))
    loadings = random.normal(0.0, 0.4, (SHARED_FACTORS, CHANNELS))
    own = np.asarray(mixed)[:, :CHANNELS] + np.asarray(mixed)[:, CHANNELS:] @ loadings
    return np.asarray(own / np.sqrt(1.0 + (loadings**2).sum(axis=0)))


def _damage(random: np.random.Generator, healthy: FloatArray, sigma: FloatArray, step_s: float) -> FloatArray:
    """A copy with single spikes (5 to 30 sigma) and dropouts (1 to 30 rows of NaN)."""
    values = healthy.copy()
    rows = len(values)
    days = rows * step_s / DAY_S
    for channel in range(CHANNELS):
        spikes = random.integers(0, rows, random.poisson(SPIKES_PER_DAY * days))
        height = sigma[channel] * random.uniform(5, 30, len(spikes)) * random.choice([-1, 1])
        values[spikes, channel] += height if healthy[:, channel].min() < 0 else np.abs(height)
        for first in random.integers(0, rows, random.poisson(DROPOUTS_PER_DAY * days)):
            values[first : first + int(random.integers(1, 31)), channel] = np.nan
    return values


def _quantise(random: np.random.Generator, values: FloatArray, sigma: FloatArray) -> FloatArray:
    """Rounded to each channel's resolution: 1 to 60 % of its sigma, brought to 1, 2 or 5 times a power of ten."""
    wanted = np.maximum(sigma, 1e-9) * 10 ** random.uniform(-2.0, -0.22, CHANNELS)
    power = 10.0 ** np.floor(np.log10(wanted))
    resolution = power * np.array([1.0, 2.0, 5.0])[np.digitize(wanted / power, (2.0, 5.0))]
    return np.asarray(np.round(values / resolution) * resolution)


def correlated(random: np.random.Generator, rows: int, tau_s: FloatArray, step_s: float) -> FloatArray:
    """AR(1) noise (rows, m) of unit variance with time constants ``tau_s`` (m,), stationary from the first row."""
    decay = np.exp(-step_s / tau_s)
    noise = random.standard_normal((rows, len(tau_s))) * np.sqrt(1.0 - decay**2)
    noise[0] /= np.sqrt(1.0 - decay**2)
    return _recursive(noise, decay)


def lag(signal: NDArray[Any], tau_s: float, step_s: float) -> FloatArray:
    """First-order lag (n,) of a signal (n,), settled at its first value."""
    decay = np.exp(-step_s / tau_s)
    driven = (signal - signal[0]) * (1.0 - decay)
    return np.asarray(signal[0] + _recursive(driven[:, None], np.array([decay]))[:, 0])


def _recursive(driven: FloatArray, decay: FloatArray) -> FloatArray:
    """y[t] = decay * y[t-1] + driven[t] for columns (n, m), by doubling: log2(n) whole-array steps."""
    out = driven.T.copy()
    factor, reach = decay[:, None].copy(), 1
    while reach < out.shape[1] and float(factor.max()) > NEGLIGIBLE:
        out[:, reach:] += factor * out[:, :-reach]
        factor, reach = factor**2, reach * 2
    return out.T
