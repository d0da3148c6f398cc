"""First-order recursions over blocks of rows, without a loop over the rows.

An exponential mean over a block is a product with a small triangular matrix, a leaking one-sided sum its running
prefix less the running minimum of that prefix. Both give what the row-by-row recursion gives, to rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

FEW_STRETCHES = 1.0
CHUNK = 64
"""Rows handled at once: small enough that no power of a decay over- or underflows, large enough to be cheap."""


class Smoother:
    """Exponential means at several weights (0..1 of the newest row). ``memory`` is (weights, channels)."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        self.weights = weights
        self._column: FloatArray = np.array(weights)[:, None]
        self._mix, self._decay = _matrices(weights)

    def zeros(self, channels: int) -> FloatArray:
        return np.zeros((len(self.weights), channels))

    def run(self, memory: FloatArray, rows: FloatArray) -> FloatArray:
        """The means (n, weights, channels) after each of the rows (n, channels), n >= 1; the last is the memory."""
        if len(rows) == 1:
            return (memory + self._column * (rows - memory))[None]
        parts = []
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            count = len(chunk)
            part = self._mix[:, :count, :count] @ chunk
            part += self._decay[:, :count] * memory[:, None, :]
            memory = part[:, -1]
            parts.append(part.transpose(1, 0, 2))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=64)
def _matrices(weights: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    """Mix (weights, CHUNK, CHUNK) of a block's own rows, and decay (weights, CHUNK, 1) of the memory before it."""
    keep = 1.0 - np.array(weights)[:, None, None]
    steps = np.arange(CHUNK)
    age = steps[:, None] - steps[None, :]
    mix = np.where(age >= 0, keep ** np.maximum(age, 0), 0.0) * np.array(weights)[:, None, None]
    return mix, keep ** (steps[None, :, None] + 1.0)


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
    """By how much (weights,) the tail of a mean may be wider than so many rows show: few of its stretches are apart."""
    stretches = rows * np.array(weights) / 2
    return 1 + FEW_STRETCHES / np.maximum(stretches, 1.0)
