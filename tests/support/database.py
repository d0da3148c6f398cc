"""Databases for tests: one embedded PostgreSQL for the session, a fresh migrated database for each module.

``postgres_dsn`` (session) is the server's owner dsn; ``fresh_database`` (module) is the dsn of a database of the
module's own, copied from a migrated template, which takes a fraction of a second. ``new_database(dsn)`` gives one
more. Roles belong to the whole server, so modules share them, as in life.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fleet_server.settings import Database, Settings
from fleet_server.store.embedded import EmbeddedPostgres
from fleet_server.store.migrate import migrate

_TEMPLATE = "forestall_template"
_number = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The owner's dsn of the session's server; its template database is migrated."""
    directory = Path(tempfile.mkdtemp(prefix="forestall-test-pg-"))
    directory.chmod(0o755)
    # What tests commit need not outlive a power cut.
    server = EmbeddedPostgres(directory / "pg", extra_configuration="fsync = off\n")
    try:
        dsn = server.start()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
        migrate(make_conninfo(dsn, dbname=_TEMPLATE))
        yield dsn
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def fresh_database(postgres_dsn: str) -> Iterator[str]:
    """The dsn of a migrated database that belongs to this module alone."""
    dsn = new_database(postgres_dsn)
    yield dsn
    drop_database(postgres_dsn, dsn)


def new_database(postgres_dsn: str) -> str:
    """One more migrated database on the session's server; returns its dsn."""
    name = f"test_{next(_number)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE))
        )
    return make_conninfo(postgres_dsn, dbname=name)


def drop_database(postgres_dsn: str, dsn: str) -> None:
    """Drop a database of :func:`new_database`, cutting whoever is still connected."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(str(name))))


def settings_for(dsn: str, **parts: object) -> Settings:
    """Settings of a test server on ``dsn``; ``parts`` are further sections."""
    return Settings(database=Database(dsn=dsn), **parts)  # type: ignore[arg-type] # sections are checked by pydantic


def add_robots(conn: psycopg.Connection, asset_ids: Iterable[str], registered_at: datetime) -> None:
    """A tenant ``acme`` with one site and one agent, these robots, and room for samples of any time."""
    conn.execute("CREATE TABLE samples_test PARTITION OF samples DEFAULT")
    conn.execute("INSERT INTO tenant (tenant_id, name, jurisdiction) VALUES ('acme', 'Acme', 'NL')")
    conn.execute(
        "INSERT INTO site (site_id, tenant_id, name, region, jurisdiction, time_zone)"
        " VALUES ('site-1', 'acme', 'Here', 'west', 'NL', 'Europe/Amsterdam')"
    )
    conn.execute(
        "INSERT INTO agent (agent_id, tenant_id, site_id, registered_at) VALUES ('agent-1', 'acme', 'site-1', %s)",
        (registered_at,),
    )
    for asset_id in asset_ids:
        conn.execute(
            "INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial)"
            " VALUES (%s, 'acme', 'site-1', 'agent-1', %s, 'robot', 'AMR', %s)",
            (asset_id, asset_id, f"S-{asset_id}"),
        )
