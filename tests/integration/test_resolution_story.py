"""From an inserted finding to the closed case, against real PostgreSQL, WMS and SMTP processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from unittest.mock import AsyncMock

import psycopg
import pytest
import pytest_asyncio
from support.resolution import (
    ASSET,
    BASELINE_G,
    TENANT,
    Servers,
    Stage,
    certain,
    finding_at,
    instant,
    stage,
)

from fleet_core.assets import COMPONENT_TYPES
from fleet_server.resolution import commands, cover_and_part
from fleet_server.resolution.commands import WorkReport
from fleet_server.resolution.decisions import decide_escalation
from fleet_server.resolution.maintenance import end_maintenance
from fleet_server.resolution.records import StaleCase, change_case, lock_case

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def story(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    servers.wms("DELETE", "/_faults")
    async with stage(dsn, servers) as ready:
        yield ready


async def test_a_finding_becomes_one_arranged_announced_verified_repair(story: Stage) -> None:
    case_id = await story.finding()
    case = await story.case(case_id)
    assert (case["state"], case["escalated"], case["owner_id"]) == ("committed", False, "marta")
    plan = case["plan"]
    assert plan["entitlement"]["reference"] == "W-1"
    assert plan["part"]["centre_id"] == "bremen"
    assert plan["window"]["load_rank"] == 1
    assert instant(plan["window"]["end"]) <= case["deadline_at"]
    assert instant(plan["window"]["start"]) >= instant(plan["part"]["arrives_at"])
    announcements = story.servers.mails_of(case_id, "announcement")
    assert len(announcements) == 1
    mail = announcements[0]
    assert mail["recipients"] == ["henrik@people.example"]
    assert "Marta Lindqvist" in mail["text"] and "Europe/Berlin" in mail["text"] and "UTC" in mail["text"]
    assert f"UID:{case_id}@forestall" in mail["calendar"] and "SEQUENCE:0" in mail["calendar"]

    await _repair(story, case)
    case = await story.case(case_id)
    assert case["state"] == "verifying"
    assert [act["state"] for act in await story.acts(case_id, "reservation")] == ["consumed"]
    await story.later(5)
    await story.vitals(BASELINE_G)
    await story.later(2)
    case = await story.case(case_id)
    assert (case["state"], case["outcome"]["new_serial"]) == ("closed", "BRG-2")
    closing = story.servers.mails_of(case_id, "closing")
    assert len(closing) == 1 and closing[0]["in_reply_to"] == mail["message_id"]
    assert len(story.servers.mails_of(case_id, "announcement")) == 1
    installed = await story.rows("SELECT serial, valid_to FROM component ORDER BY component_id")
    assert [(row["serial"], row["valid_to"] is None) for row in installed] == [("BRG-1", False), ("BRG-2", True)]
    kinds = [row["kind"] for row in await story.rows("SELECT kind FROM case_event ORDER BY event_id")]
    for kind in ("opened", "judged", "confirmed", "entitlement_verified", "part_reserved", "window_booked",
                 "work_order_written", "engineer_dispatched", "committed", "message_announcement", "work_completed",
                 "verified", "closed", "message_closing"):  # fmt: skip
        assert kind in kinds
    audited = await story.rows("SELECT count(*) AS n FROM audit_entry WHERE subject = %s", f"case:{case_id}")
    assert audited[0]["n"] == len(kinds)


@pytest.mark.parametrize("kind", ["filter", "hose"])
async def test_the_work_order_holds_what_the_components_type_asks_for(dsn: str, servers: Servers, kind: str) -> None:
    servers.wms("DELETE", "/_faults")
    async with stage(dsn, servers, component_type=kind) as story:
        with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
            conn.execute(
                "INSERT INTO person (person_id, name, email, role, skills)"
                " VALUES ('sven', 'Sven Olsson', 'sven@people.example', 'engineer', '{hydraulics}')"
            )
        case_id = await story.finding()
        assert (await story.case(case_id))["state"] == "committed"
        (order,) = await story.rows("SELECT engineer_id, body FROM work_order WHERE case_id = %s", case_id)
        assert order["engineer_id"] == "sven"
        assert set(COMPONENT_TYPES[kind].playbook) < set(order["body"]["playbook"])


async def _repair(story: Stage, case: dict) -> None:
    order = (await story.rows("SELECT * FROM work_order WHERE case_id = %s", case["case_id"]))[0]
    assert order["state"] == "dispatched" and order["engineer_id"] == case["plan"]["engineer"]["id"]
    await story.later((instant(case["plan"]["window"]["start"]) - story.clock.now()) / timedelta(hours=1))
    await story.command(commands.start_work_order, order["work_order_id"])
    report = WorkReport(failure_mode="bearing_spalling", replaced=True, new_serial="BRG-2", note="worn race")
    await story.command(commands.complete_work_order, order["work_order_id"], report)


async def test_findings_at_once_join_one_case(story: Stage) -> None:
    findings = [finding_at(story.clock) for _ in range(6)]
    cases = await asyncio.gather(*(story.finding(finding, run=False) for finding in findings))
    assert len(set(cases)) == 1
    await story.settle()
    assert len(story.servers.mails_of(cases[0], "announcement")) == 1
    assert len(await story.acts(cases[0], "reservation")) == 1


async def test_a_repair_that_does_not_help_is_handed_over(story: Stage) -> None:
    case_id = await story.finding()
    await _repair(story, await story.case(case_id))
    await story.later(5)
    await story.vitals(0.3)
    await story.later(2)
    case = await story.case(case_id)
    assert (case["state"], case["escalated"]) == ("verifying", True)
    (raised,) = await story.escalations(case_id)
    assert raised["reason"] == "verification_failed"
    await story.command(decide_escalation, raised["escalation_id"], "plan_again", "again")
    case = await story.case(case_id)
    assert case["state"] == "committed"
    assert len(story.servers.mails_of(case_id, "announcement")) == 1
    (amendment,) = story.servers.mails_of(case_id, "amendment")
    assert "SEQUENCE:1" in amendment["calendar"] and f"UID:{case_id}@forestall" in amendment["calendar"]


async def test_a_deadline_that_moves_before_the_window_moves_the_repair(story: Stage) -> None:
    finding = finding_at(story.clock)
    case_id = await story.finding(finding)
    before = (await story.case(case_id))["plan"]
    hours_to_window = (instant(before["window"]["end"]) - story.clock.now()) / timedelta(hours=1)
    story.rt.prognose = certain(hours_to_window - 1.5)
    await story.finding(replace(finding, revision=2))
    case = await story.case(case_id)
    assert (case["state"], case["replanning"], case["escalated"]) == ("committed", False, False)
    assert instant(case["plan"]["window"]["end"]) <= case["deadline_at"] < instant(before["window"]["end"])
    windows = await story.acts(case_id, "window")
    assert [act["state"] for act in windows] == ["released", "held"]
    held = await story.rows("SELECT count(*) AS n FROM engineer_booking WHERE state = 'held'")
    assert held[0]["n"] == 1
    (first,) = story.servers.mails_of(case_id, "announcement")
    (amendment,) = story.servers.mails_of(case_id, "amendment")
    assert amendment["in_reply_to"] == first["message_id"] and "SEQUENCE:1" in amendment["calendar"]


async def test_a_deadline_too_close_to_move_is_asked_about(story: Stage) -> None:
    finding = finding_at(story.clock)
    case_id = await story.finding(finding)
    story.rt.prognose = certain(1.0)
    await story.finding(replace(finding, revision=2))
    case = await story.case(case_id)
    assert (case["state"], case["replanning"], case["escalated"]) == ("committed", False, True)
    assert [e["reason"] for e in await story.escalations(case_id)] == ["deadline_moved"]
    assert [act["state"] for act in await story.acts(case_id, "window")] == ["held"]
    assert story.servers.mails_of(case_id, "amendment") == []


async def test_a_false_alarm_releases_everything_and_takes_the_announcement_back(story: Stage) -> None:
    case_id = await story.finding()
    await story.command(commands.cancel_case, case_id, "sensor was loose", True)
    assert (await story.case(case_id))["state"] == "false_alarm"
    for kind in ("reservation", "window", "work_order", "dispatch"):
        assert [act["state"] for act in await story.acts(case_id, kind)] == ["released"]
    stock = await story.rows("SELECT on_hand FROM stock WHERE centre_id = 'bremen'")
    assert stock[0]["on_hand"] == 2
    (cancelled,) = story.servers.mails_of(case_id, "cancellation")
    assert "METHOD:CANCEL" in cancelled["calendar"]


async def test_maintenance_is_recorded_and_not_judged(story: Stage) -> None:
    await story.command(commands.set_maintenance, ASSET, story.clock.now() + timedelta(hours=5), "tyres")
    assert await story.finding() is None
    audited = await story.rows("SELECT body FROM audit_entry WHERE action = 'finding.not_judged'")
    assert audited[0]["body"]["reason"] == "maintenance"
    await story.later(6)
    assert await story.finding() is not None


async def test_what_was_found_during_maintenance_is_judged_when_it_ends(story: Stage) -> None:
    await story.command(commands.set_maintenance, ASSET, story.clock.now() + timedelta(hours=5), "tyres")
    finding = finding_at(story.clock)
    assert await story.finding(finding) is None
    waiting = "SELECT args FROM public.procrastinate_jobs WHERE task_name = 'triage_finding' AND status = 'todo'"
    async with story.rt.pool.connection() as conn:
        await conn.execute("DELETE FROM public.procrastinate_jobs")  # judged above; the device says it once
        await conn.execute(
            "INSERT INTO health (asset_id, slot, tenant_id, state, level, since, updated_at)"
            " VALUES (%s, %s, %s, 'degrading', 'degrading', %s, %s)",
            (ASSET, finding.component, TENANT, story.clock.now(), story.clock.now()),
        )
        assert await end_maintenance(conn, story.clock, story.rt.pieces.maintenances) == 0
    await story.later(6)
    async with story.rt.pool.connection() as conn:
        assert [await end_maintenance(conn, story.clock, story.rt.pieces.maintenances) for _ in range(2)] == [1, 0]
    (job,) = await story.rows(waiting)
    assert job["args"] == {"finding_id": finding.finding_id, "revision": 1}
    audited = await story.rows("SELECT body FROM audit_entry WHERE action = 'asset.maintenance_over'")
    assert audited == [{"body": {"findings_to_judge": 1}}]


async def test_an_announcement_is_taken_back_also_after_its_plan_was_given_up(story: Stage) -> None:
    case_id = await story.finding()
    await story.later(24 * 8)
    (raised,) = await story.escalations(case_id)
    story.rt.prognose = certain(1.0)
    story.servers.fault(kind="error_500", target="load", count=50)
    await story.command(decide_escalation, raised["escalation_id"], "plan_again", "again")
    assert "window" not in (await story.case(case_id))["plan"]
    await story.command(commands.cancel_case, case_id, "sold", False)
    (cancelled,) = story.servers.mails_of(case_id, "cancellation")
    assert "METHOD:CANCEL" in cancelled["calendar"]
    story.servers.wms("DELETE", "/_faults")


async def test_observe_only_stops_acts_and_lifting_it_continues(story: Stage) -> None:
    await story.command(commands.set_observe_only, TENANT, True)
    case_id = await story.finding()
    case = await story.case(case_id)
    assert case["state"] == "confirmed" and "observe" in case["waits_for"]
    assert await story.rows("SELECT 1 FROM act") == []
    await story.command(commands.set_observe_only, TENANT, False)
    assert (await story.case(case_id))["state"] == "committed"


async def test_a_large_staff_hides_nobody_who_is_free(dsn: str, servers: Servers) -> None:
    async with stage(dsn, servers) as ready:
        async with ready.rt.pool.connection() as conn:
            await conn.execute(
                "INSERT INTO person (person_id, name, email, role, region, skills, active)"
                " SELECT 'a' || n, 'Engineer ' || n, n || '@people.example', 'engineer', NULL,"
                " '{drive-mechanics}', true FROM generate_series(100, 180) AS n"
            )
            await conn.execute(
                "INSERT INTO engineer_booking (booking_id, tenant_id, idempotency_key, person_id, during, state)"
                " SELECT gen_random_uuid(), (SELECT tenant_id FROM tenant LIMIT 1), 'busy-' || person_id, person_id,"
                " tstzrange(%s, %s), 'held' FROM person WHERE role = 'engineer' AND person_id <> 'a180'",
                (ready.clock.now(), ready.clock.now() + timedelta(days=30)),
            )
        case = await ready.case(await ready.finding())
        assert case["state"] == "committed", case["waits_for"]
        assert case["plan"]["engineer"]["id"] == "a180"


async def test_a_case_that_meets_a_fault_of_ours_is_left_alone_with_it_and_goes_on_when_it_is_mended(
    story: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as broken:
        broken.setattr(cover_and_part, "do_entitlement", AsyncMock(side_effect=AttributeError("no such field")))
        case_id = await story.finding()
        await story.later(1)
        case = await story.case(case_id)
        assert case["waits_for"] == "a repair of Forestall itself: no such field"
    await story.later(1)
    assert (await story.case(case_id))["state"] == "committed"
    said = [record.getMessage() for record in caplog.records if str(case_id) in record.getMessage()]
    assert len(said) == 2 and "AttributeError: no such field" in said[0] and "is advanced again" in said[1]


async def test_a_case_whose_fault_cannot_be_kept_with_it_ends_the_sweep(
    story: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story.runner, "advance", AsyncMock(side_effect=RuntimeError("the runner is broken")))
    await story.finding(run=False)
    await story.sweep.once()
    await story.sweep.settle()
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="the runner is broken"):
        await story.sweep.once()


async def test_a_case_that_cannot_be_read_waits_for_its_mending_and_stops_nothing(story: Stage) -> None:
    case_id = await story.finding()
    odd = "UPDATE act SET state = 'expired' WHERE kind = 'dispatch' RETURNING 1"  # which nothing has ever written
    await story.rows(odd)
    await story.rows("UPDATE repair_case SET next_at = %s RETURNING 1", story.clock.now())
    await story.later(24 * 8)
    case = await story.case(case_id)
    assert "'expired' is none of" in case["waits_for"] and case["next_at"] > story.clock.now()
    waiting = "SELECT due_at FROM timer WHERE kind = 'work_overdue' AND done_at IS NULL"
    (timer,) = await story.rows(waiting)
    assert timer["due_at"] > story.clock.now()
    await story.rows("UPDATE act SET state = 'held' WHERE kind = 'dispatch' RETURNING 1")
    await story.later(1)
    assert [raised["reason"] for raised in await story.escalations(case_id)] == ["work_overdue"]


async def test_a_case_whose_plan_cannot_be_read_is_overdue_like_any_other(story: Stage) -> None:
    case_id = await story.finding()
    odd = "UPDATE repair_case SET plan = plan || '{\"windov\": 1}', next_at = %s RETURNING 1"
    await story.rows(odd, story.clock.now())
    await story.later(24 * 8)
    case = await story.case(case_id)
    assert case["plan"]["unread"]["windov"] == 1 and "unknown key 'windov'" in case["plan"]["unread_because"]
    (overdue,) = await story.escalations(case_id)
    assert overdue["reason"] == "work_overdue"
    await story.command(decide_escalation, overdue["escalation_id"], "keep_plan")
    assert [raised["reason"] for raised in await story.escalations(case_id)] == ["work_overdue", "plan_unreadable"]


async def test_a_case_is_not_changed_from_an_earlier_reading(story: Stage) -> None:
    case_id = await story.finding()
    assert case_id is not None
    async with story.rt.pool.connection() as conn:
        read = await lock_case(conn, case_id)
        changed = await change_case(conn, replace(read, waits_for="the first change"))
        assert (changed.version, changed.waits_for) == (read.version + 1, "the first change")
        with pytest.raises(StaleCase):
            await change_case(conn, replace(read, waits_for="a change that knows nothing of it"))
    assert (await story.case(case_id))["waits_for"] == "the first change"
