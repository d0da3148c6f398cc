"""A machine that has failed is not healthy: what is judged, arranged and said once a simulated drive has seized."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from psycopg.types.json import Jsonb
from support.machines import Drive, install, state_told
from support.resolution import ASSET, SLOT, Servers, Stage, certain, stage

from fleet_core.telemetry import DetectionState
from fleet_server.prognosis.service import prognose
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
