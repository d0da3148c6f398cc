"""Whether the database lets a process do its work now, and the metric that follows it.

A database that answers may still refuse every change: a standby, or ``default_transaction_read_only``. A full disk
shows only when something is written, so a request that failed by it is remembered for ``REMEMBER_S`` (``Trouble``).
"""

from __future__ import annotations

import asyncio
import time

import psycopg
from prometheus_client import Gauge

from fleet_server.store.failures import explained
from fleet_server.store.pool import Pool
from fleet_server.store.sql import queries

DATABASE_UP = Gauge("forestall_database_up", "1 while the database lets this process do its work")
LOOK_S = 0.5
PATIENCE_S = 1.0
"""With ``LOOK_S``: the metric follows within two seconds."""
REMEMBER_S = 10.0


class Trouble:
    """The last full disk that a request met; of one process."""

    def __init__(self) -> None:
        self._why, self._until_s = "", 0.0

    def met(self, error: psycopg.Error) -> None:
        """Remember a full disk for a while; other errors show by themselves."""
        if isinstance(error, psycopg.errors.DiskFull):
            self._why, self._until_s = str(explained(error)), time.monotonic() + REMEMBER_S

    @property
    def why(self) -> str:
        """One line, "" when nothing is remembered."""
        return self._why if time.monotonic() < self._until_s else ""


async def why_not_ready(pool: Pool, trouble: Trouble | None = None) -> str:
    """One line that says why the database lets nothing be done, "" when it does. Sets the metric; raises nothing."""
    try:
        why = await asyncio.wait_for(_ask(pool), PATIENCE_S)
    except TimeoutError:
        why = "the database does not answer"
    except psycopg.Error as error:
        why = str(explained(error))
    why = why or (trouble.why if trouble else "")
    DATABASE_UP.set(0 if why else 1)
    return why


async def watch_database(pool: Pool, trouble: Trouble | None = None) -> None:
    """Keep the metric true, for ever."""
    while True:
        await why_not_ready(pool, trouble)
        await asyncio.sleep(LOOK_S)


async def _ask(pool: Pool) -> str:
    async with pool.connection(timeout=PATIENCE_S) as conn:
        row = await (await conn.execute(queries("store").read_only)).fetchone()
    if row is None or not (row["standby"] or row["read_only"]):
        return ""
    cause = "it is a standby" if row["standby"] else "default_transaction_read_only is on"
    return f"the database is read-only: {cause}"
