"""A rig for the uplink: brokers that can be killed, a collector that acknowledges, an agent with a counting source."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import aiomqtt

from edge_agent.agent import Agent
from edge_agent.config import parse_config
from fleet_core.batches import EMPTY_SCHEMA, Batch, Schema, batch_digest, batch_header, decode_batch
from fleet_core.births import HeldReport, decode_device_birth, decode_held, decode_node_birth
from fleet_core.clock import SystemClock
from fleet_core.commands import encode_rebirth, encode_refused, encode_stored
from fleet_core.errors import BadInput
from fleet_core.sparkplug.payload import decode_payload
from fleet_core.sparkplug.topics import MessageType, Topic, parse_topic
from fleet_core.telemetry import MetricSpec, Sample, Waveform, to_us

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
BROKERS = ["iotcore", *(["mosquitto"] if MOSQUITTO else [])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker on a fixed free port of 127.0.0.1 that can be killed and started again; a context that ends killed."""

    def __init__(self, kind: str, folder: Path, settings: str = "allow_anonymous true\n") -> None:
        self._settings = settings
        self.kind, self.port, self._folder = kind, free_port(), folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.kind == "mosquitto":
            config = self._folder / "mosquitto.conf"
            config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\n{self._settings}")
            command = [str(MOSQUITTO), "-c", str(config)]
        else:
            serve = f"import iotcore; iotcore.Broker(port={self.port}, listen='127.0.0.1').run_forever()"
            command = [sys.executable, "-c", serve]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 15
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{self.kind} did not open port {self.port}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


@dataclass
class Collector:
    """What the server does, without a database: decode, keep once by key, acknowledge (unless told to be deaf)."""

    port: int
    batches: dict[tuple[str, int], Batch] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    arrived_s: dict[tuple[str, int], float] = field(default_factory=dict)
    births: list[object] = field(default_factory=list)
    held: HeldReport | None = None
    order: list[tuple[str, int]] = field(default_factory=list)
    deaf: bool = False
    refuse: set[int] = field(default_factory=set)
    _schemas: dict[str, Schema] = field(default_factory=lambda: {EMPTY_SCHEMA.digest: EMPTY_SCHEMA})
    _parked: list[tuple[str, bytes]] = field(default_factory=list)
    _client: aiomqtt.Client | None = None

    async def run(self) -> None:
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", self.port, identifier="collector", keepalive=5) as client:
                    await client.subscribe("spBv1.0/#", qos=1)
                    self._client = client
                    self.received["connects"] += 1
                    async for message in client.messages:
                        await self._on_message(client, message.topic.value, bytes(message.payload or b""))
            except aiomqtt.MqttError:
                self._client = None
                await asyncio.sleep(0.1)

    async def _on_message(self, client: aiomqtt.Client, text: str, payload: bytes) -> None:
        topic = parse_topic(text)
        if topic.message_type is MessageType.NBIRTH:
            self.births.append(decode_node_birth(payload))
        elif topic.message_type is MessageType.DBIRTH:
            birth = decode_device_birth(payload, topic.device_id)
            self.births.append(birth)
            self._schemas |= {schema.digest: schema for schema in (birth.schema, *birth.former_schemas)}
            parked, self._parked = self._parked, []
            for item in parked:
                await self._on_message(client, *item)
        elif topic.message_type in (MessageType.NDATA, MessageType.DDATA):
            await self._on_data(client, topic, payload)
        else:
            self.received[topic.message_type] += 1

    async def _on_data(self, client: aiomqtt.Client, topic: Topic, payload: bytes) -> None:
        decoded = decode_payload(payload)
        if report := decode_held(decoded):
            self.held = report
            return
        header = batch_header(decoded)
        commands = str(Topic(topic.group_id, MessageType.NCMD, topic.node_id))
        if header.schema_digest not in self._schemas:
            self._parked.append((str(topic), payload))
            await client.publish(commands, encode_rebirth(), qos=1)
            return
        if self.deaf:
            self.received["unheard"] += 1
            return
        if header.number in self.refuse:
            await client.publish(commands, encode_refused(header.outbox_id, [(header.number, "test")]), qos=1)
            return
        batch = decode_batch(decoded, self._schemas[header.schema_digest], topic.device_id)
        key = (batch.outbox_id, batch.number)
        if key in self.batches:
            self.received["duplicate"] += 1
            if batch_digest(self.batches[key]) != batch_digest(batch):
                raise BadInput("clone", f"batch {key} came twice with different content")
        else:
            self.order.append(key)
            self.arrived_s[key] = time.time()
        self.batches.setdefault(key, batch)
        await client.publish(commands, encode_stored(batch.outbox_id, [(batch.number, batch.number)]), qos=1)

    def values(self, since_us: int = 0) -> list[float]:
        """All routine values of the counting metric taken at ``since_us`` or later, in order of their device times."""
        pairs = [
            (time_us, value)
            for batch in self.batches.values()
            for column in batch.columns
            if column.metric == "count"
            for time_us, value in zip(column.times_us, column.values, strict=True)
        ]
        return [value for time_us, value in sorted(pairs) if time_us >= since_us]

    def assert_chain(self) -> None:
        """Numbers have no holes but refused ones, and each batch names the digest of the one before."""
        by_number = {number: batch for (_, number), batch in self.batches.items()}
        last = max(by_number)
        missing = set(range(1, last + 1)) - set(by_number) - self.refuse
        gaps = [gap for batch in self.batches.values() for gap in batch.gaps if gap.first_batch]
        declared = {n for gap in gaps for n in range(gap.first_batch, gap.last_batch + 1)}
        assert missing <= declared, f"unexplained: {sorted(missing - declared)}"
        for number in range(2, last + 1):
            if number in by_number and number - 1 in by_number:
                assert by_number[number].prev_digest == batch_digest(by_number[number - 1])


@asynccontextmanager
async def collecting(port: int, *, deaf: bool = False, refuse: set[int] | None = None) -> AsyncIterator[Collector]:
    """A collector at work, connected. What ends it early (a batch that differs from its twin) is raised at the end."""
    collector = Collector(port, deaf=deaf, refuse=refuse or set())
    task = asyncio.create_task(collector.run())
    try:
        await until(lambda: collector.received["connects"] > 0 or task.done())
        yield collector
    finally:
        while not task.done():  # once is not enough: wait_for (Python 3.11) loses a cancellation that meets its answer
            task.cancel()
            await asyncio.wait([task], timeout=0.5)
        if not task.cancelled():
            task.result()


class CountingSource:
    """Hands over ``count`` = 0, 1, 2, ... at a rate, and a waveform every 50."""

    def __init__(self, asset, rate_hz: float, limit: int) -> None:
        self.asset, self.interval_s, self.limit = asset, 1.0 / rate_hz, limit
        self.handed: dict[int, float] = {}

    async def run(self, sink) -> None:
        metrics = (MetricSpec("count", "1"), MetricSpec("vibration", "[g]", "drive_bearing", 0.0, "waveform"))
        await sink.describe(replace(self.asset, metrics=metrics))
        for number in range(self.limit):
            time_us = to_us(datetime.now(UTC))
            self.handed[number] = time.time()
            await sink.samples([Sample("count", time_us, float(number))])
            if number % 50 == 0:
                await sink.waveform(Waveform("vibration", time_us, 25600.0, array("f", [0.1] * 2560)))
            await asyncio.sleep(self.interval_s)
        await asyncio.Event().wait()


def make_config(folder: Path, port: int, uplink: dict[str, str] | None = None):
    asset = {
        "device_id": "robot-17",
        "class": "robot",
        "component": [{"slot": "drive_bearing", "type": "bearing", "serial": "BRG-1"}],
        "source": {"type": "counting"},
    }
    record = {
        "agent": {"node_id": "agent-1", "group_id": "site-1", "state_dir": "state"},
        "uplink": {"port": port, **(uplink or {})},
        "outbox": {"flush_interval_s": 0.25},
        "asset": [asset],
    }
    return parse_config(record, folder)


def make_agent(
    folder: Path, port: int, rate_hz: float, limit: int, uplink: dict[str, str] | None = None
) -> tuple[Agent, CountingSource]:
    """An agent whose only source counts."""
    config = make_config(folder, port, uplink)
    source = CountingSource(config.assets[0].description, rate_hz, limit)
    return Agent(config, SystemClock(), random.Random(1), lambda config, deps: source), source


def main() -> None:
    """Run the agent as a process of its own: FOLDER PORT RATE_HZ LIMIT."""
    folder, port, rate_hz, limit = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])

    async def run() -> None:
        agent, _ = make_agent(folder, port, rate_hz, limit)
        await agent.run()

    asyncio.run(run())


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for it; TimeoutError when it does not come."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # the condition is anybody's, there is no event to wait for
            await asyncio.sleep(0.05)


@contextmanager
def agent_process(
    folder: Path, port: int, rate_hz: float, limit: int, faults: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """The agent as a process of its own, which does not outlive the context."""
    environment = os.environ | {"FORESTALL_FAULTS": faults, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [str(folder), str(port), str(rate_hz), str(limit)]
    process = subprocess.Popen([sys.executable, __file__, *arguments], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def stopped(process: subprocess.Popen[bytes]) -> int:
    """Stop a process as an operator would, while the collector goes on answering; returns its exit code."""
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, 15)


if __name__ == "__main__":
    main()
