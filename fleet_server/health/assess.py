"""Health assessment of a whole asset, from its components, its silence and the quality of its data. Pure.

The level of an asset is that of its worst component. Staleness is a flag beside the level and never a level itself: an
asset that went silent keeps the last level that is known. Times are domain time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_core.telemetry import DetectionState

LEVELS = ("unknown", "good", "watch", "degrading", "critical")
"""Health levels, from the least to the most urgent."""

REPORT_EVERY_S = 60.0
"""An agent reports what it holds so often, in real seconds, also when it has nothing else to say."""
REPORTS_MISSED = 5
"""An agent of which so many reports are missing is not online, whatever it, or the broker, said last."""
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
    """The last known state of one component.

    ``state`` is a detection state, ``level`` one of ``LEVELS``, ``score`` the detection's score 0..1, ``since`` the
    domain time at which the component came into this state.
    """

    state: str
    level: str
    score: float
    since: datetime


@dataclass(frozen=True, slots=True)
class Assessment:
    """The health of a whole asset: the state of its worst component, ``data_quality`` 0..1, and staleness."""

    state: str
    level: str
    score: float
    since: datetime
    data_quality: float
    stale: bool


def level_of(state: DetectionState) -> str:
    """The health level of a detection state."""
    return _LEVEL[state]


def assess(
    components: Sequence[Component],
    *,
    last_seen_at: datetime | None,
    longest_period_s: float,
    good_share: float,
    now: datetime,
) -> Assessment:
    """Assess a whole asset.

    ``longest_period_s`` is the sampling period of its slowest vital in seconds, ``good_share`` the share (0..1) of good
    samples lately. An asset without any component's state has the level ``unknown``; an asset that was never seen is
    stale.
    """
    stale = last_seen_at is None or now - last_seen_at > stale_after(longest_period_s)
    quality = min(1.0, max(0.0, good_share))
    if not components:
        return Assessment("learning", "unknown", 0.0, last_seen_at or now, quality, stale)
    worst = max(components, key=lambda part: (LEVELS.index(part.level), part.score))
    return Assessment(worst.state, worst.level, worst.score, worst.since, quality, stale)


def heard_since(now: datetime, scale: float) -> datetime:
    """Since when an agent must have been heard to count as online, by a clock of ``scale`` domain seconds a second."""
    return now - timedelta(seconds=REPORT_EVERY_S * REPORTS_MISSED * max(1.0, scale))


def stale_after(longest_period_s: float) -> timedelta:
    """How long an asset may be silent before it is stale.

    It is ``STALE_AFTER_PERIODS`` sampling periods of the slowest vital (seconds), but never less than
    ``LEAST_STALE_AFTER``.
    """
    return max(LEAST_STALE_AFTER, timedelta(seconds=longest_period_s * STALE_AFTER_PERIODS))
