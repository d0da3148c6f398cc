"""One channel's recent course as numbers: the last 32 deviations and the shape of their movement.

The autoencoder judges this view, on the device and in training alike: both import this file. The shape is told by
logarithms of energies and by ratios, so that it is a matter of dynamics (smoother, rougher, hunting, sticking,
bursting) and not of level; which values are normal for a channel is learnt from its own healthy rows (``ShapeScale``).

A deviation of exactly 0 next to another one is a missing channel's stand-in or a channel at rest at its healthy
value: such a pair says nothing about movement and is left out. Fewer than ``LEAST_PAIRS`` telling pairs: no shape.

Pure; sums run along the last, contiguous axis only, so that a window gives the same numbers in any block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import FloatArray

WINDOW = 32
LAGS = (1, 2, 4, 8, 16)
SHAPES = (
    *(f"log_energy_lag_{lag}" for lag in LAGS),
    "log_variance",
    "log_newest_energy",
    "log_crest",
    "slope",
    "halves",
    "turns",
    "skew",
    "still",
    "correlation_1",
    "correlation_2",
    "log_range",
)
WIDTH = WINDOW + len(SHAPES)
NEWEST = 8
LEAST_PAIRS = 16
LEAST_ENERGY = 1e-4
"""Square sigmas: movement below a hundredth of a sigma is none."""
MOST_WINDOWS = 1024
UNKNOWN_SPREAD = 1e9
SHAPE_LIMIT = 12.0
"""Standardised shapes are bounded: a logarithm's tail is not trusted further."""

_BACK = np.arange(1 - WINDOW, 1)
_RAMP: FloatArray = np.linspace(-1.0, 1.0, WINDOW)
_HALF = WINDOW // 2
_LEAST_REACH = LEAST_ENERGY**0.5
_RAMP_POWER = float(_RAMP @ _RAMP)


def windows(stretch: FloatArray, ends: Sequence[int] | NDArray[np.int64]) -> FloatArray:
    """Windows (len(ends) * channels, WINDOW), contiguous, of rows (n, channels); an end is the newest row's index.

    Windows of one end follow each other in order of channels. An end below ``WINDOW - 1`` is not allowed.
    """
    chosen = stretch[np.asarray(ends, dtype=np.int64)[:, None] + _BACK]
    return np.ascontiguousarray(chosen.transpose(0, 2, 1)).reshape(-1, WINDOW)


def shapes(course: FloatArray) -> FloatArray:
    """Shapes (n, len(SHAPES)) of windows (n, WINDOW), finite; NaN for a window that says nothing about movement."""
    rest = course == 0.0
    told = 1.0 - (rest[:, 1:] & rest[:, :-1])
    steps = (course[:, 1:] - course[:, :-1]) * told
    count = np.maximum(_sum(told), 1.0)
    squares = steps * steps
    rough = np.maximum(_sum(squares) / count, LEAST_ENERGY)
    root = np.sqrt(rough)
    halves = _sum(course[:, :_HALF]), _sum(course[:, _HALF:])
    centred = course - ((halves[0] + halves[1]) / WINDOW)[:, None]
    moved = steps[:, 1:] * steps[:, :-1]
    energies = np.empty((len(course), len(LAGS) + 2))  # by lag, of the deviations from the mean, of the newest steps
    energies[:, 0] = rough
    for column, lag in enumerate(LAGS[1:], start=1):
        apart = course[:, lag:] - course[:, :-lag]
        energies[:, column] = _sum(apart * apart) / apart.shape[1]
    energies[:, -2] = _sum(centred * centred) / WINDOW
    energies[:, -1] = _sum(squares[:, -NEWEST:]) / np.maximum(_sum(told[:, -NEWEST:]), 1.0)
    ratios = np.empty((len(course), 2))
    ratios[:, 0] = np.sqrt(np.maximum(np.maximum.reduce(squares, axis=1) / rough, 0.01))
    ratios[:, 1] = np.maximum(np.maximum.reduce(course, axis=1) - np.minimum.reduce(course, axis=1), _LEAST_REACH)
    logs, log_ratios = np.log(np.maximum(energies, LEAST_ENERGY)), np.log(ratios)
    table = np.empty((len(course), len(SHAPES)))
    table[:, :7] = logs
    table[:, 6] -= logs[:, 0]
    table[:, 7] = log_ratios[:, 0]
    table[:, 8] = _sum(centred * _RAMP) / _RAMP_POWER
    table[:, 9] = (halves[1] - halves[0]) / _HALF
    table[:, 10] = _sum(moved < 0) / count
    table[:, 11] = _sum(squares * steps) / (count * rough * root)
    table[:, 12] = _sum((np.abs(steps) < 0.25 * root[:, None]) * told) / count
    table[:, 13] = _sum(moved) / (count * rough)
    table[:, 14] = _sum(steps[:, 2:] * steps[:, :-2]) / (count * rough)
    table[:, 15] = log_ratios[:, 1]
    table[count < LEAST_PAIRS] = np.nan
    return table


@dataclass(frozen=True, slots=True)
class ShapeScale:
    """Healthy centre and spread (channels, len(SHAPES)) of each channel's shapes."""

    centre: FloatArray
    spread: FloatArray

    def standardise(self, table: FloatArray) -> FloatArray:
        """Shapes (n * channels, len(SHAPES)) in robust sigmas, bounded; 0 where nothing is known."""
        channels = len(self.centre)
        found = (table.reshape(-1, channels, table.shape[1]) - self.centre) / self.spread
        known = np.where(np.isnan(found), 0.0, found).reshape(table.shape)
        return np.minimum(np.maximum(known, -SHAPE_LIMIT), SHAPE_LIMIT)


def fit_scale(rows: FloatArray, least_spread: FloatArray) -> ShapeScale:
    """The scale of healthy rows (n, channels). ``least_spread`` (len(SHAPES),): no channel is believed calmer.

    Windows overlap, so ``n`` rows hold few that are independent: the fewer, the wider the spread. A channel that
    never told anything gets ``UNKNOWN_SPREAD``: its shape says nothing.
    """
    channels = rows.shape[1]
    padded = rows if len(rows) >= WINDOW else np.vstack((np.zeros((WINDOW - len(rows), channels)), rows))
    # neighbouring windows say nearly the same: enough of them, evenly spread, say it all
    stride = max(1, len(padded) // MOST_WINDOWS)
    table = shapes(windows(padded, range(WINDOW - 1, len(padded), stride))).reshape(-1, channels, len(SHAPES))
    told = np.isfinite(table[:, :, 0]).any(axis=0)
    centre = np.zeros((channels, len(SHAPES)))
    spread = np.full((channels, len(SHAPES)), UNKNOWN_SPREAD)
    if told.any():
        quantile = np.quantile if np.isfinite(table).all() else np.nanquantile  # the latter is far slower
        low, first, centre[told], third, high = quantile(table[:, told], (0.025, 0.25, 0.5, 0.75, 0.975), axis=0)
        measured = np.maximum((third - first) / 1.349, (high - low) / 3.92)
        spread[told] = np.maximum(measured, least_spread) * (1 + np.sqrt(WINDOW / len(padded)))
    return ShapeScale(centre, spread)


def _sum(values: NDArray[Any]) -> FloatArray:
    total: FloatArray = np.add.reduce(values, axis=1)
    return total
