"""Bring a database to this version's schema.

Our migrations are ``migrations/NNNN_*.sql``, applied in order, each in one transaction together with its record.
First the roles are made, and at the end the rights are compared with what the migrations give (``roles.py``), because
a backup holds neither. procrastinate's own schema (job queue, schema public) is an extra step, and so is
``optional/timescaledb.sql`` where that extension exists. Everything is behind one advisory lock, so several processes
may call :func:`migrate` at once.

A migration that changed after it was applied, and a database newer than this program, are refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg

from fleet_core.errors import BadConfig, Retryable
from fleet_server.store.failures import explained
from fleet_server.store.pool import noticing_silence, unreachable
from fleet_server.store.roles import JOB_RIGHTS, ROLES_WITH_JOBS, make_roles, missing, repair_rights, require_room
from fleet_server.store.schema import MIGRATIONS, checksum, own_migrations
from fleet_server.store.sql import queries

_SQL = queries("migrate")
LOCK_KEY = 0x464F5245  # "FORE"
REPAIRED = "roles and rights"
"""The name under which :func:`migrate` reports what it made for a database that was restored without them."""
EARLIER_TEXTS = {"0001_registry.sql": "43557e38b43f44fd8a50902ad6b762938db109074d32a7594f6d744845ee0863"}
"""Checksums of the text that a migration had before: its effect was the same (0001 made the roles itself)."""
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
        BadConfig: a migration or the database is refused, or its user lacks a right; the message says what to do.
        Retryable: the database cannot be reached, is read-only or full.
    """
    try:
        return _in_turn(dsn, migrations)
    except psycopg.Error as error:
        raise explained(error) from error


def _in_turn(dsn: str, migrations: Path) -> list[str]:
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
        wanted = {name: checksum(text) for name, text in own_migrations(migrations)}
        return [Step(name, text, known[name][1] if name in known else None) for name, text in wanted.items()]


def missing_rights(dsn: str) -> list[str]:
    """What :func:`migrate` would repair, for people: roles that are missing, else statements. Raises like it."""
    try:
        with _connect(dsn) as connection:
            if not _has_ledger(connection):
                return []
            try:
                with connection.transaction(force_rollback=True):  # only looked at
                    if make_roles(connection):
                        return ["roles are missing"]
                    return missing(connection, set(_applied(connection)))
            except BadConfig as error:
                return [str(error)]
    except psycopg.Error as error:
        raise explained(error) from error


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
    known = _applied(connection) if _has_ledger(connection) else {}
    _check(known, migrations)
    if not known:
        require_room(connection)
    made_roles = make_roles(connection)
    connection.execute(_SQL.make_ledger)
    before = set(known)
    applied = _apply_jobs(connection, known)
    for name, text in own_migrations(migrations):
        if name not in known:
            _apply(connection, name, text)
            applied.append(name)
    applied += _apply_optional(connection, known, migrations)
    if before and (repair_rights(connection, before | set(applied)) or made_roles):
        applied.append(REPAIRED)
    return applied


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
    for role in ROLES_WITH_JOBS:
        for name, kind in rows:
            what = "SEQUENCE" if kind == "S" else "TABLE"
            # composed: a name is no parameter
            connection.execute(_literal(f"GRANT {', '.join(JOB_RIGHTS[what])} ON {what} public.{name} TO {role}"))


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
    ours = {name: checksum(text) for name, text in own_migrations(migrations)}
    for name, (recorded, _) in known.items():
        if name.startswith((_JOBS, _OPTIONAL)):
            continue
        if name not in ours:
            raise BadConfig(f"the database has migration {name}, unknown here: it is newer; install that version")
        if recorded not in (ours[name], EARLIER_TEXTS.get(name)):
            raise BadConfig(f"migration {name} changed after it was applied; restore the file, add a new one instead")


def _has_ledger(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute(_SQL.has_ledger).fetchone()
    return bool(row and row[0])


def _applied(connection: psycopg.Connection[Any]) -> dict[str, tuple[str, datetime]]:
    rows = connection.execute(_SQL.applied).fetchall()
    return {name: (recorded, applied_at) for name, recorded, applied_at in rows}


def _record(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    connection.execute(_SQL.record, {"name": name, "checksum": checksum(text)})


def _literal(text: str) -> Any:
    """psycopg wants statements it can tell from user input; our own and procrastinate's files are not that."""
    return text
