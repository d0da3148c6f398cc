"""The ingest process: broker -> queue -> pipeline -> database, and acknowledgements back.

Three loops beside the connections: *store* collects a micro-batch (``batch_window_ms`` or ``MAX_MESSAGES``) and
brings it to its fate, *answer* publishes what is owed every ``ack_interval_ms``, *tend* judges parked messages again.
In the background *retain* drops telemetry older than the retention, *compact* turns batch keys into ranges, and *ask
again* asks agents for batches nobody can account for: after a restore their outboxes still have them. On SIGTERM it
stops reading, answers what it committed and leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from datetime import timedelta

from fleet_core.clock import Clock
from fleet_core.service import end_tasks
from fleet_server.exposition import serve_metrics
from fleet_server.ingest.compaction import compact
from fleet_server.ingest.decoder import Directory
from fleet_server.ingest.ledger import Ledger, read_ledger
from fleet_server.ingest.mqtt import HostState, Uplinks
from fleet_server.ingest.pipeline import AWAY, Pipeline
from fleet_server.ingest.session import Node, RateLimit, resend_requests
from fleet_server.settings import Settings
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import Pool, open_pool, require_dsn, transaction
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)

_SQL = queries("ingest")
MAX_MESSAGES = 512
TEND_EVERY_S = 1.0
RETENTION_EVERY_S = 600.0
COMPACT_EVERY_S = 60.0
ASK_AGAIN_EVERY_S = 60.0
SAME_OUTBOX_EVERY_S = 600.0


async def run_ingest(settings: Settings, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT. Raises BadConfig or Retryable when it cannot start."""
    dsn = require_dsn(settings)
    pool = await open_pool(settings, "ingest", size=4)
    owner = await open_pool(settings, "owner", size=2)
    partitions = Partitions(owner)
    pipeline = Pipeline(pool, partitions, clock, settings.ingest.quarantine_bytes)
    uplinks = Uplinks(settings.broker, clock, settings.ingest.max_queue)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await pipeline.tend()
    loops = [
        _store(pipeline, uplinks, settings.ingest.batch_window_ms / 1000),
        _answer(pipeline, uplinks, settings.ingest.ack_interval_ms / 1000),
        _tend(pipeline),
        _compact(owner, clock, timedelta(days=settings.ingest.key_days)),
        _ask_again(owner, pipeline, uplinks, settings.ingest.ledger_grace_s),
        _retain(owner, partitions, clock, timedelta(days=settings.ingest.retention_days)),
        uplinks.run(),
        HostState(settings, dsn).run(),
        serve_metrics(settings.metrics_host, settings.ingest.metrics_port),
    ]
    tasks = [asyncio.create_task(one) for one in loops]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()  # a loop never ends by itself: this raises what ended it
    finally:
        await uplinks.publish(pipeline.owed())
        await end_tasks([*tasks, stopping])
        await pool.close()
        await owner.close()


async def _store(pipeline: Pipeline, uplinks: Uplinks, window_s: float) -> None:
    while True:
        messages = [await uplinks.queue.get()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(window_s):
                while len(messages) < MAX_MESSAGES:
                    messages.append(await uplinks.queue.get())
        await pipeline.process(messages)


async def _answer(pipeline: Pipeline, uplinks: Uplinks, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        commands = pipeline.owed()
        if commands:
            await uplinks.publish(commands)


async def _tend(pipeline: Pipeline) -> None:
    while True:
        await asyncio.sleep(TEND_EVERY_S)
        await pipeline.tend()


async def _retain(owner: Pool, partitions: Partitions, clock: Clock, keep: timedelta) -> None:
    while True:
        try:
            now = clock.now()
            await partitions.ensure([now.date(), (now + timedelta(days=1)).date()])
            dropped = await partitions.drop_before((now - keep).date())
            if dropped:
                log.info("dropped %d partitions older than %d days", len(dropped), keep.days)
            async with transaction(owner) as conn:
                await conn.execute(_SQL.forget_quarantined, {"oldest": now - keep})
        except AWAY as error:
            log.warning("partitions were not tended, next try in %.0f s: %s", RETENTION_EVERY_S, error)
        await asyncio.sleep(RETENTION_EVERY_S)


async def _compact(owner: Pool, clock: Clock, keep: timedelta) -> None:
    failing = False
    while True:
        await asyncio.sleep(COMPACT_EVERY_S)
        try:
            await compact(owner, clock.now() - keep)
        except AWAY as error:
            if not failing:
                log.warning("batch keys cannot be compacted, the ledger grows slower to read: %s", error)
            failing = True
        else:
            if failing:
                log.warning("batch keys are compacted again")
            failing = False


async def _ask_again(owner: Pool, pipeline: Pipeline, uplinks: Uplinks, grace_s: float) -> None:
    limit, failing = RateLimit(SAME_OUTBOX_EVERY_S), False
    while True:
        await asyncio.sleep(ASK_AGAIN_EVERY_S)
        try:
            async with transaction(owner) as conn:
                ledger = await read_ledger(conn, grace_s=grace_s)
        except AWAY as error:
            if not failing:
                log.warning("the ledger cannot be read, missing batches are not asked for: %s", error)
            failing = True
            continue
        failing = False
        missing = unaccounted(ledger, pipeline.directory, limit, time.monotonic())
        for (node, outbox_id), ranges in missing.items():
            log.warning(
                "asked %s again for batches nobody can account for: %s of outbox %s", node[1], ranges, outbox_id
            )
        await uplinks.publish(resend_requests(missing))


def unaccounted(
    ledger: Ledger, directory: Directory, limit: RateLimit, now_s: float
) -> dict[tuple[Node, str], list[tuple[int, int]]]:
    """(node, outbox) -> ranges to ask for now: unexplained ones of registered agents, each outbox not too often."""
    return {
        (agent.node, stream.outbox_id): stream.unexplained_ranges
        for stream in ledger.streams
        if stream.unexplained_ranges
        and (agent := directory.agents.get(stream.agent_id)) is not None
        and limit.allows((stream.agent_id, stream.outbox_id), now_s)
    }
