"""Does a channel still move as it did? The energy of its fast, middle and slow movements against the healthy ones.

The differences of neighbouring exponential means split a channel into bands of roughly an octave or two each; the
smoothed energy of each band, as a root so that it grows with the deviation, is compared with its healthy level.
More counts (hunting, oscillation, noise of a loose contact), and so does less (a sensor that fell asleep), boundedly.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.restored import positive
from edge_agent.detection.tuning import WINSORISED_SIGMAS

SAMPLE = """\
memory_ticks = 24.0
"""

MEANS = (0.6, 0.2, 0.05)
QUIETEST = 0.05
"""Energies below this share of the healthy one are as quiet as it."""


@dataclass(frozen=True, slots=True)
class Config:
    """``memory_ticks``: over how many ticks the energies are smoothed."""

    memory_ticks: float = 24.0


class Spectral:
    """``memory`` (means + bands, channels): the means, then the bands' energies."""

    per_channel = True
    second_vote = False

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._means = Smoother(MEANS)
        self._energies = Smoother((1 / max(1.0, config.memory_ticks),))
        self._bands = len(MEANS)
        self._channels = deps.channels
        self.memory: FloatArray = np.zeros((2 * self._bands, deps.channels))
        self._healthy: FloatArray = np.ones((self._bands, deps.channels))
        self._spread: FloatArray = np.ones((self._bands, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        clipped = np.clip(rows, -WINSORISED_SIGMAS, WINSORISED_SIGMAS)
        warm = min(len(clipped) // 4, 48)
        bands = self._split(np.zeros((self._bands, self._channels)), clipped)[1]
        self._healthy = np.maximum(np.square(bands[warm:]).mean(axis=0), 1e-4)
        start = self._healthy.reshape(1, -1)
        energies = self._energies.run(start, np.square(bands).reshape(len(bands), -1))[:, 0]
        ratio = self._ratio(energies.reshape(bands.shape))
        self._spread = np.maximum(np.sqrt(np.square(ratio[warm:]).mean(axis=0)), 0.05)
        if not self.memory[self._bands :].any():
            self.memory = np.concatenate((self.memory[: self._bands], self._healthy))

    def run(self, rows: FloatArray) -> FloatArray:
        means, bands = self._split(self.memory[: self._bands], rows)
        energies = self._energies.run(
            self.memory[self._bands :].reshape(1, -1), np.square(bands).reshape(len(rows), -1)
        )[:, 0].reshape(bands.shape)
        self.memory = np.concatenate((means[-1], energies[-1]))
        ratios = self._ratio(energies) / self._spread
        # numpy's own maximum over a short middle axis is slow
        return functools.reduce(np.maximum, [ratios[:, band] for band in range(self._bands)])

    def contributions(self) -> FloatArray:
        ratios: FloatArray = (self._ratio(self.memory[self._bands :]) / self._spread).max(axis=0)
        return ratios

    def room(self, rows: int) -> FloatArray:
        return np.ones(self._channels)

    def model(self) -> dict[str, Any]:
        return {"healthy": self._healthy, "spread": self._spread}

    def load(self, model: dict[str, Any]) -> None:
        self._healthy = positive(model["healthy"], *self._healthy.shape)
        self._spread = positive(model["spread"], *self._spread.shape)

    def _split(self, memory: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means and bands, both (n, bands, channels); the first band is what the fastest mean leaves over."""
        means = self._means.run(memory, rows)
        return means, np.concatenate((rows[:, None, :], means[:, :-1]), axis=1) - means

    def _ratio(self, energies: FloatArray) -> FloatArray:
        root = np.sqrt(energies / self._healthy + QUIETEST)
        return np.maximum(root, 1 / root) - 1


def build(config: Config, deps: DetectorDeps) -> Spectral:
    return Spectral(config, deps)
