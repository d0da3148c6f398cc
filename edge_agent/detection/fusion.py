"""From many statistics to one evidence, and from evidence to a score and a severity.

Each detector's statistics arrive as ratios to their calibrated limits. Within a detector they are joined by a 4-norm
(the worst channel leads, agreeing channels add); between detectors the mean of the three highest counts, so that no
single detector can raise an alarm alone unless it is far beyond its limit; over time an exponential mean accumulates.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from edge_agent.arrays import FloatArray, IntArray
from edge_agent.detection.tuning import AGREEING, MOST_EVIDENCE


def within(ratios: FloatArray, starts: IntArray) -> FloatArray:
    """Ratios (n, outputs) joined into one per detector (n, detectors), bounded; ``starts``: first output of each."""
    squares = ratios * ratios
    fourths = np.add.reduceat(squares * squares, starts, axis=1)
    return np.minimum(MOST_EVIDENCE, np.sqrt(np.sqrt(fourths)))


def between(ratios: FloatArray, alone: float, first: IntArray | None = None) -> FloatArray:
    """Detectors' ratios (n, detectors) joined into one (n,): the mean of the three highest (of all, when fewer), or the
    share ``alone`` of the highest of the ``first`` ones (indices; None: of all) where that is more."""
    highest = ratios if ratios.shape[1] <= AGREEING else np.partition(ratios, -AGREEING, axis=1)[:, -AGREEING:]
    joined: FloatArray = highest.sum(axis=1) / max(1, highest.shape[1])
    firsts = ratios if first is None else ratios[:, first]
    return np.maximum(joined, alone * firsts.max(axis=1, initial=0.0))


@overload
def score(evidence: float) -> float: ...
@overload
def score(evidence: FloatArray) -> FloatArray: ...
def score(evidence: float | FloatArray) -> float | FloatArray:
    """Evidence as a score 0..1, strictly rising; 0.5 at the calibrated limit."""
    return 1.0 - 0.5 ** np.maximum(0.0, evidence)


def severity(evidence: float) -> float:
    """0 at the calibrated limit, 1 at the bound, by doublings."""
    return min(1.0, max(0.0, float(np.log2(max(evidence, 1e-9)) / np.log2(MOST_EVIDENCE))))
