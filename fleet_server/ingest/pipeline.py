"""The pipeline of ingest: from messages to committed batches and acknowledgements. It does not know the broker.

``process`` takes a micro-batch of messages and returns when every message has its outcome: stored, duplicate,
quarantined, parked (and decoded again when its schema or identity arrives) or dropped (not answered, so that its agent
sends it again).

Invariants
* A batch is acknowledged only after its transaction is committed.
* One bad message never stops or delays its neighbours: a message that the database refuses is found by halving the
  micro-batch, and is quarantined alone.
* Only a database error that is the message's fault (``REFUSED``) turns into a refused batch.
* While the database is away no message is answered or judged; the micro-batch is kept and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar, cast

import psycopg

from fleet_core.births import DeviceBirth
from fleet_core.clock import Clock
from fleet_core.commands import encode_rebirth
from fleet_core.service import Backoff, Outage
from fleet_server.ingest import metrics
from fleet_server.ingest.births import apply_control
from fleet_server.ingest.decoder import BUGS, Agent, Control, Data, Directory, Message, Quarantined, Unreadable, decode
from fleet_server.ingest.directory import load_schemas, refresh_identities, remember
from fleet_server.ingest.session import AckBook, ParkingLot, RateLimit, command_topic
from fleet_server.ingest.writer import Stored, Writer
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import AWAY, REFUSED, Pool, transaction
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_SQL = queries("ingest")

REBIRTH_PERIOD_S = 10.0
"""Bounds how often one agent is asked for its births, however many messages lack a schema."""
PARK_FOR_S = 300.0
"""Thirty times the period above: an agent that is there has been asked often. What is dropped it sends again."""
IDENTITY_REFRESH_S = 30.0
"""Bounds how long a change in the registry stays unknown while no message asks for it."""
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 3.0
"""Pauses while the database is away. The longest bounds how late storing goes on after the database is back."""
QUARANTINED_PER_HOUR = 1000
"""Bounds the messages of one sender that the quarantine keeps whole, so that none can fill the disk."""

T = TypeVar("T")


class Pipeline:
    """The state of one ingest process: directory, parked messages, and answers that are not sent yet."""

    def __init__(self, pool: Pool, partitions: Partitions, clock: Clock, quarantine_bytes: int = 16_384) -> None:
        self.acks = AckBook()
        self.parking = ParkingLot()
        self.directory = Directory()
        self._writer = Writer(pool, partitions, clock)
        self._pool = pool
        self._clock = clock
        self._quarantine_bytes = quarantine_bytes
        self._rebirth_limit = RateLimit(REBIRTH_PERIOD_S)
        self._whole_limit = RateLimit(3600.0, QUARANTINED_PER_HOUR)
        self._rebirths: list[tuple[str, bytes]] = []
        self._refreshed_s = float("-inf")
        self._database = Outage(
            log,
            "the database does not take batches, nothing is acknowledged until it does",
            "the database takes batches again",
            errors=AWAY,
            on_state=metrics.DATABASE_UP.set,
        )

    def owed(self) -> list[tuple[str, bytes]]:
        """Take out the commands to publish now, as pairs of topic and payload.

        They are acknowledgements of committed batches, and rebirth requests.
        """
        rebirths, self._rebirths = self._rebirths, []
        return self.acks.drain() + rebirths

    async def process(self, messages: Sequence[Message]) -> None:
        """Bring every message to its outcome; returns only when the database has stored all that it accepts."""
        started_s = time.perf_counter()
        decoded = [decode(message, self.directory) for message in messages]
        for item in decoded:
            if not isinstance(item, Control):
                metrics.outcome("received")
        controls = [item for item in decoded if isinstance(item, Control)]
        batches = [item for item in decoded if isinstance(item, Data)]
        quarantined = [item for item in decoded if isinstance(item, Quarantined)]
        for unreadable in (item for item in decoded if isinstance(item, Unreadable)):
            self._park(unreadable)
        await self._controls(controls)
        await self._settle(batches, quarantined)
        if batches:
            metrics.STORE_SECONDS.observe(time.perf_counter() - started_s)

    async def tend(self) -> None:
        """Decode parked messages again and drop those that waited too long; called about every second."""
        now_s = time.monotonic()
        expired = self.parking.expire(now_s - PARK_FOR_S)
        metrics.outcome("dropped", expired)
        keys = [cast(tuple[str, ...], key) for key in self.parking.waiting_for()]
        wanted = [(key[1], key[2], key[3]) for key in keys if key[0] == "schema"]
        identities = [key for key in keys if key[0] == "identity"]
        try:
            if identities or now_s - self._refreshed_s > IDENTITY_REFRESH_S:
                await refresh_identities(self._pool, self.directory)
                self._refreshed_s = now_s
            found = await load_schemas(self._pool, self.directory, wanted)
        except AWAY as error:
            self._database.failed(error)
            return
        for key in identities:
            await self._judge_again(key, identities_are_fresh=True)
        for found_key in found:
            await self._judge_again(("schema", *found_key))
        metrics.PARKED.set(len(self.parking))

    # -- parking

    def _park(self, item: Unreadable) -> None:
        size = len(item.message.payload) + len(item.message.topic)
        metrics.outcome("dropped", self.parking.park(item.key, item.message, size, time.monotonic()))
        metrics.PARKED.set(len(self.parking))
        if item.key[0] == "schema" and item.agent is not None:
            self._ask_rebirth(item.agent)

    def _ask_rebirth(self, agent: Agent) -> None:
        if self._rebirth_limit.allows(agent.agent_id, time.monotonic()):
            metrics.REBIRTHS.inc()
            self._rebirths.append((command_topic(agent.node), encode_rebirth()))

    async def _judge_again(self, key: tuple[str, ...], *, identities_are_fresh: bool = False) -> None:
        messages = cast(list[Message], self.parking.release(key))
        again = [decode(message, self.directory, identities_are_fresh=identities_are_fresh) for message in messages]
        for item in again:
            if isinstance(item, Unreadable):
                self._park(item)
            elif isinstance(item, Control):
                metrics.outcome("control")
        await self._controls([item for item in again if isinstance(item, Control)])
        quarantined = [item for item in again if isinstance(item, Quarantined)]
        await self._settle([item for item in again if isinstance(item, Data)], quarantined)

    # -- storing

    async def _controls(self, controls: Sequence[Control]) -> None:
        for control in controls:
            metrics.CONTROLS.labels(type(control.content).__name__).inc()
            try:
                await self._persist(partial(self._apply, control))
            except (*REFUSED, *BUGS, psycopg.errors.QueryCanceled) as error:
                await self._settle([], [_unstorable(control, error)])
                continue
            if isinstance(control.content, DeviceBirth):
                agent_id, device_id = control.agent.agent_id, control.content.device_id
                for schema in (*control.content.former_schemas, control.content.schema):
                    remember(self.directory, agent_id, device_id, schema)
                    await self._judge_again(("schema", agent_id, device_id, schema.digest))

    async def _apply(self, control: Control) -> None:
        async with transaction(self._pool) as conn:
            await apply_control(conn, self._clock, control)

    async def _settle(self, batches: Sequence[Data], quarantined: Sequence[Quarantined]) -> None:
        refused = list(quarantined)
        pending = [list(batches)] if batches else []
        while pending:
            group = pending.pop()
            try:
                result = await self._persist(partial(self._writer.store, group))
            except (*REFUSED, *BUGS, psycopg.errors.QueryCanceled) as error:
                if len(group) == 1 and isinstance(error, psycopg.errors.QueryCanceled):
                    metrics.outcome("dropped")  # the statement was perhaps only slow: the agent sends the batch again
                elif len(group) == 1:
                    refused.append(_unstorable(group[0], error))
                else:
                    pending += [group[: len(group) // 2], group[len(group) // 2 :]]
                continue
            refused += self._answer(result)
        for item in refused:
            await self._refuse(item)

    def _answer(self, result: Stored) -> list[Quarantined]:
        for data in (*result.new, *result.duplicates):
            self.acks.stored(data.agent.node, data.batch.outbox_id, data.batch.number)
        metrics.outcome("stored", len(result.new))
        metrics.outcome("duplicate", len(result.duplicates))
        metrics.SAMPLES.inc(result.samples)
        for data in result.clashes:
            metrics.CLASHES.inc()
            log.error("batch %d of %s (outbox %s) came with another digest: a cloned agent or a corruption",
                      data.batch.number, data.agent.agent_id, data.batch.outbox_id)  # fmt: skip
        detail = "the same batch number is stored with other content: a cloned agent or a corruption"
        return [_quarantined_batch(data, "digest_clash", detail) for data in result.clashes]

    async def _refuse(self, item: Quarantined) -> None:
        """Quarantine a message, and refuse its batch number to its agent once the quarantine is committed."""
        who = item.agent.agent_id if item.agent else "unknown"
        # The quarantine is bounded: beyond QUARANTINED_PER_HOUR a batch leaves only its number and the reason, and a
        # message without a batch number leaves only a count.
        whole = self._whole_limit.allows(who, time.monotonic())
        if item.number is not None or whole:
            try:
                await self._persist(partial(self._quarantine, item, self._quarantine_bytes if whole else 0))
            except (*REFUSED, *BUGS, psycopg.errors.QueryCanceled) as error:
                metrics.outcome("dropped")  # unanswered, so a batch comes again; its neighbours are not held up
                log.error("a message of %s (%s) cannot be quarantined: %s", who, item.reason, error)
                return
        metrics.outcome("quarantined")
        metrics.REASONS.labels(item.reason).inc()
        if item.agent is not None and item.outbox_id is not None and item.number is not None:
            self.acks.refused(item.agent.node, item.outbox_id, item.number, item.reason)

    async def _quarantine(self, item: Quarantined, most_bytes: int) -> None:
        payload = item.message.payload
        row = {
            "tenant_id": item.agent.tenant_id if item.agent else None,
            "agent_id": item.agent.agent_id if item.agent else None,
            "topic": item.message.topic[:256].replace("\x00", "\ufffd"),
            "outbox_id": item.outbox_id,
            "batch_no": item.number,
            "reason": item.reason,
            "detail": item.detail.replace("\x00", "\ufffd").encode("utf-8", "replace").decode(),
            "payload": payload[:most_bytes],
            "payload_bytes": len(payload),
            "received_at": item.message.received_at,
        }
        async with transaction(self._pool) as conn:
            await conn.execute(_SQL.quarantine, row)

    async def _persist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Run a transaction, and wait while the database is away. Raises the errors by which it refuses for good."""
        backoff, cancelled = Backoff(RETRY_FIRST_S, RETRY_MOST_S), 0
        while True:
            try:
                result = await act()
            except psycopg.errors.QueryCanceled:
                cancelled += 1
                if cancelled == 3:
                    raise
            except REFUSED:
                raise
            except AWAY as error:
                self._database.failed(error)
            else:
                self._database.succeeded()
                return result
            await asyncio.sleep(backoff.pause_s())


def _unstorable(item: Data | Control, error: Exception) -> Quarantined:
    log.error("a message of %s could not be stored: %s", item.agent.agent_id, error, exc_info=isinstance(error, BUGS))
    reason = "storage" if isinstance(error, psycopg.Error) else "internal"
    if isinstance(item, Data):
        return _quarantined_batch(item, reason, str(error)[:500])
    return Quarantined(item.message, reason, str(error)[:500], item.agent)


def _quarantined_batch(data: Data, reason: str, detail: str) -> Quarantined:
    return Quarantined(data.message, reason, detail, data.agent, data.batch.outbox_id, data.batch.number)
