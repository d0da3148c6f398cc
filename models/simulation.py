"""Simulated histories of bearings from first damage to seizure, at the level of the indicator.

They fill the library until the fleet has histories of its own. This generator does not use the physics of the
simulated drive in the demonstration, which is a thermal and vibration model on the device with parameters and seeds of
its own. It knows only the *shapes* that run-to-failure experiments share. Its assumptions, and their sources:

* growth of damage by a power law of the damage itself, after Paris and Erdogan's law of crack growth (1963): an
  exponent below 1 gives slow, nearly straight growth, 1 an exponential, above 1 a sudden end; it is drawn for each
  unit;
* load varies by shift and week, and the rate of damage with it (a power of the load, as in ISO 281's life equation);
* random growth: the rate wanders (a mean-reverting log-normal process), as in Gebraeel's stochastic degradation
  models (2005);
* plateaus and "healing": the edges of a fresh spall are rolled smooth, so vibration falls while damage goes on, as
  in published run-to-failure experiments;
* a healthy time before the onset, measurement noise with memory, load seen in the level, rare outliers;
* some units are replaced before they fail: at a planned overhaul (time) or on condition (level). They are censored.

Invariants: pure; the same parameters and seed give the same units, bit for bit, on one version of numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleet_core.assets import BEARING, BEARING_SEIZURE, BEARING_SPALLING
from fleet_core.errors import BadInput
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.signatures import Floats

MAX_UNITS = 5_000

ARTIFACT = Path(__file__).parent / "artifacts" / "bearing_history.csv.gz"
ARTIFACT_UNITS = 200
ARTIFACT_SEED = 20_240_611
"""The shipped library was made by ``fleet-models simulate-history`` with this number of units and this seed."""


@dataclass(frozen=True)
class Ranges:
    """Spread of the units' parameters: log-normal by median and sigma of the logarithm, clipped to ``*_range``."""

    life_median_h: float = 90.0
    life_log_sigma: float = 0.5
    life_range_h: tuple[float, float] = (10.0, 330.0)
    end_ratio_median: float = 6.0
    end_ratio_log_sigma: float = 0.6
    end_ratio_range: tuple[float, float] = (2.2, 30.0)
    exponent_range: tuple[float, float] = (0.6, 1.9)
    first_damage_range: tuple[float, float] = (0.004, 0.03)
    healthy_range_h: tuple[float, float] = (24.0, 96.0)
    noise_range: tuple[float, float] = (0.008, 0.03)
    replaced_share: float = 0.25


def simulate_bearings(units: int, seed: int, ranges: Ranges | None = None) -> list[Trajectory]:
    """Histories of ``units`` bearings, failed or replaced. Raises BadInput for a number out of range."""
    if not 1 <= units <= MAX_UNITS:
        raise BadInput("units", f"{units} is not in 1..{MAX_UNITS}")
    chosen = ranges or Ranges()
    streams = np.random.SeedSequence(seed).spawn(units)
    return [_bearing(np.random.default_rng(stream), f"SIM-{seed}-{n:04d}", chosen) for n, stream in enumerate(streams)]


def _bearing(rng: np.random.Generator, serial: str, ranges: Ranges) -> Trajectory:
    life_h = _log_normal(rng, ranges.life_median_h, ranges.life_log_sigma, ranges.life_range_h)
    end_ratio = _log_normal(rng, ranges.end_ratio_median, ranges.end_ratio_log_sigma, ranges.end_ratio_range)
    healthy_h = rng.uniform(*ranges.healthy_range_h)
    step_h = float(np.clip(life_h / 100.0, 1.0 / 6.0, 1.0))
    hours = np.round(np.arange(0.0, healthy_h + life_h + step_h / 2, step_h), 3)
    load = _load(rng, hours)
    used = _used_life(rng, hours, healthy_h, load)
    exponent = rng.uniform(*ranges.exponent_range)
    damage = _paris(used, exponent, np.exp(rng.uniform(*np.log(ranges.first_damage_range))))
    heard = _smoothed_spalls(rng, hours, healthy_h, used, damage)
    noise = _noise(rng, hours.size, rng.uniform(*ranges.noise_range))
    load_seen = 1.0 + rng.uniform(0.0, 0.25) * (load - load.mean())
    ratio = (1.0 + (end_ratio - 1.0) * heard) * load_seen * np.exp(noise)
    failed, end = True, hours.size
    if rng.random() < ranges.replaced_share:
        failed, end = False, _replaced_at(rng, used, ratio)
    # A seizure ends suddenly and runs hot; surface fatigue grows evenly. Vibration alone tells them apart poorly.
    seizes = rng.random() < np.interp(exponent, ranges.exponent_range, (0.35, 0.75))
    return Trajectory(
        trajectory_id=f"sim:{serial}",
        component_type=BEARING,
        unit_serial=serial,
        source="simulated",
        failure_mode=BEARING_SEIZURE if seizes else BEARING_SPALLING,
        failed=failed,
        hours=hours[:end],
        ratio=np.round(np.maximum(ratio[:end], 0.05), 4),
    )


def _log_normal(rng: np.random.Generator, median: float, log_sigma: float, bounds: tuple[float, float]) -> float:
    return float(np.clip(median * np.exp(log_sigma * rng.standard_normal()), *bounds))


def _load(rng: np.random.Generator, hours: Floats) -> Floats:
    """Relative load around 1: shifts by day, quieter at the week's end, with a random phase."""
    clock_h = hours + rng.uniform(0.0, 168.0)
    day = 1.0 + rng.uniform(0.05, 0.35) * np.sin(2 * np.pi * clock_h / 24.0)
    weekend = np.where((clock_h % 168.0) > 120.0, rng.uniform(0.5, 1.0), 1.0)
    return np.asarray(day * weekend)


def _used_life(rng: np.random.Generator, hours: Floats, healthy_h: float, load: Floats) -> Floats:
    """Share (n,) of the life between onset and failure that is used up at each moment: 0 before, 1 at the end."""
    wander = _noise(rng, hours.size, rng.uniform(0.1, 0.5), memory=0.97)
    rate = load ** rng.uniform(1.0, 3.0) * np.exp(wander)
    rate[hours < healthy_h] = 0.0
    for _ in range(rng.poisson(0.7)):  # plateaus: the growth of damage almost stops for a while
        start, length = rng.uniform(0.0, 0.9), rng.uniform(0.03, 0.25)
        span_h = hours[-1] - healthy_h
        paused = (hours >= healthy_h + start * span_h) & (hours < healthy_h + (start + length) * span_h)
        rate[paused] *= 0.1
    used = np.cumsum(rate)
    return np.asarray(used / used[-1])


def _paris(used: Floats, exponent: float, first: float) -> Floats:
    """Damage 0..1 by ``dD/ds = c D**exponent`` with D(0) = ``first`` and D(1) = 1, in closed form, less ``first``."""
    if abs(exponent - 1.0) < 1e-6:
        damage = first ** (1.0 - used)
    else:
        power = 1.0 - exponent
        damage = (first**power + used * (1.0 - first**power)) ** (1.0 / power)
    return np.asarray((damage - first) / (1.0 - first))


def _smoothed_spalls(rng: np.random.Generator, hours: Floats, healthy_h: float, used: Floats, damage: Floats) -> Floats:
    """The part (n,) of the damage that vibration shows: it falls for a while when edges of a spall are rolled
    smooth."""
    heard = damage.copy()
    span_h = hours[-1] - healthy_h
    for _ in range(rng.poisson(1.0)):
        start_h = healthy_h + rng.uniform(0.2, 0.85) * span_h
        since_h = hours - start_h
        decay_h = rng.uniform(0.03, 0.2) * span_h
        dip = rng.uniform(0.15, 0.5) * np.exp(-np.maximum(since_h, 0.0) / decay_h)
        heard *= np.where((since_h >= 0) & (used < 0.99), 1.0 - dip, 1.0)
    return heard


def _noise(rng: np.random.Generator, count: int, sigma: float, memory: float = 0.5) -> Floats:
    """Gaussian noise with a memory of one step (stationary standard deviation ``sigma``), with rare outliers."""
    shocks = rng.standard_normal(count) * sigma * np.sqrt(1 - memory**2)
    noise = np.empty(count)
    level = sigma * rng.standard_normal()
    for index, shock in enumerate(shocks):
        level = memory * level + shock
        noise[index] = level
    outliers = rng.random(count) < 0.001
    noise[outliers] += 4.0 * sigma * rng.standard_normal(int(outliers.sum()))
    return noise


def _replaced_at(rng: np.random.Generator, used: Floats, ratio: Floats) -> int:
    """The number of points until the unit is replaced, on condition or at an overhaul."""
    if rng.random() < 0.5:
        return max(2, int(np.searchsorted(used, rng.uniform(0.1, 0.95))))
    above = np.flatnonzero(ratio > rng.uniform(1.5, max(1.6, float(ratio.max()))))
    return max(2, int(above[0]) + 1 if above.size else ratio.size - 1)
