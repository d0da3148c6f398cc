"""First-order recursions over blocks of rows, without a loop over the rows.

An exponential mean over a block is a product with a small triangular matrix, a leaking one-sided sum its running
prefix less the running minimum of that prefix. Both give what the row-by-row recursion gives, to rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.tuning import FEW_STRETCHES

CHUNK = 64
"""Rows handled at once: small enough that no power of a decay over- or underflows, large enough to be cheap."""
KEPT_COUNTS = 16
"""Matrices for as many rows or fewer are kept: live ticks come in such groups."""


class Smoother:
    """Exponential means at several weights (0..1 of the newest row). ``memory`` is (weights, channels)."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self.weights = weights
        self._column: FloatArray = np.array(weights)[:, None]

    def zeros(self, channels: int) -> FloatArray:
        return np.zeros((len(self.weights), channels))

    def run(self, memory: FloatArray, rows: FloatArray) -> FloatArray:
        """The means (n, weights, channels) after each of the rows (n, channels), n >= 1; the last is the memory."""
        if len(rows) == 1:
            return (memory + self._column * (rows - memory))[None]
        parts = []
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            mix, decay = _matrices(self.weights, len(chunk))
            part = (mix @ chunk).reshape(len(chunk), len(self.weights), -1)  # one product for all weights
            part += decay * memory
            memory = part[-1]
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _matrices(weights: tuple[float, ...], count: int) -> tuple[FloatArray, FloatArray]:
    """Mix (count * weights, count) of so many rows themselves, and decay (count, weights, 1) of the memory before."""
    if count <= KEPT_COUNTS:
        return _built(weights, count)
    mix, decay = _built(weights, CHUNK)
    if count == CHUNK:
        return mix, decay
    part = mix.reshape(CHUNK, len(weights), CHUNK)[:count, :, :count]
    return part.reshape(count * len(weights), count), decay[:count]


@lru_cache(maxsize=256)
def _built(weights: tuple[float, ...], count: int) -> tuple[FloatArray, FloatArray]:
    share = np.array(weights)
    steps = np.arange(count)
    age = (steps[:, None] - steps[None, :])[:, None, :]
    mix = np.where(age >= 0, (1 - share)[:, None] ** np.maximum(age, 0), 0.0) * share[:, None]
    return mix.reshape(count * len(weights), count), ((1 - share) ** (steps[:, None] + 1.0))[:, :, None]


def leaking_sums(memory: FloatArray, pushes: FloatArray, keep: float) -> FloatArray:
    """``s = max(0, keep * s + push)`` after each of the pushes (n, ...); starts at ``memory`` (...), all >= 0."""
    if len(pushes) == 1:
        return np.maximum(0.0, keep * memory + pushes)
    parts = []
    for start in range(0, len(pushes), CHUNK):
        chunk = pushes[start : start + CHUNK]
        grown = _growth(keep, len(chunk)).reshape(-1, *([1] * memory.ndim))
        prefix = memory + np.cumsum(chunk * grown, axis=0)
        part = (prefix - np.minimum(0.0, np.minimum.accumulate(prefix, axis=0))) / grown
        memory = part[-1]
        parts.append(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=256)
def _growth(keep: float, count: int) -> FloatArray:
    return keep ** -np.arange(1.0, count + 1)


def room_for(weights: tuple[float, ...], rows: int) -> FloatArray:
    """By how much (weights,), at least 1, the tail of a mean may be wider than so many rows show.

    A mean of weight ``w`` remembers about ``2 / w`` rows, so that ``rows`` hold few independent stretches of it.
    """
    stretches = rows * np.array(weights) / 2
    return 1 + FEW_STRETCHES / np.maximum(stretches, 1.0)
