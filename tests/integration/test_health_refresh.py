"""Health of whole assets on a real PostgreSQL."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from support.database import add_robots, drop_database, new_database, settings_for
from support.wire import FakeAgent

from fleet_core.clock import SimulatedClock
from fleet_core.put_off import PutOff
from fleet_server.health import refresh
from fleet_server.health.assess import Assessment, assess
from fleet_server.health.refresh import refresh_health
from fleet_server.ingest.decoder import Message
from fleet_server.ingest.pipeline import Pipeline
from fleet_server.registry import SAMPLE, import_registry, parse_registry
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import open_pool, transaction

pytestmark = pytest.mark.integration
log = logging.getLogger("test")


async def test_the_asset_follows_its_worst_part_its_data_and_its_silence(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    settings, clock, agent = settings_for(dsn), SimulatedClock(), FakeAgent()
    owner, worker = await open_pool(settings, "owner", size=1), await open_pool(settings, "worker", size=1)
    ingest = await open_pool(settings, "ingest", size=1)
    async with transaction(owner) as conn:
        await import_registry(conn, clock, parse_registry(SAMPLE), actor="system:test")
    pipeline = Pipeline(ingest, Partitions(owner), clock)
    await pipeline.tend()
    now, assets = clock.now(), PutOff(log, "{} fails", "{} works")
    told = [agent.device_birth(), agent.samples(now, (1.0, float("nan"))), agent.finding(now)]
    await pipeline.process([Message(*message, now) for message in told])

    async def look() -> tuple[str, bool, float]:
        async with transaction(worker) as conn:
            assert await refresh_health(conn, clock, assets) == 1
            row = await (await conn.execute("SELECT level, stale, data_quality FROM health WHERE slot = ''")).fetchone()
        assert row is not None
        return row["level"], row["stale"], row["data_quality"]

    assert await look() == ("degrading", False, 0.5)
    clock.shift(timedelta(hours=2).total_seconds())  # periods are 10 minutes
    assert await look() == ("degrading", True, 0.5)
    async with transaction(worker) as conn:  # without counting, the last count stands
        await refresh_health(conn, clock, assets, count_quality=False)
        row = await (await conn.execute("SELECT data_quality FROM health WHERE slot = ''")).fetchone()
    assert row == {"data_quality": 0.5}
    for pool in (owner, worker, ingest):
        await pool.close()
    drop_database(postgres_dsn, dsn)


@pytest.mark.parametrize("poison", ["cannot be assessed", "cannot be written"])
async def test_an_asset_that_cannot_be_assessed_or_written_stops_no_other(
    dsn: str, poison: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, now_s, counted = SimulatedClock(), 0.0, 0
    seen_at = clock.now()
    with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
        add_robots(conn, ["robot-1", "robot-2", "robot-3"], seen_at)
        conn.execute("UPDATE asset SET last_seen_at = %s", (seen_at,))
        conn.execute("UPDATE asset SET last_seen_at = %s WHERE asset_id = 'robot-2'", (seen_at - timedelta(days=1),))
    worker = await open_pool(settings_for(dsn), "worker", size=1)

    def count() -> None:
        nonlocal counted
        counted += 1

    def poisoned(*parts: Any, **named: Any) -> Assessment:
        found = assess(*parts, **named)
        if named["last_seen_at"] == seen_at:
            return found
        if poison == "cannot be assessed":
            raise KeyError("level")
        return replace(found, level="excellent")  # the table's check refuses it

    async def look() -> list[str]:
        async with transaction(worker) as conn:
            await refresh_health(conn, clock, assets)
            rows = await (await conn.execute("SELECT asset_id FROM health WHERE slot = '' ORDER BY 1")).fetchall()
        return [row["asset_id"] for row in rows]

    assets = PutOff(log, "asset {} fails", "asset {} works", on_failure=count, now_s=lambda: now_s)
    with monkeypatch.context() as broken:
        broken.setattr(refresh, "assess", poisoned)
        for later_s in (0.0, 2.0, 4.0, 10.0, 12.0):
            now_s = later_s
            assert await look() == ["robot-1", "robot-3"]
    assert counted == 2
    (begins,) = [record.getMessage() for record in caplog.records]
    assert begins.startswith("asset robot-2 fails")
    now_s = 30.0
    assert await look() == ["robot-1", "robot-2", "robot-3"]
    assert [record.getMessage()[:19] for record in caplog.records][1:] == ["asset robot-2 works"]
    await worker.close()
