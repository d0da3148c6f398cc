"""A machine that has failed is not healthy: what is judged, arranged and said once a simulated drive has seized."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from psycopg.types.json import Jsonb
from support.machines import VITALS, Drive, install, state_told, store_finding, store_vitals
from support.resolution import ASSET, SLOT, Servers, Stage, certain, instant, stage

from fleet_core.telemetry import DetectionState
from fleet_server.health import running_kept
from fleet_server.prognosis.service import prognose
from fleet_server.resolution import commands
from fleet_server.resolution.failing import watch_running
from fleet_server.resolution.triage import triage_finding

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def story(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    servers.wms("DELETE", "/_faults")
    async with stage(dsn, servers) as ready:
        yield ready


async def running(story: Stage) -> dict[str, tuple[str, str]]:
    """Look at the machines; the states by slot."""
    await watch_running(story.rt)
    rows = await story.rows("SELECT slot, state, why FROM running_state WHERE asset_id = %s", ASSET)
    return {row["slot"]: (row["state"], row["why"]) for row in rows}


async def audited(story: Stage, action: str) -> list[dict[str, Any]]:
    return await story.rows("SELECT body FROM audit_entry WHERE action = %s ORDER BY recorded_at", action)


async def dead_drive(story: Stage, *, case: bool = True) -> tuple[Drive, Any]:
    """A drive that wore, became critical, seized, and has stood for two hours; with its case if ``case``."""
    drive, case_id = Drive(story), None
    await drive.live(24)
    await drive.live(8)
    if case:
        case_id = await story.finding(drive.finding())
    while drive.model.wear < 0.75:
        await drive.live(0.5)
    await state_told(story, SLOT, "critical", "degrading")
    await drive.until_seized()
    await drive.live(2)
    return drive, case_id


async def test_a_seized_machine_is_failed_and_nothing_is_judged_on_it(story: Stage) -> None:
    await install(story, "drive_motor", "motor")
    drive, _ = await dead_drive(story, case=False)
    story.rt.prognose = prognose
    before = len(await audited(story, "prognosis.abstained"))
    for slot in ("drive_motor", SLOT):
        finding = drive.finding(DetectionState.DEGRADING, component=slot)
        assert await story.finding(finding) is None, "what the vitals show is the standstill"
    found = await running(story)
    assert found[""] == found[SLOT] == ("failed", "critical_then_standstill")
    assert found["drive_motor"][0] == "resting"
    for _ in range(12):
        await drive.live(2)
        await story.settle()
        await running(story)
        await story.finding(drive.finding(DetectionState.DEGRADING, component="drive_motor"))
    assert len(await audited(story, "prognosis.abstained")) == before
    assert await audited(story, "finding.not_judged") == []
    assert await story.rows("SELECT * FROM escalation WHERE reason = 'abstained'") == []
    (entry,) = await audited(story, "asset.failed")
    assert entry["body"]["why"] == "critical_then_standstill"


async def test_a_case_of_a_machine_that_stands_is_looked_at_again_without_a_word(story: Stage) -> None:
    """The neighbour's case waits for its next look all the while, and is judged again once the machine runs."""
    await install(story, "drive_motor", "motor")
    drive = Drive(story)
    await drive.live(24)
    story.rt.prognose = certain(p_fail=Jsonb({"168": 0.1}))
    case_id = await story.finding(drive.finding(component="drive_motor"))
    assert (await story.case(case_id))["state"] == "open"
    drive.model.wear = 1.0
    await drive.live(1)
    story.rt.prognose = prognose
    for _ in range(20):
        await drive.live(3)
        await story.settle()
        jobs = await story.rows(
            "DELETE FROM public.procrastinate_jobs WHERE task_name = 'triage_finding' RETURNING args"
        )
        for job in jobs:
            await triage_finding(story.rt, **job["args"])
        await running(story)
    assert await story.escalations(case_id) == []
    timers = await story.rows("SELECT * FROM timer WHERE case_id = %s AND done_at IS NULL", case_id)
    assert [timer["kind"] for timer in timers] == ["look_again"]
    assert timers[0]["due_at"] > story.clock.now()
    assert [entry["body"]["is"] for entry in await audited(story, "asset.resting")] == ["resting"]


async def test_a_stop_begins_and_ends_in_the_audit_once(story: Stage) -> None:
    drive = Drive(story)
    await drive.live(24)
    await running(story)
    wear = drive.model.wear
    drive.model.wear = 1.0
    for _ in range(5):
        await drive.live(1)
        await running(story)
    drive.model.wear = wear
    for _ in range(5):
        await drive.live(1)
        await running(story)
    assert len(await audited(story, "asset.resting")) == len(await audited(story, "asset.running")) == 1
    assert (await running(story))[""][0] == "running"


async def test_silence_after_critical_fails_only_what_was_critical_and_was_not_cut_off_with_others(
    story: Stage,
) -> None:
    drive = Drive(story)
    await drive.live(30)
    await state_told(story, SLOT, "critical", "degrading")
    async with story.rt.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO agent (agent_id, tenant_id, site_id, registered_at, last_seen_at)"
            " SELECT 'agent-2', tenant_id, site_id, registered_at, last_seen_at FROM agent"
        )
    story.clock.shift(timedelta(hours=3).total_seconds())
    assert (await running(story))[""] == ("silent", "nothing_heard")  # the whole site is silent
    async with story.rt.pool.connection() as conn:
        await conn.execute("UPDATE agent SET last_seen_at = %s WHERE agent_id = 'agent-2'", (story.clock.now(),))
    story.clock.shift(300)
    async with story.rt.pool.connection() as conn:
        await conn.execute("UPDATE agent SET left_at = %s WHERE agent_id = 'agent-1'", (story.clock.now(),))
    assert (await running(story))[""] == ("silent", "farewell")
    async with story.rt.pool.connection() as conn:
        await conn.execute("UPDATE agent SET left_at = NULL WHERE agent_id = 'agent-1'")
    story.clock.shift(300)
    assert (await running(story))[""] == ("failed", "critical_then_silence")


UNTRUE = ("still works normally", "before a failure is expected", "keep watching", "early signs", "sorry")


def texts(story: Stage, case_id: Any, *purposes: str) -> list[str]:
    """What people were sent, without the lines' breaks."""
    mails = [mail for purpose in purposes for mail in story.servers.mails_of(case_id, purpose)]
    return [" ".join(mail["text"].split()) for mail in mails]


async def booked_at(story: Stage, case_id: Any) -> Any:
    return instant((await story.case(case_id))["plan"]["window"]["start"])


async def test_a_booked_repair_is_moved_to_the_earliest_hour_and_both_are_told_at_once(story: Stage) -> None:
    _, case_id = await dead_drive(story)
    before = await story.case(case_id)
    assert before["state"] == "committed"
    later = story.clock.now() + timedelta(days=5)
    async with story.rt.pool.connection() as conn:  # a window that was quiet, far away
        await conn.execute("UPDATE repair_case SET deadline_at = %s WHERE case_id = %s", (later, case_id))
    await running(story)
    await story.settle()
    case = await story.case(case_id)
    assert case["urgency"] == "immediate" and case["plan"]["failed_at"]
    window = case["plan"]["window"]
    if instant(before["plan"]["window"]["start"]) > story.clock.now() + timedelta(hours=4):
        assert window["choice"] == "emergency"
        assert instant(window["start"]) <= story.clock.now() + timedelta(hours=4)
    for purpose, person in (("alert", "Marta"), ("failure", "Henrik")):
        (told,) = texts(story, case_id, purpose)
        assert "has stood still since" in told and not any(words in told for words in UNTRUE), person
    for told in texts(story, case_id, "amendment"):
        assert "has stood still since" in told and not any(words in told for words in UNTRUE)
    kinds = [row["kind"] for row in await story.rows("SELECT kind FROM case_event WHERE case_id = %s", case_id)]
    assert kinds.count("failed") == kinds.count("outcome_candidate") == 1


async def test_a_failed_machine_without_a_case_gets_one_and_the_earliest_hour_of_any_load(story: Stage) -> None:
    drive, _ = await dead_drive(story, case=False)
    async with story.rt.pool.connection() as conn:  # its finding was refused while its tenant's cases were full, say
        await store_finding(conn, story.clock, drive.finding(DetectionState.CRITICAL))
    await running(story)
    await story.settle()
    (row,) = await story.rows("SELECT case_id FROM repair_case WHERE asset_id = %s", ASSET)
    case = await story.case(row["case_id"])
    assert case["state"] == "committed" and case["prognosis_id"] is None
    window, part = case["plan"]["window"], case["plan"]["part"]
    assert window["choice"] == "emergency"
    possible = max(story.clock.now() + timedelta(hours=2), instant(part["arrives_at"]))
    assert instant(window["start"]) - possible < timedelta(hours=1)
    (told,) = texts(story, row["case_id"], "announcement")
    assert "has stood still since" in told and not any(words in told for words in UNTRUE)
    assert "the earliest that is possible" in told and "is on site by" in told
    await running(story)
    await story.settle()
    assert len(texts(story, row["case_id"], "failure")) == len(texts(story, row["case_id"], "alert")) == 1


async def test_a_case_that_was_only_watched_or_waits_for_lateness_goes_on(story: Stage) -> None:
    story.rt.prognose = certain(p_fail=Jsonb({"168": 0.1}))
    _, case_id = await dead_drive(story)
    assert (await story.case(case_id))["state"] == "open"
    await running(story)
    await story.settle()
    assert (await story.case(case_id))["state"] == "committed"
    assert await story.rows("SELECT 1 FROM escalation WHERE decided_at IS NULL") == []


async def test_a_late_part_is_no_question_any_more_but_its_cost_is_asked_at_once(story: Stage) -> None:
    story.rt.prognose = certain(2.0)
    _, case_id = await dead_drive(story)
    (asked,) = await story.escalations(case_id)
    assert asked["reason"] in ("no_part_in_time", "no_window_in_time")
    async with story.rt.pool.connection() as conn:
        await conn.execute("UPDATE part SET price_eur = 9000")
    await running(story)
    await story.settle()
    late, cost = await story.escalations(case_id)
    assert late["decision"] == "evidence_changed"
    assert cost["reason"] == "policy_limit" and cost["decided_at"] is None
    assert cost["due_at"] - cost["raised_at"] == timedelta(hours=2)


async def test_a_machine_that_comes_back_to_life_had_only_stopped(story: Stage) -> None:
    drive, case_id = await dead_drive(story)
    await running(story)
    await story.settle()
    drive.model.wear = 0.4
    await drive.live(1)
    await running(story)
    await story.settle()
    case = await story.case(case_id)
    assert case["state"] == "committed" and "failed_at" not in case["plan"]
    for purpose in ("alert", "failure"):
        told = texts(story, case_id, purpose)
        assert len(told) == 2 and "runs again" in told[-1]


async def test_what_a_person_keeps_or_handles_is_not_moved_but_the_owner_is_told(story: Stage) -> None:
    _, case_id = await dead_drive(story)
    async with story.rt.pool.connection() as conn:
        await conn.execute(
            'UPDATE repair_case SET plan = plan || \'{"keep_plan": "user:marta"}\' WHERE case_id = %s', (case_id,)
        )
    before = await booked_at(story, case_id)
    await running(story)
    await story.settle()
    assert await booked_at(story, case_id) == before
    assert len(texts(story, case_id, "alert")) == 1


async def test_observe_only_arranges_nothing_and_still_tells_the_owner(story: Stage) -> None:
    _, case_id = await dead_drive(story)
    await story.command(commands.set_observe_only, "northgate", True)
    before = await booked_at(story, case_id)
    await running(story)
    await story.settle()
    assert await booked_at(story, case_id) == before
    assert len(texts(story, case_id, "alert")) == 1 and texts(story, case_id, "failure") == []


@pytest.mark.parametrize("failed", [True, False])
async def test_the_report_of_the_work_confirms_the_candidate_or_not(story: Stage, failed: bool) -> None:
    _, case_id = await dead_drive(story)
    await running(story)
    await story.settle()
    failed_at = (await story.case(case_id))["plan"]["failed_at"]
    (order,) = await story.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    report = commands.WorkReport(failure_mode="bearing_spalling", failed=failed, new_serial="BRG-2")
    await story.command(commands.complete_work_order, order["work_order_id"], report)
    outcome = (await story.case(case_id))["outcome"]
    assert outcome["failed"] is failed and outcome.get("failed_at") == (failed_at if failed else None)
    (told,) = await story.rows("SELECT summary FROM case_event WHERE kind = 'work_completed'")
    assert ("had failed is confirmed" in told["summary"]) is failed


async def test_a_machine_that_runs_is_told_so_from_its_latest_days(
    story: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive, spans = Drive(story, seizes_after_h=400.0), []
    read_facts = running_kept.read_facts

    async def spied(conn: Any, asset_id: str, now: Any, over: timedelta = running_kept.HISTORY) -> Any:
        spans.append(over)
        return await read_facts(conn, asset_id, now, over)

    monkeypatch.setattr(running_kept, "read_facts", spied)
    await drive.live(72)
    assert (await running(story))[""][0] == "running"
    spans.clear()
    await drive.live(1)
    assert (await running(story))[""][0] == "running"
    assert spans == [running_kept.RECENT]


async def test_a_stop_that_nobody_looked_at_for_days_is_seen_in_the_older_vitals(story: Stage) -> None:
    drive = Drive(story, seizes_after_h=400.0)
    await drive.live(72)
    assert (await running(story))[""][0] == "running"
    for _ in range(4):  # it stands, and its sensors tell noise
        story.clock.shift(24 * 3600)
        await store_vitals(story, {name: [0.001, 0.002] * 72 for name in VITALS})
    assert (await running(story))[""][0] != "running"
