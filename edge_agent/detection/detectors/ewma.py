"""Has a channel's mean moved? Exponentially weighted means at several speeds, each against its own healthy spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors._means import MeasuredMeans
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.tuning import WINSORISED_SIGMAS
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


class Ewma(MeasuredMeans):
    """``memory`` (weights, channels): the means."""

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        super().__init__(tuple(config.weights), deps.channels)

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        self.measure(np.clip(rows, -WINSORISED_SIGMAS, WINSORISED_SIGMAS), np.ones(rows.shape[1]))

    def model(self) -> dict[str, Any]:
        return {"spread": self._spread}

    def load(self, model: dict[str, Any]) -> None:
        self._load_spread(model["spread"])


def build(config: Config, deps: DetectorDeps) -> Ewma:
    return Ewma(config, deps)
