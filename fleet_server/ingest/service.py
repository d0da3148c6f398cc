"""The ingest process: broker -> queue -> pipeline -> database, and acknowledgements back.

Three loops run beside the connections. *store* collects messages for ``batch_window_ms``, or until there are
``MAX_MESSAGES``, and has the pipeline store or quarantine them. *answer* publishes the acknowledgements every
``ack_interval_ms``. *tend* decodes parked messages again. In the background *retain* drops telemetry older than the
retention, *compact* turns batch keys into ranges, and *ask again* asks agents for batches that the ledger misses:
after a restore of the database the agents' outboxes still have them. On SIGTERM the process publishes the
acknowledgements of what it has committed, and ends.

A database or broker that is away is waited for. Any other error of a loop ends the process, and the log says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import timedelta
from functools import partial

from fleet_core.clock import Clock
from fleet_core.put_off import PutOff
from fleet_core.service import Outage, every, run_until_stopped, stop_on_signals
from fleet_server.exposition import serve_metrics
from fleet_server.ingest import metrics
from fleet_server.ingest.compaction import compact
from fleet_server.ingest.decoder import Directory
from fleet_server.ingest.ledger import Ledger, read_ledger
from fleet_server.ingest.mqtt import HostState, Uplinks
from fleet_server.ingest.pipeline import Pipeline
from fleet_server.ingest.session import Node, RateLimit, resend_requests
from fleet_server.settings import Settings
from fleet_server.store.alone import KNOWN
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import AWAY, Pool, open_pool, require_dsn, transaction
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)

_SQL = queries("ingest")
MAX_MESSAGES = 512
"""Bounds the messages of one transaction, and with them its memory and what is stored again after a failed commit."""
TEND_EVERY_S = 1.0
"""Bounds how long a message stays parked after the identity or the schema that it waits for has come."""
RETENTION_EVERY_S = 600.0
"""Partitions hold a day each: more often would find little to drop."""
COMPACT_EVERY_S = 60.0
"""The ledger is slower to read the more keys are not joined yet: they are those of a minute."""
ASK_AGAIN_EVERY_S = 60.0
"""Bounds how often the whole ledger is read for missing batches."""
SAME_OUTBOX_EVERY_S = 600.0
"""Leaves an agent on a slow link the time to send the batches before it is asked for them once more."""


async def run_ingest(settings: Settings, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises BadConfig or Retryable when the process cannot start, and the error of the loop that ended it.
    """
    dsn = require_dsn(settings)
    pool = await open_pool(settings, "ingest", size=4)
    owner = await open_pool(settings, "owner", size=2)
    partitions = Partitions(owner)
    pipeline = Pipeline(pool, partitions, clock, settings.ingest.quarantine_bytes)
    uplinks = Uplinks(settings.broker, clock, settings.ingest.max_queue)
    stop = stop_on_signals()
    await pipeline.tend()
    store = partial(_store, pipeline, uplinks, settings.ingest.batch_window_ms / 1000)
    retain = partial(_retain, owner, partitions, clock, timedelta(days=settings.ingest.retention_days), _days())
    compact_keys = partial(_compact, owner, clock, timedelta(days=settings.ingest.key_days), _streams())
    ask_again = partial(
        _ask_again, owner, pipeline, uplinks, settings.ingest.ledger_grace_s, RateLimit(SAME_OUTBOX_EVERY_S)
    )
    parts = {
        "store": every(0.0, store),  # it waits for the queue, and needs no pause
        "answer": every(settings.ingest.ack_interval_ms / 1000, partial(_answer, pipeline, uplinks), wait_first=True),
        "tend": every(TEND_EVERY_S, pipeline.tend, wait_first=True),
        "compact": every(COMPACT_EVERY_S, compact_keys, _compact_outage(), wait_first=True),
        "ask_again": every(ASK_AGAIN_EVERY_S, ask_again, _ask_again_outage(), wait_first=True),
        "retain": every(RETENTION_EVERY_S, retain, _retain_outage()),
        "broker": uplinks.run(),
        "host state": HostState(settings, dsn).run(),
        "metrics": serve_metrics(settings.metrics_host, settings.ingest.metrics_port),
    }
    try:
        # The last acknowledgements go out while the connection still stands.
        await run_until_stopped(stop, parts, farewell=lambda: uplinks.publish(pipeline.owed()))
    finally:
        await pool.close()
        await owner.close()


async def _store(pipeline: Pipeline, uplinks: Uplinks, window_s: float) -> None:
    messages = [await uplinks.queue.get()]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(window_s):
            while len(messages) < MAX_MESSAGES:
                messages.append(await uplinks.queue.get())
    await pipeline.process(messages)


async def _answer(pipeline: Pipeline, uplinks: Uplinks) -> None:
    commands = pipeline.owed()
    if commands:
        await uplinks.publish(commands)


async def _retain(owner: Pool, partitions: Partitions, clock: Clock, keep: timedelta, days: PutOff) -> None:
    now = clock.now()
    await partitions.ensure([now.date(), (now + timedelta(days=1)).date()])
    dropped = await partitions.drop_before((now - keep).date(), days)
    if dropped:
        log.info("dropped %d partitions older than %d days", len(dropped), keep.days)
    async with transaction(owner) as conn:
        await conn.execute(_SQL.forget_quarantined, {"oldest": now - keep})


async def _compact(owner: Pool, clock: Clock, keep: timedelta, streams: PutOff) -> None:
    await compact(owner, clock.now() - keep, streams)


async def _ask_again(owner: Pool, pipeline: Pipeline, uplinks: Uplinks, grace_s: float, limit: RateLimit) -> None:
    async with transaction(owner) as conn:
        ledger = await read_ledger(conn, grace_s=grace_s)
    missing = unaccounted(ledger, pipeline.directory, limit, time.monotonic())
    for (node, outbox_id), ranges in missing.items():
        log.warning("asked %s again for batches nobody can account for: %s of outbox %s", node[1], ranges, outbox_id)
    await uplinks.publish(resend_requests(missing))


def _retain_outage() -> Outage:
    return _outage("retain", "partitions are not tended", "partitions are tended again")


def _compact_outage() -> Outage:
    begins = "batch keys cannot be compacted, the ledger grows slower to read"
    return _outage("compact", begins, "batch keys are compacted again")


def _ask_again_outage() -> Outage:
    begins = "the ledger cannot be read, missing batches are not asked for"
    return _outage("ask_again", begins, "the ledger can be read again")


def _days() -> PutOff:
    count = metrics.FAILURES.labels("drop_day").inc
    return PutOff(
        log, "telemetry of {} cannot be dropped", "telemetry of {} was dropped", known=KNOWN, on_failure=count
    )


def _streams() -> PutOff:
    count = metrics.FAILURES.labels("compact_outbox").inc
    begins, over = "batch keys of outbox {} cannot be compacted", "batch keys of outbox {} are compacted again"
    return PutOff(log, begins, over, known=KNOWN, on_failure=count)


def _outage(task: str, begins: str, over: str) -> Outage:
    count = metrics.FAILURES.labels(task).inc
    return Outage(log, begins, over, errors=AWAY, begins_level=logging.WARNING, on_failure=count)


def unaccounted(
    ledger: Ledger, directory: Directory, limit: RateLimit, now_s: float
) -> dict[tuple[Node, str], list[tuple[int, int]]]:
    """The ranges to ask for now, by node and outbox: those of registered agents that the ledger cannot explain.

    ``limit`` leaves out an outbox that was asked a short while ago.
    """
    return {
        (agent.node, stream.outbox_id): stream.unexplained_ranges
        for stream in ledger.streams
        if stream.unexplained_ranges
        and (agent := directory.agents.get(stream.agent_id)) is not None
        and limit.allows((stream.agent_id, stream.outbox_id), now_s)
    }
