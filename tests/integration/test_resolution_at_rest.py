"""A case at rest names why, and until when: what was paused returns, questions end with their cause, somebody is asked
until somebody acts, and nobody who left keeps a case. Real engine, real database, real mail; simulated time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.resolution import Servers, Stage, certain, finding_at, stage

from fleet_core.errors import BadInput
from fleet_core.telemetry import DetectionState
from fleet_server.notifiers.webhook import Config as WebhookConfig
from fleet_server.notifiers.webhook import WebhookNotifier
from fleet_server.resolution.commands import (
    WorkReport,
    cancel_case,
    complete_work_order,
    set_observe_only,
    start_work_order,
)
from fleet_server.resolution.decisions import decide_escalation
from fleet_server.resolution.escalations import acknowledge
from fleet_server.resolution.records import load_case
from fleet_server.resolution.rest_sweep import RestSweep, found_broken
from fleet_server.resolution.states import ForbiddenTransition

pytestmark = pytest.mark.integration
REPORT = WorkReport(failure_mode="bearing_spalling", new_serial="BRG-2")


@pytest.fixture(autouse=True)
def no_faults(servers: Servers) -> None:
    servers.wms("DELETE", "/_faults")


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made


async def _order(ready: Stage, case_id: Any) -> Any:
    (row,) = await ready.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    return row["work_order_id"]


async def _set(ready: Stage, person_id: str, **values: Any) -> None:
    names = ", ".join(f"{name} = %s" for name in values)
    await ready.rows(f"UPDATE person SET {names} WHERE person_id = %s RETURNING 1", *values.values(), person_id)


async def _add(ready: Stage, person_id: str, role: str, **values: Any) -> None:
    await ready.rows(
        "INSERT INTO person (person_id, name, email, role, webhook_url) VALUES (%s, %s, %s, %s, %s) RETURNING 1",
        person_id, person_id.title(), values.get("email", f"{person_id}@people.example"), role, values.get("webhook"),
    )  # fmt: skip


def _asked(ready: Stage, case_id: Any) -> list[str]:
    """Who got questions by mail, in order."""
    return [mail["recipients"][0].partition("@")[0] for mail in ready.servers.mails_of(case_id, "escalation")]


async def _question(ready: Stage, case_id: Any) -> dict[str, Any]:
    (open_one,) = [one for one in await ready.escalations(case_id) if one["decided_at"] is None]
    return open_one


def _until(ready: Stage, question: dict[str, Any]) -> float:
    return (question["due_at"] - ready.clock.now()) / timedelta(hours=1) + 0.01


# -- what was paused returns


async def test_a_cancellation_paused_by_observe_only_is_sent_when_it_is_lifted(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.command(set_observe_only, "northgate", True)
    await ready.command(cancel_case, case_id, "the customer repairs it")
    await ready.later(1)
    assert ready.servers.mails_of(case_id, "cancellation") == []
    await ready.command(set_observe_only, "northgate", False)
    assert len(ready.servers.mails_of(case_id, "cancellation")) == 1


async def test_a_closing_paused_by_observe_only_is_sent_when_it_is_lifted(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.command(complete_work_order, await _order(ready, case_id), REPORT)
    await ready.command(set_observe_only, "northgate", True)
    await ready.later(4)
    await ready.vitals(0.06)
    await ready.later(3)
    assert (await ready.case(case_id))["state"] == "closed"
    await ready.command(set_observe_only, "northgate", False)
    assert len(ready.servers.mails_of(case_id, "closing")) == 1


async def test_what_observe_only_pauses_has_a_time_of_its_own(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.command(set_observe_only, "northgate", True)
    await ready.command(cancel_case, case_id, "the customer repairs it")
    assert (await ready.case(case_id))["next_at"] > ready.clock.now()
    await ready.rows("UPDATE tenant SET observe_only = false RETURNING 1")  # by another way than the command
    await ready.later(3)
    assert len(ready.servers.mails_of(case_id, "cancellation")) == 1


# -- a report that is sent again


async def test_an_equal_report_repeated_changes_nothing_and_a_different_one_is_told_what_was_reported(
    ready: Stage,
) -> None:
    case_id = await ready.finding()
    order = await _order(ready, case_id)
    await ready.command(complete_work_order, order, REPORT)
    first = await ready.case(case_id)
    await ready.later(0.5)
    await ready.command(complete_work_order, order, REPORT)
    assert (await ready.case(case_id))["outcome"] == first["outcome"]
    noted = await ready.rows("SELECT * FROM case_event WHERE case_id = %s AND kind = 'work_completed'", case_id)
    assert len(noted) == 1
    with pytest.raises(ForbiddenTransition, match=r"reported already.*bearing"):
        await ready.command(complete_work_order, order, REPORT.model_copy(update={"note": "another story"}))


# -- questions end with their cause


async def test_a_question_about_late_work_ends_when_the_work_is_reported(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.later(24 * 8)
    asked = await _question(ready, case_id)
    assert asked["reason"] == "work_overdue"
    await ready.command(complete_work_order, await _order(ready, case_id), REPORT)
    (ended,) = await ready.escalations(case_id)
    assert (ended["decision"], ended["decided_by"]) == ("no_longer_needed", "system:worker")
    assert "reported" in ended["note"]
    assert not (await ready.case(case_id))["escalated"]


async def test_a_decision_whose_reason_has_gone_acts_on_nothing_and_says_what_changed(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.later(24 * 8)
    asked = await _question(ready, case_id)
    async with ready.rt.pool.connection() as conn:  # the worker has not looked yet
        await complete_work_order(conn, ready.clock, "user:emil", await _order(ready, case_id), REPORT)
    with pytest.raises(ForbiddenTransition, match="reported"):
        await ready.command(decide_escalation, asked["escalation_id"], "plan_again")
    assert (await ready.case(case_id))["state"] == "verifying"


async def test_a_question_about_evidence_ends_when_the_repair_is_arranged_by_another_way(
    dsn: str, servers: Servers
) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        case_id = await ready.finding()
        asked = await _question(ready, case_id)
        await ready.rows('UPDATE repair_case SET plan = \'{"manual": "user:test"}\' RETURNING 1')
        with pytest.raises(ForbiddenTransition, match="by hand"):
            await ready.command(decide_escalation, asked["escalation_id"], "accept_out_of_warranty")


# -- who is not told is asked about


async def test_try_again_sends_the_announcement_that_bounced_composed_anew(ready: Stage) -> None:
    await _set(ready, "henrik", email="gone@people.example")
    case_id = await ready.finding()
    asked = await _question(ready, case_id)
    assert asked["reason"] == "connector_down"
    await _set(ready, "henrik", email="henrik@people.example")
    await ready.command(decide_escalation, asked["escalation_id"], "retry")
    (mail,) = ready.servers.mails_of(case_id, "announcement")
    assert mail["recipients"] == ["henrik@people.example"] and "has been arranged" in mail["text"]
    await ready.command(cancel_case, case_id, "end of test")
    (cancelled,) = ready.servers.mails_of(case_id, "cancellation")
    assert cancelled["in_reply_to"] == mail["message_id"]


@pytest.mark.parametrize("end", ["closing", "cancellation"])
async def test_what_was_never_announced_is_neither_closed_nor_cancelled_to_the_customer(ready: Stage, end: str) -> None:
    await _set(ready, "henrik", email="gone@people.example")
    case_id = await ready.finding()
    await _set(ready, "henrik", email="henrik@people.example")
    if end == "cancellation":
        await ready.command(cancel_case, case_id, "not needed")
    else:
        await ready.command(complete_work_order, await _order(ready, case_id), REPORT)
        await ready.later(4)
        await ready.vitals(0.06)
        await ready.later(3)
    await ready.later(1)
    assert (await ready.case(case_id))["state"] in ("closed", "cancelled")
    purposes = ("announcement", "amendment", "closing", "cancellation")
    assert [mail for purpose in purposes for mail in ready.servers.mails_of(case_id, purpose)] == []
    assert [one for one in await ready.escalations(case_id) if one["decided_at"] is None] == []


async def test_a_mail_that_is_asked_to_come_again_is_tried_for_a_day_before_a_person_is_asked(
    dsn: str, servers: Servers
) -> None:
    async with stage(dsn, servers, policy={"retry_attempts": 2, "retry_first_s": 60}) as ready:
        await _set(ready, "henrik", email="later@people.example")
        case_id = await ready.finding()
        for _ in range(20):
            await ready.later(1)
        assert await ready.escalations(case_id) == []
        for _ in range(8):
            await ready.later(1)
        (asked,) = await ready.escalations(case_id)
        assert asked["reason"] == "connector_down"


# -- whoever can be reached is asked


class _Hooks:
    """A receiver of webhooks that keeps what comes."""

    def __init__(self, directory: Path) -> None:
        secret = directory / "hook.secret"
        secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", encoding="utf-8")
        self.got: list[tuple[str, str]] = []
        self.notifier = WebhookNotifier(WebhookConfig(secret), httpx.MockTransport(self._take))

    def _take(self, request: httpx.Request) -> httpx.Response:
        self.got.append((str(request.url), json.loads(request.content)["type"]))
        return httpx.Response(204)


def _hooks(ready, folder: Path) -> _Hooks:
    hooks = _Hooks(folder)
    ready.rt.notifiers = {**ready.rt.notifiers, "webhook": hooks.notifier}
    return hooks


async def test_a_second_line_with_a_webhook_alone_gets_the_hand_over(
    dsn: str, servers: Servers, tmp_path: Path
) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        hooks = _hooks(ready, tmp_path)
        await _set(ready, "nina", email="", webhook_url="https://hooks.example/nina")
        case_id = await ready.finding()
        await ready.later(_until(ready, await _question(ready, case_id)))
        assert (await _question(ready, case_id))["to_person"] == "nina"
        assert hooks.got == [("https://hooks.example/nina", "case.escalation")]


@pytest.mark.parametrize("email", ["", "gone@people.example"], ids=["has no address", "bounces"])
async def test_an_owner_who_cannot_be_told_is_not_asked_another_is_at_once(
    dsn: str, servers: Servers, email: str
) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        await _set(ready, "marta", email=email)
        case_id = await ready.finding()
        assert (await _question(ready, case_id))["to_person"] == "nina"
        assert _asked(ready, case_id) == ["nina"]


async def test_a_question_that_bounces_on_one_channel_and_arrives_on_another_stays(
    dsn: str, servers: Servers, tmp_path: Path
) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        hooks = _hooks(ready, tmp_path)
        await _set(ready, "marta", email="gone@people.example", webhook_url="https://hooks.example/marta")
        case_id = await ready.finding()
        assert (await _question(ready, case_id))["to_person"] == "marta"
        assert len(hooks.got) == 1


async def test_nobody_decides_and_the_repeats_go_on_at_falling_intervals(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        await _add(ready, "petra", "administrator")
        case_id = await ready.finding()
        times = []
        for _ in range(7):
            question = await _question(ready, case_id)
            times.append(question["due_at"] - ready.clock.now())
            await ready.later(_until(ready, question))
        assert _asked(ready, case_id)[:3] == ["marta", "nina", "petra"]
        assert len(_asked(ready, case_id)) == 8
        assert times == sorted(times, reverse=True) and times[-1] < times[0] / 2


# -- taken over, and those who leave


async def test_a_case_that_was_taken_over_is_followed_up_and_then_handed_up(ready: Stage) -> None:
    await ready.rows(
        "INSERT INTO app_user (user_id, person_id, role, password_hash, created_at)"
        " VALUES ('test', 'marta', 'operator', '', now()) RETURNING 1"
    )
    case_id = await ready.finding()
    await ready.later(24 * 8)
    asked = await _question(ready, case_id)
    await ready.command(decide_escalation, asked["escalation_id"], "take_over")
    before = len(_asked(ready, case_id))
    for _ in range(4):
        await ready.later(24)
    assert _asked(ready, case_id)[before] == "marta"
    question = await _question(ready, case_id)
    assert question["reason"] == "taken_over"
    await ready.later(_until(ready, question))
    await ready.later(48)
    assert _asked(ready, case_id)[before + 1] == "nina"


async def test_a_case_that_is_taken_over_can_be_given_back(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.later(24 * 8)
    await ready.command(decide_escalation, (await _question(ready, case_id))["escalation_id"], "take_over")
    for _ in range(4):
        await ready.later(24)
    await ready.command(decide_escalation, (await _question(ready, case_id))["escalation_id"], "hand_back")
    case = await ready.case(case_id)
    assert (case["state"], case["plan"].get("manual")) == ("committed", None)


async def test_an_engineer_who_leaves_is_replaced_at_once_for_the_same_window(ready: Stage) -> None:
    case_id = await ready.finding()
    before = (await ready.case(case_id))["plan"]
    await _set(ready, before["engineer"]["id"], active=False)
    await ready.settle()
    case = await ready.case(case_id)
    assert case["state"] == "committed" and case["plan"]["engineer"]["id"] != before["engineer"]["id"]
    assert case["plan"]["window"] == before["window"]
    (mail,) = ready.servers.mails_of(case_id, "amendment")
    assert "has been moved" not in mail["text"] and case["plan"]["engineer"]["name"] in mail["text"]
    held = await ready.rows("SELECT person_id FROM engineer_booking WHERE state = 'held'")
    assert [row["person_id"] for row in held] == [case["plan"]["engineer"]["id"]]


async def test_an_engineer_who_leaves_with_nobody_in_his_place_is_asked_about_at_once(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.rows("UPDATE person SET active = false WHERE role = 'engineer' RETURNING 1")
    await ready.settle()
    assert (await _question(ready, case_id))["reason"] in ("no_engineer", "engineer_left")


async def test_an_engineer_who_leaves_during_the_work_is_asked_about_at_once(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.command(start_work_order, await _order(ready, case_id))
    await _set(ready, (await ready.case(case_id))["plan"]["engineer"]["id"], active=False)
    await ready.settle()
    assert (await _question(ready, case_id))["reason"] == "engineer_left"


async def test_the_cases_of_an_owner_who_left_get_another_with_a_summary(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        case_id = await ready.finding()
        await _set(ready, "marta", active=False)
        await ready.settle()
        assert (await ready.case(case_id))["owner_id"] == "nina"
        assert (await _question(ready, case_id))["to_person"] == "nina"
        (mail,) = servers.mails_of(case_id, "hand_over")
        assert mail["recipients"] == ["nina@people.example"] and "Marta" in mail["text"]


# -- new trouble is never swallowed


async def _closed(ready: Stage, finding: Any) -> Any:
    case_id = await ready.finding(finding)
    await ready.command(complete_work_order, await _order(ready, case_id), REPORT)
    await ready.later(4)
    await ready.vitals(0.06)
    await ready.later(3)
    assert (await ready.case(case_id))["state"] == "closed"
    return case_id


async def test_a_repaired_component_that_becomes_critical_opens_a_case_beside_its_history(ready: Stage) -> None:
    finding = finding_at(ready.clock)
    first = await _closed(ready, finding)
    assert await ready.finding(replace(finding, revision=2)) is None  # no worse than what was repaired
    again = await ready.finding(finding_at(ready.clock, finding_id=finding.finding_id, revision=3,
                                           state=DetectionState.CRITICAL))  # fmt: skip
    assert again not in (None, first)
    assert (await ready.case(again))["follows_case"] == first


async def test_what_was_critical_before_its_repair_and_is_again_opens_a_case(ready: Stage) -> None:
    finding = finding_at(ready.clock, state=DetectionState.CRITICAL)
    first = await _closed(ready, finding)
    worse = finding_at(ready.clock, finding_id=finding.finding_id, revision=2, state=DetectionState.CRITICAL)
    again = await ready.finding(worse)
    assert again not in (None, first)


async def test_a_flood_of_the_same_revision_opens_nothing(ready: Stage) -> None:
    from fleet_server.resolution.triage import triage_finding

    finding = finding_at(ready.clock, state=DetectionState.CRITICAL)
    await _closed(ready, finding)
    for _ in range(5):
        assert await triage_finding(ready.rt, finding.finding_id, 1) is None
    assert len(await ready.rows("SELECT 1 FROM repair_case")) == 1


async def test_a_question_of_a_case_that_follows_another_names_it(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        finding = finding_at(ready.clock)
        first = await _closed(ready, finding)
        none = {"abstained": True, "abstain_code": "no_comparison", "reason": "too little", "rul_p10_h": None}
        ready.rt.prognose = certain(**none)
        worse = finding_at(ready.clock, finding_id=finding.finding_id, revision=2, state=DetectionState.CRITICAL)
        again = await ready.finding(worse)
        question = await _question(ready, again)
        assert question["context"]["follows"]["case_id"] == str(first)
        (mail,) = servers.mails_of(again, "escalation")
        assert f"FS-{(await ready.case(first))['number']:06d}" in mail["text"]


# -- acknowledged, capped, checked


async def test_whoever_is_on_it_stops_the_repeats_until_the_time_named(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        case_id = await ready.finding()
        question = await _question(ready, case_id)
        until = ready.clock.now() + timedelta(hours=60)
        await ready.command(acknowledge, question["escalation_id"], until)
        for _ in range(5):
            await ready.later(11)
        assert _asked(ready, case_id) == ["marta"]
        await ready.later(6)
        assert _asked(ready, case_id) == ["marta", "marta"]
        await ready.later(_until(ready, await _question(ready, case_id)))
        assert _asked(ready, case_id) == ["marta", "marta", "nina"]


@pytest.mark.parametrize("hours", [-1.0, 0.0, 169.0])
async def test_a_question_is_not_silenced_for_the_past_or_for_ever(dsn: str, servers: Servers, hours: float) -> None:
    async with stage(dsn, servers, warranty=False) as ready:
        case_id = await ready.finding()
        until = ready.clock.now() + timedelta(hours=hours)
        with pytest.raises(BadInput):
            await ready.command(acknowledge, (await _question(ready, case_id))["escalation_id"], until)


async def test_more_questions_than_a_shift_bears_go_to_the_next_line_and_it_is_said(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers, warranty=False, policy={"questions_per_shift": 1}) as ready:
        await ready.finding()
        await ready.rows(
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from)"
            " SELECT tenant_id, asset_id, 'other', component_type, 'BRG-9', '', valid_from FROM component RETURNING 1"
        )
        second = await ready.finding(finding_at(ready.clock, component="other"))
        assert (await _question(ready, second))["to_person"] == "nina"
        said = await ready.rows("SELECT summary FROM case_event WHERE case_id = %s AND kind = 'escalated'", second)
        assert "Marta Lindqvist has 1 open questions of this shift" in said[0]["summary"]


@pytest.mark.parametrize("of", ["timers", "question"])
async def test_a_case_that_waits_for_nothing_is_found_and_mended(dsn: str, servers: Servers, of: str) -> None:
    async with stage(dsn, servers, warranty=of == "timers") as ready:
        case_id = await ready.finding()
        if of == "timers":
            await ready.rows("UPDATE timer SET done_at = due_at RETURNING 1")
            await ready.rows("UPDATE repair_case SET next_at = NULL RETURNING 1")
        else:
            await ready.rows("UPDATE act SET state = 'refused' WHERE purpose = 'escalation' RETURNING 1")
        kinds = await _broken(ready, case_id)
        assert kinds == ["no_time" if of == "timers" else "question_unsent"]
        await RestSweep(ready.rt).portion()
        await ready.settle()
        assert await _broken(ready, case_id) == []


async def _broken(ready: Stage, case_id: Any) -> list[str]:
    async with ready.rt.pool.connection() as conn:
        return [str(one.kind) for one in await found_broken(ready.rt, conn, await load_case(conn, case_id))]


@pytest.mark.parametrize("warranty", [True, False])
async def test_the_invariant_holds_at_every_step_of_a_case(dsn: str, servers: Servers, warranty: bool) -> None:
    async with stage(dsn, servers, warranty=warranty) as ready:
        case_id = await ready.finding()
        for _ in range(20):
            assert await _broken(ready, case_id) == []
            await ready.later(12)
