"""Keys become ranges and go, and still every batch is stored exactly once; silent outboxes; changed units."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from support.database import drop_database, new_database, settings_for
from support.wire import FakeAgent

from fleet_core.batches import Schema
from fleet_core.clock import SimulatedClock
from fleet_core.commands import decode_command
from fleet_core.errors import BadConfig
from fleet_core.put_off import PutOff
from fleet_core.telemetry import MetricSpec
from fleet_server.ingest.compaction import WRITERS_LOCK, compact
from fleet_server.ingest.decoder import Message
from fleet_server.ingest.ledger import Ledger, read_ledger
from fleet_server.ingest.pipeline import Pipeline
from fleet_server.ingest.service import unaccounted
from fleet_server.ingest.session import RateLimit, resend_requests
from fleet_server.ingest.write_off import write_off
from fleet_server.registry import SAMPLE, import_registry, parse_registry
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import Pool, as_reader, open_pool, transaction
from fleet_server.store.sql import queries

pytestmark = pytest.mark.integration
DAYS = timedelta(days=1)
log = logging.getLogger("test")


@dataclass
class Yard:
    """A pipeline with the sample registry, its clock, and ways to look."""

    clock: SimulatedClock
    pipeline: Pipeline
    pool: Pool
    owner: Pool
    web: Pool
    streams: PutOff
    time_s: float = 0.0

    async def feed(self, *messages: tuple[str, bytes]) -> tuple[set[int], dict[int, str]]:
        """Numbers acknowledged as stored, and those refused with their reasons."""
        now = self.clock.now()
        await self.pipeline.process([Message(topic, payload, now) for topic, payload in messages])
        said = [decode_command(payload) for _, payload in self.pipeline.owed()]
        stored = {n for one in said for first, last in one.stored for n in range(first, last + 1)}
        return stored, {n: reason for one in said for n, reason in one.refused}

    async def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        async with transaction(self.owner) as conn:
            return await (await conn.execute(statement, values)).fetchall()

    async def count(self, table: str) -> int:
        return int((await self.rows(f"SELECT count(*) AS n FROM {table}"))[0]["n"])

    async def ledger(self, **limits: Any) -> Ledger:
        async with transaction(self.owner) as conn:
            return await read_ledger(conn, **{"grace_s": 0.0, "deep": True, **limits})


@pytest.fixture
async def yard(postgres_dsn: str) -> AsyncIterator[Yard]:
    dsn = new_database(postgres_dsn)
    settings = settings_for(dsn)
    clock = SimulatedClock()
    pool, owner = await open_pool(settings, "ingest", size=3), await open_pool(settings, "owner", size=3)
    web = await open_pool(settings, "web", size=1)
    async with transaction(owner) as conn:
        await import_registry(conn, clock, parse_registry(SAMPLE), actor="system:test")
    pipeline = Pipeline(pool, Partitions(owner), clock)
    await pipeline.tend()
    made = Yard(clock, pipeline, pool, owner, web, PutOff(log, "{} fails", "{} works", now_s=lambda: made.time_s))
    yield made
    for one in (pool, owner, web):
        await one.close()
    drop_database(postgres_dsn, dsn)


@pytest.mark.parametrize("seed", range(4))
async def test_exactly_once_whatever_was_compacted_when(yard: Yard, seed: int) -> None:
    """Against a set: batches in any order, again and again, between rounds of small chunks and passing days."""
    rng = random.Random(seed)
    agents = [FakeAgent(), FakeAgent()]
    await yard.feed(agents[0].device_birth())
    made: dict[tuple[str, int], tuple[str, bytes]] = {}
    stored: set[tuple[str, int]] = set()
    for _ in range(40):
        agent = rng.choice(agents)
        if rng.random() < 0.1:
            agent.skip()  # a number that never comes; what follows starts a chain of its own
            agent.prev = bytes(32)
        for _ in range(rng.randint(1, 6)):
            message = agent.samples(yard.clock.now())
            made[agent.outbox_id, agent.number] = message
        chosen = rng.sample(sorted(made), rng.randint(1, min(8, len(made))))
        acknowledged, refused = await yard.feed(*(made[one] for one in chosen))
        assert (acknowledged, refused) == ({number for _, number in chosen}, {})
        stored |= set(chosen)
        if rng.random() < 0.5:
            await compact(yard.owner, yard.clock.now() - 5 * DAYS, yard.streams, chunk=rng.choice((2, 3, 100)))
        yard.clock.shift(rng.choice((0.0, 3600.0, 86_400.0)))
        if rng.random() < 0.3:
            ledger = await yard.ledger()
            assert (ledger.totals.stored, ledger.faults) == (len(stored), [])
    yard.clock.shift(10 * 86_400.0)
    await compact(yard.owner, yard.clock.now() - 5 * DAYS, yard.streams)
    assert await yard.count("batch_key") == 0 and await yard.count("samples") == 2 * len(stored)
    ranges = await yard.rows(
        "SELECT outbox_id::text AS id, first_batch AS first, last_batch AS last FROM ledger_stored"
    )
    told = {(row["id"], n) for row in ranges for n in range(row["first"], row["last"] + 1)}
    assert told == stored
    acknowledged, refused = await yard.feed(*(made[one] for one in sorted(made)))
    assert (acknowledged, refused) == ({number for _, number in made}, {})
    assert await yard.count("samples") == 2 * len(made)
    assert (await yard.ledger()).faults == []


async def test_a_clone_is_known_as_long_as_its_key_is_kept(yard: Yard) -> None:
    agent = FakeAgent()
    clone = FakeAgent(outbox_id=agent.outbox_id)
    await yard.feed(agent.device_birth(), agent.samples(yard.clock.now()))
    forged = clone.samples(yard.clock.now(), (9.0,))
    done = await compact(yard.owner, yard.clock.now() - 30 * DAYS, yard.streams)
    assert (done.folded, done.forgotten) == (1, 0)
    assert (await yard.feed(forged))[1] == {1: "digest_clash"}
    yard.clock.shift(31 * 86_400.0)
    assert (await compact(yard.owner, yard.clock.now() - 30 * DAYS, yard.streams)).forgotten == 1
    assert await yard.feed(forged) == ({1}, {})  # a duplicate for all anybody knows; nothing of it is stored
    assert await yard.count("samples") == 2


async def test_deep_finds_in_ranges_what_it_finds_in_batches(yard: Yard) -> None:
    agent = FakeAgent()
    await yard.feed(agent.device_birth(), *(agent.samples(yard.clock.now()) for _ in range(3)))
    agent.prev = b"\1" * 32
    await yard.feed(agent.samples(yard.clock.now()))
    await yard.rows("DELETE FROM samples WHERE batch_no = 2 RETURNING 1")
    await compact(yard.owner, yard.clock.now() + DAYS, yard.streams)
    assert await yard.count("batch_key") == 0
    faults = (await yard.ledger()).faults
    assert [fault.split("): ")[1] for fault in faults] == [
        "24 samples declared, 18 stored", "1 times the hash chain does not continue"
    ]  # fmt: skip
    await yard.feed(agent.samples(yard.clock.now()))
    agent.prev = b"\2" * 32
    await yard.feed(agent.samples(yard.clock.now()))
    assert sum("does not continue" in fault for fault in (await yard.ledger()).faults) == 2


async def test_a_missing_number_before_a_range_is_explained_by_nothing(yard: Yard) -> None:
    agent = FakeAgent()
    agent.skip()
    agent.prev = bytes(32)
    await yard.feed(agent.device_birth(), agent.samples(yard.clock.now()))
    await compact(yard.owner, yard.clock.now() + DAYS, yard.streams)
    assert (await yard.ledger(grace_s=60.0)).totals.in_grace == 1
    assert (await yard.ledger()).streams[0].unexplained_ranges == [(1, 1)]


async def test_two_compactors_and_a_writer_do_not_wait_for_each_other(yard: Yard) -> None:
    agent = FakeAgent()
    await yard.feed(agent.device_birth(), agent.samples(yard.clock.now()))
    async with transaction(yard.pool) as writer:
        await writer.execute(queries("ingest").share_keys, {"lock": WRITERS_LOCK})
        busy = await compact(yard.owner, yard.clock.now() + DAYS, yard.streams)
    assert (busy.folded, busy.forgotten, await yard.count("batch_key")) == (1, 0, 1)
    async with transaction(yard.owner) as other:
        await other.execute("SELECT pg_advisory_xact_lock(%s)", (0x434F4D50,))
        assert (await compact(yard.owner, yard.clock.now() + DAYS, yard.streams)).forgotten == 0
    assert (await compact(yard.owner, yard.clock.now() + DAYS, yard.streams)).forgotten == 1


@pytest.mark.parametrize("refuses", ["INSERT ON ledger_stored", "DELETE ON batch_key"])
async def test_an_outbox_that_cannot_be_compacted_stops_no_other(
    yard: Yard, refuses: str, caplog: pytest.LogCaptureFixture
) -> None:
    poisoned, sound = sorted((FakeAgent(), FakeAgent()), key=lambda agent: agent.outbox_id)
    await yard.feed(poisoned.device_birth())
    await yard.feed(*(agent.samples(yard.clock.now()) for agent in (poisoned, sound) for _ in range(3)))
    row = "NEW" if refuses.startswith("INSERT") else "OLD"
    async with transaction(yard.owner) as conn:
        await conn.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN IF {row}.outbox_id = '{poisoned.outbox_id}' THEN RAISE 'odd row'; END IF; RETURN {row}; END $$"
        )
        await conn.execute(f"CREATE TRIGGER odd BEFORE {refuses} FOR EACH ROW EXECUTE FUNCTION refuse()")

    async def left() -> list[tuple[str, int]]:
        rows = await yard.rows("SELECT outbox_id::text AS id, count(*) AS n FROM batch_key GROUP BY 1")
        return [(row["id"], row["n"]) for row in rows]

    for _ in range(3):
        await compact(yard.owner, yard.clock.now() + DAYS, yard.streams, chunk=2)
    assert await left() == [(poisoned.outbox_id, 3)]
    yard.time_s = 10.0
    await compact(yard.owner, yard.clock.now() + DAYS, yard.streams, chunk=2)
    (begins,) = [record.getMessage() for record in caplog.records]
    assert begins.startswith(f"{poisoned.outbox_id} of agent-1 fails: odd row")
    assert (await yard.ledger()).faults == []
    async with transaction(yard.owner) as conn:
        await conn.execute("DROP FUNCTION refuse CASCADE")
    yard.time_s = 30.0
    await compact(yard.owner, yard.clock.now() + DAYS, yard.streams, chunk=2)
    assert await left() == []
    (_, over) = [record.getMessage() for record in caplog.records]
    assert over.endswith("works after 30.0 s, 2 failures")


async def test_an_outbox_that_falls_silent_with_batches_is_a_fault(yard: Yard) -> None:
    agent = FakeAgent()
    agent.number = 5
    await yard.feed(agent.node_birth(held=[(1, 5)]))
    ledger = await yard.ledger()
    assert ledger.balanced and ledger.streams[0].silent_since is None
    await yard.rows("UPDATE ledger_held SET recorded_at = recorded_at - interval '25 hours' RETURNING 1")
    ledger = await yard.ledger()
    assert (ledger.totals.held, ledger.totals.unexplained, ledger.balanced) == (5, 0, False)
    assert "holds 5 batches" in ledger.faults[0] and ledger.document()["agents"][0]["silent_since"]
    assert (await yard.ledger(held_report_age_s=30 * 3600.0)).balanced
    await yard.feed(agent.node_birth(held=[]))  # it speaks again, and holds nothing: then they are missing
    assert (await yard.ledger()).totals.unexplained == 5


async def test_a_person_writes_off_what_a_lost_device_held(yard: Yard) -> None:
    agent, limits = FakeAgent(), {"grace_s": 0.0, "held_report_age_s": 3600.0}
    agent.number = 5
    kept = FakeAgent(outbox_id=agent.outbox_id).samples(yard.clock.now())
    await yard.feed(agent.device_birth(), agent.node_birth(held=[(1, 2), (4, 5)]))
    with pytest.raises(BadConfig, match="not silent"):
        async with transaction(yard.owner) as conn:
            await write_off(conn, yard.clock, UUID(agent.outbox_id), **limits)
    await yard.rows("UPDATE ledger_held SET recorded_at = recorded_at - interval '2 hours' RETURNING 1")
    async with transaction(yard.owner) as conn:
        assert await write_off(conn, yard.clock, UUID(agent.outbox_id), **limits) == 4
    ledger = await yard.ledger(held_report_age_s=3600.0)
    assert (ledger.totals.gaps, ledger.totals.held, ledger.faults) == (4, 0, [])
    audited = await yard.rows("SELECT tenant_id, body FROM audit_entry WHERE action = 'ledger.written_off'")
    assert [(row["tenant_id"], row["body"]["batches"]) for row in audited] == [("acme", 4)]
    await yard.feed(kept)  # it turns up after all
    totals = (await yard.ledger()).totals
    assert (totals.stored, totals.gaps) == (1, 3)


async def test_what_a_restored_database_lacks_is_asked_for_again(yard: Yard) -> None:
    agent = FakeAgent()
    messages = [agent.samples(yard.clock.now()) for _ in range(4)]
    await yard.feed(agent.device_birth(), *messages)
    for lost in ("samples", "batch_key"):  # as a backup from before batches 3 and 4
        await yard.rows(f"DELETE FROM {lost} WHERE batch_no > 2 RETURNING 1")
    await yard.feed(agent.node_birth())
    limit = RateLimit(600.0)
    ledger = await yard.ledger()
    missing = unaccounted(ledger, yard.pipeline.directory, limit, 0.0)
    assert missing == {(("acme-berlin", "agent-1"), agent.outbox_id): [(3, 4)]}
    assert unaccounted(ledger, yard.pipeline.directory, limit, 60.0) == {}
    ((_, payload),) = resend_requests(missing)
    asked = [number for first, last in decode_command(payload).resend for number in range(first, last + 1)]
    assert await yard.feed(*(messages[number - 1] for number in asked)) == ({3, 4}, {})
    assert (await yard.ledger()).balanced
    assert unaccounted(await yard.ledger(), yard.pipeline.directory, RateLimit(1.0), 0.0) == {}


async def test_no_value_changes_its_unit(yard: Yard) -> None:
    now = yard.clock.now()
    in_g = FakeAgent()
    await yard.feed(in_g.device_birth(), in_g.samples(now - timedelta(hours=2), (1.0,)))
    schema = Schema((MetricSpec("vibration", "m/s2", "bearing-1", 600.0), MetricSpec("temperature", "Cel")))
    in_si = FakeAgent(schema=schema)
    await yard.feed(in_si.device_birth(), in_si.samples(now - timedelta(hours=1), (9.8,)))
    await yard.feed(in_g.samples(now - timedelta(hours=3), (2.0,)))  # backfill under the former schema

    async def seen() -> tuple[list[tuple[str, float]], list[float], list[str]]:
        span = (now - DAYS, now)
        async with transaction(yard.web) as conn:
            await as_reader(conn, None)
            latest = await (await conn.execute("SELECT * FROM latest_vitals('robot-1')")).fetchall()
            points = await (await conn.execute("SELECT v FROM vitals('robot-1', 'vibration', %s, %s)", span)).fetchall()
            listed = await (await conn.execute(queries("api_assets").series_of, {"asset_id": "robot-1"})).fetchall()
        vibration = [(row["unit"], row["v"]) for row in latest if row["metric"] == "vibration"]
        return vibration, [row["v"] for row in points], [row["unit"] for row in listed if row["metric"] == "vibration"]

    assert await seen() == ([("m/s2", 9.8)], [9.8], ["m/s2"])
    assert await yard.count("series") == 3  # the temperature's unit stayed
    await yard.feed(in_g.samples(now, (1.5,)))  # and back again
    assert await seen() == ([("[g]", 1.5)], [2.0, 1.0, 1.5], ["[g]"])
