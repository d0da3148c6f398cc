"""Health of a whole asset from its components, its silence and the quality of its data. Pure.

The level is the worst component's; staleness is a flag beside it, never a level: an asset that went silent keeps the
last thing known about it. Times are domain time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_core.telemetry import DetectionState

LEVELS = ("unknown", "good", "watch", "degrading", "critical")
"""From least to most urgent."""

STALE_AFTER_PERIODS = 5
LEAST_STALE_AFTER = timedelta(minutes=5)

_LEVEL = {
    DetectionState.LEARNING: "unknown",
    DetectionState.HEALTHY: "good",
    DetectionState.WATCH: "watch",
    DetectionState.DEGRADING: "degrading",
    DetectionState.CRITICAL: "critical",
}


@dataclass(frozen=True, slots=True)
class Component:
    """What is known of one component."""

    state: str
    level: str
    score: float
    since: datetime


@dataclass(frozen=True, slots=True)
class Assessment:
    state: str
    level: str
    score: float
    since: datetime
    data_quality: float
    stale: bool


def level_of(state: DetectionState) -> str:
    """The level a detection state stands for."""
    return _LEVEL[state]


def assess(
    components: Sequence[Component],
    *,
    last_seen_at: datetime | None,
    longest_period_s: float,
    good_share: float,
    now: datetime,
) -> Assessment:
    """The whole asset. Without any component's state its level is unknown; never seen is stale."""
    stale = last_seen_at is None or now - last_seen_at > stale_after(longest_period_s)
    quality = min(1.0, max(0.0, good_share))
    if not components:
        return Assessment("learning", "unknown", 0.0, last_seen_at or now, quality, stale)
    worst = max(components, key=lambda part: (LEVELS.index(part.level), part.score))
    return Assessment(worst.state, worst.level, worst.score, worst.since, quality, stale)


def stale_after(longest_period_s: float) -> timedelta:
    """How long an asset may be silent: some periods of its slowest vital, and never less than a few minutes."""
    return max(LEAST_STALE_AFTER, timedelta(seconds=longest_period_s * STALE_AFTER_PERIODS))
