"""Does a small deviation go on and on? Two-sided cumulative sums, slow (small drifts) and fast (clear steps).

The sums leak, so that a component that recovered is not held guilty for the length of its fault, and no single
reading pushes more than ``PUSH_LIMIT`` sigmas, so that one wild value is not remembered for days. They are measured
in units of their own healthy reach, because autocorrelated channels run further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection.detectors.api import DetectorDeps
from edge_agent.detection.recursion import leaking_sums, room_for
from edge_agent.detection.restored import positive
from edge_agent.detection.tuning import WINSORISED_SIGMAS

SAMPLE = """\
fast_slack = 1.0
slow_slack = 0.25
memory_ticks = 48.0
"""

PUSH_LIMIT = 8.0


@dataclass(frozen=True, slots=True)
class Config:
    """Slacks in sigmas per tick; ``memory_ticks``: how long a push is remembered (time constant of the leak)."""

    fast_slack: float = 1.0
    slow_slack: float = 0.25
    memory_ticks: float = 48.0


class Cusum:
    """``memory`` (2 speeds, 2 sides, channels): the sums, in sigmas."""

    per_channel = True
    second_vote = False

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._slack: FloatArray = np.array([config.fast_slack, config.slow_slack])[:, None, None]
        self._keep = 1 - 1 / max(1.0, config.memory_ticks)
        self._sides: FloatArray = np.array([1.0, -1.0])[None, :, None]
        self.memory: FloatArray = np.zeros((2, 2, deps.channels))
        self._reach: FloatArray = np.ones((2, 2, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        sums = self._next(np.zeros_like(self.memory), np.clip(rows, -WINSORISED_SIGMAS, WINSORISED_SIGMAS))
        # a sum that hardly ever left zero has no measurable reach: one sigma is the floor; both sides share
        reach = np.sqrt(np.square(sums).mean(axis=0)).max(axis=1, keepdims=True)
        self._reach = np.maximum(np.broadcast_to(reach, self.memory.shape), 1.0)

    def run(self, rows: FloatArray) -> FloatArray:
        sums = self._next(self.memory, np.minimum(np.maximum(rows, -PUSH_LIMIT), PUSH_LIMIT))
        self.memory = sums[-1]
        ratios = sums / self._reach
        return np.maximum(ratios[:, :, 0], ratios[:, :, 1]).reshape(len(rows), -1)

    def contributions(self) -> FloatArray:
        ratios: FloatArray = (self.memory / self._reach).max(axis=(0, 1))
        return ratios

    def room(self, rows: int) -> FloatArray:
        return np.full(2 * self.memory.shape[2], room_for((1 - self._keep,), rows)[0])

    def model(self) -> dict[str, Any]:
        return {"reach": self._reach}

    def load(self, model: dict[str, Any]) -> None:
        self._reach = positive(model["reach"], *self._reach.shape)

    def _next(self, sums: FloatArray, rows: FloatArray) -> FloatArray:
        return leaking_sums(sums, self._sides * rows[:, None, None, :] - self._slack, self._keep)


def build(config: Config, deps: DetectorDeps) -> Cusum:
    return Cusum(config, deps)
