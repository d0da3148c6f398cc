"""The connections of ingest to the broker; the only file of the server that speaks MQTT.

``Uplinks`` reads what the agents publish (a shared subscription: several workers divide it) and publishes commands.
``HostState`` keeps the retained STATE message: online while this process is elected (``fleet_server/store/leader.py``),
with the matching offline message as the will of a connection of its own, so that another worker's death does not set it
offline. An *offline* that another client says meanwhile is contradicted, at most every ``ANNOUNCE_AGAIN_S``: who loses
the election notices that up to 2 s late, and its farewell would otherwise stand over the *online* of its successor.

Both connections reconnect for ever with full jitter; a failure is logged once and its recovery once. A message that
finds the queue full is dropped and counted: its agent gets no answer and sends the message again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import time
import uuid

import aiomqtt

from fleet_core.clock import Clock
from fleet_core.errors import BadConfig, BadInput
from fleet_core.service import Backoff, Outage, keep_running
from fleet_core.sparkplug.session import decode_state, encode_state
from fleet_core.sparkplug.topics import MessageType, state_topic, subscription
from fleet_core.tls import client_context
from fleet_server.ingest import metrics
from fleet_server.ingest.decoder import Message
from fleet_server.settings import Broker, Settings
from fleet_server.store.leader import Elected, Office, when_elected
from fleet_server.store.pool import AWAY, MERELY_AWAY

log = logging.getLogger(__name__)

GROUP = "forestall-ingest"
HEARD = (
    MessageType.NBIRTH,
    MessageType.DBIRTH,
    MessageType.NDATA,
    MessageType.DDATA,
    MessageType.NDEATH,
    MessageType.DDEATH,
)
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.2, 15.0
STEADY_AFTER_S = 10.0
ANNOUNCE_AGAIN_S = 1.0
"""Bounds how often an elected host contradicts an *offline* that is not its own, however often that is said."""
KEEPALIVE_S = 15


class Uplinks:
    """Receives messages into the bounded ``queue`` and publishes commands.

    ``publish`` is best effort: an agent that gets no answer sends its batch again.
    """

    def __init__(self, broker: Broker, clock: Clock, max_queue: int, rng: random.Random | None = None) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue(max_queue)
        self._broker = broker
        self._clock = clock
        self._backoff = _backoff(rng)
        self._outage = _outage(broker, "ingest")
        self._client: aiomqtt.Client | None = None

    async def run(self) -> None:
        """Stay connected until cancelled. Raises BadConfig for unusable TLS files, and every unexpected error."""
        await keep_running(self._serve, self._outage, self._backoff)

    async def publish(self, commands: list[tuple[str, bytes]]) -> int:
        """Publish commands and return how many went out before the connection failed (0 without a connection)."""
        client, sent = self._client, 0
        if client is None:
            return 0
        try:
            for topic, payload in commands:
                await client.publish(topic, payload, qos=0, timeout=5.0)
                sent += 1
        except aiomqtt.MqttError as error:
            log.debug("%d commands were not sent: %s", len(commands) - sent, error)
        return sent

    async def _serve(self) -> None:
        async with _client(self._broker, f"{GROUP}-{uuid.uuid4().hex[:12]}") as client:
            for kind in HEARD:
                # Every filter has a shared-subscription group of its own: some brokers serve one filter of a group
                # only.
                await client.subscribe(f"$share/{GROUP}-{kind.value}/{subscription(kind)}", qos=1)
            self._client = client
            metrics.BROKER_UP.set(1)
            self._outage.succeeded()
            log.info("listening to the broker at %s:%d", self._broker.host, self._broker.port)
            try:
                async for message in client.messages:
                    payload = message.payload if isinstance(message.payload, bytes) else b""
                    self._take(Message(str(message.topic), payload, self._clock.now()))
                raise aiomqtt.MqttError("the connection ended")
            finally:
                self._client = None
                metrics.BROKER_UP.set(0)

    def _take(self, message: Message) -> None:
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            metrics.outcome("received")
            metrics.outcome("dropped")
        metrics.QUEUE.set(self.queue.qsize())


class HostState:
    """Publishes STATE while this process is elected; others wait for their turn."""

    def __init__(self, settings: Settings, dsn: str, rng: random.Random | None = None) -> None:
        self._broker = settings.broker
        self._dsn = dsn
        self._backoff = _backoff(rng)
        self._broker_outage = _outage(settings.broker, "host state")
        self._election_outage = Outage(
            log,
            "nobody can be elected to publish the host's state",
            "the host's state is somebody's matter again",
            errors=AWAY,
            known=MERELY_AWAY,
            begins_level=logging.WARNING,
        )

    async def run(self) -> None:
        """Stand for election until cancelled; on the way out the host is set offline."""
        await when_elected(self._dsn, Office.HOST_STATE, self._publish, self._election_outage)

    async def _publish(self, _elected: Elected) -> None:
        self._election_outage.succeeded()
        await keep_running(self._announce, self._broker_outage, self._backoff)

    async def _announce(self) -> None:
        """Keep the host online until cancelled, then set it offline. Raises MqttError when the connection is lost."""
        while True:
            began_s = time.monotonic()
            await self._until_contradicted()
            lasted_s = time.monotonic() - began_s
            level = logging.WARNING if lasted_s > STEADY_AFTER_S else logging.DEBUG  # said once of a stubborn client
            log.log(level, "another client set the host's state offline after %.1f s; it is set online again", lasted_s)

    async def _until_contradicted(self) -> None:
        """Announce the host on a connection of its own; return when another client's STATE stands over that.

        The contradiction is answered on a new connection, because birth and will must carry the same stamp, and agents
        may believe the newest stamp only.
        """
        topic, began_s = state_topic(self._broker.host_id), time.monotonic()
        stamp_ms = int(time.time() * 1000)  # Sparkplug transport uses real time
        will = aiomqtt.Will(topic, encode_state(False, stamp_ms), qos=1, retain=True)
        async with _client(self._broker, f"{GROUP}-state-{uuid.uuid4().hex[:8]}", will) as client:
            try:
                await client.publish(topic, encode_state(True, stamp_ms), qos=1, retain=True)
                await client.subscribe(topic, qos=1)  # after the birth, or the state of before would come first
                self._broker_outage.succeeded()
                async for message in client.messages:
                    if not _says_online(message.payload):
                        await _drain(client, until_s=began_s + ANNOUNCE_AGAIN_S)
                        return
                raise aiomqtt.MqttError("the connection ended")
            except asyncio.CancelledError:
                offline = encode_state(False, int(time.time() * 1000))
                await client.publish(topic, offline, qos=1, retain=True, timeout=2.0)
                raise


def _says_online(payload: object) -> bool:
    try:
        return isinstance(payload, bytes) and decode_state(payload)[0]
    except BadInput:
        return False  # no agent can read it either


async def _drain(client: aiomqtt.Client, until_s: float) -> None:
    """Let messages go until this time of the monotonic clock: their queue must not grow."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(until_s - time.monotonic()):
            async for _ in client.messages:
                continue


def _backoff(rng: random.Random | None) -> Backoff:
    """Pauses with full jitter, also after a connection that the broker accepted and then closed."""
    return Backoff(BACKOFF_FIRST_S, BACKOFF_MOST_S, settled_after_s=STEADY_AFTER_S, rng=rng or random.Random())


def _outage(broker: Broker, name: str) -> Outage:
    return Outage(
        log,
        f"{name}: no connection to the broker at {broker.host}:{broker.port}",
        f"{name}: connected to the broker again",
        errors=(aiomqtt.MqttError,),
    )


def _client(broker: Broker, identifier: str, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
    return aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=identifier,
        will=will,
        keepalive=KEEPALIVE_S,
        timeout=10.0,
        tls_context=_tls(broker),
        max_queued_outgoing_messages=10_000,
    )


def _tls(broker: Broker) -> ssl.SSLContext | None:
    if broker.ca_file is None:
        return None
    try:
        return client_context(broker.ca_file, broker.cert_file, broker.key_file)
    except OSError as error:
        raise BadConfig(f"broker: the TLS files cannot be used: {error}") from None
