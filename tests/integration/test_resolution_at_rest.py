"""A case at rest names why, and until when: what was paused returns, questions end with their cause, somebody is asked
until somebody acts, and nobody who left keeps a case. Real engine, real database, real mail; simulated time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from support.resolution import Servers, Stage, stage

from fleet_server.resolution.commands import (
    WorkReport,
    cancel_case,
    complete_work_order,
    set_observe_only,
)
from fleet_server.resolution.decisions import decide_escalation
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
