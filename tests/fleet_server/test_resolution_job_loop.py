"""The job loop is begun anew after an outage, says so once, and leaves when told to, whatever the library loses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import procrastinate
import pytest
from procrastinate.exceptions import ConnectorException
from procrastinate.testing import InMemoryConnector

from fleet_core.service import Outage
from fleet_server.resolution import job_loop
from fleet_server.resolution.job_loop import WatchedQueries, run_jobs

log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_loop, "FIRST_PAUSE_S", 0.001)


def _outage() -> Outage:
    return Outage(log, "jobs failed", "jobs work again", errors=(ConnectorException,))


def _app() -> procrastinate.App:
    return procrastinate.App(connector=InMemoryConnector())


async def _away(*_arguments: Any, **_named: Any) -> None:
    raise ConnectorException("the database is away")


async def test_a_loop_that_fails_is_begun_anew_and_the_outage_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    app, tries = _app(), 0
    caplog.set_level("INFO")

    async def run() -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            await _away()
        await app.job_manager.fetch_job(None, await app.job_manager.register_worker())

    await run_jobs(app, _outage(), run)
    assert (tries, [line.partition(" after ")[0] for line in caplog.messages]) == (
        4, ["jobs failed: the database is away", "jobs work again"],
    )  # fmt: skip


@pytest.mark.parametrize("lost", ["update_heartbeat", "listen_for_jobs"])
async def test_a_loop_that_returns_since_the_database_was_lost_is_begun_anew(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procrastinate.manager.JobManager, lost, _away)
    app, runs = _app(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:  # as the library does: the task beside its loop fails, and the loop only returns
            with pytest.raises(ConnectorException):
                await _beside(app.job_manager, lost)

    await run_jobs(app, _outage(), run)
    assert runs == 2


async def _beside(queries: Any, name: str) -> None:
    if name == "update_heartbeat":
        await queries.update_heartbeat(1)
    else:
        await queries.listen_for_jobs(on_notification=_away)


async def test_an_error_that_nobody_foresaw_ends_the_loop() -> None:
    async def run() -> None:
        raise KeyError("job")

    with pytest.raises(KeyError):
        await run_jobs(_app(), _outage(), run)


QUERIES: dict[str, Callable[[WatchedQueries], Awaitable[Any]]] = {
    "prune_stalled_workers": lambda queries: queries.prune_stalled_workers(5.0),
    "register_worker": lambda queries: queries.register_worker(),
    "list_jobs_to_abort_async": lambda queries: queries.list_jobs_to_abort_async(),
    "update_heartbeat": lambda queries: queries.update_heartbeat(1),
    "listen_for_jobs": lambda queries: queries.listen_for_jobs(on_notification=_away),
}


@pytest.mark.parametrize("becomes", [None, ConnectorException("cut")], ids=["nothing", "an error"])
@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_that_loses_its_cancellation_leaves_all_the_same(
    name: str, becomes: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def losing(*_arguments: Any, **_named: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if becomes is not None:
                raise becomes from None

    monkeypatch.setattr(procrastinate.manager.JobManager, name, losing)
    query = asyncio.ensure_future(QUERIES[name](WatchedQueries(InMemoryConnector(), _outage())))
    await begun.wait()
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(query, 5)
