"""Health of a whole asset: the worst component, silence, quality."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleet_core.telemetry import DetectionState
from fleet_server.health.assess import LEVELS, Component, assess, level_of, stale_after

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def part(level: str, score: float = 0.5) -> Component:
    return Component("state", level, score, NOW)


def test_every_state_has_a_level() -> None:
    assert {level_of(state) for state in DetectionState} == set(LEVELS)


def test_the_worst_component_decides() -> None:
    found = assess(
        [part("good"), part("critical", 0.9), part("watch")],
        last_seen_at=NOW,
        longest_period_s=10.0,
        good_share=0.9,
        now=NOW,
    )
    assert (found.level, found.score, found.stale, found.data_quality) == ("critical", 0.9, False, 0.9)


def test_silence_is_a_flag_and_not_a_level() -> None:
    late = NOW + timedelta(hours=1)
    found = assess([part("watch")], last_seen_at=NOW, longest_period_s=60.0, good_share=1.0, now=late)
    assert (found.level, found.stale) == ("watch", True)
    assert assess([], last_seen_at=None, longest_period_s=0, good_share=1.0, now=NOW).stale


def test_a_slow_vital_may_be_silent_for_longer() -> None:
    assert stale_after(1.0) == timedelta(minutes=5)
    assert stale_after(3600.0) == timedelta(hours=5)
