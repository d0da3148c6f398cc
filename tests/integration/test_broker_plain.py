# ruff: noqa: F811 - pytest hands fixtures over by name
"""What both brokers promise to the rest of Forestall: the conformance table of the demo's broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from support.broker import any_broker, keeper  # noqa: F401

from demo.broker import BrokerHandle, start_broker
from demo.processes import Keeper
from fleet_core.errors import BadConfig

pytestmark = pytest.mark.integration
V311, V5 = aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5
versions = pytest.mark.parametrize("version", [V311, V5], ids=["v311", "v5"])


@asynccontextmanager
async def connect(broker: BrokerHandle, version: Any = V311, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    port = broker.port if version is V311 else broker.port_v5
    async with aiomqtt.Client(broker.host, port, protocol=version, timeout=5, **options) as client:
        yield client


async def receive(client: aiomqtt.Client, count: int = 1, timeout_s: float = 5.0) -> list[aiomqtt.Message]:
    """Up to ``count`` messages; fewer when the time is up."""
    received: list[aiomqtt.Message] = []

    async def gather() -> None:
        async for message in client.messages:
            received.append(message)
            if len(received) == count:
                return

    try:
        await asyncio.wait_for(gather(), timeout_s)
    except TimeoutError:
        return received
    return received


def cut(client: aiomqtt.Client) -> None:
    """Lose the connection without a DISCONNECT, as a dead device does."""
    client._client._sock_close()


@versions
@pytest.mark.parametrize("qos", [0, 1])
async def test_delivers_within_and_between_versions(any_broker: BrokerHandle, version: Any, qos: int) -> None:
    async with connect(any_broker, version) as reader, connect(any_broker, V311) as old, connect(any_broker, V5) as new:
        await reader.subscribe("spBv1.0/+/NDATA/#", qos=qos)
        for writer in (old, new):
            await writer.publish("spBv1.0/site/NDATA/node", b"\x00payload", qos=qos)
        messages = await receive(reader, 2)
    assert [(message.payload, message.qos) for message in messages] == [(b"\x00payload", qos)] * 2


@versions
async def test_retained_is_kept_and_cleared(any_broker: BrokerHandle, version: Any) -> None:
    async with connect(any_broker, version) as writer:
        await writer.publish("spBv1.0/STATE/host", b"online", qos=1, retain=True)
        for expected in ([(b"online", True)], []):
            async with connect(any_broker, version) as reader:
                await reader.subscribe("spBv1.0/STATE/+", qos=1)
                assert [(m.payload, m.retain) for m in await receive(reader, timeout_s=0.6)] == expected
            await writer.publish("spBv1.0/STATE/host", b"", qos=1, retain=True)


@versions
async def test_will_is_sent_when_the_link_is_lost_only(any_broker: BrokerHandle, version: Any) -> None:
    async with connect(any_broker, version) as reader:
        await reader.subscribe("w", qos=1)
        will = aiomqtt.Will("w", b"dead", 1, False)
        async with connect(any_broker, version, will=will):
            pass
        assert await receive(reader, timeout_s=0.5) == []
        with pytest.raises(aiomqtt.MqttError):
            async with connect(any_broker, version, will=will) as victim:
                cut(victim)
                await victim.publish("x")
        assert [message.payload for message in await receive(reader)] == [b"dead"]


@versions
async def test_shared_subscription_divides_and_survives_a_lost_member(any_broker: BrokerHandle, version: Any) -> None:
    async with connect(any_broker, version) as a, connect(any_broker) as writer:
        b = aiomqtt.Client(
            any_broker.host,
            any_broker.port if version is V311 else any_broker.port_v5,
            protocol=version,
            will=aiomqtt.Will("b/is/gone", b"", 1),
        )
        await b.__aenter__()
        for member in (a, b):
            await member.subscribe("$share/ingest/spBv1.0/#", qos=0)
        for number in range(40):
            await writer.publish("spBv1.0/s/NDATA/n", str(number).encode(), qos=1)
        shares = await asyncio.gather(receive(a, 40, 1.0), receive(b, 40, 1.0))
        assert all(shares)
        assert sorted(int(m.payload) for share in shares for m in share) == list(range(40))
        await writer.subscribe("b/is/gone", qos=1)
        cut(b)
        assert await receive(writer), "the broker did not notice that a member is gone"
        for number in range(40):
            await writer.publish("spBv1.0/s/NDATA/n", str(number).encode(), qos=1)
        assert [int(m.payload) for m in await receive(a, 40)] == list(range(40))


@versions
async def test_a_mebibyte_passes_and_too_much_is_refused(any_broker: BrokerHandle, version: Any) -> None:
    async with connect(any_broker, version) as reader, connect(any_broker, version) as writer:
        await reader.subscribe("big")
        await writer.publish("big", bytes(1 << 20))
        assert [len(message.payload) for message in await receive(reader)] == [1 << 20]
        with pytest.raises(aiomqtt.MqttError):
            async with connect(any_broker, version) as glutton:
                glutton._client.publish("big", bytes(3 << 20))
                await asyncio.wait_for(anext(aiter(glutton.messages)), 5)  # cut off, not merely unanswered
        assert await receive(reader, timeout_s=0.5) == []


async def test_a_burst_to_a_slow_reader_arrives_whole(any_broker: BrokerHandle) -> None:
    count = 5000
    async with connect(any_broker, max_queued_incoming_messages=0) as reader, connect(any_broker) as writer:
        await reader.subscribe("burst/#")
        for number in range(count):
            await writer.publish("burst/x", number.to_bytes(4, "big") + bytes(496))
        await asyncio.sleep(0.5)
        messages = await receive(reader, count, 10)
    assert [int.from_bytes(message.payload[:4], "big") for message in messages] == list(range(count))


async def test_clients_find_it_again_after_a_crash(any_broker: BrokerHandle) -> None:
    async with connect(any_broker) as reader:
        await reader.subscribe("x")
        any_broker.kill9()
        with pytest.raises(aiomqtt.MqttError):
            await asyncio.wait_for(anext(aiter(reader.messages)), 5)
    any_broker.restart()
    async with connect(any_broker) as reader, connect(any_broker) as writer:
        await reader.subscribe("x")
        await writer.publish("x", b"again")
        assert [message.payload for message in await receive(reader)] == [b"again"]


async def test_mosquitto_keeps_retained_messages_over_a_restart(any_broker: BrokerHandle) -> None:
    async with connect(any_broker) as writer:
        await writer.publish("kept", b"yes", qos=1, retain=True)
    any_broker.stop()
    any_broker.restart()
    async with connect(any_broker) as reader:
        await reader.subscribe("kept")
        kept = await receive(reader, timeout_s=0.5)
    assert bool(kept) == (any_broker.kind == "mosquitto")


async def test_listens_on_loopback_only(any_broker: BrokerHandle) -> None:
    bound = Path("/proc/net/tcp").read_text().splitlines() + Path("/proc/net/tcp6").read_text().splitlines()
    ports = {f"{port:04X}" for port in (any_broker.port, any_broker.port_v5)}
    listening = [fields[1] for line in bound if (fields := line.split())[3] == "0A" and fields[1][-4:] in ports]
    assert listening
    assert {address.split(":")[0] for address in listening} == {"0100007F"}


def test_a_port_in_use_is_told(any_broker: BrokerHandle, keeper: Keeper, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)in use"):
        start_broker(keeper, tmp_path / "second", any_broker.port, kind=any_broker.kind, name="second")


def test_an_absent_mosquitto_is_told(keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.broker.find_mosquitto", lambda: None)
    with pytest.raises(BadConfig, match="not installed"):
        start_broker(keeper, tmp_path, kind="mosquitto")
    assert start_broker(keeper, tmp_path).kind == "iotcore"
