"""The job library's loop, kept going while the database is away.

The library ends its loop when the database is away for longer than the pool waits for a connection, or when the
connection that listens for new jobs cannot be made again. It then raises the database's error, or only returns: when
the database was back by the time it left. Both are an outage, and the loop is begun anew after a pause. A job that was
running is waited for, at most for the grace period; one that was cut short is found again in its rows.

A loop that returns although nothing was lost, and any other error, is a fault of ours and ends the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

import procrastinate
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager, NotificationCallback

from fleet_core.service import Backoff, Outage, end_tasks, keep_running

T = TypeVar("T")
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 10.0
"""Between two tries while the database is away (real seconds)."""
SETTLED_AFTER_S = 60.0
"""A loop that went on for so long is begun anew at once when it ends."""


class WatchedQueries(JobManager):
    """The library's queries, which tell an outage when jobs can be fetched again, and remember what was lost: the loop
    itself does not say why it returned.

    What is told to leave leaves. A cancellation that meets the database is lost at times: in the pool
    (``asyncio.wait_for`` of Python 3.11), or as the error of a dying connection that a loop of the library outlives.
    That loop would go on for ever, and whoever ends it would wait for ever.
    """

    def __init__(self, connector: BaseConnector, outage: Outage) -> None:
        super().__init__(connector)
        self._outage = outage
        self.lost: ConnectorException | None = None
        """Why the heartbeat or the listening failed last."""

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        return await _leaving(super().prune_stalled_workers(seconds_since_heartbeat))

    async def register_worker(self) -> int:
        return await _leaving(super().register_worker())

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        job = await super().fetch_job(queues, worker_id)
        self._outage.succeeded()
        return job

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:
        return await _leaving(super().list_jobs_to_abort_async(queue))

    async def update_heartbeat(self, worker_id: int) -> None:
        await self._remembering(_leaving(super().update_heartbeat(worker_id)))

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        listening = asyncio.create_task(
            super().listen_for_jobs(on_notification=on_notification, queues=queues), name="job listener"
        )
        try:
            await asyncio.wait([listening])
        except asyncio.CancelledError:
            await end_tasks([listening])
            raise
        await self._remembering(listening)

    async def _remembering(self, query: Awaitable[T]) -> T:
        try:
            return await query
        except ConnectorException as error:
            self.lost = error
            raise


async def run_jobs(app: procrastinate.App, outage: Outage, run: Callable[[], Awaitable[None]]) -> None:
    """Keep ``run``, the loop of ``app``, going until cancelled. Returns when it returns although nothing was lost.

    Raises what ``outage`` does not expect.
    """
    queries = WatchedQueries(app.connector, outage)
    app.job_manager = queries
    backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S, settled_after_s=SETTLED_AFTER_S)
    await keep_running(partial(_run, queries, run), outage, backoff)


async def _leaving(query: Awaitable[T]) -> T:
    """Await a query; leave after it, also after its error, when the task was told to meanwhile."""
    try:
        return await query
    finally:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError


async def _run(queries: WatchedQueries, run: Callable[[], Awaitable[None]]) -> None:
    queries.lost = None
    await run()
    if queries.lost is not None:
        raise queries.lost
