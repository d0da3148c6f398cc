"""Exponential means at several weights, each in units of the spread it had on healthy rows.

The healthy spread is measured rather than derived from the weight: real channels are autocorrelated, so the textbook's
``sigma * sqrt(w / (2 - w))`` would be far too narrow; it is the least the spread may be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.recursion import Smoother, room_for
from edge_agent.detection.restored import positive


class MeasuredMeans:
    """The part that detectors on means share: one statistic per weight and channel.

    ``memory`` (weights, channels): the means.
    """

    per_channel = True
    second_vote = False

    def __init__(self, weights: tuple[float, ...], channels: int) -> None:
        self._smoother = Smoother(weights)
        self.memory: FloatArray = self._smoother.zeros(channels)
        self._spread: FloatArray = np.ones_like(self.memory)

    def measure(self, rows: FloatArray, sigma: FloatArray) -> None:
        """Measure the spreads on healthy rows (n, channels) whose own spread is ``sigma`` (channels,)."""
        means = self._smoother.run(np.zeros_like(self.memory), rows)
        weights = np.array(self._smoother.weights)[:, None]
        independent = np.sqrt(weights / (2 - weights)) * sigma
        self._spread = np.maximum(np.sqrt(np.square(means).mean(axis=0)), independent)

    def run(self, rows: FloatArray) -> FloatArray:
        """Statistics (n, weights * channels) after each of the rows (n, channels)."""
        means = self._smoother.run(self.memory, rows)
        self.memory = means[-1]
        return (np.abs(means) / self._spread).reshape(len(rows), -1)

    def _load_spread(self, value: Any) -> None:
        self._spread = positive(value, *self._spread.shape)

    def contributions(self) -> FloatArray:
        """The highest statistic of each channel (channels,)."""
        ratios: FloatArray = (np.abs(self.memory) / self._spread).max(axis=0)
        return ratios

    def room(self, rows: int) -> FloatArray:
        """See ``Detector.room``."""
        return np.repeat(room_for(self._smoother.weights, rows), self.memory.shape[1])
