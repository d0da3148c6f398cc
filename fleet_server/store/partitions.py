"""Daily partitions of the telemetry tables, made on demand and dropped after the retention.

Where ``samples`` is a TimescaleDB hypertable no partition is made, and old chunks are dropped by ``drop_chunks``; the
queries are the same. Partitions are made with the owner's rights, beside the transaction of the ingest role. They are
attached to their table, which takes a weaker lock than PARTITION OF, so that readers and writers go on.

Statements that name a partition are composed here, because the name of a table cannot be a parameter; the other
statements stand in ``store.sql``.

Invariant: a partition is made only for a day that the caller found plausible (see ``ingest/decoder.py``). Its name is
the UTC day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from psycopg import sql

from fleet_core.put_off import PutOff
from fleet_server.store.alone import do_alone
from fleet_server.store.pool import Connection, Pool, transaction
from fleet_server.store.sql import queries

_SQL = queries("store")
TABLES = ("samples", "waveform")
LOCK_KEY = 0x50415254  # "PART"
_NAME = re.compile(r"(samples|waveform)_(\d{8})\Z")


class Partitions:
    """Makes and drops daily partitions. It remembers the days that exist; after a drop it reads them again."""

    def __init__(self, owner: Pool) -> None:
        self._owner = owner
        self._known: set[date] | None = None
        self._native = True

    async def ensure(self, days: Iterable[date]) -> None:
        """Make the partitions of those ``days`` that are missing; cheap when none is."""
        wanted = set(days)
        if self._known is not None and (not self._native or wanted <= self._known):
            return
        async with transaction(self._owner) as conn:
            await conn.execute(_SQL.lock_partitions, {"lock": LOCK_KEY})
            await self._load(conn)
            assert self._known is not None
            for day in sorted(wanted - self._known) if self._native else ():
                for table in TABLES:
                    await _make(conn, table, day)
        self._known |= wanted

    async def drop_before(self, oldest: date, days: PutOff) -> list[str]:
        """Drop whole days before ``oldest``; returns the names dropped.

        ``days`` holds those that could not be dropped: each call tries them again, and drops the other days.
        """
        dropped: list[str] = []
        async with transaction(self._owner) as conn:
            await conn.execute(_SQL.lock_partitions, {"lock": LOCK_KEY})
            await self._load(conn)
            if not self._native:
                for table in TABLES:
                    rows = await conn.execute(_SQL.drop_chunks, {"table": table, "oldest": oldest})
                    dropped += [str(row["drop_chunks"]) for row in await rows.fetchall()]
                return dropped
            assert self._known is not None
            for day in sorted(day for day in self._known if day < oldest):
                names = [f"{table}_{day:%Y%m%d}" for table in TABLES]
                if await do_alone(conn, days, day, partial(_drop, conn, names)) is None:
                    dropped += names
                    self._known.discard(day)
        return dropped

    async def _load(self, conn: Connection) -> None:
        cursor = await conn.execute(_SQL.kind_of_samples)
        kind = await cursor.fetchone()
        self._native = kind is not None and kind["relkind"] == "p"
        rows = await conn.execute(_SQL.partitions_of_samples)
        names = [_NAME.search(str(row["name"])) for row in await rows.fetchall()]
        self._known = {datetime.strptime(m[2], "%Y%m%d").replace(tzinfo=UTC).date() for m in names if m}


async def _drop(conn: Connection, names: Iterable[str]) -> None:
    for name in names:
        await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("fleet", name)))


async def _make(conn: Connection, table: str, day: date) -> None:
    name = sql.Identifier("fleet", f"{table}_{day:%Y%m%d}")
    parent = sql.Identifier("fleet", table)
    start = datetime.combine(day, time(), UTC)
    await conn.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(name, parent))
    await conn.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            parent, name, sql.Literal(start.isoformat()), sql.Literal((start + timedelta(days=1)).isoformat())
        )
    )
