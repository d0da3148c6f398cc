"""The worker process: jobs that wake it, a sweep that finds what is due even when no job came, and a graceful stop.

Several workers may run; what one does, and what a killed one left, is settled by the rows and locks alone.

While the database is away or refuses, the worker waits: each of its loops says so once, and once when it works again.
That holds for the loop of the job library too (``job_loop.py``).
Any other error of a loop is a fault of ours and ends the process with its reason, for the supervisor to start it anew.
A single piece of work that fails stays alone with its fault (``pieces.py``), and so does a library that cannot be
warmed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException

from fleet_core.errors import Retryable
from fleet_core.put_off import PutOff
from fleet_core.service import (
    Outage,
    end_tasks,
    every,
    in_one_line,
    once,
    raise_failure,
    run_until_stopped,
    stop_on_signals,
)
from fleet_server.exposition import serve_metrics
from fleet_server.health.refresh import refresh_health
from fleet_server.prognosis.warming import warm_shelf
from fleet_server.resolution.failing import watch_running
from fleet_server.resolution.job_loop import run_jobs
from fleet_server.resolution.jobs import ADVANCE_CASE, TRIAGE_FINDING, make_app
from fleet_server.resolution.maintenance import end_maintenance
from fleet_server.resolution.metrics import FAILURES
from fleet_server.resolution.rest_sweep import RestSweep
from fleet_server.resolution.rows import CaseRef
from fleet_server.resolution.runner import Runner
from fleet_server.resolution.runtime import Runtime, build_runtime
from fleet_server.resolution.timers import run_due
from fleet_server.resolution.triage import triage_finding
from fleet_server.settings import Settings, clock_of
from fleet_server.store.fetch import fetch_all
from fleet_server.store.pool import AWAY, OPEN_TIMEOUT_S, open_pool
from fleet_server.store.readiness import watch_database
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_sql = queries("resolution")

Hook = Callable[[Runtime], Awaitable[object]]
"""Something else a worker does regularly, besides refreshing health and ending maintenance."""

SWEEP_S = 1.0
"""Bounds how late a due case, timer or escalation is taken up when no job came for it."""
SCALED_SWEEP_S = 0.1
"""The same on a clock faster than real time, where a second may be hours."""
HOOK_S = 2.0
"""Bounds how late the health of an asset follows its vitals, and how late maintenance that is over is ended."""
QUALITY_S = 30.0
"""Counting the quality of the data reads more rows than health does: it is done every fifteenth time."""
HEARTBEAT_S = 1.0
STALLED_S = 5.0
"""Five heartbeats that did not come: the worker is taken for dead, and another one does its jobs again."""
GRACE_S = 8.0
"""Bounds how long a job or a case may go on after the stop; then it is cut short and found again in its rows."""
JOBS_END_WITHIN_S = GRACE_S + OPEN_TIMEOUT_S + 2.0
"""The grace period, and what the job loop may wait for a database that is away; then it is cut short."""
TRIAGE_RETRIES = procrastinate.RetryStrategy(max_attempts=16, exponential_wait=2)
"""2, 4, 8 ... seconds: a finding that cannot be judged (nobody to own a case) is tried again for a day and more."""


async def run_worker(settings: Settings, hooks: Sequence[Hook] = (), *, stop: asyncio.Event | None = None) -> None:
    """Work until SIGTERM or SIGINT (or until ``stop`` is set, which leaves the signals to the caller).

    Raises BadConfig for settings that cannot work, Retryable when the database is not there.
    """
    clock = clock_of(settings)
    pool = await open_pool(settings, "worker", size=max(6, settings.database.pool_size))
    try:
        rt = build_runtime(settings, pool, clock)
        try:
            await _serve(rt, settings, hooks, stop or stop_on_signals(), at_once=max(1, pool.max_size // 2 - 1))
        finally:
            await rt.close()
    finally:
        await pool.close()


def worker_app(rt: Runtime, runner: Runner) -> procrastinate.App:
    """The job app with its two tasks."""
    app = make_app()

    @app.task(name=TRIAGE_FINDING, retry=TRIAGE_RETRIES)
    async def triage(finding_id: str, revision: int) -> None:
        try:
            case_id = await triage_finding(rt, finding_id, revision)
        except Exception:
            FAILURES.labels("triage_finding").inc()
            raise  # the job library logs it and tries again
        if case_id is not None:
            await runner.advance(uuid.UUID(case_id))

    @app.task(name=ADVANCE_CASE)
    async def advance(case_id: str) -> None:
        await runner.advance(uuid.UUID(case_id))

    return app


class Sweep:
    """Finds due cases, timers and escalations by domain time. A case that was interrupted is found again."""

    def __init__(self, rt: Runtime, runner: Runner) -> None:
        self._rt = rt
        self._runner = runner
        self._running: dict[uuid.UUID, asyncio.Task[bool]] = {}
        self._fault: BaseException | None = None
        self._rests = RestSweep(rt)

    async def once(self) -> None:
        """Start what is due and not yet running here. Raises what a case met that the runner did not foresee."""
        self.raise_fault()
        await run_due(self._rt)
        await self._rests.once()
        async with self._rt.pool.connection() as conn:
            due = await fetch_all(conn, CaseRef, _sql.due_cases, {"now": self._rt.clock.now()})
        for case_id in (row.case_id for row in due):
            if case_id not in self._running:
                task = asyncio.create_task(self._runner.advance(case_id), name=f"advance {case_id}")
                self._running[case_id] = task
                task.add_done_callback(partial(self._ended, case_id))

    async def settle(self) -> None:
        """Wait for what was started."""
        if self._running:
            await asyncio.wait(list(self._running.values()))

    async def stop(self, raised: BaseException | None = None) -> None:
        """Let what runs come to its next rest, within the grace period; log a fault that is not ``raised`` already."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=GRACE_S)
        await end_tasks(list(self._running.values()))
        if self._fault is not None and self._fault is not raised:
            log.error("a case failed as nobody foresaw: %s", in_one_line(self._fault), exc_info=self._fault)

    def raise_fault(self) -> None:
        """Raise the first error of a case that the runner did not foresee, if there was one."""
        if self._fault is not None:
            raise self._fault

    def _ended(self, case_id: uuid.UUID, task: asyncio.Task[bool]) -> None:
        self._running.pop(case_id, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        FAILURES.labels("advance_case").inc()
        if isinstance(error, AWAY):
            log.warning("case %s was interrupted, it is taken up again: %s", case_id, error)
        elif self._fault is None:
            self._fault = error
        else:
            log.error("case %s failed as nobody foresaw: %s", case_id, in_one_line(error), exc_info=error)


async def _serve(rt: Runtime, settings: Settings, hooks: Sequence[Hook], stop: asyncio.Event, at_once: int) -> None:
    runner = Runner(rt, at_once)
    app = worker_app(rt, runner)
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    await app.open_async(rt.pool)
    sweep = Sweep(rt, runner)
    run = partial(
        app.run_worker_async,
        concurrency=at_once,
        fetch_job_polling_interval=1.0,
        shutdown_graceful_timeout=GRACE_S,
        delete_jobs="successful",
        install_signal_handlers=False,
        update_heartbeat_interval=HEARTBEAT_S,
        stalled_worker_timeout=STALLED_S,
    )
    jobs = asyncio.create_task(run_jobs(app, _outage("jobs"), run), name="jobs")
    loops: dict[str, tuple[Callable[[], Awaitable[object]], float]] = {
        "sweep": (sweep.once, SCALED_SWEEP_S if rt.clock.scale > 1 else SWEEP_S),
        "stalled_jobs": (partial(retry_stalled, app, rt.pieces.jobs), STALLED_S / 2),
        "health": (partial(_health_hook(), rt), HOOK_S),
        "maintenance": (partial(_end_maintenance, rt), HOOK_S),
        "running": (partial(watch_running, rt), HOOK_S),
        **{f"hook {number}": (partial(hook, rt), HOOK_S) for number, hook in enumerate(hooks, 1)},
    }
    log.info("worker is ready")
    try:
        await run_until_stopped(
            stop,
            {
                "jobs": _until_ended(jobs),
                "warming": once(warm_shelf(rt.pool, rt.clock)),
                "database": watch_database(rt.pool),
                "metrics": serve_metrics(settings.metrics_host, settings.worker.metrics_port),
                **{name: every(interval_s, act, _outage(name)) for name, (act, interval_s) in loops.items()},
            },
        )
    finally:
        raised = sys.exception()
        jobs.cancel()  # once: a second time would cut short the jobs that are finishing
        await asyncio.wait([jobs], timeout=JOBS_END_WITHIN_S)
        await end_tasks([jobs], raised=raised)
        await sweep.stop(raised)
        await app.close_async()
    raise_failure([jobs])
    sweep.raise_fault()


async def _until_ended(jobs: asyncio.Task[None]) -> None:
    """The job loop as a part: its error ends the process, the end of the process does not cut its jobs short."""
    await asyncio.shield(jobs)


def _outage(name: str) -> Outage:
    """What a loop may meet and outlive: a database that is away, and the job library's word for it."""
    return Outage(
        log,
        f"{name} failed, trying again",
        f"{name} works again",
        errors=(*AWAY, ConnectorException),
        known=(psycopg.OperationalError, Retryable, ConnectorException),
        on_failure=FAILURES.labels(name).inc,
    )


def _health_hook() -> Hook:
    """Health every time, the quality of the data every ``QUALITY_S``."""
    counted_s = float("-inf")

    async def refresh(rt: Runtime) -> None:
        nonlocal counted_s
        now_s = time.monotonic()
        count = now_s - counted_s >= QUALITY_S
        async with rt.pool.connection() as conn:
            if await refresh_health(conn, rt.clock, rt.pieces.assets, count_quality=count) and count:
                counted_s = now_s

    return refresh


async def _end_maintenance(rt: Runtime) -> None:
    async with rt.pool.connection() as conn:
        await end_maintenance(conn, rt.clock, rt.pieces.maintenances)


async def retry_stalled(app: procrastinate.App, pieces: PutOff) -> None:
    """Jobs of workers that died are waiting again.

    One that cannot, because another of the same key waits, is put off until that one was done.
    """
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S):
        if job.id is None or pieces.waits(job.id):
            continue
        try:
            await app.job_manager.retry_job(job, retry_at=datetime.now(UTC))
        except ConnectorException as error:
            if isinstance(error.__cause__, psycopg.OperationalError):
                raise
            pieces.failed(job.id, error)
        else:
            pieces.succeeded(job.id)
