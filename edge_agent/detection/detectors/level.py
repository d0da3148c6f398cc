"""How far a channel stands from its healthy level now: the largest median of its last three deviations.

The median of three lets one wild reading pass unheard; two in a row count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection.detectors.api import DetectorDeps, FloatArray

SAMPLE = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Nothing to set."""


class Level:
    """``memory`` (3, channels): the last three rows, newest last."""

    per_channel = True

    def __init__(self, deps: DetectorDeps) -> None:
        self.memory: FloatArray = np.zeros((3, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        """The rows are standardised already: there is nothing to fit."""

    def step(self, row: FloatArray) -> FloatArray:
        self.memory = np.vstack((self.memory[1:], row))
        return self.contributions()

    def contributions(self) -> FloatArray:
        a, b, c = self.memory
        median = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        return np.abs(median)

    def model(self) -> dict[str, Any]:
        return {}

    def load(self, model: dict[str, Any]) -> None:
        """Nothing was fitted."""


def build(config: Config, deps: DetectorDeps) -> Level:
    return Level(deps)
