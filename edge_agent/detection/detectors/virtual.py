"""Does a channel still read what its neighbours say it should? A virtual sensor for each channel from all others.

Every channel is predicted from the others by ridge regression on the healthy rows (the rows are normalised by the
regime already); the smoothed error of the prediction is measured in units of its own healthy spread. One channel
that drifts alone shows here long before it leaves its range; all channels moving together as they always did do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection.detectors.api import Z_LIMIT, DetectorDeps, FloatArray
from edge_agent.detection.recursion import Smoother, room_for

SAMPLE = """\
ridge = 0.1
fast = 0.2
slow = 0.03
"""


@dataclass(frozen=True, slots=True)
class Config:
    """``ridge``: share of a channel's variance added to the others'; ``fast``, ``slow``: weights of the means, 0..1."""

    ridge: float = 0.1
    fast: float = 0.2
    slow: float = 0.03


class Virtual:
    """``memory`` (2, channels): the fast and the slow mean of the prediction errors."""

    per_channel = True
    second_vote = False

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._ridge = config.ridge
        self._smoother = Smoother((config.fast, config.slow))
        self.memory: FloatArray = self._smoother.zeros(deps.channels)
        # errors = rows @ errors_of; a lone channel has no neighbour and is never blamed
        self._errors_of: FloatArray = np.zeros((deps.channels, deps.channels))
        self._spread: FloatArray = np.ones_like(self.memory)

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        clipped = np.clip(rows, -Z_LIMIT, Z_LIMIT)
        count, channels = clipped.shape
        if channels < 2:
            return
        covariance = clipped.T @ clipped / max(1, count)
        covariance += (self._ridge + channels / max(1, count)) * np.eye(channels)
        precision = np.linalg.inv(covariance)
        # the regression of channel i on the others is row i of the precision matrix, scaled to 1 at i
        self._errors_of = np.ascontiguousarray((precision / np.diag(precision)[:, None]).T)
        means = self._smoother.run(np.zeros_like(self.memory), clipped @ self._errors_of)
        weights = np.array(self._smoother.weights)[:, None]
        independent = np.sqrt(weights / (2 - weights)) * np.maximum(np.std(clipped @ self._errors_of, axis=0), 0.05)
        self._spread = np.maximum(np.sqrt(np.square(means).mean(axis=0)), independent)

    def run(self, rows: FloatArray) -> FloatArray:
        means = self._smoother.run(self.memory, rows @ self._errors_of)
        self.memory = means[-1]
        return (np.abs(means) / self._spread).reshape(len(rows), -1)

    def contributions(self) -> FloatArray:
        ratios: FloatArray = (np.abs(self.memory) / self._spread).max(axis=0)
        return ratios

    def room(self, rows: int) -> FloatArray:
        return np.repeat(room_for(self._smoother.weights, rows), self.memory.shape[1])

    def model(self) -> dict[str, Any]:
        return {"errors_of": self._errors_of, "spread": self._spread}

    def load(self, model: dict[str, Any]) -> None:
        self._errors_of, self._spread = model["errors_of"], model["spread"]


def build(config: Config, deps: DetectorDeps) -> Virtual:
    return Virtual(config, deps)
