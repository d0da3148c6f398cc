"""Bring a database to this version's schema.

Our migrations are ``migrations/NNNN_*.sql``, applied in order, each in one transaction together with its record.
procrastinate's own schema (job queue, schema public) is an extra step, and so is ``optional/timescaledb.sql`` where
that extension exists. Everything is behind one advisory lock, so several processes may call :func:`migrate` at once.

A migration that changed after it was applied, and a database newer than this program, are refused.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg

from fleet_core.errors import BadConfig, Retryable
from fleet_server.store.pool import noticing_silence, unreachable
from fleet_server.store.sql import queries

_SQL = queries("migrate")
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_KEY = 0x464F5245  # "FORE"
ROLES = ("forestall_ingest", "forestall_worker", "forestall_web")
ROLES_WITH_JOBS = ("forestall_ingest", "forestall_worker")
_JOBS = "procrastinate/"
_OPTIONAL = "optional/"


@dataclass(frozen=True)
class Step:
    """One migration; ``applied_at`` is None while it is pending."""

    name: str
    checksum: str
    applied_at: datetime | None


def migrate(dsn: str, migrations: Path = MIGRATIONS) -> list[str]:
    """Apply the missing migrations and return their names.

    Raises:
        BadConfig: a migration or the database is refused.
        Retryable: the database cannot be reached.
    """
    for attempt in range(5):
        try:
            with _connect(dsn) as connection:
                connection.execute(_SQL.lock, {"lock": LOCK_KEY})
                return _migrate(connection, migrations)
        except (psycopg.errors.UniqueViolation, psycopg.errors.InternalError_):
            # Roles belong to the whole cluster, but the lock belongs to one database: two databases that are migrated
            # at the same time can collide on a role. The step was rolled back whole, so it is repeated.
            if attempt == 4:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


def status(dsn: str, migrations: Path = MIGRATIONS) -> list[Step]:
    """Every migration of this program and whether it was applied. Raises like :func:`migrate`."""
    with _connect(dsn) as connection:
        known = _applied(connection) if _has_ledger(connection) else {}
        _check(known, migrations)
        wanted = {name: _checksum(text) for name, text in _own(migrations)}
        return [Step(name, checksum, known[name][1] if name in known else None) for name, checksum in wanted.items()]


def _connect(dsn: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(
            noticing_silence(dsn), autocommit=True, application_name="forestall-migrate", connect_timeout=5
        )
    except psycopg.ProgrammingError as error:
        raise BadConfig(unreachable(dsn, error)) from None
    except psycopg.OperationalError as error:
        raise Retryable(unreachable(dsn, error)) from None


def _migrate(connection: psycopg.Connection[Any], migrations: Path) -> list[str]:
    connection.execute(_SQL.make_ledger)
    known = _applied(connection)
    _check(known, migrations)
    applied = _apply_jobs(connection, known)
    for name, text in _own(migrations):
        if name not in known:
            _apply(connection, name, text)
            applied.append(name)
    return applied + _apply_optional(connection, known, migrations)


def _apply(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    with connection.transaction():
        connection.execute(_literal(text))
        _record(connection, name, text)


def _apply_jobs(connection: psycopg.Connection[Any], known: dict[str, tuple[str, datetime]]) -> list[str]:
    """procrastinate's tables: the whole schema once, later only the migrations its newer versions bring."""
    files = resources.files("procrastinate.sql")
    steps = sorted(
        (entry.name, entry.read_text()) for entry in files.joinpath("migrations").iterdir() if entry.name[-4:] == ".sql"
    )
    fresh = connection.execute(_SQL.lacks_jobs).fetchone()
    with connection.transaction():
        connection.execute("SET LOCAL search_path = public")
        if fresh and fresh[0]:
            connection.execute(_literal(files.joinpath("schema.sql").read_text()))
            for name, text in steps:
                _record(connection, _JOBS + name, text)
            applied = ["procrastinate"]
        else:
            missing = [(name, text) for name, text in steps if _JOBS + name not in known]
            for name, text in missing:
                connection.execute(_literal(text))
                _record(connection, _JOBS + name, text)
            applied = [_JOBS + name for name, _ in missing]
        if applied:
            _grant_jobs(connection)
    return applied


def _grant_jobs(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(_SQL.job_tables).fetchall()
    connection.execute(_literal(_CREATE_ROLES))
    for role in ROLES_WITH_JOBS:
        for name, kind in rows:
            rights = "USAGE" if kind == "S" else "SELECT, INSERT, UPDATE, DELETE"
            what = "SEQUENCE" if kind == "S" else "TABLE"
            # composed: a name is no parameter
            connection.execute(_literal(f"GRANT {rights} ON {what} public.{name} TO {role}"))


_CREATE_ROLES = "".join(
    f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')"
    f" THEN CREATE ROLE {role} NOLOGIN; END IF; END $$;"
    for role in ROLES
)


def _apply_optional(
    connection: psycopg.Connection[Any], known: dict[str, tuple[str, datetime]], migrations: Path
) -> list[str]:
    applied = []
    for path in sorted((migrations / "optional").glob("*.sql")):
        name = _OPTIONAL + path.name
        present = connection.execute(_SQL.has_extension, {"name": path.stem}).fetchone()
        if present and name not in known:
            _apply(connection, name, path.read_text(encoding="utf-8"))
            applied.append(name)
    return applied


def _check(known: dict[str, tuple[str, datetime]], migrations: Path) -> None:
    ours = {name: _checksum(text) for name, text in _own(migrations)}
    for name, (checksum, _) in known.items():
        if name.startswith((_JOBS, _OPTIONAL)):
            continue
        if name not in ours:
            raise BadConfig(f"the database has migration {name}, unknown here: it is newer; install that version")
        if ours[name] != checksum:
            raise BadConfig(f"migration {name} changed after it was applied; restore the file, add a new one instead")


def _own(migrations: Path) -> list[tuple[str, str]]:
    return [(path.name, path.read_text(encoding="utf-8")) for path in sorted(migrations.glob("[0-9]*.sql"))]


def _has_ledger(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(_SQL.has_ledger).fetchone()
    return bool(row and row[0])


def _applied(connection: psycopg.Connection[Any]) -> dict[str, tuple[str, datetime]]:
    rows = connection.execute(_SQL.applied).fetchall()
    return {name: (checksum, applied_at) for name, checksum, applied_at in rows}


def _record(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    connection.execute(_SQL.record, {"name": name, "checksum": _checksum(text)})


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _literal(text: str) -> Any:
    """psycopg wants statements it can tell from user input; our own and procrastinate's files are not that."""
    return text
