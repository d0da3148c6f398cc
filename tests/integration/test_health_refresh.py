"""Health of whole assets on a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.database import drop_database, new_database, settings_for
from support.wire import FakeAgent

from fleet_core.clock import SimulatedClock
from fleet_server.health.refresh import refresh_health
from fleet_server.ingest.decoder import Message
from fleet_server.ingest.pipeline import Pipeline
from fleet_server.registry import SAMPLE, import_registry, parse_registry
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import open_pool, transaction

pytestmark = pytest.mark.integration


async def test_the_asset_follows_its_worst_part_its_data_and_its_silence(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    settings, clock, agent = settings_for(dsn), SimulatedClock(), FakeAgent()
    owner, worker = await open_pool(settings, "owner", size=1), await open_pool(settings, "worker", size=1)
    ingest = await open_pool(settings, "ingest", size=1)
    async with transaction(owner) as conn:
        await import_registry(conn, clock, parse_registry(SAMPLE), actor="system:test")
    pipeline = Pipeline(ingest, Partitions(owner), clock)
    await pipeline.tend()
    now = clock.now()
    told = [agent.device_birth(), agent.samples(now, (1.0, float("nan"))), agent.finding(now)]
    await pipeline.process([Message(*message, now) for message in told])

    async def look() -> tuple[str, bool, float]:
        async with transaction(worker) as conn:
            assert await refresh_health(conn, clock) == 1
            row = await (await conn.execute("SELECT level, stale, data_quality FROM health WHERE slot = ''")).fetchone()
        assert row is not None
        return row["level"], row["stale"], row["data_quality"]

    assert await look() == ("degrading", False, 0.5)
    clock.shift(timedelta(hours=2).total_seconds())  # periods are 10 minutes
    assert await look() == ("degrading", True, 0.5)
    async with transaction(worker) as conn:  # without counting, the last count stands
        await refresh_health(conn, clock, count_quality=False)
        row = await (await conn.execute("SELECT data_quality FROM health WHERE slot = ''")).fetchone()
    assert row == {"data_quality": 0.5}
    for pool in (owner, worker, ingest):
        await pool.close()
    drop_database(postgres_dsn, dsn)
