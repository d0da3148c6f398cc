"""Databases for tests: one embedded PostgreSQL for the session, a fresh migrated database for each module.

``postgres_dsn`` (session) is the server's owner dsn; ``fresh_database`` (module) is the dsn of a database of the
module's own, copied from a migrated template, which takes a fraction of a second. ``new_database(dsn)`` gives one
more. Roles belong to the whole server, so modules share them, as in life.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
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
