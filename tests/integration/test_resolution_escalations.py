"""What the machine must not decide alone: each hand-over, what the person chose, and that nobody else was told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from support.resolution import Servers, Stage, certain, finding_at, instant, stage

from fleet_core.telemetry import DetectionState
from fleet_server.resolution import commands
from fleet_server.resolution.decisions import decide_escalation
from fleet_server.resolution.triage import triage_finding

pytestmark = pytest.mark.integration
QUICK: dict[str, Any] = {"retry_attempts": 2, "retry_first_s": 0.01}


@pytest.fixture(autouse=True)
def no_faults(servers: Servers) -> None:
    servers.wms("DELETE", "/_faults")


async def _escalated(ready: Stage, reason: str) -> tuple[Any, dict[str, Any]]:
    """A finding that ends in exactly this question, to a named person with a due time, and in no announcement."""
    case_id = await ready.finding()
    for _ in range(4):  # transports are retried with back-off before a person is asked
        if (await ready.case(case_id))["escalated"]:
            break
        await ready.later(0.01)
    case = await ready.case(case_id)
    assert case["escalated"], case
    (raised,) = await ready.escalations(case_id)
    assert (raised["reason"], raised["to_person"]) == (reason, "marta")
    assert raised["due_at"] > ready.clock.now()
    assert {"case", "asset", "site", "prognosis", "plan", "acts"} <= set(raised["context"])
    assert all(option.keys() == {"code", "label", "effect"} for option in raised["options"])
    assert ready.servers.mails_of(case_id, "announcement") == []
    (mail,) = ready.servers.mails_of(case_id, "escalation")
    assert mail["recipients"] == ["marta@people.example"]
    return case_id, raised


async def _announced(ready: Stage, case_id: Any) -> str:
    (act,) = await ready.rows("SELECT request FROM act WHERE case_id = %s AND purpose = 'announcement'", case_id)
    return str(act["request"]["message"]["text"])


async def _nothing_held(ready: Stage) -> None:
    held = await ready.rows(
        "SELECT kind FROM act WHERE state IN ('held', 'unknown', 'intended') AND kind IN"
        " ('reservation', 'window', 'work_order', 'dispatch')"
    )
    assert held == []
    stock = await ready.rows("SELECT sum(on_hand)::int AS n FROM stock")
    kept = await ready.rows("SELECT 1 FROM part_reservation WHERE state = 'held'")
    assert kept == [] and stock[0]["n"] >= 5


async def test_no_warranty(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        await ready.rows(
            "INSERT INTO app_user (user_id, person_id, role, password_hash, created_at)"
            " VALUES ('test', 'nina', 'operator', '', now()) RETURNING 1"
        )
        case_id, raised = await _escalated(ready, "no_warranty")
        await ready.command(decide_escalation, raised["escalation_id"], "accept_out_of_warranty", "charge it")
        case = await ready.case(case_id)
        assert (case["state"], case["escalated"]) == ("committed", False)
        assert "arranged after a decision by Nina Hale and takes place" in await _announced(ready, case_id)
        assert len(servers.mails_of(case_id, "announcement")) == 1


async def test_no_part_in_time(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, prognose=certain(20.0), stock=0) as ready:
        case_id, raised = await _escalated(ready, "no_part_in_time")
        assert raised["context"]["offers"]
        await ready.command(decide_escalation, raised["escalation_id"], "accept_late_part", "")
        case = await ready.case(case_id)
        assert (case["state"], case["plan"]["part"]["centre_id"]) == ("committed", "lyon")
        assert case["plan"]["window"]["before_deadline"] is False


async def test_a_part_that_comes_after_weeks_is_waited_for_once_that_was_accepted(dsn: str, servers: Servers) -> None:
    policy = {"late_window_h": 48, "planning_horizon_h": 240}
    async with stage(dsn, servers, policy=policy) as ready:
        await ready.rows("UPDATE fulfilment_centre SET handling_h = 456 RETURNING 1")  # 19 days
        case_id, raised = await _escalated(ready, "no_part_in_time")
        await ready.command(decide_escalation, raised["escalation_id"], "accept_late_part", "")
        case = await ready.case(case_id)
        assert (case["state"], len(await ready.escalations(case_id))) == ("committed", 1), case["waits_for"]
        arrives_at, start = (instant(case["plan"][a][b]) for a, b in (("part", "arrives_at"), ("window", "start")))
        assert timedelta(days=19) <= arrives_at - ready.clock.now()
        assert timedelta(0) <= start - arrives_at <= timedelta(hours=48)
        text = await _announced(ready, case_id)
        assert "after a decision by Marta Lindqvist's team" in text and "later than we would like" in text


async def test_no_part_at_all_is_nothing_to_wait_for(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        await ready.rows("UPDATE stock SET on_hand = 0 RETURNING 1")
        case_id = await ready.finding()
        (raised,) = await ready.escalations(case_id)
        assert raised["reason"] == "no_part_in_time" and "No part is in stock" in raised["summary"]
        assert "accept_late_part" not in [option["code"] for option in raised["options"]]


async def test_lateness_accepted_once_is_not_asked_again(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        away = (ready.clock.now() - timedelta(days=1), ready.clock.now() + timedelta(days=90))
        for who in ("jonas", "aisha"):
            await ready.rows(
                "INSERT INTO engineer_booking (booking_id, tenant_id, idempotency_key, person_id, during, state)"
                " VALUES (gen_random_uuid(), 'northgate', %s, %s, tstzrange(%s, %s), 'held') RETURNING 1",
                who, who, *away,
            )  # fmt: skip
        case_id, raised = await _escalated(ready, "no_window_in_time")
        assert "before the deadline" in raised["summary"] and "drive-mechanics" in raised["summary"]
        await ready.command(decide_escalation, raised["escalation_id"], "accept_late_window", "")
        _, again = await ready.escalations(case_id)
        assert again["reason"] == "no_window_in_time" and "before the deadline" not in again["summary"]
        assert "accept_late_window" not in [option["code"] for option in again["options"]]


async def test_no_window_in_time_releases_the_part(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        await ready.rows("UPDATE person SET skills = '{}' WHERE person_id = 'aisha' RETURNING 1")
        taken = (ready.clock.now() - timedelta(days=1), ready.clock.now() + timedelta(hours=96))
        await ready.rows(
            "INSERT INTO engineer_booking (booking_id, tenant_id, idempotency_key, person_id, during, state)"
            " VALUES (gen_random_uuid(), 'northgate', 'leave', 'jonas', tstzrange(%s, %s), 'held') RETURNING 1",
            *taken,
        )
        case_id, raised = await _escalated(ready, "no_window_in_time")
        assert raised["context"]["excluded"]["no_engineer"] > 0
        await _nothing_held(ready)
        await ready.command(decide_escalation, raised["escalation_id"], "accept_late_window", "")
        case = await ready.case(case_id)
        assert case["state"] == "committed"
        assert instant(case["plan"]["window"]["start"]) >= taken[1]


async def test_no_qualified_engineer(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        await ready.rows("UPDATE person SET skills = '{}' RETURNING 1")
        _, raised = await _escalated(ready, "no_engineer")
        assert "no engineer with skill drive-mechanics is registered for region eu-north" in raised["summary"]


async def test_connector_down(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, policy=QUICK) as ready:
        servers.fault(kind="error_500", target="load", count=50)
        case_id, raised = await _escalated(ready, "connector_down")
        await _nothing_held(ready)
        servers.wms("DELETE", "/_faults")
        await ready.command(decide_escalation, raised["escalation_id"], "retry", "it is back")
        assert (await ready.case(case_id))["state"] == "committed"


async def test_a_site_without_a_wms(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, wms_kind="none") as ready:
        _, raised = await _escalated(ready, "connector_down")
        assert "no WMS" in raised["summary"]


async def test_errors_that_pass_are_retried(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, policy={"retry_first_s": 0.01}) as ready:
        servers.fault(kind="error_500", target="load", count=2)
        servers.fault(kind="error_500", target="book", count=2)
        case_id = await ready.finding()
        for _ in range(8):
            await ready.later(0.01)
        case = await ready.case(case_id)
        assert (case["state"], case["escalated"]) == ("committed", False)
        assert len(await ready.acts(case_id, "window")) == 1


async def test_a_booking_whose_answer_was_lost_is_looked_up_not_doubled(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, timeout_s=2.0) as ready:
        before = servers.wms("GET", "/_stats")
        servers.fault(kind="timeout_after_booking", count=1, delay_s=6.0)
        case_id = await ready.finding()
        assert (await ready.case(case_id))["state"] == "committed"
        (window,) = await ready.acts(case_id, "window")
        after = servers.wms("GET", "/_stats")
        assert window["state"] == "held"
        assert after["bookings"]["booked"] - before["bookings"].get("booked", 0) == 1
        assert after["calls"]["book"] - before["calls"].get("book", 0) == 1
        assert after["calls"]["lookup"] - before["calls"].get("lookup", 0) == 1
        await ready.command(commands.cancel_case, case_id, "end of test", False)


async def test_a_refused_window_is_replaced_by_the_next_best(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        servers.fault(kind="refuse", count=2)
        case_id = await ready.finding()
        case = await ready.case(case_id)
        assert case["state"] == "committed"
        assert [act["state"] for act in await ready.acts(case_id, "window")] == ["refused", "refused", "held"]
        await ready.command(commands.cancel_case, case_id, "end of test", False)


async def test_an_engineer_taken_meanwhile_is_replaced(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        dispatch = ready.rt.field_service.dispatch
        taken: list[str] = []

        async def snatched(order_key: str, person_id: str, start: Any, end: Any, *, key: str) -> Any:
            if not taken:  # another case gets him between the plan and the dispatch
                taken.append(person_id)
                await ready.rows(
                    "INSERT INTO engineer_booking (booking_id, tenant_id, idempotency_key, person_id, during, state)"
                    " VALUES (gen_random_uuid(), 'northgate', 'other', %s, tstzrange(%s, %s), 'held') RETURNING 1",
                    person_id, start, end,
                )  # fmt: skip
            return await dispatch(order_key, person_id, start, end, key=key)

        ready.rt.field_service.dispatch = snatched  # type: ignore[method-assign]
        case_id = await ready.finding()
        case = await ready.case(case_id)
        assert case["state"] == "committed"
        assert case["plan"]["engineer"]["id"] not in taken
        await ready.command(commands.cancel_case, case_id, "end of test", False)


async def test_abstained_and_watched(dsn: str, servers: Servers) -> None:
    none = {"abstained": True, "abstain_code": "no_comparison", "reason": "too little history", "rul_p10_h": None}
    async with stage(dsn, servers, prognose=certain(**none)) as ready:
        case_id, raised = await _escalated(ready, "abstained")
        await ready.command(decide_escalation, raised["escalation_id"], "watch", "")
        case = await ready.case(case_id)
        assert (case["state"], case["escalated"]) == ("open", False)
        again = finding_at(ready.clock)
        await ready.finding(again)
        assert len(await ready.escalations(case_id)) == 1
        ready.rt.prognose = certain()
        await ready.finding(finding_at(ready.clock))
        assert (await ready.case(case_id))["state"] == "committed"


async def test_conflicting_evidence(dsn: str, servers: Servers) -> None:
    other = {"failure_mode": "motor_overheating", "mode_share": Jsonb({"motor_overheating": 0.9})}
    async with stage(dsn, servers, prognose=certain(**other)) as ready:
        case_id, raised = await _escalated(ready, "conflicting_evidence")
        await ready.command(decide_escalation, raised["escalation_id"], "act_anyway", "looked at it")
        assert (await ready.case(case_id))["state"] == "committed"


async def test_policy_limit(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, policy={"cost_limit_eur": 50}) as ready:
        case_id, raised = await _escalated(ready, "policy_limit")
        await ready.command(decide_escalation, raised["escalation_id"], "accept_cost", "")
        assert (await ready.case(case_id))["state"] == "committed"


async def test_a_medical_device_always_asks(dsn: str, servers: Servers) -> None:
    policy = {"require_approval": False}
    async with stage(dsn, servers, asset_class="infusion_pump", component_type="battery", policy=policy) as ready:
        case_id, raised = await _escalated(ready, "approval_required")
        await _nothing_held(ready)
        await ready.command(decide_escalation, raised["escalation_id"], "approve", "")
        assert (await ready.case(case_id))["state"] == "committed"


async def test_a_broken_policy_asks_about_everything(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, policy={"act_probabilty": 0.1}) as ready:
        _, raised = await _escalated(ready, "approval_required")
        assert "act_probabilty" in raised["summary"]


async def test_an_unlikely_failure_is_watched(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, prognose=certain(p_fail=Jsonb({"168": 0.1}))) as ready:
        case_id = await ready.finding()
        case = await ready.case(case_id)
        assert (case["state"], case["escalated"]) == ("open", False)
        assert "watching" in case["waits_for"]


async def test_an_undecided_question_goes_once_to_the_second_line(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        case_id, raised = await _escalated(ready, "no_warranty")
        await ready.later((raised["due_at"] - ready.clock.now()) / timedelta(hours=1) + 0.1)
        await ready.later(0.1)
        (handed,) = await ready.escalations(case_id)
        assert (handed["to_person"], handed["decided_at"]) == ("nina", None)
        assert handed["reminded_at"] is not None
        reminders = [m for m in servers.mails_of(case_id, "escalation") if m["recipients"] == ["nina@people.example"]]
        assert len(reminders) == 1


async def test_a_decision_is_taken_once(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        case_id, raised = await _escalated(ready, "no_warranty")
        with pytest.raises(commands.BadInput):
            await ready.command(decide_escalation, raised["escalation_id"], "approve", "")
        await ready.command(decide_escalation, raised["escalation_id"], "false_alarm", "")
        assert (await ready.case(case_id))["state"] == "false_alarm"
        with pytest.raises(commands.ForbiddenTransition):
            await ready.command(decide_escalation, raised["escalation_id"], "retry", "")


async def test_work_that_is_not_reported_is_asked_about(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        case_id = await ready.finding()
        await ready.later(24 * 8)
        raised = await ready.escalations(case_id)
        assert [e["reason"] for e in raised] == ["work_overdue"]
        await ready.command(decide_escalation, raised[0]["escalation_id"], "take_over", "")
        case = await ready.case(case_id)
        assert case["plan"]["manual"] == "user:test" and not case["escalated"]


async def test_seen_early_is_watched_until_the_indicator_says_more(dsn: str, servers: Servers) -> None:
    early = {"abstained": True, "abstain_code": "healthy_level", "reason": "at its healthy level", "rul_p10_h": None}
    async with stage(dsn, servers, prognose=certain(**early)) as ready:
        case_id = await ready.finding()
        case = await ready.case(case_id)
        assert (case["state"], case["escalated"]) == ("open", False)
        assert case["waits_for"].startswith("watching:")
        ready.rt.prognose = certain()  # its vitals have risen: no new finding is needed
        await ready.later(2.1)
        finding_id = str(case["finding_id"])
        await triage_finding(ready.rt, finding_id, 1)
        await ready.settle()
        assert (await ready.case(case_id))["state"] == "committed"


async def test_what_recovers_by_itself_ends_without_anybody(dsn: str, servers: Servers) -> None:
    early = {"abstained": True, "abstain_code": "healthy_level", "reason": "at its healthy level", "rul_p10_h": None}
    async with stage(dsn, servers, prognose=certain(**early)) as ready:
        case_id = await ready.finding()
        async with ready.rt.pool.connection() as conn:
            await conn.execute(
                "INSERT INTO state_change (tenant_id, asset_id, slot, state, previous, at, score, reason)"
                " SELECT tenant_id, asset_id, slot, 'healthy', 'degrading', %s, 0.1, 'evidence fell'"
                " FROM repair_case WHERE case_id = %s",
                (ready.clock.now(), case_id),
            )
        for _ in range(3):
            await ready.later(2.1)
        case = await ready.case(case_id)
        assert case["state"] == "cancelled"
        assert "healthy again" in case["plan"]["ended_because"]
        assert ready.servers.mails_of(case_id, "announcement") == ready.servers.mails_of(case_id, "cancellation") == []


async def test_a_dismissed_finding_that_becomes_critical_opens_a_case_again(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        finding = finding_at(ready.clock)
        first = await ready.finding(finding)
        await ready.command(commands.cancel_case, first, "nothing to hear", True)
        again = await ready.finding(replace(finding, revision=2))
        assert again is None  # the person has looked at this one
        critical = replace(finding, revision=3, state=DetectionState.CRITICAL)
        assert await ready.finding(critical) not in (None, first)
