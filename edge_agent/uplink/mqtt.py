"""The uplink over MQTT: connect, be born, publish what ``session.py`` decides, settle what the server answers.

This is the agent's only file that imports an MQTT client. Batches go at QoS 0 on a clean session. The outbox keeps a
batch until the server says that it is stored or refused, or evicts it into a gap, so nothing here needs to be reliable.
Failure: a lost connection is logged once, tried again with full jitter, and logged once more when it is back;
unreadable commands are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import aiomqtt

from edge_agent.config import UplinkConfig
from edge_agent.files import read_bounded
from edge_agent.outbox import Leased, Outbox, OutboxUnavailable
from edge_agent.uplink.session import (
    BACKOFF_FIRST_S,
    BACKOFF_MOST_S,
    LANE_CLASSES,
    SETTLED_AFTER_S,
    Key,
    Lane,
    RebirthLimit,
    SendWindow,
)
from edge_agent.uplink.store import OutboxStore
from fleet_core.batches import mark_historical, with_seq
from fleet_core.births import (
    MAX_FORMER_SCHEMAS,
    DeviceBirth,
    HeldReport,
    NodeBirth,
    encode_device_birth,
    encode_held,
    encode_node_birth,
)
from fleet_core.clock import Clock
from fleet_core.commands import decode_command
from fleet_core.errors import BadInput
from fleet_core.faults import fault_point
from fleet_core.files import write_atomic
from fleet_core.service import Backoff, Outage, keep_running, run_together
from fleet_core.sparkplug.session import decode_state, encode_death, next_seq
from fleet_core.sparkplug.topics import MessageType, Topic, data_topic, state_topic
from fleet_core.telemetry import to_us
from fleet_core.tls import client_context

log = logging.getLogger(__name__)

KEEPALIVE_S = 20
CALL_TIMEOUT_S = 10.0
HELD_INTERVAL_S = 60.0
GAP_INTERVAL_S = 1.0
IDLE_S = 1.0
LEASE_LIMIT = 32
MAX_QUEUED_COMMANDS = 256


class Births(Protocol):
    """Gives the agent's birth certificates; the uplink asks for them at every birth."""

    def node_birth(self, bd_seq: int, held: HeldReport) -> NodeBirth: ...

    def device_births(self) -> Sequence[DeviceBirth]: ...


@dataclass(slots=True)
class UplinkCounters:
    """Counters of the uplink since the start of the process."""

    connected: bool = False
    connects: int = 0
    published: int = 0
    resent: int = 0
    stored: int = 0
    refused: int = 0
    undeliverable: int = 0
    suspects: int = 0
    bad_commands: int = 0
    last_refusal: str = ""


class Uplink:
    """One agent's link to the fleet. ``run`` lasts until cancelled; call ``rebirth`` when a description changed."""

    def __init__(
        self,
        config: UplinkConfig,
        identity: tuple[str, str],
        births: Births,
        store: OutboxStore,
        clock: Clock,
        rng: random.Random,
        state_dir: Path,
    ) -> None:
        """``identity`` is (group id, node id)."""
        self.counters = UplinkCounters()
        self._config = config
        self._group_id, self._node_id = identity
        self._births = births
        self._store = store
        self._clock = clock
        self._backoff = Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, settled_after_s=SETTLED_AFTER_S, rng=rng)
        self._outage = Outage(
            log,
            f"no uplink ({config.host}:{config.port}); batches wait",
            "uplink is back",
            errors=(aiomqtt.MqttError, OutboxUnavailable, OSError),
            begins_level=logging.WARNING,
            over_level=logging.INFO,
        )
        self._window = SendWindow(rng)
        self._rebirth = RebirthLimit()
        self._changed = False
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._seq = 0
        self._bd_path = state_dir / "bdseq"
        self._connected_at_s = 0.0

    def rebirth(self) -> None:
        """Publish the births again before the next batch, because a description changed."""
        self._changed = True
        self._wake.set()

    def wake(self) -> None:
        """Note that the outbox has a new batch."""
        self._wake.set()

    async def drained(self) -> None:
        """Wait until the server has answered all held batches, or the link is down."""
        while self.counters.connected and (await self._store.call(Outbox.stats)).held:
            self._wake.set()
            self._answered.clear()
            await self._answered.wait()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled. Raises OSError when a TLS file cannot be read."""
        tls = _tls_context(self._config)
        await keep_running(partial(self._until_lost, tls), self._outage, self._backoff)

    async def _until_lost(self, tls: ssl.SSLContext | None) -> None:
        try:
            await self._connection(tls)
        except self._outage.errors:
            if self.counters.connected:
                now_s = asyncio.get_running_loop().time()
                self._note_suspect(self._window.lost(now_s, now_s - self._connected_at_s))
            raise
        finally:
            self.counters.connected = False

    async def _connection(self, tls: ssl.SSLContext | None) -> None:
        bd_seq = self._next_bd_seq()
        death = Topic(self._group_id, MessageType.NDEATH, self._node_id)
        client = aiomqtt.Client(
            self._config.host,
            self._config.port,
            identifier=self._node_id,
            will=aiomqtt.Will(str(death), encode_death(bd_seq, self._now_ms()), qos=1),
            clean_session=True,
            keepalive=KEEPALIVE_S,
            timeout=CALL_TIMEOUT_S,
            tls_context=tls,
            max_queued_incoming_messages=MAX_QUEUED_COMMANDS,
        )
        async with client:
            commands = Topic(self._group_id, MessageType.NCMD, self._node_id)
            await client.subscribe([(str(commands), 1), (state_topic(self._config.host_id), 1)])
            self._window.connected(await self._store.call(Outbox.next_id))
            self._log_recovery()
            try:
                await run_together({"listen": self._listen(client), "send": self._pump(client, bd_seq)})
                raise aiomqtt.MqttError("the connection ended")
            except asyncio.CancelledError:
                # After a deliberate leave the broker does not send the will, so the agent sends its NDEATH itself.
                with contextlib.suppress(aiomqtt.MqttError):  # the broker is gone already and will send the will
                    await client.publish(str(death), encode_death(bd_seq, self._now_ms()), qos=1, timeout=1.0)
                raise

    # -- sending

    async def _pump(self, client: aiomqtt.Client, bd_seq: int) -> None:
        loop = asyncio.get_running_loop()
        await self._be_born(client, bd_seq)
        held_at_s, gaps_at_s = loop.time() + HELD_INTERVAL_S, 0.0
        while True:
            self._wake.clear()
            if self._rebirth.grant(loop.time()) or self._changed:
                await self._be_born(client, bd_seq)
            if loop.time() >= held_at_s:
                held_at_s = loop.time() + HELD_INTERVAL_S
                await self._report_held(client)
            if loop.time() >= gaps_at_s and self._window.room(Lane.LIVE):
                gaps_at_s = loop.time() + GAP_INTERVAL_S
                await self._declare_gaps()
            await self._send_again(client, loop.time())
            if not await self._send_new(client, loop.time()):
                await self._wait(loop.time())

    async def _declare_gaps(self) -> None:
        try:
            await self._store.call(Outbox.declare_gaps)
        except OutboxUnavailable as error:  # the store has logged the full disk; a declaration can wait, the link stays
            log.debug("gaps are declared later: %s", error)

    async def _be_born(self, client: aiomqtt.Client, bd_seq: int) -> None:
        self._changed = False
        held = await self._store.call(Outbox.held)
        birth = self._births.node_birth(bd_seq, held)
        topic = Topic(self._group_id, MessageType.NBIRTH, self._node_id)
        self._seq = 0
        await client.publish(str(topic), encode_node_birth(birth, self._now_ms()))
        for device in self._births.device_births():
            digest, device_id = device.schema.digest, device.device_id
            former = await self._store.call(Outbox.former_schemas, device_id, digest)
            device = replace(device, former_schemas=tuple(former[:MAX_FORMER_SCHEMAS]))
            topic = Topic(self._group_id, MessageType.DBIRTH, self._node_id, device_id)
            await client.publish(str(topic), encode_device_birth(device, self._now_ms(), self._next_seq()))

    async def _report_held(self, client: aiomqtt.Client) -> None:
        held = await self._store.call(Outbox.held)
        topic = data_topic(self._group_id, self._node_id)
        await client.publish(str(topic), encode_held(held, self._now_ms(), self._next_seq()))

    async def _send_again(self, client: aiomqtt.Client, now_s: float) -> None:
        again, hopeless = self._window.due(now_s)
        suspect = self._window.suspect_due(now_s)
        for key in [*again, suspect] if suspect else again:
            leased = await self._store.call(Outbox.fetch, key)
            if leased is None:
                self._window.forget(key)
            else:
                self.counters.resent += 1
                await self._publish(client, leased, now_s)
        if hopeless:
            self.counters.undeliverable += await self._store.call(Outbox.give_up, hopeless)
            log.error(
                "%d batches were never answered while others were; they are declared undeliverable", len(hopeless)
            )
            for key in hopeless:
                self._window.forget(key)

    async def _send_new(self, client: aiomqtt.Client, now_s: float) -> int:
        """Publish as many batches as the window allows. Returns how many batches were read from the outbox."""
        total = 0
        for lane in Lane:
            room = min(LEASE_LIMIT, self._window.room(lane))
            if not room:
                continue
            after, before = self._window.bounds(lane)
            leased = await self._store.call(Outbox.lease, after, before, LANE_CLASSES[lane], room)
            for batch in leased:
                self._window.read(lane, batch.id)
                if not self._window.is_in_flight(batch.key) and not self._window.is_suspect(batch.key):
                    await self._publish(client, batch, now_s)
            total += len(leased)
        return total

    async def _publish(self, client: aiomqtt.Client, leased: Leased, now_s: float) -> None:
        body = mark_historical(leased.body) if self._window.is_late(leased.id) else leased.body
        topic = data_topic(self._group_id, self._node_id, leased.device_id)
        self._window.sent(leased.key, leased.id, now_s)
        await client.publish(str(topic), with_seq(body, self._next_seq()))
        self.counters.published += 1
        fault_point("uplink.after_publish")

    async def _wait(self, now_s: float) -> None:
        due_s = self._window.next_due_s()
        pause_s = IDLE_S if due_s is None else min(IDLE_S, max(0.005, due_s - now_s))
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            return

    # -- listening

    async def _listen(self, client: aiomqtt.Client) -> None:
        state = state_topic(self._config.host_id)
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            try:
                if message.topic.value == state:
                    self._on_state(payload)
                else:
                    await self._on_command(payload)
            except BadInput as error:
                self.counters.bad_commands += 1
                log.debug("a command could not be read: %s", error)
            except OutboxUnavailable as error:
                log.debug("an answer could not be written down, the server will be asked again: %s", error)
            self._answered.set()
            self._wake.set()

    def _on_state(self, payload: bytes) -> None:
        online, _ = decode_state(payload)
        if online and not self._window.host_online:
            self._rebirth.ask()
        self._window.host_online = online

    async def _on_command(self, payload: bytes) -> None:
        command = decode_command(payload)
        outbox_id = command.outbox_id
        self.counters.bad_commands += command.unknown
        if command.rebirth:
            self._rebirth.ask()
        if command.stored:
            self.counters.stored += await self._store.call(Outbox.settle_stored, outbox_id, command.stored)
            self._window.settled(outbox_id, command.stored)
        if command.refused:
            numbers = [number for number, _ in command.refused]
            self.counters.refused += await self._store.call(Outbox.settle_refused, outbox_id, numbers)
            self._window.settled(outbox_id, [(number, number) for number in numbers])
            self._note_refusal((outbox_id, numbers[0]), command.refused[0][1])
        again: int = await self._store.call(Outbox.resend, outbox_id, command.resend) if command.resend else 0
        if again:
            self._window.rewind(await self._store.call(Outbox.next_id))

    def _note_suspect(self, key: Key | None) -> None:
        self.counters.suspects = self._window.suspects
        if key is not None:
            log.error(
                "the link breaks at batch %d; others go first. Does the broker limit the size of messages?", key[1]
            )

    def _note_refusal(self, key: Key, reason: str) -> None:
        if reason != self.counters.last_refusal:
            log.warning("the server refused batch %d: %s (the same reason is logged once)", key[1], reason)
        self.counters.last_refusal = reason

    # -- small matters

    def _log_recovery(self) -> None:
        self.counters.connected = True
        self._connected_at_s = asyncio.get_running_loop().time()
        self.counters.connects += 1
        if self._outage.active:
            self._outage.succeeded()
        elif self.counters.connects == 1:
            log.info("uplink to %s:%d is up", self._config.host, self._config.port)

    def _next_seq(self) -> int:
        self._seq = next_seq(self._seq)
        return self._seq

    def _next_bd_seq(self) -> int:
        text = (read_bounded(self._bd_path, 16) or b"").decode("ascii", "replace")
        bd_seq = (int(text) + 1) % 256 if text.isdecimal() else 0
        try:
            write_atomic(self._bd_path, str(bd_seq).encode())
        except OSError as error:  # a full disk must not keep the agent from delivering
            log.debug("bdSeq was not written: %s", error)
        return bd_seq

    def _now_ms(self) -> int:
        return to_us(self._clock.now()) // 1000


def _tls_context(config: UplinkConfig) -> ssl.SSLContext | None:
    if config.ca_file is None or config.cert_file is None:
        return None
    return client_context(config.ca_file, config.cert_file, config.key_file)
