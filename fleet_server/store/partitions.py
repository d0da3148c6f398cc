"""Daily partitions of the telemetry, made on demand and dropped after the retention.

Where ``samples`` is a TimescaleDB hypertable there is nothing to make, and old chunks are dropped by ``drop_chunks``;
the queries are the same. Partitions are made with the owner's rights, beside the ingest role's transaction, and
attached (a weaker lock than PARTITION OF), so that readers and writers go on.

Invariant: only days the caller has found believable are made (see ``ingest/decoder.py``); names are UTC days.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

from psycopg import sql

from fleet_server.store.pool import Connection, Pool, transaction

TABLES = ("samples", "waveform")
LOCK_KEY = 0x50415254  # "PART"
_NAME = re.compile(r"(samples|waveform)_(\d{8})\Z")


class Partitions:
    """Makes and drops days. ``known`` only grows while partitions are; a drop forgets them."""

    def __init__(self, owner: Pool) -> None:
        self._owner = owner
        self._known: set[date] | None = None
        self._native = True

    async def ensure(self, days: Iterable[date]) -> None:
        """Make the missing days. Cheap when there are none."""
        wanted = set(days)
        if self._known is not None and (not self._native or wanted <= self._known):
            return
        async with transaction(self._owner) as conn:
            await conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
            await self._load(conn)
            assert self._known is not None
            for day in sorted(wanted - self._known) if self._native else ():
                for table in TABLES:
                    await _make(conn, table, day)
        self._known |= wanted

    async def drop_before(self, oldest: date) -> list[str]:
        """Drop whole days before ``oldest``; returns the names dropped."""
        dropped: list[str] = []
        async with transaction(self._owner) as conn:
            await conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
            await self._load(conn)
            if not self._native:
                for table in TABLES:
                    rows = await conn.execute("SELECT drop_chunks(%s::regclass, older_than => %s)", (table, oldest))
                    dropped += [str(row["drop_chunks"]) for row in await rows.fetchall()]
                return dropped
            assert self._known is not None
            for day in sorted(day for day in self._known if day < oldest):
                for table in TABLES:
                    name = f"{table}_{day:%Y%m%d}"
                    await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("fleet", name)))
                    dropped.append(name)
                self._known.discard(day)
        return dropped

    async def _load(self, conn: Connection) -> None:
        cursor = await conn.execute("SELECT relkind FROM pg_class WHERE oid = 'fleet.samples'::regclass")
        kind = await cursor.fetchone()
        self._native = kind is not None and kind["relkind"] == "p"
        rows = await conn.execute(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'fleet.samples'::regclass"
        )
        names = [_NAME.search(str(row["name"])) for row in await rows.fetchall()]
        self._known = {datetime.strptime(m[2], "%Y%m%d").replace(tzinfo=UTC).date() for m in names if m}


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
