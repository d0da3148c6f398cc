"""What a detector is: a statistic of one component's standardised channels that grows with deviation.

A detector has two kinds of state. Its *model* is fitted once on healthy rows; its *memory* (one array) runs along with
the ticks. They are apart so that calibration can carry the memory through the learning period while each stretch is
judged by a model fitted on the other stretches (``healthy.calibrate``): the statistics a threshold is drawn from are
then out of sample and have the autocorrelation of life.

Detectors know no threshold, no state and no time. They are pure and deterministic, work on blocks of rows, and see
finite numbers only: the judge replaces a missing channel by 0, its healthy value.

A plugin is one file beside this one: ``Config`` (a dataclass), ``build(config, deps)``, ``SAMPLE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from edge_agent.arrays import FloatArray

Tables = Mapping[str, Mapping[str, Any]]
"""Detectors by name, each with its own settings."""


@dataclass(frozen=True, slots=True)
class DetectorDeps:
    """What the judge injects: how many channels there are."""

    channels: int


class Detector(Protocol):
    """Statistics over the channels of one component."""

    per_channel: bool
    """True: one statistic per channel, or several (speeds, bands), the channels running fastest. False: one statistic
    over all of them."""

    second_vote: bool
    """True: counts with others, but never alone: it tells of a change, not of a level that stands."""

    memory: FloatArray
    """Running state, any shape fixed by the number of channels; zeros at the start."""

    def fit(self, rows: FloatArray, wander: FloatArray) -> None:
        """Fit the model on healthy rows (n, channels), in order of time. The memory stays.

        ``wander`` (channels,) >= 1: by how much each channel is expected to stray further in times to come than it
        did while learning (``calibrate.wander``).
        """

    def run(self, rows: FloatArray) -> FloatArray:
        """Take rows (n, channels) in order of time, update the memory, return statistics (n, k * channels) or
        (n, 1).

        Causal: a row's statistics know nothing of later rows, and a block gives what its rows one by one would (to
        rounding). Statistics are >= 0 and grow with the deviation, linearly where it is large.
        """

    def contributions(self) -> FloatArray:
        """How much each channel (channels,) adds to the last row's statistics; >= 0, any scale."""

    def room(self, rows: int) -> FloatArray:
        """By how much (>= 1, per output) a limit drawn from so many rows must be wider than it looks, because the
        memory spans only few independent stretches of them."""

    def model(self) -> dict[str, Any]:
        """The fitted model as arrays and numbers, for a snapshot."""

    def load(self, model: dict[str, Any]) -> None:
        """Take a model back from a snapshot. Raises ValueError, TypeError, KeyError when it is not one of its own: see
        ``edge_agent.detection.restored``. What is taken must not fail later."""
