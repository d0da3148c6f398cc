"""The ingest process between a real broker and a real PostgreSQL: answered when stored, killed and restarted."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments
from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from support.broker import any_broker, broker, keeper  # noqa: F401  (pytest finds fixtures by name)
from support.database import drop_database, new_database, settings_for
from support.wire import FakeAgent

from demo.broker import BrokerHandle
from demo.processes import Keeper
from fleet_core.clock import SystemClock
from fleet_core.commands import decode_command
from fleet_core.service import end_tasks
from fleet_core.sparkplug.session import decode_state
from fleet_core.sparkplug.topics import MessageType, state_topic, subscription
from fleet_server.ingest.ledger import Ledger, read_ledger
from fleet_server.registry import SAMPLE, import_registry, parse_registry
from fleet_server.store.pool import open_pool, transaction

pytestmark = pytest.mark.integration


@pytest.fixture
def dsn(postgres_dsn: str) -> Iterator[str]:
    dsn = new_database(postgres_dsn)
    asyncio.run(_register(dsn))
    yield dsn
    drop_database(postgres_dsn, dsn)


async def _register(dsn: str) -> None:
    owner = await open_pool(settings_for(dsn), "owner", size=1)
    async with transaction(owner) as conn:
        await import_registry(conn, SystemClock(), parse_registry(SAMPLE), actor="system:test")
    await owner.close()


async def _ledger(dsn: str) -> Ledger:
    owner = await open_pool(settings_for(dsn), "owner", size=1)
    async with transaction(owner) as conn:
        ledger = await read_ledger(conn, grace_s=0, deep=True)
    await owner.close()
    return ledger


def _start(keeper: Keeper, tmp_path: Path, dsn: str, broker: BrokerHandle, **env: str) -> None:
    config = tmp_path / "server.toml"
    # mosquitto and iotcore hand out loopback ports
    config.write_text(f'[database]\ndsn = "{dsn}"\n[broker]\nhost = "127.0.0.1"\nport = {broker.port}\n')
    argv = [sys.executable, "-m", "fleet_server.cli", "ingest", "--config", str(config)]
    keeper.start("ingest", argv, env=env, ready="listening to the broker", ready_timeout_s=30)


class Uplink:
    """Publishes batches until each is answered, as an agent does."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.settled: set[int] = set()
        self.rebirths = 0
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            command = decode_command(message.payload)
            self.rebirths += command.rebirth
            for first, last in command.stored:
                self.settled |= set(range(first, last + 1))
            self.settled |= {number for number, _ in command.refused}

    async def deliver(self, batches: dict[int, tuple[str, bytes]], timeout_s: float = 30.0) -> None:
        until_s = time.monotonic() + timeout_s
        while missing := batches.keys() - self.settled:
            assert time.monotonic() < until_s, f"never answered: {sorted(missing)}"
            for number in sorted(missing):
                await self.client.publish(*batches[number], qos=0)
            await asyncio.sleep(0.5)

    async def close(self) -> None:
        await end_tasks([self._reader])


@asynccontextmanager
async def _uplink(broker: BrokerHandle, agent: FakeAgent) -> AsyncIterator[Uplink]:
    async with aiomqtt.Client("127.0.0.1", broker.port, identifier=agent.agent_id) as client:
        await client.subscribe(subscription(MessageType.NCMD, agent.site_id, agent.agent_id), qos=1)
        uplink = Uplink(client)
        await client.publish(*agent.node_birth(), qos=0)
        await client.publish(*agent.device_birth(), qos=0)
        yield uplink
        await uplink.close()


def _batches(agent: FakeAgent, count: int) -> dict[int, tuple[str, bytes]]:
    now = SystemClock().now()
    return {number: agent.samples(now, (float(number), 2.0)) for number in range(1, count + 1)}


async def _until(check: Callable[[], bool], timeout_s: float = 15.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until_s, f"waited {timeout_s:g} s"
        await asyncio.sleep(0.05)


async def test_stored_and_answered(any_broker: BrokerHandle, keeper: Keeper, tmp_path: Path, dsn: str) -> None:
    _start(keeper, tmp_path, dsn, any_broker)
    agent = FakeAgent()
    async with _uplink(any_broker, agent) as uplink:
        await uplink.deliver(_batches(agent, 20))
    ledger = await _ledger(dsn)
    assert (ledger.totals.stored, ledger.totals.unexplained) == (20, 0)
    assert ledger.balanced, ledger.faults


@pytest.mark.parametrize("point", ["ingest.before_commit", "ingest.after_commit"])
async def test_killed_at_the_commit(
    point: str,
    broker: BrokerHandle,
    keeper: Keeper,
    tmp_path: Path,
    dsn: str,
) -> None:
    _start(keeper, tmp_path, dsn, broker, FORESTALL_FAULTS=f"{point}=kill@2")
    agent = FakeAgent()
    async with _uplink(broker, agent) as uplink:
        batches = _batches(agent, 30)
        first = {number: batches[number] for number in range(1, 11)}

        async def deliver() -> None:  # in two goes, so that there are two commits; it may be killed in either
            await uplink.deliver(first)
            await uplink.deliver(batches)

        delivery = asyncio.create_task(deliver())
        await _until(lambda: not keeper.child("ingest").running)
        assert len(uplink.settled) < 30
        _start(keeper, tmp_path, dsn, broker)
        await delivery
    ledger = await _ledger(dsn)
    assert (ledger.totals.stored, ledger.totals.unexplained) == (30, 0)
    assert ledger.balanced, ledger.faults


async def test_host_state_is_online_then_offline(
    broker: BrokerHandle,
    keeper: Keeper,
    tmp_path: Path,
    dsn: str,
) -> None:
    _start(keeper, tmp_path, dsn, broker)
    states: list[bool] = []

    async def watch() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe(state_topic("forestall"), qos=1)
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                states.append(decode_state(message.payload)[0])

    watcher = asyncio.create_task(watch())
    await _until(lambda: bool(states) and states[-1])
    keeper.stop("ingest")
    await _until(lambda: not states[-1])
    _start(keeper, tmp_path, dsn, broker)
    await _until(lambda: states[-1])
    keeper.kill9("ingest")
    await _until(lambda: not states[-1], timeout_s=40.0)  # the broker speaks the will
    await end_tasks([watcher])


def test_a_database_that_refuses_is_one_line(tmp_path: Path) -> None:
    import subprocess

    config = tmp_path / "server.toml"
    config.write_text('[database]\ndsn = "host=127.0.0.1 port=1 user=nobody dbname=none connect_timeout=2"\n')
    argv = [sys.executable, "-m", "fleet_server.cli", "ledger", "--config", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "127.0.0.1:1" in done.stderr
