"""Does a small deviation go on and on? Two-sided cumulative sums, slow (small drifts) and fast (clear steps).

The sums leak, so that a component that recovered is not held guilty for the length of its fault, and no single
reading pushes more than ``PUSH_LIMIT`` sigmas, so that one wild value is not remembered for days. They are measured
in units of their own healthy reach, because autocorrelated channels run further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection.detectors.api import Z_LIMIT, DetectorDeps, FloatArray

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

    def __init__(self, config: Config, deps: DetectorDeps) -> None:
        self._slack: FloatArray = np.array([config.fast_slack, config.slow_slack])[:, None, None]
        self._keep = 1 - 1 / max(1.0, config.memory_ticks)
        self._sides: FloatArray = np.array([1.0, -1.0])[None, :, None]
        self.memory: FloatArray = np.zeros((2, 2, deps.channels))
        self._reach: FloatArray = np.ones((2, 2, deps.channels))

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        sums = np.zeros_like(self.memory)
        squares = np.zeros_like(self.memory)
        for row in np.clip(rows, -Z_LIMIT, Z_LIMIT):
            sums = self._next(sums, row)
            squares += sums * sums
        # a sum that hardly ever left zero has no measurable reach: one sigma is the floor; both sides share
        reach = np.sqrt(squares / max(1, len(rows))).max(axis=1, keepdims=True)
        self._reach = np.maximum(np.broadcast_to(reach, sums.shape), 1.0)

    def step(self, row: FloatArray) -> FloatArray:
        self.memory = self._next(self.memory, np.minimum(np.maximum(row, -PUSH_LIMIT), PUSH_LIMIT))
        return self.contributions()

    def contributions(self) -> FloatArray:
        ratios: FloatArray = (self.memory / self._reach).max(axis=(0, 1))
        return ratios

    def model(self) -> dict[str, Any]:
        return {"reach": self._reach}

    def load(self, model: dict[str, Any]) -> None:
        self._reach = model["reach"]

    def _next(self, sums: FloatArray, row: FloatArray) -> FloatArray:
        return np.maximum(0.0, self._keep * sums + self._sides * row - self._slack)


def build(config: Config, deps: DetectorDeps) -> Cusum:
    return Cusum(config, deps)
