"""Ingest and the sequencer end, with the reason, when a loop of theirs fails as nobody foresaw.

No broker runs: that is an outage, and none of these tests is held up by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.database import drop_database, new_database, postgres_dsn  # noqa: F401 # a fixture

from demo.processes import free_port
from fleet_core.clock import SystemClock
from fleet_server.audit import sequencer
from fleet_server.audit.checkpoint import new_key
from fleet_server.ingest import metrics, mqtt, pipeline, service
from fleet_server.settings import Audit, Broker, Database, Settings
from fleet_server.store import leader

pytestmark = pytest.mark.integration

LOOPS = {
    "store": (service, "_store"),
    "answer": (service, "_answer"),
    "tend": (pipeline.Pipeline, "_judge_again"),
    "compact": (service, "compact"),
    "ask_again": (service, "read_ledger"),
    "retain": (service.Partitions, "ensure"),
    "broker": (mqtt.Uplinks, "_serve"),
    "host state": (mqtt.HostState, "_announce"),
    "election": (leader, "_take"),
    "metrics": (service, "serve_metrics"),
}
"""Each loop of ingest, and what it calls: module or class, and name."""


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> Iterator[str]:  # noqa: F811
    dsn = new_database(postgres_dsn)
    yield dsn
    drop_database(postgres_dsn, dsn)


@pytest.fixture
def settings(dsn: str) -> Settings:
    return Settings(database=Database(dsn=dsn), broker=Broker(host="127.0.0.1", port=free_port()))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEND_EVERY_S", "COMPACT_EVERY_S", "ASK_AGAIN_EVERY_S"):
        monkeypatch.setattr(service, name, 0.05)


@pytest.mark.parametrize("error", [AttributeError("batch"), KeyError("schema")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_loop_that_fails_as_nobody_foresaw_ends_ingest(
    settings: Settings, loop: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object, **_named: object) -> None:
        raise error

    where, name = LOOPS[loop]
    if loop == "tend":
        monkeypatch.setattr(pipeline.ParkingLot, "waiting_for", lambda _self: [("identity", "x")])
        monkeypatch.setattr(pipeline, "refresh_identities", _nothing)
    monkeypatch.setattr(where, name, broken)
    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(service.run_ingest(settings, SystemClock()), 15)
    assert raised.value is error


async def _nothing(*_arguments: object) -> None:
    return


@pytest.mark.parametrize("task", ["compact", "ask_again", "retain"])
async def test_background_work_that_the_database_refuses_is_said_once_counted_and_done_again(
    settings: Settings, task: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(service, "RETENTION_EVERY_S", 0.05)
    where, name = LOOPS[task]
    real, tries, enough = getattr(where, name), 0, asyncio.Event()

    async def refused(*arguments: object, **named: object) -> object:
        nonlocal tries
        tries += 1
        if tries in (1, 2, 3):
            raise psycopg.errors.InsufficientPrivilege("permission denied")
        if tries == 6:
            enough.set()
        return await real(*arguments, **named)

    monkeypatch.setattr(where, name, refused)
    monkeypatch.setattr(service, "stop_on_signals", lambda: enough)
    before = metrics.FAILURES.labels(task)._value.get()
    await asyncio.wait_for(service.run_ingest(settings, SystemClock()), 30)
    assert metrics.FAILURES.labels(task)._value.get() - before == 3
    said = [record.getMessage() for record in caplog.records if record.name == service.__name__]
    assert len(said) == 2 and said[0].endswith("permission denied") and "again" in said[1]


@pytest.mark.parametrize("error", [AttributeError("tree"), KeyError("seq")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["load", "round"])
async def test_a_step_that_fails_as_nobody_foresaw_ends_the_sequencer(
    dsn: str, step: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object) -> None:
        raise error

    key_file = tmp_path / "audit.key"
    new_key(key_file)
    monkeypatch.setattr(sequencer.Sequencer, step, broken)
    audit = Audit(signing_key_file=key_file, checkpoint_file=tmp_path / "checkpoints")
    settings = Settings(database=Database(dsn=dsn), audit=audit)
    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(sequencer.run_sequencer(settings, SystemClock()), 15)
    assert raised.value is error


@pytest.mark.parametrize("error", [AttributeError("batch"), KeyError("schema")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("loop", ["broker", "host state", "metrics"])
async def test_a_loop_that_fails_while_ingest_leaves_is_raised(
    settings: Settings, loop: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def fails_on_leaving(*_arguments: object) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    monkeypatch.setattr(*LOOPS[loop], fails_on_leaving)
    monkeypatch.setattr(service, "stop_on_signals", lambda: began)
    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(service.run_ingest(settings, SystemClock()), 15)
    assert raised.value is error
