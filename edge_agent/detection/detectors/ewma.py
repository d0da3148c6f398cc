"""Has a channel's mean moved? Exponentially weighted means at several speeds, each against its own healthy spread.

The healthy spread of each mean is measured on the healthy rows rather than derived from the weight: real channels are
autocorrelated, so the textbook's sigma * sqrt(w / (2 - w)) would be far too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection.detectors.api import Z_LIMIT, DetectorDeps, FloatArray
from edge_agent.detection.recursion import Smoother, room_for
from fleet_core.errors import BadConfig

SAMPLE = """\
weights = [0.2, 0.05]
"""


@dataclass(frozen=True, slots=True)
class Config:
    """Weights of the newest row in each of the means, 0..1."""

    weights: tuple[float, ...] = (0.2, 0.05)

    def __post_init__(self) -> None:
        if not 1 <= len(self.weights) <= 8 or not all(0 < weight <= 1 for weight in self.weights):
            raise BadConfig("weights must be 1..8 numbers in (0, 1]")


class Ewma:
    """``memory`` (weights, channels): the means."""

    per_channel = True
    second_vote = False

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._smoother = Smoother(tuple(config.weights))
        weights = np.array(config.weights)[:, None]
        self._independent: FloatArray = np.sqrt(weights / (2 - weights))
        self.memory: FloatArray = self._smoother.zeros(deps.channels)
        self._spread: FloatArray = np.ones_like(self.memory)

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        means = self._smoother.run(np.zeros_like(self.memory), np.clip(rows, -Z_LIMIT, Z_LIMIT))
        self._spread = np.maximum(np.sqrt(np.square(means).mean(axis=0)), self._independent)

    def run(self, rows: FloatArray) -> FloatArray:
        means = self._smoother.run(self.memory, rows)
        self.memory = means[-1]
        return (np.abs(means) / self._spread).reshape(len(rows), -1)

    def contributions(self) -> FloatArray:
        ratios: FloatArray = (np.abs(self.memory) / self._spread).max(axis=0)
        return ratios

    def room(self, rows: int) -> FloatArray:
        return np.repeat(room_for(self._smoother.weights, rows), self.memory.shape[1])

    def model(self) -> dict[str, Any]:
        return {"spread": self._spread}

    def load(self, model: dict[str, Any]) -> None:
        self._spread = model["spread"]


def build(config: Config, deps: DetectorDeps) -> Ewma:
    return Ewma(config, deps)
