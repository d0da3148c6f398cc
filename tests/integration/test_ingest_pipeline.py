"""The pipeline on a real PostgreSQL: every message meets exactly one fate, and the ledger adds up."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from support.database import drop_database, new_database, settings_for
from support.wire import FakeAgent

from fleet_core.clock import SimulatedClock
from fleet_core.commands import Command, decode_command
from fleet_core.put_off import PutOff
from fleet_core.sparkplug.topics import MessageType
from fleet_core.telemetry import DetectionState
from fleet_server.ingest import decoder
from fleet_server.ingest.decoder import Message
from fleet_server.ingest.ledger import Ledger, read_ledger
from fleet_server.ingest.pipeline import Pipeline
from fleet_server.registry import SAMPLE, import_registry, parse_registry
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import Pool, open_pool, transaction
from fleet_server.store.sql import queries

pytestmark = pytest.mark.integration
DAYS = PutOff(logging.getLogger("test"), "day {} fails", "day {} works")


@dataclass
class Bench:
    """A pipeline with the sample registry, and short ways to feed and look."""

    dsn: str
    clock: SimulatedClock
    pipeline: Pipeline
    pool: Pool
    owner: Pool

    async def feed(self, *messages: tuple[str, bytes]) -> list[Command]:
        now = self.clock.now()
        await self.pipeline.process([Message(topic, payload, now) for topic, payload in messages])
        return self.said()

    def said(self) -> list[Command]:
        return [decode_command(payload) for _, payload in self.pipeline.owed()]

    async def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        async with transaction(self.owner) as conn:
            return await (await conn.execute(statement, values)).fetchall()

    async def ledger(self, grace_s: float = 0.0) -> Ledger:
        async with transaction(self.owner) as conn:
            return await read_ledger(conn, grace_s=grace_s, deep=True)


@pytest.fixture
async def bench(postgres_dsn: str) -> AsyncIterator[Bench]:
    dsn = new_database(postgres_dsn)
    settings = settings_for(dsn)
    clock = SimulatedClock()
    pool, owner = await open_pool(settings, "ingest", size=3), await open_pool(settings, "owner", size=2)
    async with transaction(owner) as conn:
        await import_registry(conn, clock, parse_registry(SAMPLE), actor="system:test")
    pipeline = Pipeline(pool, Partitions(owner), clock)
    await pipeline.tend()
    yield Bench(dsn, clock, pipeline, pool, owner)
    await pool.close()
    await owner.close()
    drop_database(postgres_dsn, dsn)


async def test_stored_once_however_often_it_comes(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.node_birth(), agent.device_birth())
    first, second = agent.samples(bench.clock.now()), agent.samples(bench.clock.now())
    said = await bench.feed(second, first, second)
    assert [command.stored for command in said] == [((1, 2),)]
    assert [command.stored for command in await bench.feed(first)] == [((1, 1),)]  # a duplicate is answered again
    assert len(await bench.rows("SELECT FROM samples")) == 4
    ledger = await bench.ledger()
    assert (ledger.totals.batches, ledger.totals.stored, ledger.totals.unexplained) == (2, 2, 0)
    assert ledger.balanced, ledger.faults


async def test_unknown_schema_waits_for_the_birth(bench: Bench) -> None:
    agent = FakeAgent()
    said = await bench.feed(agent.samples(bench.clock.now()), agent.samples(bench.clock.now()))
    assert [command.rebirth for command in said] == [True]
    assert len(bench.pipeline.parking) == 2
    said = await bench.feed(agent.device_birth())
    assert [command.stored for command in said] == [((1, 2),)]
    assert len(bench.pipeline.parking) == 0


async def test_another_workers_birth_is_found_in_the_database(bench: Bench) -> None:
    agent = FakeAgent()
    other = Pipeline(bench.pool, Partitions(bench.owner), bench.clock)
    await other.tend()
    await other.process([Message(*agent.device_birth(), bench.clock.now())])
    await bench.feed(agent.samples(bench.clock.now()))
    await bench.pipeline.tend()
    assert [command.stored for command in bench.said()] == [((1, 1),)]


async def test_bad_neighbours_are_quarantined_alone(bench: Bench) -> None:
    agent, stranger = FakeAgent(), FakeAgent(agent_id="stranger")
    await bench.feed(agent.device_birth())
    good = agent.samples(bench.clock.now())
    impossible = agent.samples(bench.clock.now() + timedelta(days=30))
    stray = FakeAgent(site_id="other-site").samples(bench.clock.now())
    junk = (good[0], b"\xff\x00junk")
    said = await bench.feed(good, impossible, stray, junk, stranger.samples(bench.clock.now()), ("nonsense", b""))
    assert {command.stored for command in said if command.stored} == {((1, 1),)}
    assert [(number, reason) for command in said for number, reason in command.refused] == [(2, "time")]
    await bench.pipeline.tend()  # the stranger is looked for once more before it is judged
    rows = await bench.rows("SELECT reason, agent_id FROM quarantine")
    assert {row["reason"] for row in rows} == {"time", "group_mismatch", "payload_encoding", "unknown_agent", "topic"}
    ledger = await bench.ledger()
    assert (ledger.totals.stored, ledger.totals.quarantined, ledger.totals.unexplained) == (1, 1, 0)


async def test_refused_again_without_a_second_row(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    impossible = agent.samples(bench.clock.now() + timedelta(days=30))
    for _ in range(2):
        said = await bench.feed(impossible)
        assert said[0].refused == ((1, "time"),)
    assert len(await bench.rows("SELECT FROM quarantine")) == 1


async def test_same_number_with_other_content_is_a_clash(bench: Bench) -> None:
    agent = FakeAgent()
    clone = FakeAgent(outbox_id=agent.outbox_id)
    await bench.feed(agent.device_birth(), agent.samples(bench.clock.now()))
    said = await bench.feed(clone.samples(bench.clock.now(), (9.0,)))
    assert said[0].refused == ((1, "digest_clash"),)
    assert (await bench.ledger()).totals.stored == 1  # stored comes before quarantined


async def test_what_the_database_refuses_is_found_by_halving(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    batches = [agent.samples(bench.clock.now(), (float(index),)) for index in range(8)]
    from fleet_server.ingest import writer

    plain = writer._summary

    def poisoned(times: Any, values: Any) -> Any:
        row = list(plain(times, values))
        if values[0] == 5.0:
            row[2] = None  # the column is NOT NULL
        return tuple(row)

    monkeypatch.setattr(writer, "_summary", poisoned)
    said = await bench.feed(*batches)
    assert [r for command in said for r in command.stored] == [(1, 5), (7, 8)]
    assert [n for command in said for n, _ in command.refused] == [6]
    ledger = await bench.ledger()
    assert (ledger.totals.stored, ledger.totals.quarantined) == (7, 1)
    assert ledger.balanced, ledger.faults


async def test_a_finding_is_stored_with_its_job_and_health(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    await bench.feed(agent.finding(bench.clock.now()))
    jobs = await bench.rows("SELECT task_name, args FROM public.procrastinate_jobs")
    assert [job["task_name"] for job in jobs] == ["triage_finding"]
    found = await bench.rows("SELECT finding_id::text, tenant_id FROM finding")
    assert jobs[0]["args"] == {"finding_id": found[0]["finding_id"], "revision": 1}
    assert found[0]["tenant_id"] == "acme"
    health = await bench.rows("SELECT slot, level FROM health")
    assert health == [{"slot": "bearing-1", "level": "degrading"}]


async def test_late_news_overwrites_neither_latest_nor_health(bench: Bench) -> None:
    agent = FakeAgent()
    now = bench.clock.now()
    await bench.feed(agent.device_birth())
    await bench.feed(agent.samples(now, (7.0,)), agent.finding(now))
    late = now - timedelta(hours=5)
    await bench.feed(agent.samples(late, (1.0,)), agent.finding(late, DetectionState.WATCH))
    assert {row["v"] for row in await bench.rows("SELECT v FROM latest")} == {7.0}
    assert [row["level"] for row in await bench.rows("SELECT level FROM health")] == ["degrading"]
    assert len(await bench.rows("SELECT FROM state_change")) == 2


async def test_a_swap_closes_and_opens_component_rows(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    bench.clock.shift(3600)
    agent.bearing_serial = "B-0002"
    await bench.feed(agent.device_birth(firmware="4.2.1"), agent.device_birth(firmware="4.2.1"))
    rows = await bench.rows("SELECT serial, valid_to IS NULL AS installed FROM component ORDER BY component_id")
    assert rows == [{"serial": "B-0001", "installed": False}, {"serial": "B-0002", "installed": True}]
    audit = await bench.rows("SELECT body FROM audit_entry WHERE action = 'component.swapped'")
    assert [entry["body"]["is"] for entry in audit] == ["B-0002"]
    firmware = await bench.rows("SELECT firmware FROM firmware_history ORDER BY seen_at")
    assert [row["firmware"] for row in firmware] == ["4.2.0", "4.2.1"]


async def test_a_device_that_does_not_know_of_an_engineers_swap_does_not_undo_it(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    async with transaction(bench.owner) as conn:  # as an engineer's report does
        await conn.execute("UPDATE component SET valid_to = valid_from WHERE serial = 'B-0001'")
        await conn.execute(
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, valid_from, reported_serial)"
            " SELECT tenant_id, asset_id, slot, component_type, 'B-0002', valid_from, serial FROM component"
        )
    installed = "SELECT serial FROM component WHERE valid_to IS NULL"
    await bench.feed(agent.device_birth())
    assert (await bench.rows(installed))[0]["serial"] == "B-0002"
    for serial in ("B-0002", "B-0001"):  # it learns of the swap; the old part is fitted again, which is news
        agent.bearing_serial = serial
        await bench.feed(agent.device_birth())
        assert (await bench.rows(installed))[0]["serial"] == serial


async def test_a_held_report_that_was_overtaken_changes_nothing(bench: Bench) -> None:
    agent = FakeAgent()
    older = agent.node_birth()
    agent.number = 5
    await bench.feed(agent.node_birth(held=[(1, 5)]), older)
    assert [row["next_batch"] for row in await bench.rows("SELECT next_batch FROM ledger_held")] == [6]


async def test_what_even_the_quarantine_refuses_holds_nobody_up(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    async with transaction(bench.owner) as conn:
        await conn.execute("ALTER TABLE quarantine ADD CHECK (reason <> 'time')")
    ancient = agent.samples(bench.clock.now() - timedelta(days=800))
    said = await bench.feed(ancient, agent.samples(bench.clock.now()))
    assert [(command.stored, command.refused) for command in said] == [(((2, 2),), ())]


async def test_old_junk_is_forgotten_but_not_that_a_batch_was_refused(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth(), agent.samples(bench.clock.now() - timedelta(days=800)))
    await bench.feed((agent.topic(MessageType.NDATA), b"junk"))
    old = "SELECT batch_no, octet_length(payload) AS kept FROM quarantine ORDER BY quarantine_id"
    assert [(row["batch_no"], row["kept"] > 0) for row in await bench.rows(old)] == [(1, True), (None, True)]
    async with transaction(bench.owner) as conn:
        oldest = bench.clock.now() + timedelta(seconds=1)
        await conn.execute(queries("ingest").forget_quarantined, {"oldest": oldest})
    assert await bench.rows(old) == [{"batch_no": 1, "kept": 0}]
    assert (await bench.ledger()).totals.quarantined == 1


async def test_samples_dropped_by_the_retention_are_not_missed(bench: Bench) -> None:
    agent = FakeAgent()
    now = bench.clock.now()
    await bench.feed(agent.device_birth(), agent.samples(now - timedelta(days=40)), agent.samples(now))
    assert (await bench.ledger()).faults == []
    await Partitions(bench.owner).drop_before((now - timedelta(days=30)).date(), DAYS)
    assert len((await bench.ledger()).faults) == 1
    async with transaction(bench.owner) as conn:
        assert (await read_ledger(conn, grace_s=0, deep=True, oldest=now - timedelta(days=29))).faults == []


async def test_deaths_count_only_for_their_own_birth(bench: Bench) -> None:
    from fleet_core.sparkplug.session import encode_death

    agent = FakeAgent(bd_seq=3)
    await bench.feed(agent.node_birth())
    online = "SELECT online FROM agent"
    await bench.feed((agent.topic(MessageType.NDEATH), encode_death(2)))
    assert (await bench.rows(online))[0]["online"] is True
    await bench.feed((agent.topic(MessageType.NDEATH), encode_death(3)))
    assert (await bench.rows(online))[0]["online"] is False


async def test_the_ledger_accounts_for_gaps_held_and_missing(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    now = bench.clock.now()
    stored = [agent.samples(now)]
    for _ in range(3):  # 2, 3: evicted; 4: held
        agent.skip()
    agent.prev = bytes(32)
    stored.append(agent.gap(now, 2, 3))  # 5
    agent.skip()  # 6: gone
    await bench.feed(*stored, agent.node_birth(held=[(4, 4)]))
    ledger = await bench.ledger()
    counts = ledger.totals
    assert (counts.batches, counts.stored, counts.gaps, counts.held, counts.unexplained) == (6, 2, 2, 1, 1)
    assert ledger.streams[0].unexplained_ranges == [(6, 6)]
    assert (await bench.ledger(grace_s=60.0)).totals.in_grace == 1
    assert sum((counts.stored, counts.quarantined, counts.gaps, counts.held, counts.unexplained)) == counts.batches


async def test_an_absent_database_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    real, refusals = bench.pipeline._writer.store, iter([True, True, False])

    async def away(batches: Any) -> Any:
        if next(refusals):
            raise psycopg.OperationalError("the server closed the connection")
        return await real(batches)

    monkeypatch.setattr(bench.pipeline._writer, "store", away)
    said = await bench.feed(agent.samples(bench.clock.now()))
    assert said[0].stored == ((1, 1),)


async def test_concurrent_workers_store_once(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    batches = [agent.samples(bench.clock.now()) for _ in range(40)]
    workers = [Pipeline(bench.pool, Partitions(bench.owner), bench.clock) for _ in range(3)]
    for worker in workers:
        await worker.tend()
        await worker.process([Message(*agent.device_birth(), bench.clock.now())])
    now = bench.clock.now()
    messages = [Message(topic, payload, now) for topic, payload in batches]
    await asyncio.gather(*(worker.process(list(reversed(messages)) if i % 2 else messages)
                           for i, worker in enumerate(workers)))  # fmt: skip
    assert len(await bench.rows("SELECT FROM samples")) == 80
    assert (await bench.ledger()).balanced


async def test_ingest_role_cannot_undo(bench: Bench) -> None:
    async with transaction(bench.pool) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await conn.execute("DELETE FROM batch_key")


async def test_retention_drops_whole_days(bench: Bench) -> None:
    agent = FakeAgent()
    await bench.feed(agent.device_birth())
    now = bench.clock.now()
    await bench.feed(agent.samples(now, (1.0,)), agent.samples(now - timedelta(days=20), (1.0,)))
    partitions = Partitions(bench.owner)
    dropped = await partitions.drop_before((now - timedelta(days=10)).date(), DAYS)
    assert len(dropped) == 2
    assert len(await bench.rows("SELECT FROM samples")) == 2


async def test_a_day_that_cannot_be_dropped_stops_no_other(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    agent, now = FakeAgent(), bench.clock.now()
    await bench.feed(agent.device_birth())
    await bench.feed(*(agent.samples(now - timedelta(days=days), (1.0,)) for days in (40, 30, 20, 0)))
    days = PutOff(logging.getLogger("test"), "day {} fails", "day {} works")
    oldest = f"samples_{now - timedelta(days=40):%Y%m%d}"
    async with transaction(bench.owner) as conn:
        await conn.execute(f"CREATE VIEW kept AS SELECT * FROM {oldest}")
    partitions, keep_from = Partitions(bench.owner), (now - timedelta(days=10)).date()
    assert len(await partitions.drop_before(keep_from, days)) == 4
    assert await partitions.drop_before(keep_from, days) == []
    (begins,) = [record.getMessage() for record in caplog.records]
    assert begins.startswith(f"day {(now - timedelta(days=40)).date()} fails") and "depends on" in begins
    assert len(await bench.rows("SELECT FROM samples")) == 4
    async with transaction(bench.owner) as conn:
        await conn.execute("DROP VIEW kept")
    assert oldest in await partitions.drop_before(keep_from, days)
    assert len(await bench.rows("SELECT FROM samples")) == 2 and len(caplog.records) == 2


@pytest.mark.parametrize("error", [AttributeError("columns"), KeyError("spec")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("parked", [False, True], ids=["at_once", "parked"])
async def test_a_message_that_cannot_be_decoded_for_a_fault_of_ours_is_quarantined_alone(
    bench: Bench, error: Exception, parked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, real = FakeAgent(), decoder.decode_batch

    def poisoned(payload: Any, schema: Any, device_id: str) -> Any:
        batch = real(payload, schema, device_id)
        if batch.number == 2:
            raise error
        return batch

    monkeypatch.setattr(decoder, "decode_batch", poisoned)
    birth, batches = agent.device_birth(), [agent.samples(bench.clock.now()) for _ in range(3)]
    await bench.feed(*([*batches, birth] if parked else [birth]))
    said = bench.said() + await bench.feed(*([] if parked else batches))
    quarantined = await bench.rows("SELECT batch_no, reason FROM quarantine")
    assert quarantined == [{"batch_no": 2, "reason": "internal"}]
    assert await bench.rows("SELECT batch_no FROM batch_key ORDER BY 1") == [{"batch_no": 1}, {"batch_no": 3}]
    assert parked or [command.refused for command in said if command.refused] == [((2, "internal"),)]


def test_sample_rows_are_dictionaries(fresh_database: str) -> None:
    with psycopg.connect(fresh_database, row_factory=dict_row) as conn:
        assert conn.execute("SELECT %s::uuid::text AS u", (str(uuid.UUID(int=1)),)).fetchone() == {
            "u": str(uuid.UUID(int=1))
        }
