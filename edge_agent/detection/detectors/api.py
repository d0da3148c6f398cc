"""What a detector is: a statistic of one component's standardised channels that grows with deviation.

A detector has two kinds of state. Its *model* is fitted once on healthy rows; its *memory* (one array) runs along with
the ticks. They are apart so that calibration can carry the memory through the learning period while each stretch is
judged by a model fitted on the other stretches (``edge_agent.detection.calibrate``): the statistics a threshold is
drawn from are then out of sample and have the autocorrelation of life.

Detectors know no threshold, no state and no time. They are pure and deterministic, and see finite numbers only: the
judge replaces a missing channel by 0, its healthy value.

A plugin is one file beside this one: ``Config`` (a dataclass), ``build(config, deps)``, ``SAMPLE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

Z_LIMIT = 4.0
"""Where healthy rows are winsorised (in robust sigmas) before a model is fitted: an outlier must not widen it."""


@dataclass(frozen=True, slots=True)
class DetectorDeps:
    """What the judge injects: how many channels there are."""

    channels: int


class Detector(Protocol):
    """Statistics over the channels of one component."""

    per_channel: bool
    """True: one statistic per channel. False: one statistic over all of them."""

    memory: FloatArray
    """Running state, any shape fixed by the number of channels; zeros at the start."""

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        """Fit the model on healthy rows (n, channels), in order of time. The memory stays.

        ``wander`` (channels,) >= 1: by how much each channel is expected to stray further in times to come than it
        did while learning (``calibrate.wander``).
        """

    def step(self, row: FloatArray) -> FloatArray:
        """Take one row (channels,), update the memory, return the statistics (channels,) or (1,).

        Statistics are >= 0 and grow with the deviation, linearly where it is large.
        """

    def contributions(self) -> FloatArray:
        """How much each channel (channels,) adds to the last statistics; >= 0, any scale."""

    def model(self) -> dict[str, Any]:
        """The fitted model as arrays and numbers, for a snapshot."""

    def load(self, model: dict[str, Any]) -> None:
        """Take a model back from a snapshot."""
