"""The host's STATE at a real broker: whoever is elected keeps it online against a late or a false *offline*."""

# ruff: noqa: F811 - fixtures are imported and then named as arguments
from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiomqtt
import pytest
from support.broker import any_broker, keeper  # noqa: F401  (pytest finds fixtures by name)

from demo.broker import BrokerHandle
from fleet_core.service import Outage, end_tasks
from fleet_core.sparkplug.session import decode_state, encode_state
from fleet_core.sparkplug.topics import state_topic
from fleet_server.ingest import mqtt
from fleet_server.settings import Broker, Settings
from fleet_server.store.leader import Elected, Office

pytestmark = pytest.mark.integration
TOPIC = state_topic("forestall")


class Fleet:
    """A client that hears every STATE, and candidates that are elected as the test likes."""

    def __init__(self, broker: BrokerHandle, client: aiomqtt.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[tuple[bool, int]] = []
        """(online, timestamp in ms) of every STATE, in order."""
        self.client = client
        self._settings = Settings(broker=Broker(host=broker.host, port=broker.port))
        self.tasks = [asyncio.create_task(self._listen())]
        monkeypatch.setattr(mqtt, "when_elected", self._elect)

    async def _listen(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            if message.payload != b"nonsense":
                self.heard.append(decode_state(message.payload))

    async def _elect(
        self, _dsn: str, _office: Office, serve: Callable[[Elected], Awaitable[None]], _outage: Outage
    ) -> None:
        await serve(None)  # its election is not asked

    async def elected(self) -> asyncio.Task[None]:
        """One more process that holds itself elected, when it has said that the host is online."""
        before = len(self.heard)
        task = asyncio.create_task(mqtt.HostState(self._settings, "").run())
        self.tasks.append(task)
        await self.until(lambda: any(online for online, _ in self.heard[before:]))
        return task

    async def says(self, payload: bytes) -> None:
        await self.client.publish(TOPIC, payload, qos=1, retain=True)

    @property
    def online(self) -> bool:
        return self.heard[-1][0]

    async def until(self, check: Callable[[], bool], timeout_s: float = 15.0) -> None:
        until_s = time.monotonic() + timeout_s
        while not check():
            assert time.monotonic() < until_s, self.heard
            await asyncio.sleep(0.02)


@pytest.fixture
async def fleet(any_broker: BrokerHandle, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(mqtt, "ANNOUNCE_AGAIN_S", 0.3)
    async with aiomqtt.Client(any_broker.host, any_broker.port) as client:
        await client.subscribe(TOPIC, qos=1)
        fleet = Fleet(any_broker, client, monkeypatch)
        yield fleet
        await end_tasks(fleet.tasks)


async def retained(broker: BrokerHandle) -> bool:
    """Whether an agent that connects now learns that the host is online."""
    async with aiomqtt.Client(broker.host, broker.port) as client, asyncio.timeout(10):
        await client.subscribe(TOPIC, qos=1)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            return decode_state(message.payload)[0]
    raise AssertionError("unreachable")


async def test_the_last_word_of_the_old_holder_is_corrected_by_the_new_one(
    fleet: Fleet, any_broker: BrokerHandle
) -> None:
    old = await fleet.elected()
    await asyncio.sleep(0.01)  # another millisecond, so that the stamps differ
    await fleet.elected()
    await end_tasks([old])  # it noticed late that it is not elected any more, and says offline
    await fleet.until(lambda: (False in [online for online, _ in fleet.heard]) and fleet.online)
    assert await retained(any_broker)
    offline_ms = max(stamp_ms for online, stamp_ms in fleet.heard if not online)
    assert fleet.heard[-1][1] >= offline_ms  # an agent that compares the stamps believes the newer one


@pytest.mark.parametrize("payload", [encode_state(False, 1), b"nonsense"], ids=["offline", "nonsense"])
async def test_a_false_state_is_corrected_not_more_often_than_allowed(
    fleet: Fleet, any_broker: BrokerHandle, payload: bytes
) -> None:
    await fleet.elected()
    began_s = time.monotonic()
    for _ in range(40):
        await fleet.says(payload)
        await asyncio.sleep(0.02)
    lasted_s = time.monotonic() - began_s
    await asyncio.sleep(0.5)
    await fleet.until(lambda: fleet.online)
    assert await retained(any_broker)
    corrections = sum(online for online, _ in fleet.heard) - 1
    assert 1 <= corrections <= 2 + (lasted_s + 0.5) / 0.3


async def test_who_is_not_elected_corrects_nothing(fleet: Fleet, any_broker: BrokerHandle) -> None:
    only = await fleet.elected()
    await end_tasks([only])
    await fleet.until(lambda: not fleet.online)
    await fleet.says(encode_state(False, 2))
    await asyncio.sleep(0.8)
    assert not fleet.online and not await retained(any_broker)


async def test_a_host_that_nobody_contradicts_says_online_once(fleet: Fleet) -> None:
    await fleet.elected()
    await asyncio.sleep(0.8)
    assert [online for online, _ in fleet.heard] == [True]
