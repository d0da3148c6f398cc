"""Does a channel still read what its neighbours say it should? A virtual sensor for each channel from all others.

Every channel is predicted from the others by ridge regression on the healthy rows (the rows are normalised by the
regime already); the smoothed error of the prediction is measured in units of its own healthy spread. One channel
that drifts alone shows here long before it leaves its range; all channels moving together as they always did do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors._means import MeasuredMeans
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.restored import sized
from edge_agent.detection.tuning import WINSORISED_SIGMAS

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


class Virtual(MeasuredMeans):
    """``memory`` (2, channels): the fast and the slow mean of the prediction errors."""

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        super().__init__((config.fast, config.slow), deps.channels)
        self._ridge = config.ridge
        # errors = rows @ errors_of; a lone channel has no neighbour and is never blamed
        self._errors_of: FloatArray = np.zeros((deps.channels, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        clipped = np.clip(rows, -WINSORISED_SIGMAS, WINSORISED_SIGMAS)
        count, channels = clipped.shape
        if channels < 2:
            return
        covariance = clipped.T @ clipped / max(1, count)
        covariance += (self._ridge + channels / max(1, count)) * np.eye(channels)
        precision = np.linalg.inv(covariance)
        # the regression of channel i on the others is row i of the precision matrix, scaled to 1 at i
        self._errors_of = np.ascontiguousarray((precision / np.diag(precision)[:, None]).T)
        errors = clipped @ self._errors_of
        self.measure(errors, np.maximum(np.std(errors, axis=0), 0.05))

    def run(self, rows: FloatArray) -> FloatArray:
        return super().run(rows @ self._errors_of)

    def model(self) -> dict[str, Any]:
        return {"errors_of": self._errors_of, "spread": self._spread}

    def load(self, model: dict[str, Any]) -> None:
        self._errors_of = sized(model["errors_of"], *self._errors_of.shape)
        self._load_spread(model["spread"])


def build(config: Config, deps: DetectorDeps) -> Virtual:
    return Virtual(config, deps)
