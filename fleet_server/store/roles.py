"""The roles that the processes act as, and their rights: made, compared with what the migrations give, repaired.

A backup holds no roles, so a restore into an empty cluster has tables and data but neither roles nor the rights and
policies that name them. What is wanted is not written down a second time: the migrations are run once more beside
the schema in a transaction that is rolled back, and what they give is read from the catalogue. Rights that somebody
added by hand are left alone.

Failure: BadConfig in one line with the statements a superuser has to run, when the user may not make what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from fleet_core.errors import BadConfig
from fleet_server.store.schema import own_migrations
from fleet_server.store.sql import queries

_SQL = queries("rights")
ROLES = ("forestall_ingest", "forestall_worker", "forestall_web")
ROLES_WITH_JOBS = ("forestall_ingest", "forestall_worker")
JOB_RIGHTS = {"SEQUENCE": ("USAGE",), "TABLE": ("SELECT", "INSERT", "UPDATE", "DELETE")}
"""What these two may do with procrastinate's tables, which bring no roles of their own."""


class Right(NamedTuple):
    """A right of a role: the object's kind and qualified name, a column or "", and the privilege."""

    kind: str
    name: str
    part: str
    privilege: str
    role: str

    @property
    def statement(self) -> str:
        part = f" ({self.part})" if self.part else ""
        return f"GRANT {self.privilege}{part} ON {self.kind} {self.name} TO {self.role}"


class Policy(NamedTuple):
    """A policy of row level security, as the catalogue shows it."""

    name: str
    policy: str
    command: str
    roles: tuple[str, ...]
    using_: str
    with_check: str

    @property
    def statement(self) -> str:
        to = ", ".join(self.roles)
        made = f"CREATE POLICY {self.policy} ON {self.name} FOR {self.command} TO {to}"
        if self.using_:
            made = f"{made} USING ({self.using_})"
        return f"{made} {_SQL.with_check.format(condition=self.with_check)}" if self.with_check else made


@dataclass(frozen=True)
class Rights:
    """All that says who may do what in our schemas."""

    rights: frozenset[Right]
    guarded: frozenset[str]
    policies: frozenset[Policy]


def make_roles(connection: psycopg.Connection[Any]) -> bool:
    """Make the roles that are missing and let the user act as them; returns whether anything was missing.

    Raises BadConfig naming the statements for a superuser, when the user may not.
    """
    found = connection.execute(_SQL.roles, {"roles": list(ROLES)}).fetchall()
    absent = [name for name, there, _ in found if not there]
    foreign = [name for name, _, acts in found if not acts]
    if not foreign:
        return False
    user, *_ = _user(connection)
    wanted = [f"CREATE ROLE {name} NOLOGIN;" for name in absent] + [f'GRANT {", ".join(foreign)} TO "{user}";']
    try:
        with connection.transaction():
            for statement in wanted:
                connection.execute(_literal(statement))
    except psycopg.errors.InsufficientPrivilege:
        raise BadConfig(
            f"the database user {user!r} may not make or act as the roles {', '.join(foreign)};"
            f" as a superuser of PostgreSQL (sudo -u postgres psql) run: {' '.join(wanted)}"
        ) from None
    return True


def require_room(connection: psycopg.Connection[Any]) -> None:
    """Raises BadConfig when the user may make neither schemas nor tables in the database."""
    user, database, may_create = _user(connection)
    if not may_create:
        raise BadConfig(
            f"the database user {user!r} may not make tables in the database {database!r};"
            f' as a superuser of PostgreSQL (sudo -u postgres psql) run: ALTER DATABASE "{database}" OWNER TO "{user}";'
            f' and, in the database, GRANT CREATE ON SCHEMA public TO "{user}";'
        )


def missing(connection: psycopg.Connection[Any], names: set[str]) -> list[str]:
    """The statements that would give what the migrations ``names`` give and the database lacks, in order."""
    wanted, found = _wanted(connection, names), read_rights(connection)
    statements = [f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY" for name in sorted(wanted.guarded - found.guarded)]
    known = {(policy.name, policy.policy) for policy in found.policies}
    statements += [p.statement for p in sorted(wanted.policies) if (p.name, p.policy) not in known]
    return statements + [right.statement for right in sorted(wanted.rights - found.rights)]


def repair_rights(connection: psycopg.Connection[Any], names: set[str]) -> int:
    """Give what is missing, in one transaction; returns how many statements it took. Raises BadConfig."""
    statements = missing(connection, names)
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(_literal(statement))
    except psycopg.errors.InsufficientPrivilege as error:
        user, *_ = _user(connection)
        raise BadConfig(
            f"the restored tables belong to another user ({error.diag.message_primary}); restore with"
            f' `pg_restore --no-owner --role="{user}"`, or hand them over with REASSIGN OWNED BY ... TO "{user}";'
        ) from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedColumn) as error:
        raise BadConfig(
            f"the database says it is migrated but is not whole ({error.diag.message_primary}); restore the backup anew"
        ) from None
    return len(statements)


def read_rights(connection: psycopg.Connection[Any]) -> Rights:
    """What the catalogue says now."""
    roles = {"roles": list(ROLES)}
    with connection.transaction():
        connection.execute("SET LOCAL search_path = pg_catalog")  # names in policies are printed qualified
        rights = [Right(*row) for row in connection.execute(_SQL.rights, roles)]
        guarded = [str(row[0]) for row in connection.execute(_SQL.guarded)]
        policies = [
            Policy(name, policy, command, tuple(roles_of), using, check)
            for name, policy, command, roles_of, using, check in connection.execute(_SQL.policies)
        ]
    return Rights(frozenset(rights), frozenset(guarded), frozenset(policies))


def _wanted(connection: psycopg.Connection[Any], names: set[str]) -> Rights:
    """What the migrations give, plus the jobs' tables; nothing of it stays."""
    found: list[Rights] = []
    with connection.transaction(force_rollback=True):
        connection.execute(_SQL.set_aside)
        for name, text in own_migrations():
            if name in names:
                connection.execute(_literal(text))
        found.append(read_rights(connection))
    jobs = {
        Right("SEQUENCE" if kind == "S" else "TABLE", f"public.{name}", "", privilege, role)
        for name, kind in connection.execute(queries("migrate").job_tables).fetchall()
        for role in ROLES_WITH_JOBS
        for privilege in JOB_RIGHTS["SEQUENCE" if kind == "S" else "TABLE"]
    }
    wanted = found[0]
    return Rights(wanted.rights | frozenset(jobs), wanted.guarded, wanted.policies)


def _user(connection: psycopg.Connection[Any]) -> tuple[str, str, bool]:
    row = connection.execute(_SQL.who).fetchone()
    assert row is not None
    return str(row[0]), str(row[1]), bool(row[2])


def _literal(text: str) -> Any:
    """Statements composed of names that the catalogue quoted, or of our own files."""
    return text
