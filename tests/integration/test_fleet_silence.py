"""An asset that fell silent is neither good nor online, whatever was said of it last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from support.database import drop_database, new_database, settings_for
from support.machines import Drive, state_told
from support.resolution import ASSET, SLOT, Servers, Stage, stage
from support.wire import FakeAgent

from fleet_core.clock import SimulatedClock
from fleet_core.sparkplug.session import encode_death
from fleet_server.api.models.assets import Asset
from fleet_server.api.models.fleet import FleetAsset, FleetOverview
from fleet_server.api.reads import assets, fleet
from fleet_server.health.assess import heard_since
from fleet_server.health.refresh import refresh_health
from fleet_server.ingest.decoder import Message
from fleet_server.ingest.pipeline import Pipeline
from fleet_server.registry import SAMPLE, import_registry, parse_registry
from fleet_server.resolution.failing import watch_running
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import open_pool, transaction

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def story(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as ready:
        yield ready


async def seen(story: Stage) -> tuple[FleetAsset, FleetOverview, Asset]:
    """The line of the fleet's table, the overview and the asset, as the API reads them now."""
    await watch_running(story.rt)
    now = story.clock.now()
    since = heard_since(now, story.clock.scale)
    async with story.rt.pool.connection() as conn:
        await refresh_health(conn, story.clock, story.rt.pieces.assets)
        (line,) = (await fleet.assets(conn, since)).items
        asset = await assets.asset(conn, ASSET, since)
        assert asset is not None
        return line, await fleet.overview(conn, now, since), asset


@pytest.mark.parametrize("level", ["healthy", "critical"])
async def test_who_is_not_heard_is_not_online_and_good_has_an_age(story: Stage, level: str) -> None:
    drive = Drive(story)
    await drive.live(24)
    await state_told(story, SLOT, level)
    async with story.rt.pool.connection() as conn:
        await conn.execute("UPDATE agent SET online = true, heard_at = last_seen_at")
    line, overview, asset = await seen(story)
    good = "good" if level == "healthy" else level
    assert (line.level, line.agent_online, line.running, overview.agents_online) == (good, True, "running", 1)
    assert asset.agent_online and asset.level == good
    heard_at = line.last_seen_at
    story.clock.shift(timedelta(days=3).total_seconds())  # no farewell came: the broker was restarted, say
    line, overview, asset = await seen(story)
    assert not line.agent_online and not asset.agent_online and overview.agents_online == 0
    assert line.level == asset.level == ("unknown" if level == "healthy" else "critical")
    assert (line.last_level, line.last_seen_at, line.stale) == (good, heard_at, True)
    counts = {count.level: count.assets for count in overview.levels}
    assert counts["good"] == 0 and counts[line.level] == 1
    assert line.running in ("silent", "failed")
    async with story.rt.pool.connection() as conn:
        assert (await fleet.assets(conn, heard_since(story.clock.now(), 1.0), level="good")).items == []


async def test_a_farewell_is_told_from_a_will(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    settings, clock, agent = settings_for(dsn), SimulatedClock(), FakeAgent()
    owner, ingest = await open_pool(settings, "owner", size=1), await open_pool(settings, "ingest", size=1)
    async with transaction(owner) as conn:
        await import_registry(conn, clock, parse_registry(SAMPLE), actor="system:test")
    pipeline = Pipeline(ingest, Partitions(owner), clock)
    await pipeline.tend()
    topic, birth = agent.node_birth()[0], agent.node_birth()[1]
    death_topic = topic.replace("NBIRTH", "NDEATH")
    async with transaction(owner) as conn:
        for sent_ms, left in ((-1, False), (60_000, True)):
            await pipeline.process([Message(topic, birth, clock.now())])
            row = await (await conn.execute("SELECT born_ms, bd_seq, left_at FROM fleet.agent")).fetchone()
            assert row is not None and row["born_ms"] is not None and row["left_at"] is None
            death = encode_death(row["bd_seq"], row["born_ms"] + sent_ms)
            await pipeline.process([Message(death_topic, death, clock.now())])
            row = await (await conn.execute("SELECT online, left_at FROM fleet.agent")).fetchone()
            assert row is not None and not row["online"] and (row["left_at"] is not None) is left
    for pool in (owner, ingest):
        await pool.close()
    drop_database(postgres_dsn, dsn)


async def test_a_failed_machine_is_critical_and_one_that_stopped_is_not_good(story: Stage) -> None:
    drive = Drive(story)
    await drive.live(24)
    await state_told(story, SLOT, "healthy")
    await seen(story)
    for state, level in (("running", "good"), ("resting", "good"), ("stopped", "watch"), ("failed", "critical")):
        async with story.rt.pool.connection() as conn:
            await conn.execute("UPDATE running_state SET state = %s WHERE slot = ''", (state,))
        line, overview, asset = await seen(story)
        assert line.running == state
        assert line.level == asset.level == level
        assert {count.level for count in overview.levels if count.assets} == {level}
