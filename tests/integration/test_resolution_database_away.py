"""The worker outlives its database: a real server is stopped and started, a connection is cut in mid-statement."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from support.world import new_folder

from fleet_server.resolution import worker
from fleet_server.resolution.jobs import defer_advance
from fleet_server.resolution.rows import CaseRef
from fleet_server.settings import Database, Settings
from fleet_server.store import pool as pools
from fleet_server.store.embedded import EmbeddedPostgres
from fleet_server.store.pool import AWAY, Connection, open_pool

pytestmark = pytest.mark.integration
LIMIT_S = 40.0


@pytest.fixture
def server(cluster_at: Callable[[Path], None]) -> Iterator[EmbeddedPostgres]:
    """A server of this test alone, that it may stop and start."""
    directory = new_folder("away")
    cluster_at(directory / "pg")
    made = EmbeddedPostgres(directory / "pg", extra_configuration="fsync = off\n")
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory, ignore_errors=True)


async def _until(true: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < until_s, f"never: {what}"
        await asyncio.sleep(0.05)


def _count(dsn: str, statement: str, *values: Any) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute(statement, values).fetchone()
        return int(row[0])


async def test_a_database_that_stays_away_is_said_once_and_the_jobs_go_on_after_it(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pools, "OPEN_TIMEOUT_S", 0.5)  # how long a loop waits for a connection before it fails
    caplog.set_level("INFO")
    dsn, stop = server.start(), asyncio.Event()
    works = asyncio.create_task(worker.run_worker(Settings(database=Database(dsn=dsn)), stop=stop))
    jobs, workers = "SELECT count(*) FROM procrastinate_jobs", "SELECT count(*) FROM procrastinate_workers"
    await _until(lambda: works.done() or _count(dsn, workers) == 1, "the job loop begins")

    def said() -> list[str]:
        return [line for line in caplog.messages if line.startswith("jobs ")]

    server.stop()
    await _until(lambda: works.done() or len(said()) == 1, "the job loop says that the database is away")
    await asyncio.sleep(1.5)  # it is tried again meanwhile, and fails again
    assert not works.done(), works.exception()
    assert server.start() == dsn
    await _until(lambda: works.done() or len(said()) == 2, "the job loop works again")
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        await defer_advance(conn, uuid.UUID(int=1))
    await _until(lambda: works.done() or _count(dsn, jobs) == 0, "a job is done")
    assert not works.done(), works.exception()
    stop.set()
    await asyncio.wait_for(works, LIMIT_S)
    assert "failed, trying again" in said()[0] and "works again" in said()[1] and len(said()) == 2


async def _cut_while_a_job_is_written(dsn: str, conn: Connection) -> None:
    """Write a job on a connection that the server cuts while the row waits for another one's lock."""
    async with await psycopg.AsyncConnection.connect(dsn) as other:
        await other.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        pid = conn.info.backend_pid
        writing = asyncio.create_task(defer_advance(conn, uuid.UUID(int=1)))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        await _until(lambda: _count(dsn, waits, pid) == 1, "the row waits for the lock")
        await other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        await writing


async def test_a_connection_that_is_cut_while_a_job_is_written_is_the_databases_own_error(dsn: str) -> None:
    pool = await open_pool(Settings(database=Database(dsn=dsn)), "worker", size=1)
    try:
        with pytest.raises(psycopg.OperationalError) as raised:
            async with pool.connection() as conn:
                await _cut_while_a_job_is_written(dsn, conn)
    finally:
        await pool.close()
    assert isinstance(raised.value, AWAY) and not isinstance(raised.value, ConnectorException)


async def test_a_case_whose_connection_is_cut_while_a_job_is_written_is_taken_up_again(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop, begun = asyncio.Event(), 0

    async def advance(runner: Any, _case_id: uuid.UUID) -> bool:
        nonlocal begun
        begun += 1
        if begun == 2:
            stop.set()
            return True
        async with runner._rt.pool.connection() as conn:
            await _cut_while_a_job_is_written(dsn, conn)
        return True

    async def one_case(*_arguments: Any) -> list[CaseRef]:
        return [CaseRef(case_id=uuid.UUID(int=1))]

    monkeypatch.setattr(worker, "SWEEP_S", 0.02)
    monkeypatch.setattr(worker.Runner, "advance", advance)
    monkeypatch.setattr(worker, "fetch_all", one_case)
    await asyncio.wait_for(worker.run_worker(Settings(database=Database(dsn=dsn)), stop=stop), LIMIT_S)
    assert caplog.text.count("was interrupted, it is taken up again") == 1
