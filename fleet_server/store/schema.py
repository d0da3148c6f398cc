"""Which migrations this program has, which of them a database has, and one line for a database that lacks some."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import psycopg

from fleet_core.errors import BadConfig
from fleet_server.store.sql import queries

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATE = "fleet-server db migrate"
"""The mend of a database that lacks tables, roles or rights."""


def own_migrations(migrations: Path = MIGRATIONS) -> list[tuple[str, str]]:
    """The name and the text of each migration, in order."""
    return [(path.name, path.read_text(encoding="utf-8")) for path in sorted(migrations.glob("[0-9]*.sql"))]


def checksum(text: str) -> str:
    """What the database remembers of a migration's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def newest_migration(migrations: Path = MIGRATIONS) -> str:
    """The name of the last migration of this program."""
    return max(path.name for path in migrations.glob("[0-9]*.sql"))


async def require_schema(connection: psycopg.AsyncConnection[Any]) -> None:
    """Raises BadConfig when the database lacks this version's newest migration."""
    found = await (await connection.execute(queries("migrate").has_ledger)).fetchone()
    if not found or not found[0]:
        raise BadConfig(f"the database was never migrated; run `{MIGRATE}`")
    newest = newest_migration()
    if await (await connection.execute(queries("migrate").is_applied, {"name": newest})).fetchone() is None:
        raise BadConfig(f"the database lacks migration {newest}; run `{MIGRATE}`")
