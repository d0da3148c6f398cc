"""Whether a repair helped, and what people are told; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.resolution import BASELINE_G, SIGMA_G, finding_at

from fleet_core.clock import SimulatedClock
from fleet_core.telemetry import from_us
from fleet_server.resolution.decisions import CHOICES
from fleet_server.resolution.messages import span_text
from fleet_server.resolution.playbooks import playbook
from fleet_server.resolution.questions import OPTIONS, REASONS, options_for
from fleet_server.resolution.rows import DeviceState
from fleet_server.resolution.verification import Verification, healthy_band, verify

FINDING = finding_at(SimulatedClock())
DONE = from_us(FINDING.detected_us) + timedelta(hours=4)


@pytest.mark.parametrize(
    ("values", "mean", "device", "expected"),
    [
        (50, BASELINE_G, None, Verification.SOUND),
        (50, BASELINE_G * 1.2, None, Verification.SOUND),
        (50, BASELINE_G * 2, None, Verification.UNSOUND),
        (50, 0.0, None, Verification.UNSOUND),
        (2, BASELINE_G, None, Verification.NO_VITALS),
        (0, None, None, Verification.NO_VITALS),
        (50, BASELINE_G, DeviceState("critical", DONE + timedelta(hours=1)), Verification.UNSOUND),
        (50, BASELINE_G, DeviceState("critical", DONE - timedelta(hours=1)), Verification.SOUND),
        (50, BASELINE_G, DeviceState("learning", DONE + timedelta(hours=1)), Verification.SOUND),
    ],
)
def test_a_repair_is_verified_by_its_vitals(
    values: int, mean: float | None, device: DeviceState | None, expected: Verification
) -> None:
    judged = verify(FINDING, values, mean, device, DONE)
    assert judged.verification is expected and judged.text


def test_the_healthy_band_holds_the_baseline_whatever_its_sign() -> None:
    for baseline in (-40.0, 0.0, 0.06, 2.3):
        low, high = healthy_band(baseline, SIGMA_G)
        assert low < baseline < high


def test_a_window_is_told_in_both_times() -> None:
    start = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # over the change to summer time
    text = span_text(start, start + timedelta(hours=2), "Europe/Berlin")
    assert text == "on Sunday 29 March 2026, 01:30-04:30 (Europe/Berlin; 00:30-02:30 UTC)"


def test_every_question_can_be_answered() -> None:
    assert set(CHOICES) == set(OPTIONS)
    for reason, asked in REASONS.items():
        assert asked.label and set(asked.options) <= set(OPTIONS) and "take_over" in asked.options
        assert all(option["label"] and option["effect"] for option in options_for(reason))


def test_every_playbook_begins_and_ends_alike() -> None:
    assert playbook("bearing")[0] == playbook("unheard of")[0]
    assert len(playbook("unheard of")) >= 4
