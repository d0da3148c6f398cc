"""A standing case's deadline follows its vitals: judged again when they arrive, planned anew when it must be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from support.resolution import Servers, Stage, certain, instant, stage

from fleet_server.resolution import commands
from fleet_server.resolution.triage import triage_finding

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def story(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    servers.wms("DELETE", "/_faults")
    async with stage(dsn, servers) as ready:
        yield ready


async def _triage_jobs(story: Stage) -> list[dict[str, Any]]:
    """The judgements that wait, taken out of the queue."""
    async with story.rt.pool.connection() as conn:
        statement = "DELETE FROM public.procrastinate_jobs WHERE task_name = 'triage_finding' RETURNING args"
        return [row["args"] for row in await (await conn.execute(statement)).fetchall()]


async def test_a_standing_prognosis_is_made_anew_as_vitals_arrive(story: Stage) -> None:
    case_id = await story.finding()
    before = await story.case(case_id)
    assert before["state"] == "committed"
    await _triage_jobs(story)

    await story.later(2.1)  # nothing arrived: the last prognosis stands
    assert await _triage_jobs(story) == []

    await story.vitals(0.2, hours=1.0)
    hours_to_window = (instant(before["plan"]["window"]["end"]) - story.clock.now()) / timedelta(hours=1)
    story.rt.prognose = certain(hours_to_window - 4.0)
    await story.later(2.1)
    (job,) = await _triage_jobs(story)
    assert job["finding_id"] == str(before["finding_id"])
    await triage_finding(story.rt, **job)
    await story.settle()

    after = await story.case(case_id)
    made = await story.rows("SELECT * FROM prognosis WHERE case_id = %s ORDER BY made_at", case_id)
    assert [row["prognosis_id"] for row in made] == [before["prognosis_id"], after["prognosis_id"]]
    assert after["deadline_at"] == made[-1]["made_at"] + timedelta(hours=made[-1]["rul_p10_h"])
    assert instant(after["plan"]["window"]["end"]) <= after["deadline_at"] < instant(before["plan"]["window"]["end"])
    told = await story.rows("SELECT kind FROM case_event WHERE case_id = %s AND kind = 'judged'", case_id)
    assert len(told) == 1  # a refresh is no line of the timeline, the moved deadline is


async def test_refreshing_survives_maintenance_and_ends_with_the_case(story: Stage) -> None:
    case_id = await story.finding()
    case = await story.case(case_id)
    await _triage_jobs(story)
    await story.command(commands.set_maintenance, case["asset_id"], story.clock.now() + timedelta(hours=3), "tyres")
    for refused in (True, False):
        await story.later(0.1)
        await story.vitals(0.2, hours=1.0)
        await story.later(2.1)
        (job,) = await _triage_jobs(story)
        assert (await triage_finding(story.rt, **job) is None) is refused
    await story.command(commands.cancel_case, case_id, "sold", False)
    await story.later(0.1)
    await story.vitals(0.2, hours=1.0)
    await story.later(4)
    assert await _triage_jobs(story) == []
