"""One timer, escalation, case, maintenance, job or finding that cannot be done stops no other.

Each is poisoned while many sweeps pass: the others are done, the failure is counted each time and logged once, and
once when it works again. A database that goes away is no fault of the piece at hand.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.database import settings_for
from support.resolution import ASSET, SITE, TENANT, Servers, Stage, finding_at, stage, store_finding

from fleet_core.clock import SimulatedClock
from fleet_server.resolution import cover_and_part, maintenance, rest_sweep, timers, worker
from fleet_server.resolution.maintenance import end_maintenance
from fleet_server.resolution.metrics import FAILURES
from fleet_server.resolution.timers import run_due
from fleet_server.resolution.worker import retry_stalled, worker_app
from fleet_server.store.pool import Connection

pytestmark = pytest.mark.integration
OTHER = "amr-18"


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made


def _failures(task: str) -> float:
    return float(FAILURES.labels(task)._value.get())


def _said(caplog: pytest.LogCaptureFixture, piece: object) -> list[str]:
    """What the log says of a piece, but for what the case's own books say."""
    return [record.getMessage() for record in caplog.records if str(piece) in record.getMessage()]


async def _refused(conn: Connection, *_arguments: object, **_named: object) -> None:
    """The database refuses a value, which spoils the transaction it happens in."""
    await conn.execute("SELECT 1 / 0")


POISONS: dict[str, Any] = {
    "AttributeError": AttributeError("no such field"),
    "KeyError": KeyError("label"),
    "refused": _refused,
}


@pytest.mark.parametrize("poison", POISONS)
async def test_a_timer_that_cannot_be_handled_stops_no_other(
    ready: Stage, poison: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case_id = await ready.finding()
    refresh = "SELECT timer_id, due_at, done_at FROM timer WHERE kind = 'refresh_prognosis' AND case_id = %s"
    (timer,) = await ready.rows(refresh, case_id)
    before = _failures("timer")
    with monkeypatch.context() as broken:
        broken.setattr(timers, "refresh_due", AsyncMock(side_effect=POISONS[poison]))
        await ready.later(24 * 8)
        for _ in range(20):
            await ready.later(0.02)
        assert [raised["reason"] for raised in await ready.escalations(case_id)] == ["work_overdue"]
        (put_off,) = await ready.rows(refresh, case_id)
        assert put_off["done_at"] is None and put_off["due_at"] > ready.clock.now()
        (begins,) = _said(caplog, timer["timer_id"])
        assert str(case_id) in begins
        failures = _failures("timer") - before
        assert 5 <= failures <= 10  # the pauses grow
    await ready.later(1)
    begins, over = _said(caplog, timer["timer_id"])
    assert f"{failures:g} failures" in over
    (handled, again) = await ready.rows(f"{refresh} ORDER BY due_at", case_id)
    assert handled["done_at"] is not None and again["done_at"] is None


async def test_an_escalation_that_cannot_be_composed_stops_no_other(
    ready: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_sweep, "CHECK_EVERY_S", float("inf"))  # it would find the questions that were never sent
    case_id = await ready.finding()
    now = ready.clock.now()

    async def raised(reason: str, options: list[dict[str, str]], minutes: int) -> uuid.UUID:
        escalation_id = uuid.uuid4()
        await ready.rows(
            "INSERT INTO escalation (escalation_id, tenant_id, case_id, reason, summary, to_person, raised_at, due_at,"
            " context, options) VALUES (%s, %s, %s, %s, 'odd', 'marta', %s, %s, '{}', %s) RETURNING 1",
            escalation_id, TENANT, case_id, reason, now, now + timedelta(minutes=minutes), Jsonb(options),
        )  # fmt: skip
        return escalation_id

    option = {"code": "retry", "label": "try again", "effect": "it is tried again"}
    poisoned = await raised("work_overdue", [{"code": "retry"}], 1)
    sound = await raised("engineer_left", [option], 2)

    async def handed(escalation_id: uuid.UUID) -> list[str]:
        found = await ready.rows(
            "SELECT to_person FROM escalation WHERE escalation_id = %s AND reminded_at IS NOT NULL", escalation_id
        )
        return [row["to_person"] for row in found]

    before = _failures("reminder")
    for _ in range(20):
        await ready.later(0.05)
    assert (await handed(poisoned), await handed(sound)) == ([], ["nina"])
    assert 5 <= _failures("reminder") - before <= 10
    (begins,) = _said(caplog, poisoned)
    assert "KeyError: 'label'" in begins and str(case_id) in begins
    await ready.rows(
        "UPDATE escalation SET options = %s WHERE escalation_id = %s RETURNING 1", Jsonb([option]), poisoned
    )
    await ready.later(1)
    assert await handed(poisoned) == ["nina"]
    assert len(_said(caplog, poisoned)) == 2


async def test_what_somebody_else_did_meanwhile_is_not_put_off(ready: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    case_id = await ready.finding()
    refresh = "SELECT due_at FROM timer WHERE kind = 'refresh_prognosis' AND case_id = %s"
    later_on = ready.clock.now() + timedelta(days=30)

    async def done_elsewhere(*_arguments: object) -> None:
        await ready.rows("UPDATE timer SET due_at = %s WHERE kind = 'refresh_prognosis' RETURNING 1", later_on)
        raise KeyError("lost")

    monkeypatch.setattr(timers, "lock_case", done_elsewhere)
    assert isinstance(ready.clock, SimulatedClock)
    ready.clock.shift(13 * 3600)
    await run_due(ready.rt)
    assert await ready.rows(refresh, case_id) == [{"due_at": later_on}]


async def test_a_database_that_goes_away_is_no_fault_of_the_timer(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = await ready.finding()
    refresh = "SELECT due_at FROM timer WHERE kind = 'refresh_prognosis' AND case_id = %s"
    (before,) = await ready.rows(refresh, case_id)

    async def away(conn: Connection, *_arguments: object) -> None:
        await conn.execute("RESET ROLE")
        await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(timers, "refresh_due", away)
    assert isinstance(ready.clock, SimulatedClock)
    ready.clock.shift(24 * 3600)
    with pytest.raises(psycopg.OperationalError):
        await run_due(ready.rt)
    assert await ready.rows(refresh, case_id) == [before]
    assert len(ready.rt.pieces.timers) == 0


async def test_a_case_the_database_refuses_is_put_off_and_logged_once(
    ready: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = _failures("advance_case")

    async def refused(_rt: object, conn: Connection, *_arguments: object) -> None:
        async with conn.transaction():
            await _refused(conn)

    with monkeypatch.context() as broken:
        broken.setattr(cover_and_part, "do_entitlement", refused)
        case_id = await ready.finding()
        for _ in range(5):
            await ready.later(0.2)
        case = await ready.case(case_id)
        assert "division by zero" in case["waits_for"] and case["next_at"] > ready.clock.now()
        assert len(_said(caplog, case_id)) == 1 and _failures("advance_case") - before >= 3
    await ready.later(1)
    assert (await ready.case(case_id))["state"] == "committed"
    assert "is advanced again" in _said(caplog, case_id)[1]


@pytest.mark.parametrize("words", ["a \x00 in a text", "half a character: \ud800"], ids=["nul", "surrogate"])
async def test_a_fault_whose_words_the_database_does_not_take_is_put_off_all_the_same(
    ready: Stage, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(cover_and_part, "do_entitlement", AsyncMock(side_effect=ValueError(words)))
        case = await ready.case(await ready.finding())
        assert case["waits_for"].startswith(f"a repair of Forestall itself: {words[:2]}")
        assert case["next_at"] > ready.clock.now()


async def _other_asset(ready: Stage) -> None:
    await ready.rows(
        "INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial, equipment_ref)"
        " VALUES (%s, %s, %s, 'agent-1', 'AMR 18', 'robot', 'Transit 500', 'SN-18', %s) RETURNING 1",
        OTHER, TENANT, SITE, f"EQ-{uuid.uuid4().hex[:8]}",
    )  # fmt: skip


async def test_a_maintenance_that_cannot_be_ended_stops_no_other(
    ready: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await _other_asset(ready)
    await ready.rows("UPDATE asset SET maintenance_until = %s, maintenance_note = 'x' RETURNING 1", ready.clock.now())
    real, before = maintenance.judge_again, _failures("maintenance_window")

    async def poisoned(conn: Connection, asset_id: str) -> int:
        if asset_id == ASSET:
            raise KeyError("findings")
        return await real(conn, asset_id)

    async def in_maintenance() -> list[str]:
        found = await ready.rows("SELECT asset_id FROM asset WHERE maintenance_until IS NOT NULL")
        return [row["asset_id"] for row in found]

    async def end(maintenances: Any) -> int:
        async with ready.rt.pool.connection() as conn:
            return await end_maintenance(conn, ready.clock, maintenances)

    maintenances, now_s = ready.rt.pieces.maintenances, 0.0
    monkeypatch.setattr(maintenances, "_now_s", lambda: now_s)
    with monkeypatch.context() as broken:
        broken.setattr(maintenance, "judge_again", poisoned)
        assert [await end(maintenances) for _ in range(5)] == [1, 0, 0, 0, 0]
        assert _failures("maintenance_window") - before == 1  # its pause is not over
        now_s = 10.0
        assert await end(maintenances) == 0
    assert _failures("maintenance_window") - before == 2
    assert await in_maintenance() == [ASSET]
    (begins,) = _said(caplog, ASSET)
    assert "KeyError: 'findings'" in begins
    now_s = 30.0
    assert await end(maintenances) == 1
    assert await in_maintenance() == [] and len(_said(caplog, ASSET)) == 2
    audited = await ready.rows("SELECT count(*) AS n FROM audit_entry WHERE action = 'asset.maintenance_over'")
    assert audited == [{"n": 2}]


async def test_a_job_that_cannot_be_taken_up_again_stops_no_other(
    ready: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job died while another of its name waited: it cannot wait beside it, until that one was done."""

    async def job(key: str, status: str) -> int:
        (row,) = await ready.rows(
            "INSERT INTO public.procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args, status)"
            " VALUES ('default', 'advance_case', 0, %s, '{}', %s) RETURNING id",
            key, status,
        )  # fmt: skip
        return int(row["id"])

    died, waits, other = await job("case:1", "doing"), await job("case:1", "todo"), await job("case:2", "doing")
    app = worker_app(ready.rt, ready.runner)
    await app.open_async(ready.rt.pool)
    jobs, now_s, before = ready.rt.pieces.jobs, 0.0, _failures("stalled_job")
    monkeypatch.setattr(jobs, "_now_s", lambda: now_s)

    async def states() -> list[str]:
        found = await ready.rows("SELECT id, status FROM public.procrastinate_jobs")
        by_id = {row["id"]: str(row["status"]) for row in found}
        return [by_id.get(one, "gone") for one in (died, waits, other)]

    for _ in range(3):
        await retry_stalled(app, jobs)
    assert await states() == ["doing", "todo", "todo"]
    assert _failures("stalled_job") - before == 1 and len(_said(caplog, f"job {died}")) == 1
    await ready.rows("DELETE FROM public.procrastinate_jobs WHERE id = %s RETURNING 1", waits)
    now_s = 10.0
    await retry_stalled(app, jobs)
    assert await states() == ["todo", "gone", "todo"]
    assert len(_said(caplog, f"job {died}")) == 2
    await app.close_async()


async def test_a_finding_that_cannot_be_judged_is_counted_and_stops_no_other(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, sound = finding_at(ready.clock), finding_at(ready.clock)
    for finding in (poisoned, sound):
        async with ready.rt.pool.connection() as conn:
            await store_finding(conn, ready.clock, finding)
    real, before = worker.triage_finding, _failures("triage_finding")

    async def judge(rt: Any, finding_id: str, revision: int) -> str | None:
        if finding_id == poisoned.finding_id:
            raise AttributeError("no such evidence")
        return await real(rt, finding_id, revision)

    monkeypatch.setattr(worker, "triage_finding", judge)
    app = worker_app(ready.rt, ready.runner)
    await app.open_async(ready.rt.pool)
    await app.run_worker_async(wait=False, install_signal_handlers=False, delete_jobs="successful")
    await app.close_async()
    cases = await ready.rows("SELECT finding_id FROM repair_case")
    assert [str(row["finding_id"]) for row in cases] == [sound.finding_id]
    waiting = "SELECT args, attempts FROM public.procrastinate_jobs WHERE status = 'todo'"
    (job,) = await ready.rows(waiting)
    assert job["args"]["finding_id"] == poisoned.finding_id
    assert _failures("triage_finding") - before == job["attempts"] >= 1  # a busy machine comes to the next try, too


async def test_the_worker_lives_with_poison_of_every_kind(
    ready: Stage, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame of all: a real worker, its loops quick, each kind poisoned, until every kind has failed."""
    await _other_asset(ready)
    case_id = await ready.finding()
    long_ago = ready.clock.now() - timedelta(days=400)
    await ready.rows("UPDATE asset SET maintenance_until = %s RETURNING 1", long_ago)
    await ready.rows("UPDATE timer SET due_at = %s WHERE case_id = %s RETURNING 1", long_ago, case_id)
    await ready.rows(
        "INSERT INTO escalation (escalation_id, tenant_id, case_id, reason, summary, to_person, raised_at, due_at,"
        " context, options) VALUES (gen_random_uuid(), %s, %s, 'odd', 'odd', 'marta', %s, %s, '{}', '[{}]')"
        " RETURNING 1",
        TENANT, case_id, long_ago, long_ago,
    )  # fmt: skip
    kinds = ("timer", "reminder", "health_of_asset", "maintenance_window")
    before = {kind: _failures(kind) for kind in kinds}
    stop = asyncio.Event()

    def broken(*_arguments: object, **_named: object) -> None:
        raise AttributeError("no such field")

    async def until_all_failed(_rt: object) -> None:
        if all(_failures(kind) > before[kind] for kind in kinds):
            stop.set()

    monkeypatch.setattr(timers, "load_case", broken)
    monkeypatch.setattr(maintenance, "judge_again", broken)
    monkeypatch.setattr("fleet_server.health.refresh.assess", broken)
    for name in ("SWEEP_S", "HOOK_S"):
        monkeypatch.setattr(worker, name, 0.05)
    await asyncio.wait_for(worker.run_worker(settings_for(dsn), [until_all_failed], stop=stop), 20)
    assert stop.is_set()
