"""Has the asset been in this state before? Auto-associative kernel regression on remembered healthy states.

A row is reconstructed as the mean of the remembered states, weighted by a Gaussian kernel of their distance; what is
left is new. Unlike PCA it knows several operating modes and curved relations. The memory is a spread-out choice of
healthy rows (each next one the farthest from those chosen), the bandwidth their own typical distance. Weights are taken
relative to the nearest state, so that far away the residual is the distance to it and grows on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.recursion import Smoother
from edge_agent.detection.restored import number, sized
from edge_agent.detection.tuning import WINSORISED_SIGMAS
from fleet_core.errors import BadConfig

LEAST_BANDWIDTH = 1e-3

SAMPLE = """\
states = 32
smoothing = 0.3
"""


@dataclass(frozen=True, slots=True)
class Config:
    """``states`` remembered at most; ``smoothing``: weight of the newest residual, 0..1."""

    states: int = 32
    smoothing: float = 0.3

    def __post_init__(self) -> None:
        if not 4 <= self.states <= 256:
            raise BadConfig("states must be 4..256")


class Aakr:
    """``memory`` (1, channels): the smoothed residual."""

    per_channel = False
    second_vote = False

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._config = config
        self._smoother = Smoother((config.smoothing,))
        self.memory: FloatArray = self._smoother.zeros(deps.channels)
        self._states: FloatArray = np.zeros((1, deps.channels))
        self._derive(1.0)

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        clipped = np.clip(rows, -WINSORISED_SIGMAS, WINSORISED_SIGMAS)
        self._states = _spread_out(_smooth(clipped), self._config.states)
        squares = np.square(self._states[:, None, :] - self._states[None, :, :]).sum(axis=2)
        np.fill_diagonal(squares, np.inf)
        nearest = squares.min(axis=1)
        self._derive(max(LEAST_BANDWIDTH, float(np.median(nearest[np.isfinite(nearest)]))) if len(squares) > 1 else 1.0)

    def run(self, rows: FloatArray) -> FloatArray:
        # |x - m|^2 / 2h^2 without |x|^2, which all states share; states first, as numpy is quick along rows
        closeness = self._towards @ rows.T - self._norms
        closeness -= closeness.max(axis=0)
        weights = np.exp(closeness)
        estimate = (weights.T @ self._states) / weights.sum(axis=0)[:, None]
        smoothed = self._smoother.run(self.memory, rows - estimate)
        self.memory = smoothed[-1]
        distance: FloatArray = np.sqrt(np.square(smoothed[:, 0]).sum(axis=1, keepdims=True))
        return distance

    def contributions(self) -> FloatArray:
        return np.abs(self.memory[0])

    def room(self, rows: int) -> FloatArray:
        return np.ones(1)

    def model(self) -> dict[str, Any]:
        return {"states": self._states, "bandwidth": self._bandwidth}

    def load(self, model: dict[str, Any]) -> None:
        states = sized(model["states"], None, self._states.shape[1])
        if not len(states):
            raise ValueError("no state is remembered")
        self._states = states
        self._derive(number(model["bandwidth"], LEAST_BANDWIDTH))

    def _derive(self, bandwidth: float) -> None:
        self._bandwidth = bandwidth
        self._towards = self._states / bandwidth
        self._norms = np.square(self._states).sum(axis=1, keepdims=True) / (2 * bandwidth)


def _smooth(rows: FloatArray) -> FloatArray:
    """Means over three rows: single outliers are no states."""
    if len(rows) < 3:
        return rows
    return (rows[:-2] + rows[1:-1] + rows[2:]) / 3


def _spread_out(rows: FloatArray, count: int) -> FloatArray:
    chosen = [int(np.argmin(np.square(rows).sum(axis=1)))]
    squares = np.square(rows - rows[chosen[0]]).sum(axis=1)
    while len(chosen) < min(count, len(rows)) and squares.max() > 1e-9:
        chosen.append(int(np.argmax(squares)))
        squares = np.minimum(squares, np.square(rows - rows[chosen[-1]]).sum(axis=1))
    return np.ascontiguousarray(rows[chosen])


def build(config: Config, deps: DetectorDeps) -> Aakr:
    return Aakr(config, deps)
