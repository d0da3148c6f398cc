"""The election by advisory lock: one serves, the next one follows, and what nobody foresaw is raised."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator

import psycopg
import pytest
from support.database import drop_database, new_database, postgres_dsn  # noqa: F401 # a fixture
from support.link import link_to

from fleet_core.errors import Permanent
from fleet_core.service import Outage, end_tasks
from fleet_server.store import leader
from fleet_server.store.leader import Elected, Office, when_elected
from fleet_server.store.pool import AWAY, MERELY_AWAY

pytestmark = pytest.mark.integration
log = logging.getLogger("election")


@pytest.fixture(scope="module")
def dsn(postgres_dsn: str) -> Iterator[str]:  # noqa: F811
    dsn = new_database(postgres_dsn)
    yield dsn
    drop_database(postgres_dsn, dsn)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "ASK_AGAIN_S", 0.05)


def _outage() -> Outage:
    return Outage(log, "nobody serves", "somebody serves again", errors=AWAY, known=MERELY_AWAY)


class Candidate:
    """Stands for election and writes down when it serves."""

    def __init__(self, dsn: str, office: Office = Office.SEQUENCER, fails_with: Exception | None = None) -> None:
        self._fails_with = fails_with
        self.serving = False
        self.times_elected = 0
        self.outage = _outage()
        self.task = asyncio.create_task(when_elected(dsn, office, self._serve, self.outage))

    async def _serve(self, elected: Elected) -> None:
        await elected.confirm()
        if self._fails_with is not None:
            error, self._fails_with = self._fails_with, None
            raise error
        self.outage.succeeded()
        self.serving, self.times_elected = True, self.times_elected + 1
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False


async def _until(check: Callable[[], bool], timeout_s: float = 15.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.02)


async def _cut(dsn: str, name: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid"
            " WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = %s",
            (name,),
        )


async def test_one_serves_and_the_next_follows_when_it_leaves(dsn: str) -> None:
    one = Candidate(dsn)
    await _until(lambda: one.serving)
    other, elsewhere = Candidate(dsn), Candidate(dsn, Office.HOST_STATE)
    await _until(lambda: elsewhere.serving)  # another work is another election
    await asyncio.sleep(0.3)
    assert one.serving and not other.serving
    await end_tasks([one.task])
    await _until(lambda: other.serving)
    await end_tasks([other.task, elsewhere.task])


async def test_who_loses_the_lock_stops_serving_and_stands_again(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    one = Candidate(dsn)
    await _until(lambda: one.serving)
    await _cut(dsn, "forestall-sequencer")
    await _until(lambda: one.times_elected == 2)
    said = [record.getMessage() for record in caplog.records if record.name == "election"]
    assert len(said) == 2 and said[0].startswith("nobody serves: ") and said[1].startswith("somebody serves again")
    await end_tasks([one.task])


async def test_who_holds_the_lock_over_a_link_that_fell_silent_stops_serving(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end of the lock hears nothing, of the loss neither: its question has a limit of its own."""
    monkeypatch.setattr(leader, "CONNECT_TIMEOUT_S", 1)
    async with link_to(dsn) as link:
        one = Candidate(link.dsn)
        await _until(lambda: one.serving)
        other = Candidate(dsn)
        link.silent = True
        await _cut(dsn, "forestall-sequencer")
        await _until(lambda: other.serving)
        await _until(lambda: not one.serving, 5.0)
        link.silent = False
        await end_tasks([one.task, other.task])


async def test_a_work_that_asks_over_a_link_that_fell_silent_is_told(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "CONNECT_TIMEOUT_S", 1)
    async with link_to(dsn) as link, await psycopg.AsyncConnection.connect(link.dsn, autocommit=True) as conn:
        elected = Elected(conn)
        await elected.confirm()
        link.silent = True
        began_s = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            await elected.confirm()
        assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.ReadOnlySqlTransaction("a replica"),
        psycopg.errors.InsufficientPrivilege("no right"),
        psycopg.errors.UndefinedTable("a restore that is not finished"),
        psycopg.errors.UniqueViolation("another one has signed"),
        psycopg.ProgrammingError("no column"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_the_database_answers_ends_the_service_and_not_the_process(
    dsn: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    one = Candidate(dsn, fails_with=error)
    await _until(lambda: one.serving)
    said = [record for record in caplog.records if record.name == "election"]
    assert len(said) == 2 and said[0].exc_info and one.outage.failures == 1
    await end_tasks([one.task])


async def test_a_database_that_is_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    one = Candidate("host=127.0.0.1 port=1 user=nobody dbname=none")
    await _until(lambda: one.outage.failures >= 3)
    assert len([record for record in caplog.records if record.name == "election"]) == 1
    await end_tasks([one.task])


@pytest.mark.parametrize(
    "error", [AttributeError("tree"), KeyError("seq"), Permanent("the log is not the one that was signed")]
)
async def test_an_error_nobody_foresaw_is_raised(dsn: str, error: Exception) -> None:
    async def broken(_elected: Elected) -> None:
        raise error

    await _raises(type(error), dsn, broken)


async def test_a_work_that_returns_while_elected_is_an_error(dsn: str) -> None:
    async def returns(_elected: Elected) -> None:
        return

    await _raises(RuntimeError, dsn, returns)


async def _raises(error: type[Exception], dsn: str, serve: Callable[[Elected], Awaitable[None]]) -> None:
    with pytest.raises(error):
        await asyncio.wait_for(when_elected(dsn, Office.SEQUENCER, serve, _outage()), 15)
