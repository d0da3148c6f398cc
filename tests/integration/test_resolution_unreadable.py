"""A case whose stored plan cannot be read: people are asked, can end it, take it over or have it planned again."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from support.resolution import Servers, Stage, finding_at, stage

from fleet_server.resolution import commands
from fleet_server.resolution.decisions import decide_escalation

pytestmark = pytest.mark.integration
UNREADABLE: dict[str, Any] = {
    "window": {"window": {"start": "soon"}, "announced": {"start": "soon"}},
    "unknown_key": {"windov": 1},
    "entitlement": {"entitlement": 3, "part": 4},
    "decisions": {"manual": 1, "tries": "many"},
    "no_object": ["nothing", "of", "it"],
}


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made


async def _spoil(ready: Stage, case_id: uuid.UUID | None, by: Any, *, wake: bool = False) -> Any:
    """Spoil a committed case's plan; returns it as it is stored then."""
    plan = (await ready.case(case_id))["plan"]
    spoilt = {**plan, **by} if isinstance(by, dict) else by
    statement = "UPDATE repair_case SET plan = %s, next_at = %s, version = version + 1 WHERE case_id = %s RETURNING 1"
    await ready.rows(statement, Jsonb(spoilt), ready.clock.now() if wake else None, case_id)
    return spoilt


async def _held(ready: Stage, case_id: uuid.UUID | None) -> list[str]:
    statement = "SELECT kind FROM act WHERE case_id = %s AND state = 'held' AND kind NOT IN ('message', 'entitlement')"
    return [row["kind"] for row in await ready.rows(statement, case_id)]


async def _question(ready: Stage, case_id: uuid.UUID | None) -> dict[str, Any]:
    (question,) = await ready.escalations(case_id)
    assert question["reason"] == "plan_unreadable"
    return question


@pytest.mark.parametrize("spoilt", UNREADABLE)
async def test_a_person_is_asked_and_has_the_repair_planned_again(ready: Stage, spoilt: str) -> None:
    case_id = await ready.finding()
    stored = await _spoil(ready, case_id, UNREADABLE[spoilt], wake=True)
    await ready.settle()
    case = await ready.case(case_id)
    assert case["escalated"] and "cannot be read" in case["waits_for"]
    assert case["plan"]["unread"] == stored
    assert len(await _held(ready, case_id)) == 4
    question = await _question(ready, case_id)
    await ready.command(decide_escalation, question["escalation_id"], "plan_again")
    case = await ready.case(case_id)
    assert (case["state"], case["escalated"]) == ("committed", False), case["waits_for"]
    assert (case["plan"]["unread"], "unread_because" in case["plan"]) == (stored, False)
    assert case["plan"]["entitlement"]["reference"] == "W-1"
    assert len(await _held(ready, case_id)) == 4


@pytest.mark.parametrize("spoilt", UNREADABLE)
@pytest.mark.parametrize("false_alarm", [False, True])
async def test_it_can_be_ended_by_its_acts_alone(ready: Stage, spoilt: str, false_alarm: bool) -> None:
    case_id = await ready.finding()
    stored = await _spoil(ready, case_id, UNREADABLE[spoilt])
    await ready.command(commands.cancel_case, case_id, "sold", false_alarm)
    await ready.settle()
    case = await ready.case(case_id)
    assert case["state"] == ("false_alarm" if false_alarm else "cancelled")
    assert await _held(ready, case_id) == []
    assert (case["plan"]["unread"], case["plan"]["ended_because"]) == (stored, "sold")
    assert len(ready.servers.mails_of(case_id, "cancellation")) == 1


async def test_an_announcement_that_cannot_be_read_is_to_be_taken_back_by_hand(ready: Stage) -> None:
    case_id = await ready.finding()
    await _spoil(ready, case_id, UNREADABLE["window"])
    spoil = "UPDATE act SET request = jsonb_set(request, '{message,data}', '{}') WHERE purpose = 'announcement'"
    await ready.rows(f"{spoil} RETURNING 1")
    await ready.command(commands.cancel_case, case_id, "sold")
    await ready.settle()
    assert ready.servers.mails_of(case_id, "cancellation") == []
    told = "SELECT 1 FROM case_event WHERE case_id = %s AND kind = 'cancellation_not_told'"
    assert len(await ready.rows(told, case_id)) == 1


async def test_it_can_be_taken_over_by_hand_and_is_judged_and_repaired_all_the_same(ready: Stage) -> None:
    case_id = await ready.finding()
    stored = await _spoil(ready, case_id, UNREADABLE["window"], wake=True)
    await ready.settle()
    question = await _question(ready, case_id)
    await ready.command(decide_escalation, question["escalation_id"], "take_over")
    case = await ready.case(case_id)
    assert (case["plan"]["manual"], case["plan"]["unread"]) == ("user:test", stored)
    assert await ready.finding(finding_at(ready.clock)) == case_id
    assert len(await _held(ready, case_id)) == 4
    (order,) = await ready.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    await ready.command(commands.complete_work_order, order["work_order_id"], commands.WorkReport())
    assert (await ready.case(case_id))["state"] == "verifying"
    assert await _held(ready, case_id) == []
    assert len(await ready.escalations(case_id)) == 1


async def test_a_finding_of_the_slot_is_judged_and_a_person_is_asked(ready: Stage) -> None:
    case_id = await ready.finding()
    await _spoil(ready, case_id, UNREADABLE["window"])
    assert await ready.finding(finding_at(ready.clock)) == case_id
    await _question(ready, case_id)
    judged = "SELECT 1 FROM case_event WHERE case_id = %s AND kind = 'judged'"
    assert len(await ready.rows(judged, case_id)) == 2


async def test_the_repair_is_reported_while_the_plan_cannot_be_read(ready: Stage) -> None:
    case_id = await ready.finding()
    await _spoil(ready, case_id, UNREADABLE["entitlement"])
    (order,) = await ready.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    await ready.command(commands.complete_work_order, order["work_order_id"], commands.WorkReport())
    assert (await ready.case(case_id))["state"] == "verifying"


async def test_a_window_of_an_earlier_version_needs_nobody(ready: Stage) -> None:
    case_id = await ready.finding()
    window = (await ready.case(case_id))["plan"]["window"]
    await _spoil(ready, case_id, {"window": {name: window[name] for name in window if name != "choice"}}, wake=True)
    assert await ready.finding(finding_at(ready.clock)) == case_id
    case = await ready.case(case_id)
    assert (case["state"], case["escalated"], "unread" in case["plan"]) == ("committed", False, False)
