"""How far a channel stands from its healthy level now: the median of its last three deviations.

The median of three lets one wild reading pass unheard; two in a row count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors.api import DetectorDeps

SAMPLE = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Nothing to set."""


class Level:
    """``memory`` (3, channels): the last three rows, newest last."""

    per_channel = True
    second_vote = False

    def __init__(self, deps: DetectorDeps) -> None:
        self.memory: FloatArray = np.zeros((3, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        """The rows are standardised already: there is nothing to fit."""

    def run(self, rows: FloatArray) -> FloatArray:
        joined = np.concatenate((self.memory[1:], rows))
        self.memory = joined[-3:]
        return _median_of_three(joined[:-2], joined[1:-1], joined[2:])

    def contributions(self) -> FloatArray:
        return _median_of_three(*self.memory)

    def room(self, rows: int) -> FloatArray:
        return np.ones(self.memory.shape[1])

    def model(self) -> dict[str, Any]:
        return {}

    def load(self, model: dict[str, Any]) -> None:
        """Nothing was fitted."""


def _median_of_three(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    return np.abs(np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)))


def build(config: Config, deps: DetectorDeps) -> Level:
    return Level(deps)
