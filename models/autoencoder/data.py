"""Simulated courses of single channels: healthy life of many kinds, and what faults do to it.

Healthy kinds, mixed at random, so that the network learns what healthy courses have in common and no single machine:
short and long memory (autoregressive, time constants of one tick to hundreds), damped hunting, left-over daily
cycles, changing roughness, heavy and skewed tails, coarse quantisation, held values, single wild readings.

Faults change a course from one tick on, in units of its own sigma. Pure; the same seed gives the same arrays on one
version of numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors import _windows
from edge_agent.detection.detectors.autoencoder import view

Rng = np.random.Generator

SETTLE_TICKS = 400
LEARN_TICKS = (144, 256, 512)


@dataclass(frozen=True, slots=True)
class Course:
    """Deviations (ticks, channels) of unrelated channels; the first ``learnt`` ticks are their learning period."""

    rows: FloatArray
    learnt: int


def healthy(channels: int, learnt: int, ticks: int, rng: Rng) -> Course:
    """Healthy courses, standardised as the device does: robustly, by their learning period."""
    return Course(_standardise(_raw(channels, learnt + ticks, rng), learnt), learnt)


def faulty(course: Course, fault: str, onset: int, rng: Rng) -> Course:
    """The same courses with a fault (a name in ``FAULTS``) from tick ``onset`` on."""
    rows = course.rows.copy()
    rows[onset:] = FAULTS[fault](course.rows[onset:], rng)
    return Course(rows, course.learnt)


def views(course: Course, least_spread: FloatArray, every: int = 4) -> FloatArray:
    """The network's inputs (n, channels, WIDTH) for one in ``every`` ticks after the learning period."""
    scale = _windows.fit_scale(course.rows[: course.learnt], least_spread)
    ends = np.arange(course.learnt + _windows.WINDOW - 1, len(course.rows), every)
    return view(course.rows, ends, scale).reshape(len(ends), course.rows.shape[1], _windows.WIDTH)


def least_spread(rng: Rng) -> FloatArray:
    """Least spread (len(SHAPES),) of the shapes: slightly below that of white noise, which is the calmest course."""
    noise = rng.normal(size=(6000 + _windows.WINDOW, 1))
    table = _windows.shapes(_windows.windows(noise, range(_windows.WINDOW - 1, len(noise))))
    low, first, third, high = np.quantile(table, (0.025, 0.25, 0.75, 0.975), axis=0)
    spread: FloatArray = np.round(0.8 * np.maximum((third - first) / 1.349, (high - low) / 3.92), 4)
    return spread


def _raw(channels: int, ticks: int, rng: Rng) -> FloatArray:
    total = SETTLE_TICKS + ticks
    shocks = _shocks(total, channels, rng)
    fast = _autoregress(shocks, rng.choice([0.0, 1.0], channels, p=[0.3, 0.7]) * rng.uniform(0.0, 0.95, channels))
    slow = _autoregress(rng.normal(size=(total, channels)), 1 - 10 ** rng.uniform(-2.7, -1.3, channels))
    hunting = _hunt(rng.normal(size=(total, channels)), 2 * np.pi / rng.uniform(4, 40, channels), rng)
    time = np.arange(total)[:, None]
    season = np.sin(2 * np.pi * (time / 10 ** rng.uniform(1.3, 2.5, channels) + rng.random(channels)))
    mixed = fast
    for part, odds, most in ((slow, 0.5, 1.5), (hunting, 0.3, 1.5), (season, 0.3, 1.0)):
        mixed = mixed + part * (rng.random(channels) < odds) * rng.uniform(0.1, most, channels)
    mixed = mixed[SETTLE_TICKS:]
    mixed = _held(mixed, rng)
    step = rng.uniform(0.2, 1.5, channels) * mixed.std(axis=0)
    mixed = np.where(rng.random(channels) < 0.2, np.round(mixed / step) * step, mixed)
    wild = (rng.random(mixed.shape) < 1 / 300) & (rng.random(channels) < 0.2)
    return mixed + wild * rng.choice([-1.0, 1.0], mixed.shape) * rng.uniform(3, 8, mixed.shape)


def _shocks(ticks: int, channels: int, rng: Rng) -> FloatArray:
    """White noise of about unit power: some channels heavy-tailed, some skewed, some of changing roughness."""
    shocks = rng.normal(size=(ticks, channels))
    freedom = rng.uniform(4, 12, channels)
    heavy = shocks / np.sqrt(rng.chisquare(freedom, size=(ticks, channels)) / freedom)
    shape = rng.uniform(0.2, 0.6, channels)
    skewed = (np.exp(shape * shocks) - np.exp(shape**2 / 2)) / shape
    kind = rng.random(channels)
    shocks = np.where(kind < 0.2, heavy, np.where(kind < 0.35, skewed, shocks))
    rough = _autoregress(rng.normal(size=(ticks, channels)), np.full(channels, 0.98))
    return shocks * np.exp(rough * rng.uniform(0, 0.4, channels) * (rng.random(channels) < 0.3))


def _autoregress(shocks: FloatArray, memory: FloatArray) -> FloatArray:
    """Unit-power autoregression of order 1, each channel with its own memory (0..1)."""
    gain = np.sqrt(1 - memory**2)
    course, now = np.empty_like(shocks), np.zeros(shocks.shape[1])
    for index, shock in enumerate(shocks):
        now = memory * now + gain * shock
        course[index] = now
    return course


def _hunt(shocks: FloatArray, turn: FloatArray, rng: Rng) -> FloatArray:
    """Damped oscillation kept alive by noise; ``turn``: radians per tick."""
    damping = rng.uniform(0.7, 0.97, shocks.shape[1])
    first, second = 2 * damping * np.cos(turn), damping**2
    course, now, before = np.empty_like(shocks), np.zeros(shocks.shape[1]), np.zeros(shocks.shape[1])
    for index, shock in enumerate(shocks):
        now, before = first * now - second * before + shock, now
        course[index] = now
    return course / np.maximum(course.std(axis=0), 1e-9)


def _held(course: FloatArray, rng: Rng) -> FloatArray:
    """The course with some channels held over several ticks, as if they were read less often."""
    every = np.where(rng.random(course.shape[1]) < 0.12, rng.integers(2, 9, course.shape[1]), 1)
    source = np.arange(len(course))[:, None] // every * every
    return np.take_along_axis(course, source, axis=0)


def _standardise(course: FloatArray, learnt: int) -> FloatArray:
    low, first, centre, third, high = np.quantile(course[:learnt], (0.025, 0.25, 0.5, 0.75, 0.975), axis=0)
    spread = np.maximum(np.maximum((third - first) / 1.349, (high - low) / 3.92), 1e-6)
    standard: FloatArray = np.clip((course - centre) / spread, -50.0, 50.0)
    return standard


def _time(rows: FloatArray) -> FloatArray:
    return np.arange(len(rows), dtype=np.float64)[:, None]


def _noisier(rows: FloatArray, rng: Rng) -> FloatArray:
    return rows + rng.normal(size=rows.shape) * rng.uniform(1.0, 2.0, rows.shape[1])


def _oscillating(rows: FloatArray, rng: Rng) -> FloatArray:
    period = rng.uniform(3, 20, rows.shape[1])
    return rows + rng.uniform(1.0, 2.0, rows.shape[1]) * np.sin(2 * np.pi * _time(rows) / period)


def _bursting(rows: FloatArray, rng: Rng) -> FloatArray:
    inside = _time(rows) % rng.integers(10, 30, rows.shape[1]) < 3
    return rows + inside * rng.normal(size=rows.shape) * rng.uniform(2, 4, rows.shape[1])


def _sticking(rows: FloatArray, rng: Rng) -> FloatArray:
    """Static friction: the channel stands until it is pulled far enough, then jumps."""
    pull = rng.uniform(0.8, 1.6, rows.shape[1])
    course, now = np.empty_like(rows), rows[0]
    for index, row in enumerate(rows):
        now = np.where(np.abs(row - now) > pull, row, now)
        course[index] = now
    return course


def _sluggish(rows: FloatArray, rng: Rng) -> FloatArray:
    """A slower answer at the same spread: fouling, a clogged impulse line."""
    course = _autoregress(rng.normal(size=(SETTLE_TICKS + len(rows), rows.shape[1])), np.full(rows.shape[1], 0.97))
    return rows.mean(axis=0) + course[SETTLE_TICKS:] * rows.std(axis=0)


def _nervous(rows: FloatArray, rng: Rng) -> FloatArray:
    """The same values in another order: the course loses its memory and keeps level and spread."""
    return rng.permuted(rows, axis=0)


def _drifting(rows: FloatArray, rng: Rng) -> FloatArray:
    return rows + _time(rows) * rng.uniform(0.01, 0.04, rows.shape[1]) * rng.choice([-1, 1], rows.shape[1])


def _stepping(rows: FloatArray, rng: Rng) -> FloatArray:
    return rows + rng.uniform(1.0, 2.5, rows.shape[1]) * rng.choice([-1, 1], rows.shape[1])


FAULTS: dict[str, Callable[[FloatArray, Rng], FloatArray]] = {
    "noisier": _noisier,
    "oscillating": _oscillating,
    "bursting": _bursting,
    "sticking": _sticking,
    "sluggish": _sluggish,
    "nervous": _nervous,
    "drifting": _drifting,
    "stepping": _stepping,
}
"""Faults by name: each function returns the rows (n, channels) from the onset on with the fault in them."""
