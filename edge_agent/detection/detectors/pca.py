"""Do the channels still move together as they did? Hotelling's T2 within the healthy subspace, Q outside it.

The covariance of the winsorised healthy rows is shrunk towards its diagonal (few rows, many channels, no singular
matrix), its leading components make the subspace, and both distances of the lightly smoothed row are scaled by what
is expected of healthy rows and added: Yue and Qin's combined index, as a root so that it grows with the deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.restored import sized
from edge_agent.detection.tuning import WINSORISED_SIGMAS

SAMPLE = """\
explained = 0.9
smoothing = 0.4
"""


@dataclass(frozen=True, slots=True)
class Config:
    """``explained``: share of variance kept in the subspace; ``smoothing``: weight of the newest row, 0..1."""

    explained: float = 0.9
    smoothing: float = 0.4


class Pca:
    """``memory`` (1, channels): the smoothed row."""

    per_channel = False
    second_vote = False

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._config = config
        self._smoother = Smoother((config.smoothing,))
        self.memory: FloatArray = self._smoother.zeros(deps.channels)
        self._weights: FloatArray = np.eye(deps.channels)

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        clipped = np.clip(rows, -WINSORISED_SIGMAS, WINSORISED_SIGMAS)
        count, channels = clipped.shape
        covariance = clipped.T @ clipped / max(1, count)
        shrink = min(1.0, channels / max(1, count))
        covariance = (1 - shrink) * covariance + shrink * np.diag(np.diag(covariance))
        covariance += np.diag(np.diag(covariance) * (wander * wander - 1))
        values, vectors = np.linalg.eigh(covariance + 1e-6 * np.eye(channels))
        values, vectors = values[::-1], vectors[:, ::-1]
        share = np.cumsum(values) / values.sum()
        kept = max(1, min(channels, int(np.searchsorted(share, self._config.explained)) + 1))
        outside = values[kept:]
        # each row of the weights maps a deviation to one unit-variance coordinate (T2) or to its share of Q
        within_scale = 1 / np.sqrt(values[:kept] * kept)
        outside_scale = np.full(channels - kept, 1 / np.sqrt(outside.sum()) if outside.size else 0.0)
        # contiguous, so that a product rounds alike before and after a snapshot
        self._weights = np.ascontiguousarray(vectors.T * np.concatenate((within_scale, outside_scale))[:, None])

    def run(self, rows: FloatArray) -> FloatArray:
        smoothed = self._smoother.run(self.memory, rows)
        self.memory = smoothed[-1]
        coordinates = smoothed[:, 0] @ self._weights.T
        index: FloatArray = np.sqrt(np.square(coordinates).sum(axis=1, keepdims=True) / 2)
        return index

    def contributions(self) -> FloatArray:
        # reconstruction-based: the share of the index that the channel's own deviation accounts for
        row = self.memory[0]
        gradient = self._weights.T @ (self._weights @ row)
        return np.abs(gradient * row)

    def room(self, rows: int) -> FloatArray:
        return np.ones(1)

    def model(self) -> dict[str, Any]:
        return {"weights": self._weights}

    def load(self, model: dict[str, Any]) -> None:
        self._weights = sized(model["weights"], *self._weights.shape)


def build(config: Config, deps: DetectorDeps) -> Pca:
    return Pca(config, deps)
