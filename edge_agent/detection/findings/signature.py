"""The fingerprint of a finding: what it looks like, free of units and of channel names.

Failures are compared over the fleet by it, of unlike assets too: for each family of channels it tells how far the worst
one stands from healthy (signed, log-compressed) and where it is heading, then the ratio of some families of statistics,
and the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.arrays import FloatArray
from edge_agent.detection import fusion
from edge_agent.detection.findings.failure_mode import family
from fleet_core.failure_rules import Family
from fleet_core.telemetry import MetricSpec

FAMILIES = tuple(Family)
STATISTICS = ("level", "pca", "ewma", "cusum")
SIGNATURE = (
    *(f"{family}.deviation" for family in FAMILIES),
    *(f"{family}.trend" for family in FAMILIES),
    *(f"statistic.{name}" for name in STATISTICS),
    "evidence",
)
"""What each place of a finding's signature holds. Deviation and trend are -1..1, the rest 0..1."""


def signature(
    channels: Sequence[MetricSpec],
    deviation: FloatArray,
    trend: FloatArray,
    ratios: Mapping[str, float],
    evidence: float,
) -> tuple[float, ...]:
    """The fingerprint, laid out as ``SIGNATURE``.

    ``deviation`` and ``trend`` (channels,) are in sigmas; ``ratios`` are each detector's to its calibrated limit,
    ``evidence`` the component's; 1 is the limit.
    """
    members: dict[Family, list[int]] = {name: [] for name in FAMILIES}
    for index, channel in enumerate(channels):
        members[family(channel)].append(index)
    far, heading = compressed(deviation), compressed(trend)
    worst = [max(group, key=lambda i: abs(far[i])) if group else -1 for group in members.values()]
    return (
        *(float(far[i]) if i >= 0 else 0.0 for i in worst),
        *(float(heading[i]) if i >= 0 else 0.0 for i in worst),
        *(fusion.score(ratios.get(name, 0.0)) for name in STATISTICS),
        fusion.score(evidence),
    )


def compressed(deviation: np.ndarray) -> np.ndarray:
    """Deviations in sigmas as -1..1, by their logarithm."""
    return np.asarray(np.sign(deviation) * np.minimum(1.0, np.log1p(np.abs(deviation)) / np.log1p(1000.0)))
