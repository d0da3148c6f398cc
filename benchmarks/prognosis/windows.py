"""Signatures by the million, with the statistics that courses of degradation have: not uniform random noise.

The same shapes as ``models/simulation.py`` (Paris growth of drawn exponent, wandering rate, shifts and weekends,
plateaus, spalls rolled smooth, noise with memory), computed for a thousand units at once; the physics (life, exponent,
final height, noise) differ by component and asset class. Each unit gives windows at moments along its course, half of
them even in time, half towards the end, as the library's alignment points are. Several channels are the same damage
as several sensors hear it: each with a gain, a delay and noise of its own. Queries come from other seeds, and from
``models/simulation.py`` itself.

Attributes belong to the unit: component and asset class by usage (a few are common, most rare), jurisdictions skewed,
four regions in each.

Invariants: pure; the same seed and shape give the same windows, bit for bit, on one version of numpy. The bins and the
height are those of ``fleet_server.prognosis.signatures`` (a test compares the two).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleet_server.prognosis.signatures import BIN_EDGES_H, BINS, Floats, height
from models.simulation import MAX_UNITS, simulate_bearings

COMPONENTS = 6
CLASSES = 4
JURISDICTIONS = 12
REGIONS_EACH = 4
WINDOWS_PER_UNIT = 40
BATCH_UNITS = 1_000
POINTS = 240
TOLERANCE = np.array([0.2, 0.25, 0.4, 0.6, 1.0, 1.5])
"""How alike two signatures must be in each bin: the scale in which distances are taken, as the library does."""


@dataclass(frozen=True, slots=True)
class Windows:
    """``vectors`` (n, channels * BINS) float32, ``units`` (n,), ``attributes`` (n, 4): class, component, region,
    jurisdiction."""

    vectors: npt.NDArray[np.float32]
    units: npt.NDArray[np.int64]
    attributes: npt.NDArray[np.int64]


def batches(windows: int, channels: int, seed: int) -> Iterator[Windows]:
    """``windows`` windows in batches of whole units (the last is cut to fit); unit numbers run from 0."""
    left, first = windows, 0
    for stream in np.random.SeedSequence(seed).spawn(-(-windows // (BATCH_UNITS * WINDOWS_PER_UNIT))):
        made = _batch(np.random.default_rng(stream), channels)
        taken = min(left, len(made.units))
        yield Windows(made.vectors[:taken], made.units[:taken] + first, made.attributes[:taken])
        left, first = left - taken, first + BATCH_UNITS


def queries(count: int, channels: int, seed: int) -> Windows:
    """``count`` windows of other units, one of each; ``seed`` must not be the library's. Of one channel, half of them
    come from ``models/simulation.py``."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 1)))
    vectors, attributes = [], []
    for stream in np.random.SeedSequence(seed).spawn(-(-count // BATCH_UNITS)):
        made = _batch(np.random.default_rng(stream), channels)
        rows = np.arange(BATCH_UNITS) * WINDOWS_PER_UNIT + rng.integers(0, WINDOWS_PER_UNIT, BATCH_UNITS)
        vectors.append(made.vectors[rows])
        attributes.append(made.attributes[rows])
    drawn, of_units = np.concatenate(vectors)[:count], np.concatenate(attributes)[:count]
    if channels == 1 and count > 1:
        drawn[::2] = _simulated(rng, len(drawn[::2]), seed)
    return Windows(drawn, np.arange(count), of_units)


def _simulated(rng: np.random.Generator, count: int, seed: int) -> npt.NDArray[np.float32]:
    """A signature of each of ``count`` units of ``models/simulation.py``."""
    chosen: list[Floats] = []
    while len(chosen) < count:
        seed += 1
        for unit in simulate_bearings(min(count, MAX_UNITS), seed):
            points = unit.alignments.signatures
            if len(points):
                chosen.append(points[rng.integers(len(points))])
    return np.asarray(np.array(chosen[:count]) / TOLERANCE, dtype=np.float32)


def _batch(rng: np.random.Generator, channels: int) -> Windows:
    attributes = _attributes(rng)
    component, asset_class = attributes[:, 1], attributes[:, 0]
    hours, damage, load = _courses(rng, component, asset_class)
    at = _moments(rng)
    parts = []
    for channel in range(channels):
        ratio = _heard(rng, hours, damage, load, component, channel)
        parts.append(unit_signatures(hours, ratio, at) / TOLERANCE)
    vectors = np.concatenate(parts, axis=2).reshape(-1, channels * BINS).astype(np.float32)
    return Windows(
        vectors, np.repeat(np.arange(BATCH_UNITS), WINDOWS_PER_UNIT), np.repeat(attributes, WINDOWS_PER_UNIT, axis=0)
    )


def _attributes(rng: np.random.Generator) -> npt.NDArray[np.int64]:
    def skewed(kinds: int, power: float) -> npt.NDArray[np.int64]:
        share = 1.0 / np.arange(1, kinds + 1) ** power
        return rng.choice(kinds, BATCH_UNITS, p=share / share.sum())

    jurisdiction = skewed(JURISDICTIONS, 1.0)
    region = jurisdiction * REGIONS_EACH + skewed(REGIONS_EACH, 0.5)
    return np.column_stack((skewed(CLASSES, 0.7), skewed(COMPONENTS, 0.7), region, jurisdiction))


def _courses(
    rng: np.random.Generator, component: npt.NDArray[np.int64], asset_class: npt.NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Hours (units, POINTS) evenly spaced from 0, damage 0..1 and load around 1 of the same shape."""
    units = (BATCH_UNITS, 1)
    life_h = 90.0 * np.exp(0.35 * (component - 2.5) + 0.2 * (asset_class - 1.5))[:, None]
    life_h = np.clip(life_h * np.exp(0.5 * rng.standard_normal(units)), 8.0, 1500.0)
    healthy_h = rng.uniform(24.0, 96.0, units)
    hours = np.linspace(0.0, 1.0, POINTS)[None, :] * (healthy_h + life_h)
    clock_h = hours + rng.uniform(0.0, 168.0, units)
    load = 1.0 + rng.uniform(0.05, 0.35, units) * np.sin(2 * np.pi * clock_h / 24.0)
    load = load * np.where(clock_h % 168.0 > 120.0, rng.uniform(0.5, 1.0, units), 1.0)
    rate = load ** rng.uniform(1.0, 3.0, units) * np.exp(_with_memory(rng, rng.uniform(0.1, 0.5, units), 0.97))
    rate = np.where(hours < healthy_h, 0.0, rate)
    for chance in (0.5, 0.2):  # plateaus: growth all but stops for a while
        start = rng.uniform(0.0, 0.9, units)
        share = (hours - healthy_h) / life_h
        paused = (share >= start) & (share < start + rng.uniform(0.03, 0.25, units)) & (rng.random(units) < chance)
        rate = np.where(paused, 0.1 * rate, rate)
    used = np.cumsum(rate, axis=1)
    used /= used[:, -1:]
    exponent = rng.uniform(0.6, 1.9, units) + 0.06 * (component[:, None] - 2.5)
    power = np.where(np.abs(exponent - 1.0) < 1e-3, 1e-3, 1.0 - exponent)
    first = np.exp(rng.uniform(np.log(0.004), np.log(0.03), units))
    damage = (first**power + np.minimum(used, 1.0) * (1.0 - first**power)) ** (1.0 / power)
    return hours, np.clip((damage - first) / (1.0 - first), 0.0, 1.0), load


def _heard(
    rng: np.random.Generator,
    hours: Floats,
    damage: Floats,
    load: Floats,
    component: npt.NDArray[np.int64],
    channel: int,
) -> Floats:
    """The reading of one sensor of the damage, as a ratio to its healthy level."""
    units = (BATCH_UNITS, 1)
    end = np.clip((6.0 - 1.2 * channel) * np.exp(0.1 * component[:, None] + 0.6 * rng.standard_normal(units)), 1.3, 30)
    heard = damage ** rng.uniform(0.8, 1.3, units) if channel else damage
    span_h = hours[:, -1:]
    for chance in (0.6, 0.3):  # edges rolled smooth
        since = hours / span_h - rng.uniform(0.3, 0.9, units)
        dip = rng.uniform(0.15, 0.5, units) * np.exp(-np.maximum(since, 0.0) / rng.uniform(0.02, 0.15, units))
        heard = np.where((since >= 0) & (rng.random(units) < chance), heard * (1.0 - dip), heard)
    noise = _with_memory(rng, rng.uniform(0.008, 0.03, units), 0.5)
    seen = 1.0 + rng.uniform(0.0, 0.25, units) * (load - load.mean(axis=1, keepdims=True))
    return np.asarray(np.maximum((1.0 + (end - 1.0) * heard) * seen * np.exp(noise), 0.05))


def _with_memory(rng: np.random.Generator, sigma: Floats, memory: float) -> Floats:
    """Gaussian noise (units, POINTS) with a memory of one step and stationary deviation ``sigma`` (units, 1)."""
    noise = rng.standard_normal((len(sigma), POINTS)) * sigma
    fresh = np.sqrt(1.0 - memory**2)
    for column in range(1, POINTS):
        noise[:, column] = memory * noise[:, column - 1] + fresh * noise[:, column]
    return noise


def _moments(rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Points (units, WINDOWS_PER_UNIT) at which windows end: half even over the second part, half towards the end."""
    half = WINDOWS_PER_UNIT // 2
    even = np.linspace(0.2, 0.98, half)
    late = 1.0 - np.geomspace(0.5, 0.006, WINDOWS_PER_UNIT - half)
    share = np.concatenate((even, late))[None, :] + rng.uniform(-0.01, 0.01, (BATCH_UNITS, WINDOWS_PER_UNIT))
    return np.clip(np.round(share * (POINTS - 1)), 1, POINTS - 2).astype(np.int64)


def unit_signatures(hours: Floats, ratio: Floats, at: npt.NDArray[np.int64]) -> Floats:
    """Signatures (units, moments, BINS) of many courses at once, as ``signatures`` computes them of one.

    ``hours`` and ``ratio`` (units, points), hours evenly spaced from 0; ``at`` (units, moments) are points.
    """
    step_h = hours[:, 1:2] - hours[:, :1]
    heights = height(ratio)
    integral = np.concatenate((np.zeros((len(hours), 1)), np.cumsum(heights[:, 1:] * step_h, axis=1)), axis=1)
    edges = np.maximum(at[:, :, None] - BIN_EDGES_H[None, None, :] / step_h[:, :, None], 0.0)  # healthy before
    left = np.minimum(edges.astype(np.int64), hours.shape[1] - 2)
    unit = np.arange(len(hours))[:, None, None]
    areas = integral[unit, left] + (edges - left) * (integral[unit, left + 1] - integral[unit, left])
    return np.asarray(-np.diff(areas, axis=2) / np.diff(BIN_EDGES_H))
