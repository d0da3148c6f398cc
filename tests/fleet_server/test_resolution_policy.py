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
    Line,
    Policy,
    PolicyJudgement,
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
    assert urgency(NOW + timedelta(hours=23, minutes=59, seconds=59), NOW, 2) == "immediate"
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


# by hand: value unless a tenant says otherwise, values that are allowed, values that are not
FIELDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "act_probability": (0.5, [0, 1], [-0.001, 1.001]),
    "act_horizon_h": (168.0, [0.001, 8760], [0, 8760.001]),
    "cost_limit_eur": (5000.0, [0, 1e9], [-0.001]),
    "require_approval": (False, [True, False], ["perhaps"]),
    "approval_classes": ((), [["robot"]], ["robot"]),
    "mode_confidence": (0.6, [0, 1], [-0.001, 1.001]),
    "notice_h": (2.0, [0, 336], [-0.001, 336.001]),
    "work_h": (2.0, [0.001, 72], [0, 72.001]),
    "planning_horizon_h": (336.0, [0.001, 2160], [0, 2160.001]),
    "late_window_h": (72.0, [0.001, 2160], [0, 2160.001]),
    "verify_h": (6.0, [0.001, 720], [0, 720.001]),
    "overdue_h": (24.0, [0.001, 720], [0, 720.001]),
    "replan_threshold_h": (6.0, [0, 720], [-0.001, 720.001]),
    "look_again_h": (2.0, [0.001, 168], [0, 168.001]),
    "patience_h": (48.0, [0.001, 2160], [0, 2160.001]),
    "vitals_wait_h": (4.0, [0, 168], [-0.001, 168.001]),
    "escalation_due_h": ({"low": 48.0, "normal": 24.0, "high": 8.0, "immediate": 2.0}, [{"low": 1.0}], [{"low": "x"}]),
    "repeat_shares": ((0.5, 0.25, 1 / 6), [(0.01,), (1,)], [(), (0,), (1.1,)]),
    "last_line": ("", ["petra"], [1]),
    "questions_per_shift": (20, [1, 1000], [0, 1001]),
    "shift_h": (8.0, [0.001, 48], [0, 48.001]),
    "by_hand_h": (72.0, [0.001, 720], [0, 720.001]),
    "mail_patience_h": (24.0, [0.001, 120], [0, 120.001]),
    "escalation_chain": (
        (Line(to="owner"), Line(to="second_line"), Line(to="last_line")),
        [(Line(to="person:petra", wait_h=4),)],
        [(), ({"to": "nobody"},), ({"to": "owner", "wait_h": 0},)],
    ),
    "retry_attempts": (8, [1, 50], [0, 51]),
    "retry_first_s": (0.5, [0.001, 3600], [0, 3600.001]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_limit_has_its_value_and_its_bounds(name: str) -> None:
    value, allowed, refused = FIELDS[name]
    assert getattr(POLICY, name) == value
    for one in allowed:
        assert policy_for({name: one})
    for one in refused:
        with pytest.raises(BadConfig, match=f"policy: {name}"):
            policy_for({name: one})


def test_there_are_no_other_limits_and_none_changes_after_it_was_read() -> None:
    assert set(Policy.model_fields) == set(FIELDS)
    for frozen, field, value in ((POLICY, "work_h", 3.0), (judge(POLICY, prognosis(), "unknown", 0.0), "reason", "x")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(frozen, field, value)


def test_what_is_wrong_with_a_policy_is_named_where_it_stands() -> None:
    with pytest.raises(BadConfig, match=r"policy: escalation_due_h\.low: "):
        policy_for({"escalation_due_h": {"low": "soon"}})
    with pytest.raises(BadConfig, match="policy: work_h: "):
        policy_for({"verify_h": 0, "work_h": 0})  # the first of those that are wrong
    cautious, problem = safe_policy({"work_h": 0, "act_probability": 0.1})
    assert cautious == Policy(require_approval=True) and problem.startswith("policy: work_h: ")
    assert safe_policy({"work_h": 5}) == (Policy(work_h=5), "")


def test_a_person_is_asked_for_each_reason_alone() -> None:
    assert policy_for({"require_approval": True}).asks_a_person("robot")
    assert POLICY.asks_a_person("infusion_pump")
    only_robots = policy_for({"approval_classes": ["robot"]})
    assert only_robots.asks_a_person("robot") and not only_robots.asks_a_person("conveyor")


def test_pauses_between_calls_double_from_the_first_to_ten_minutes() -> None:
    first = policy_for({"retry_first_s": 0.001})
    assert [first.backoff_s(n) for n in (1, 2, 5, 20)] == [0.001, 0.002, 0.016, pytest.approx(524.288)]
    assert first.backoff_s(21) == first.backoff_s(100_000) == 600.0  # and no number becomes too large for it


CASE_OF_ITS_OWN = "No forecast: it is so."


@pytest.mark.parametrize(
    ("code", "watched_h", "related", "reason", "text"),
    [
        ("healthy_level", 47.9, "", "too_early",
         "No forecast: it is so. The device saw it early; it is judged again as its vitals arrive"),
        ("healthy_level", 48.0, "", "abstained", "No prognosis was made: No forecast: it is so."),
        ("stale", 3.9, "", "vitals_awaited",
         "No forecast: it is so. What the device has since stored is on its way; it is judged again as it arrives"),
        ("stale", 4.0, "", "abstained", "No prognosis was made: No forecast: it is so."),
        ("stale", 1.0, "FS-000007", "related_case",
         "No forecast: it is so. It may be the trouble that FS-000007 repairs; it is judged again meanwhile"),
        ("no_comparison", 48.0, "FS-000007", "abstained", "No prognosis was made: No forecast: it is so."),
    ],
)  # fmt: skip
def test_waiting_ends_at_its_hour_and_is_explained(
    code: str, watched_h: float, related: str, reason: str, text: str
) -> None:
    silent = prognosis(abstained=True, abstain_code=code, reason=CASE_OF_ITS_OWN)
    judged = judge(POLICY, silent, "unknown", 0.0, watched_h=watched_h, related=related)
    verdict = Verdict.ASK if reason == "abstained" else Verdict.WATCH
    assert judged == PolicyJudgement(verdict=verdict, reason=reason, text=text, probability=None)


def test_waiting_is_for_those_without_a_forecast_only() -> None:
    """Also when the forecast's row still names why another one was not made."""
    for code in ("healthy_level", "stale"):
        judged = judge(POLICY, prognosis(abstain_code=code), "unknown", 0.0, related="FS-000007")
        assert judged.verdict is Verdict.ACT


def test_conflicting_evidence_is_shown_to_a_person_as_it_is() -> None:
    said = judge(POLICY, prognosis(conflicting=True, reason="They differ"), "unknown", 0.0)
    assert (said.verdict, said.reason, said.text) == (Verdict.ASK, "conflicting_evidence", "They differ")
    shares = {"bearing_spalling": 0.6, "lubrication": 0.4}
    judged = judge(POLICY, prognosis(mode_share=shares), "motor_overheating", 0.6)  # both just sure enough
    assert judged.reason == "conflicting_evidence"
    assert judged.text == (
        "The device sees motor_overheating (confidence 60%), similar past cases were bearing_spalling (share 60%)"
    )


@pytest.mark.parametrize(
    ("seen", "likely", "confidence", "share"),
    [
        ("motor_overheating", "bearing_spalling", 0.59, 0.9),
        ("motor_overheating", "bearing_spalling", 0.9, 0.59),
        ("unknown", "bearing_spalling", 0.9, 0.9),
        ("motor_overheating", "unknown", 0.9, 0.9),
        ("bearing_spalling", "bearing_spalling", 0.9, 0.9),
    ],
)
def test_modes_conflict_only_when_both_are_sure_of_known_and_different_ones(
    seen: str, likely: str, confidence: float, share: float
) -> None:
    row = prognosis(failure_mode=likely, mode_share={likely: share, "other": 0.1})
    assert judge(POLICY, row, seen, confidence).verdict is Verdict.ACT
    assert judge(POLICY, prognosis(mode_share={}), "motor_overheating", 0.9).verdict is Verdict.ACT


def test_an_act_is_explained_with_its_probability_and_its_time() -> None:
    likely = judge(POLICY, prognosis(rul_p50_h=52.0, rul_p90_h=133.4), "unknown", 0.0)
    assert likely == PolicyJudgement(
        verdict=Verdict.ACT, reason="likely_failure", probability=0.8,
        text="Probability of failure within 168 h is 80%; time to failure 52 h, in 80 of 100 such cases 40 to 133 h",
    )  # fmt: skip
    unlikely = judge(POLICY, prognosis(p_fail={"168": 0.2}), "unknown", 0.0)
    assert unlikely == PolicyJudgement(
        verdict=Verdict.WATCH, reason="below_policy", probability=0.2,
        text="Probability of failure within 168 h is 20%, below 50%",
    )  # fmt: skip
    assert judge(POLICY, prognosis(p_fail={"168": 0.5}), "unknown", 0.0).verdict is Verdict.ACT  # just likely enough
    assert [verdict.value for verdict in Verdict] == ["act", "watch", "ask"]
    silent = judge(POLICY, prognosis(p_fail={}), "unknown", 0.0)
    assert (silent.reason, silent.text) == ("abstained", "The prognosis says nothing about 168 h")


@pytest.mark.parametrize("missing", ["rul_p10_h", "rul_p50_h", "rul_p90_h"])
def test_a_time_is_told_only_with_its_interval(missing: str) -> None:
    row = prognosis(**{"rul_p10_h": 1.0, "rul_p50_h": 2.0, "rul_p90_h": 3.0, missing: None})
    assert judge(POLICY, row, "unknown", 0.0).text == "Probability of failure within 168 h is 80%"


def test_a_curve_is_read_between_its_points_and_holds_beyond_its_end() -> None:
    curve = [[0, 0.5], [10, 0.8], [20, 0.4]]  # at hour 0 everything is alive, whatever a row says
    read = {hours: probability_within({"99": 0.1}, curve, hours) for hours in (5.0, 10.0, 15.0, 20.0, 21.0)}
    assert read == pytest.approx({5.0: 0.1, 10.0: 0.2, 15.0: 0.4, 20.0: 0.6, 21.0: 0.6})
    assert probability_within({}, [[10, 0.8]], 5.0) == pytest.approx(0.1)
    assert probability_within({}, [[0.5, 0.6], [10, 0.5]], 0.25) == pytest.approx(0.2)
    assert probability_within({}, [[0, 1.0]], 5.0) is None


def test_a_forecast_without_an_early_end_has_no_deadline() -> None:
    assert deadline(prognosis(rul_p10_h=None)) is None
    assert deadline(prognosis(abstained=True, rul_p10_h=None)) is None
    assert deadline(prognosis(rul_p10_h=0.5)) == NOW + timedelta(minutes=30)


def test_urgency_changes_at_one_three_and_fourteen_days() -> None:
    levels = {h: urgency(NOW + timedelta(hours=h), NOW, 2) for h in (-5, 23.9, 24, 71.9, 72, 335.9, 336)}
    assert list(levels.values()) == ["immediate", "immediate", "high", "high", "normal", "normal", "low"]
    critical = [urgency(NOW + timedelta(hours=h), NOW, 1) for h in (1, 30, 100, 400)]
    assert critical == ["immediate", "immediate", "high", "normal"]
    assert (urgency(None, NOW, 1), urgency(None, NOW, 2)) == ("high", "normal")


def test_a_window_that_ends_in_time_stays_and_a_late_one_is_moved_when_it_pays() -> None:
    end, planned = NOW + timedelta(hours=50), NOW + timedelta(hours=60)
    assert not needs_replan(POLICY, end, planned, end)  # it ends just in time
    assert not needs_replan(POLICY, end, NOW + timedelta(hours=55), NOW + timedelta(hours=49))  # six hours: not enough
    assert needs_replan(POLICY, end, NOW + timedelta(hours=55, seconds=1), NOW + timedelta(hours=49))
    assert needs_replan(POLICY, end, None, NOW + timedelta(hours=49))
    assert needs_replan(POLICY, end, None, None) is False
