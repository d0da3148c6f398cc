"""What may be decided automatically."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.case_files import prognosis

from fleet_core.errors import BadConfig
from fleet_server.resolution.policy import (
    Policy,
    Verdict,
    deadline,
    judge,
    look_again_after_h,
    needs_replan,
    policy_for,
    probability_within,
    safe_policy,
    urgency,
)

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
POLICY = policy_for({})


@pytest.mark.parametrize(
    ("changes", "mode", "confidence", "verdict", "reason"),
    [
        ({}, "bearing_spalling", 0.9, Verdict.ACT, "likely_failure"),
        ({"p_fail": {"168": 0.49}}, "bearing_spalling", 0.9, Verdict.WATCH, "below_policy"),
        ({"abstained": True}, "bearing_spalling", 0.9, Verdict.ASK, "abstained"),
        ({"p_fail": {}}, "bearing_spalling", 0.9, Verdict.ASK, "abstained"),
        ({}, "motor_overheating", 0.9, Verdict.ASK, "conflicting_evidence"),
        ({}, "motor_overheating", 0.3, Verdict.ACT, "likely_failure"),
        ({}, "unknown", 1.0, Verdict.ACT, "likely_failure"),
        ({"mode_share": {"bearing_spalling": 0.4}}, "motor_overheating", 0.9, Verdict.ACT, "likely_failure"),
        ({"conflicting": True}, "bearing_spalling", 0.9, Verdict.ASK, "conflicting_evidence"),
    ],
)
def test_what_a_prognosis_leads_to(
    changes: dict[str, Any], mode: str, confidence: float, verdict: Verdict, reason: str
) -> None:
    judged = judge(POLICY, prognosis(**changes), mode, confidence)
    assert (judged.verdict, judged.reason) == (verdict, reason)
    assert judged.text


@pytest.mark.parametrize(
    ("code", "watched_h", "related", "verdict", "reason"),
    [
        ("healthy_level", 1.0, "", Verdict.WATCH, "too_early"),
        ("healthy_level", 49.0, "", Verdict.ASK, "abstained"),
        ("stale", 1.0, "", Verdict.WATCH, "vitals_awaited"),
        ("stale", 4.5, "", Verdict.ASK, "abstained"),
        ("no_comparison", 1.0, "", Verdict.ASK, "abstained"),
        ("no_comparison", 1.0, "FS-000007", Verdict.WATCH, "related_case"),
        ("no_comparison", 49.0, "FS-000007", Verdict.ASK, "abstained"),
    ],
)
def test_without_a_forecast_a_person_is_asked_only_when_waiting_tells_nothing(
    code: str, watched_h: float, related: str, verdict: Verdict, reason: str
) -> None:
    silent = prognosis(abstained=True, abstain_code=code, reason="No forecast: it is so.")
    judged = judge(POLICY, silent, "bearing_seizure", 0.9, watched_h=watched_h, related=related)
    assert (judged.verdict, judged.reason) == (verdict, reason)
    assert verdict is Verdict.ASK or related in judged.text


def test_the_text_says_when_it_may_fail() -> None:
    judged = judge(POLICY, prognosis(rul_p10_h=18.2, rul_p50_h=52.5, rul_p90_h=133.0), "unknown", 0.0)
    assert "52 h" in judged.text and "18 to 133 h" in judged.text


def test_a_probability_that_is_not_stated_is_read_off_the_curve() -> None:
    survival = [[24, 0.8], [168, 0.2], [336, 0.1]]
    assert probability_within({"72": 0.5}, survival, 72.0) == 0.5
    assert probability_within({}, survival, 96.0) == pytest.approx(0.5)
    assert probability_within({}, survival, 12.0) == pytest.approx(0.1)
    assert probability_within({}, survival, 1000.0) == pytest.approx(0.9)
    assert probability_within({}, [], 72.0) is None


@given(st.floats(0, 1), st.floats(1, 8000))
def test_more_probability_never_means_less_action(probability: float, horizon_h: float) -> None:
    policy = policy_for({"act_horizon_h": horizon_h})
    judged = judge(policy, prognosis(p_fail={str(horizon_h): probability}), "unknown", 0.0)
    assert (judged.verdict is Verdict.ACT) == (probability >= policy.act_probability)


def test_medical_devices_are_asked_about_whatever_the_policy_says() -> None:
    assert policy_for({"require_approval": False}).asks_a_person("infusion_pump")
    assert policy_for({"require_approval": False}).asks_a_person("ventilator")
    assert not POLICY.asks_a_person("robot")
    assert policy_for({"approval_classes": ["robot"]}).asks_a_person("robot")


@pytest.mark.parametrize("overrides", [{"act_probability": 2}, {"unknown": 1}, {"retry_attempts": "many"}])
def test_a_policy_that_cannot_be_read_asks_about_everything(overrides: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        policy_for(overrides)
    policy, problem = safe_policy(overrides)
    assert policy.asks_a_person("robot") and next(iter(overrides)) in problem


def test_back_off_doubles_to_a_bound() -> None:
    assert [POLICY.backoff_s(n) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert POLICY.backoff_s(10_000) == 600.0


def test_deadline_and_urgency() -> None:
    assert deadline(prognosis()) == NOW + timedelta(hours=40)
    assert deadline(prognosis(abstained=True)) is None
    assert deadline(prognosis(rul_p10_h=-3.0)) == NOW
    hours = {10: "immediate", 40: "high", 100: "normal", 500: "low"}
    assert {h: urgency(NOW + timedelta(hours=h), NOW, 2) for h in hours} == hours
    assert urgency(NOW + timedelta(hours=500), NOW, 1) == "normal"
    assert urgency(None, NOW, 3) == "normal"


def test_a_plan_is_only_moved_for_a_deadline_that_moved_far_enough() -> None:
    end = NOW + timedelta(hours=50)
    planned = NOW + timedelta(hours=60)
    assert not needs_replan(POLICY, end, planned, None)
    assert not needs_replan(POLICY, end, planned, NOW + timedelta(hours=51))
    assert needs_replan(POLICY, end, planned, NOW + timedelta(hours=49))
    assert not needs_replan(POLICY, end, NOW + timedelta(hours=52), NOW + timedelta(hours=49))
    assert isinstance(POLICY, Policy)


@pytest.mark.parametrize(("age_h", "hours"), [(0, 2), (4, 2), (12, 3), (40, 10), (96, 24), (5000, 24)])
def test_an_old_case_is_looked_at_less_often(age_h: float, hours: float) -> None:
    assert look_again_after_h(POLICY, age_h) == hours
    assert look_again_after_h(policy_for({"look_again_h": 48}), age_h) == 48
