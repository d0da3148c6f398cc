"""Databases for tests: one embedded PostgreSQL for each worker, a fresh migrated database for each module or test.

``postgres_dsn`` (session) is the server's owner dsn; ``fresh_database`` (module) and ``dsn`` (each test) are
the dsn of a database copied from a migrated template, which takes a fraction of a second. ``new_database(dsn)`` gives
one more. Roles belong to the whole server, so the modules of a worker share them, as in life.

Making a cluster (``initdb``, migrations) takes seconds. One is made for the whole run, by the first worker that needs
it, and lies stopped in the folder the workers share; ``cluster_at`` gives others a copy of it. The process that was
started, not its workers, makes that folder and removes it.
"""

from __future__ import annotations

import fcntl
import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.world import new_folder

from fleet_server.settings import Database, Settings
from fleet_server.store.embedded import EmbeddedPostgres
from fleet_server.store.migrate import migrate

_TEMPLATE = "forestall_template"
_QUICK = "fsync = off\n"  # what tests commit need not outlive a power cut
_SHARED = "forestall_shared"
_number = itertools.count(1)


def shared_folder(config: pytest.Config) -> Path:
    """The folder all workers share. Started by root, PostgreSQL runs as another account, which must get there."""
    if hasattr(config, "workerinput"):
        return Path(config.workerinput[_SHARED])
    if not hasattr(config, _SHARED):
        made = new_folder("test")
        setattr(config, _SHARED, made)
        config.add_cleanup(lambda: shutil.rmtree(made, ignore_errors=True))
    return Path(getattr(config, _SHARED))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: pytest.Session) -> None:
    """Tell a new worker (pytest-xdist) where the shared folder is."""
    node.workerinput[_SHARED] = str(shared_folder(node.config))  # xdist's own node


@pytest.fixture(scope="session")
def cluster_at(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """``cluster_at(directory)`` puts a copy of the run's cluster where EmbeddedPostgres looks for its own.

    Its database ``forestall`` is migrated, and so is the template of :func:`new_database`.
    """
    shared = shared_folder(request.config)
    made = shared / "cluster"
    with (shared / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            aside = shared / "cluster.new"
            _make_cluster(aside)
            aside.rename(made)

    def copy(directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("password", "data"):  # cp, because the data belong to the server's account and must go on to
            subprocess.run(["cp", "-a", str(made / name), str(directory / name)], check=True)

    return copy


def _make_cluster(directory: Path) -> None:
    server = EmbeddedPostgres(directory, extra_configuration=_QUICK)
    try:
        dsn = server.start()
        migrate(dsn)
        with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as connection:
            source = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(_TEMPLATE), source))
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_dsn(cluster_at: Callable[[Path], None]) -> Iterator[str]:
    """The owner's dsn of this worker's server."""
    with server_of_its_own(cluster_at, "test-pg", _QUICK) as dsn:
        yield dsn


@contextmanager
def server_of_its_own(cluster_at: Callable[[Path], None], name: str, configuration: str) -> Iterator[str]:
    """The owner's dsn of a server that ends, with its folder, when the context does."""
    directory = new_folder(name)
    cluster_at(directory / "pg")
    server = EmbeddedPostgres(directory / "pg", extra_configuration=configuration)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def fresh_database(postgres_dsn: str) -> Iterator[str]:
    """The dsn of a migrated database that belongs to this module alone."""
    dsn = new_database(postgres_dsn)
    yield dsn
    drop_database(postgres_dsn, dsn)


@pytest.fixture
def dsn(postgres_dsn: str) -> Iterator[str]:
    """The dsn of a migrated database that belongs to this test alone."""
    own = new_database(postgres_dsn)
    yield own
    drop_database(postgres_dsn, own)


def new_database(postgres_dsn: str) -> str:
    """One more migrated database on the worker's server; returns its dsn."""
    name = f"test_{next(_number)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        # Copying files takes a fraction of what writing every page to the log takes.
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(_TEMPLATE)
            )
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
