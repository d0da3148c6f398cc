"""Has a channel's mean moved? Exponentially weighted means at two speeds, each against its own healthy spread.

The healthy spread of each mean is measured on the healthy rows rather than derived from the weight: real channels are
autocorrelated, so the textbook's sigma * sqrt(w / (2 - w)) would be far too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection.detectors.api import Z_LIMIT, DetectorDeps, FloatArray

SAMPLE = """\
fast = 0.2
slow = 0.05
"""


@dataclass(frozen=True, slots=True)
class Config:
    """Weights of the newest row in the fast and in the slow mean, 0..1."""

    fast: float = 0.2
    slow: float = 0.05


class Ewma:
    """``memory`` (2, channels): the fast and the slow mean."""

    per_channel = True

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._weights: FloatArray = np.array([[config.fast], [config.slow]])
        self.memory: FloatArray = np.zeros((2, deps.channels))
        self._spread: FloatArray = np.ones((2, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        mean = np.zeros_like(self.memory)
        squares = np.zeros_like(self.memory)
        for row in np.clip(rows, -Z_LIMIT, Z_LIMIT):
            mean = mean + self._weights * (row - mean)
            squares += mean * mean
        independent = np.sqrt(self._weights / (2 - self._weights))
        self._spread = np.maximum(np.sqrt(squares / max(1, len(rows))), independent)

    def step(self, row: FloatArray) -> FloatArray:
        self.memory = self.memory + self._weights * (row - self.memory)
        return self.contributions()

    def contributions(self) -> FloatArray:
        ratios: FloatArray = (np.abs(self.memory) / self._spread).max(axis=0)
        return ratios

    def model(self) -> dict[str, Any]:
        return {"spread": self._spread}

    def load(self, model: dict[str, Any]) -> None:
        self._spread = model["spread"]


def build(config: Config, deps: DetectorDeps) -> Ewma:
    return Ewma(config, deps)
