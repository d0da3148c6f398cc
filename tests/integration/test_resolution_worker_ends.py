"""The worker ends, and says why, when a part of it fails as nobody foresaw; a database that is away is an outage."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest
from support.database import drop_database, new_database, postgres_dsn  # noqa: F401 # a fixture

from fleet_core.service import Ended
from fleet_server.resolution import worker
from fleet_server.resolution.metrics import FAILURES
from fleet_server.resolution.rows import CaseRef
from fleet_server.settings import Database, Settings

pytestmark = pytest.mark.integration

PROGRAM = """
import sys
import uuid
from pathlib import Path
from fleet_server import app
from fleet_server.resolution import worker

async def broken(rt):
    raise {}["no such case"]

sys.exit(app.serve(Path(sys.argv[1]), lambda settings, clock: worker.run_worker(settings, [broken])))
"""
PARTS = ("run_due", "refresh_health", "end_maintenance", "retry_stalled", "warm_shelf", "serve_metrics")
"""What the worker's parts call, by the name under which the worker knows it."""


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> Iterator[str]:  # noqa: F811
    dsn = new_database(postgres_dsn)
    yield dsn
    drop_database(postgres_dsn, dsn)


def _failures(task: str) -> float:
    return FAILURES.labels(task)._value.get()


@pytest.mark.parametrize("error", [AttributeError("plan"), KeyError("case")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("part", PARTS)
async def test_a_part_that_fails_as_nobody_foresaw_ends_the_worker(
    dsn: str, part: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(worker, part, broken)
    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(worker.run_worker(Settings(database=Database(dsn=dsn))), 15)
    assert raised.value is error


async def test_a_job_loop_that_ends_by_itself_ends_the_worker(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def returns(*_arguments: object, **_named: object) -> None:
        return

    monkeypatch.setattr(procrastinate.App, "run_worker_async", returns)
    with pytest.raises(Ended, match="jobs"):
        await asyncio.wait_for(worker.run_worker(Settings(database=Database(dsn=dsn))), 15)


def test_the_program_says_what_ended_it_and_its_exit_code_asks_for_a_new_start(dsn: str, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'[database]\ndsn = "{dsn}"\n')
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(config)], capture_output=True, text=True, timeout=40, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("Traceback") == 1
    assert "KeyError: 'no such case'" in ended.stderr and "broken" in ended.stderr


async def test_a_database_that_is_away_for_a_sweep_is_said_once_and_the_worker_goes_on(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop, sweeps, before = asyncio.Event(), 0, _failures("sweep")

    async def sometimes(_rt: Any) -> int:
        nonlocal sweeps
        sweeps += 1
        if sweeps in (2, 3):
            raise psycopg.OperationalError("the server is starting up")
        if sweeps == 5:
            stop.set()
        return 0

    monkeypatch.setattr(worker, "SWEEP_S", 0.02)
    monkeypatch.setattr(worker, "run_due", sometimes)
    caplog.set_level("INFO")
    await asyncio.wait_for(worker.run_worker(Settings(database=Database(dsn=dsn)), stop=stop), 15)
    said = [record.getMessage() for record in caplog.records if "sweep" in record.getMessage()]
    assert len(said) == 2 and "starting up" in said[0] and "again" in said[1]
    assert _failures("sweep") - before == 2


class _Leaving:
    """A worker that is asked to stop while a case of it runs, which then fails (or the job loop does)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, case: Exception | None, jobs: Exception | None) -> None:
        self.stop = asyncio.Event()

        async def advance(_runner: Any, _case_id: uuid.UUID) -> bool:
            self.stop.set()
            await asyncio.sleep(0.2)
            if case is not None:
                raise case
            return True

        async def one_case(*_arguments: Any) -> list[CaseRef]:
            return [CaseRef(case_id=uuid.UUID(int=1))]

        async def job_loop(*_arguments: Any, **_named: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                if jobs is not None:
                    raise jobs

        monkeypatch.setattr(worker.Runner, "advance", advance)
        monkeypatch.setattr(worker, "fetch_all", one_case)
        monkeypatch.setattr(procrastinate.App, "run_worker_async", job_loop)

    async def run(self, dsn: str) -> None:
        await asyncio.wait_for(worker.run_worker(Settings(database=Database(dsn=dsn)), stop=self.stop), 15)


@pytest.mark.parametrize("error", [AttributeError("plan"), KeyError("case")], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["case", "jobs"])
async def test_what_fails_as_nobody_foresaw_while_the_worker_leaves_is_raised(
    dsn: str, where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {"case": None, "jobs": None, where: error}
    with pytest.raises(type(error)) as raised:
        await _Leaving(monkeypatch, **errors).run(dsn)
    assert raised.value is error


async def test_of_two_errors_while_the_worker_leaves_both_are_logged(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case, jobs = KeyError("case"), KeyError("jobs")
    with pytest.raises(KeyError):
        await _Leaving(monkeypatch, case, jobs).run(dsn)
    assert {id(record.exc_info[1]) for record in caplog.records if record.exc_info} == {id(case), id(jobs)}


async def test_a_case_that_the_database_interrupts_while_the_worker_leaves_is_no_failure(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await _Leaving(monkeypatch, psycopg.OperationalError("the server is going down"), None).run(dsn)
    assert "was interrupted, it is taken up again" in caplog.text
