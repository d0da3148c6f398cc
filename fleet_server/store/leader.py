"""Who is elected: of several processes that could do a work, the one that holds PostgreSQL's advisory lock does it.

Two works of the fleet have one doer at a time: the sequencer of the audit log, and the ingest process that publishes
the host's STATE. Each has a key in ``Office``.

Invariants
* The lock belongs to a connection of its own, not of a pool. It goes with that connection, however the process died,
  so the next candidate is elected within ``ASK_AGAIN_S`` of the database noticing.
* ``serve`` runs only while the lock is held: it is watched every ``ASK_AGAIN_S`` and ``serve`` is ended when it is
  gone. Between the loss and its discovery two may serve, for ``ASK_AGAIN_S`` and what ``confirm`` may take: a link that
  fell silent tells of no loss, so ``confirm`` takes it for lost after ``ASK_AGAIN_S + CONNECT_TIMEOUT_S``. A work that
  must not be done twice calls ``confirm`` before each of its steps, and lets the database refuse the rest.

Failure behaviour: an error that ``outage`` expects (of both works whatever the database answers, ``pool.AWAY``: a right
that is missing, an entry that another one has written) ends ``serve``, is logged once and once when it is over; the
election then begins anew. Any other error of ``serve`` is raised and ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from enum import Enum

import psycopg
from psycopg import AsyncConnection

from fleet_core.service import Backoff, Outage, Sleep, every, keep_running, run_together
from fleet_server.store.pool import noticing_silence
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)

ASK_AGAIN_S = 2.0
CONNECT_TIMEOUT_S = 5


class Office(Enum):
    """A work that one process of the fleet does, with the key of its lock."""

    SEQUENCER = 0x41554449  # "AUDI"
    HOST_STATE = 0x53544154  # "STAT"


class Elected:
    """The lock's connection, as long as the process is elected."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def confirm(self) -> None:
        """Raises psycopg.OperationalError when the lock went with its connection, or nobody answers."""
        limit = asyncio.get_running_loop().call_later(ASK_AGAIN_S + CONNECT_TIMEOUT_S, self._hang_up)
        try:
            await self._connection.execute("SELECT 1")
        finally:
            limit.cancel()

    def _hang_up(self) -> None:
        """End the connection at this end: whoever waits for an answer is told. Cancelling would ask the other end."""
        with (
            contextlib.suppress(psycopg.OperationalError, OSError),  # it is closed already
            socket.socket(fileno=os.dup(self._connection.fileno())) as end,
        ):
            end.shutdown(socket.SHUT_RDWR)


async def when_elected(
    dsn: str,
    office: Office,
    serve: Callable[[Elected], Awaitable[None]],
    outage: Outage,
    *,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Stand for election until cancelled, and run ``serve`` while elected; it should not return by itself.

    ``outage`` says in the log what is not done while the database is away; ``serve`` tells it when the work is done
    again (``outage.succeeded``).
    """

    async def stand() -> None:
        async with await AsyncConnection.connect(
            noticing_silence(dsn),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=f"forestall-{office.name.lower()}",
        ) as connection:
            while not await _take(connection, office):
                outage.succeeded()  # another process does the work
                await sleep(ASK_AGAIN_S)
            log.info("elected: %s", office.name.lower())
            elected = Elected(connection)
            await run_together({
                "elected": _never_returns(serve(elected), office),
                "lock": every(ASK_AGAIN_S, elected.confirm, wait_first=True, sleep=sleep),
            })  # fmt: skip

    await keep_running(stand, outage, Backoff(ASK_AGAIN_S, ASK_AGAIN_S), sleep=sleep)


async def _take(connection: AsyncConnection, office: Office) -> bool:
    row = await (await connection.execute(queries("store").elect, {"lock": office.value})).fetchone()
    return bool(row and row[0])


async def _never_returns(serving: Awaitable[None], office: Office) -> None:
    await serving
    raise RuntimeError(f"{office.name.lower()} ended while it was elected")
