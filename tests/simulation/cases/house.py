"""The database of the plays: one server and one migrated database for each process, used again by each play.

A backup is every row of every table that holds any, and where each sequence stands. Putting one back empties exactly
what was written since; that takes milliseconds, where copying a database takes a hundred.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, waiting
from psycopg.rows import dict_row

from fleet_server.settings import Database, Settings
from fleet_server.store.embedded import EmbeddedPostgres
from fleet_server.store.migrate import migrate
from fleet_server.store.pool import Pool, open_pool

QUICK = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n"
"""What a play commits need not outlive a power cut; and no vacuum changes in which order rows are found."""
TENANT, DISTRICT = "northgate", "eu-north"
SITES = ("hamburg", "altona")
SLOTS = (
    ("amr-17", "drive_bearing"),
    ("amr-17", "lift_bearing"),
    ("amr-18", "drive_bearing"),
    ("amr-19", "drive_bearing"),
)
"""Two of them are parts of one machine, which can be taken out of use once at a time."""
PEOPLE = (
    ("marta", None, "Marta Lindqvist", "case_owner"), ("rosa", None, "Rosa Blum", "case_owner"),
    ("nina", None, "Nina Hale", "fleet_operator"), ("jonas", None, "Jonas Weber", "engineer"),
    ("aisha", None, "Aisha Okafor", "engineer"), ("henrik", TENANT, "Henrik Paulsen", "operations_director"),
    ("ida", TENANT, "Ida Brandt", "site_manager"),
)  # fmt: skip
STOCK = (("bremen", 2), ("lyon", 2))
_TABLES = """
SELECT format('%I.%I', nspname, relname) AS name
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE relkind = 'r' AND nspname IN ('fleet', 'public') AND pg_relation_size(pg_class.oid) > 0 ORDER BY 1
"""
_SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename) AS name, last_value FROM pg_sequences
 WHERE schemaname IN ('fleet', 'public') ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Backup:
    """Every row, by table, as COPY writes them; and each sequence's last value, None before its first."""

    rows: dict[str, bytes]
    sequences: dict[str, int | None]


class House:
    """The database, as its owner sees it (``rows``, ``backup``), and the server's pool."""

    def __init__(self, owner: AsyncConnection[dict[str, Any]], pool: Pool, settings: Settings) -> None:
        self._owner, self.pool, self.settings = owner, pool, settings
        self._fresh: Backup | None = None

    async def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        cursor = await self._owner.execute(statement, values or None)
        return await cursor.fetchall() if cursor.description else []

    async def fresh(self, start: datetime) -> None:
        """As before the first play."""
        if self._fresh is None:
            await _seed(self._owner, start)
            self._fresh = await self.backup()
        await self.restore(self._fresh)

    async def backup(self) -> Backup:
        rows = {}
        for table in await self.rows(_TABLES):
            async with self._owner.cursor().copy(f"COPY {table['name']} TO STDOUT") as copied:
                rows[table["name"]] = b"".join([bytes(part) async for part in copied])
        return Backup(rows, {one["name"]: one["last_value"] for one in await self.rows(_SEQUENCES)})

    async def restore(self, backup: Backup) -> None:
        """Put it back, whatever stands there now."""
        async with self._owner.transaction():
            await self._owner.execute("SET LOCAL session_replication_role = replica")  # in whatever order
            written = sorted({one["name"] for one in await self.rows(_TABLES)} | set(backup.rows))
            if written:
                await self._owner.execute(f"TRUNCATE {', '.join(written)} CASCADE")
            for table, rows in backup.rows.items():
                async with self._owner.cursor().copy(f"COPY {table} FROM STDIN") as copied:
                    await copied.write(rows)
            for sequence, last in backup.sequences.items():
                await self._owner.execute(
                    "SELECT setval(%s::regclass, %s, %s)", (sequence, last or 1, last is not None)
                )


@contextmanager
def waiting_here() -> Iterator[None]:
    """Answers of the database are waited for without the event loop, which takes half as long.

    Nothing else goes on meanwhile, and one thing after the other is what makes a seed play the same again.
    """
    usual = AsyncConnection.wait

    async def wait(self: AsyncConnection[Any], gen: Any, interval: float = 0.1) -> Any:
        return waiting.wait(gen, self.pgconn.socket, interval)

    AsyncConnection.wait = wait
    try:
        yield
    finally:
        AsyncConnection.wait = usual


@asynccontextmanager
async def open_house(dsn: str) -> AsyncIterator[House]:
    """The house on a migrated database that belongs to it alone."""
    settings = Settings(database=Database(dsn=dsn))
    options = "-c search_path=fleet,public -c timezone=UTC"
    owner: Any = await AsyncConnection.connect(dsn, autocommit=True, row_factory=dict_row, options=options)
    try:
        pool = await open_pool(settings, "worker", size=10)
        pool._check = None  # a connection that is taken is not tried first: no server goes away here
        try:
            with waiting_here():
                yield House(owner, pool, settings)
        finally:
            await pool.close()
    finally:
        await owner.close()


def new_server(directory: Path) -> EmbeddedPostgres:
    """A server for plays, started and migrated; whoever gets it stops it."""
    server = EmbeddedPostgres(directory, extra_configuration=QUICK)
    try:
        migrate(server.start())
    except BaseException:
        server.stop()
        raise
    return server


async def _seed(owner: AsyncConnection[dict[str, Any]], now: datetime) -> None:
    since, until = now - timedelta(days=300), now + timedelta(days=300)
    rows: list[tuple[str, tuple[object, ...]]] = [
        ("INSERT INTO tenant (tenant_id, name, jurisdiction, policy) VALUES (%s, 'Northgate', 'DE', %s)",
         (TENANT, psycopg.types.json.Jsonb(
             {"retry_attempts": 3, "retry_first_s": 300.0, "look_again_h": 12.0, "overdue_h": 6.0}))),
        *(("INSERT INTO site (site_id, tenant_id, name, region, jurisdiction, time_zone, latitude, longitude, wms_kind)"
           " VALUES (%s, %s, %s, %s, 'DE', 'Europe/Berlin', 53.5, 10.0, 'none')",
           (site, TENANT, site.capitalize(), DISTRICT)) for site in SITES),
        ("INSERT INTO agent (agent_id, tenant_id, site_id, registered_at) VALUES ('agent-1', %s, 'hamburg', %s)",
         (TENANT, now)),
        *(("INSERT INTO person (person_id, tenant_id, name, email, role, skills) VALUES (%s, %s, %s, %s, %s, %s)",
           (who, tenant, name, f"{who}@people.example", role, ["drive-mechanics"] if role == "engineer" else []))
          for who, tenant, name, role in PEOPLE),
        *(("INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial, equipment_ref)"
           " VALUES (%s, %s, 'hamburg', 'agent-1', %s, 'robot', 'Transit 500', %s, %s)",
           (asset, TENANT, asset.upper(), f"SN-{asset}", f"EQ-{asset}")) for asset in dict(SLOTS)),
        *(("INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, part_no, valid_from)"
           " VALUES (%s, %s, %s, 'bearing', %s, '', %s)", (TENANT, asset, slot, f"B-{asset}-{slot}", since))
          for asset, slot in SLOTS),
        *(("INSERT INTO series (tenant_id, asset_id, metric, unit, slot) VALUES (%s, %s, 'vibration', '[g]', %s)",
           (TENANT, asset, slot)) for asset, slot in dict(SLOTS).items()),
        ("INSERT INTO part VALUES ('PN-1', 'bearing', 'Drive bearing 6004', '{}', 120)", ()),
        ("INSERT INTO fulfilment_centre VALUES ('bremen', 'Bremen', 'eu-north', 'DE', 53.1, 8.8, 4)", ()),
        ("INSERT INTO fulfilment_centre VALUES ('lyon', 'Lyon', 'eu-south', 'FR', 45.7, 4.8, 8)", ()),
        *(("INSERT INTO stock VALUES (%s, 'PN-1', %s)", one) for one in STOCK),
        ("INSERT INTO contract VALUES ('W-1', %s, 'warranty', '*', '{bearing}', %s, %s, '{}')", (TENANT, since, until)),
        ("CREATE TABLE IF NOT EXISTS samples_all PARTITION OF samples DEFAULT", ()),
    ]  # fmt: skip
    for statement, values in rows:
        await owner.execute(statement, values or None)  # literal statements of this file
