"""Database connections: one pool for each role that a process needs.

A connection of a pool acts as ``forestall_ingest``, ``forestall_worker`` or ``forestall_web`` (SET ROLE), so that a
mistake in a process is limited by the rights of its role; ``owner`` is for migrations, partitions and maintenance. Rows
are dictionaries, times are UTC, statements are bounded in time, and every block is one transaction.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from fleet_core.errors import BadConfig, Retryable
from fleet_server.settings import Settings
from fleet_server.store.embedded import running_dsn
from fleet_server.store.failures import explained
from fleet_server.store.schema import MIGRATE, require_schema
from fleet_server.store.sql import queries

Role = Literal["ingest", "worker", "web", "owner"]
Connection = AsyncConnection[dict[str, Any]]
Pool = AsyncConnectionPool[Connection]

AWAY = (psycopg.Error, Retryable)
"""What the database may answer with instead of doing its work: it is away, read-only, full, or lacks a right or a table
(a restore that is not finished). A loop that can do its work later expects these errors, retries, counts, and logs the
first with its traceback unless the database is merely away. Any other error ends the process."""
MERELY_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, Retryable)
"""Those of AWAY that say nothing but that the database is away."""
REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""Database errors that are the fault of the row to be stored. Any other error of AWAY is not: a missing right or a full
disk of the server must never be taken for a bad row."""
DSN_VARIABLE = "FORESTALL_DSN"
OPEN_TIMEOUT_S = 20.0
NO_SUCH_ROLE = (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege)
"""What SET ROLE answers where the role is not there, or the user of the connection is none of its members."""
NOTICE_SILENCE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}
"""A link that fell silent (a cable, a firewall that forgot it) is a lost connection after 20 s; by default after a
quarter of an hour, or never while nothing is sent. The last one is in milliseconds."""


async def open_pool(settings: Settings, role: Role, *, size: int | None = None) -> Pool:
    """Open a pool acting as ``role``.

    Raises BadConfig for an unusable dsn, for a role or a migration that the database lacks, Retryable when the server
    is not there.
    """
    dsn = require_dsn(settings)
    timeout_ms = int(settings.database.statement_timeout_s * 1000)

    async def configure(connection: AsyncConnection[Any]) -> None:
        if role != "owner":
            await connection.execute(f"SET ROLE forestall_{role}")
        await connection.commit()

    try:
        # A single connection is tried first, because a pool hides why a connection fails and only times out.
        async with await AsyncConnection.connect(noticing_silence(dsn), connect_timeout=5) as connection:
            await configure(connection)
            await connection.execute("RESET ROLE")  # what was migrated is not for the roles of the processes to see
            await require_schema(connection)
    except NO_SUCH_ROLE:
        why = f"the database lacks the role forestall_{role}, or its user may not act as it"
        raise BadConfig(f"{why}; run `{MIGRATE}`") from None
    except psycopg.errors.SyntaxErrorOrAccessRuleViolation as error:
        raise explained(error) from None
    except psycopg.ProgrammingError as error:
        raise BadConfig(unreachable(dsn, error)) from None
    except psycopg.OperationalError as error:
        raise Retryable(unreachable(dsn, error)) from None
    pool: Pool = AsyncConnectionPool(
        noticing_silence(dsn),
        kwargs={
            "row_factory": dict_row,
            "application_name": f"forestall-{role}",
            "options": f"-c search_path=fleet,public -c statement_timeout={timeout_ms} -c timezone=UTC",
        },
        min_size=1,
        max_size=size or settings.database.pool_size,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        timeout=OPEN_TIMEOUT_S,
        open=False,
        name=role,
    )
    try:
        await pool.open(wait=True, timeout=OPEN_TIMEOUT_S)
    except psycopg.OperationalError as error:  # it went away after it was tried
        await pool.close()
        raise Retryable(unreachable(dsn, error)) from None
    return pool


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """One transaction: committed at the end of the block, rolled back when it raises."""
    async with pool.connection() as connection:
        yield connection


async def as_reader(connection: Connection, tenant_id: str | None) -> None:
    """Limit what the web role sees in this transaction to one tenant; None shows every tenant."""
    seen = {"tenant": tenant_id or "", "all_tenants": "on" if tenant_id is None else "off"}
    await connection.execute(queries("store").as_reader, seen)


def require_dsn(settings: Settings) -> str:
    """The connection string: from the settings, the supervisor (``FORESTALL_DSN``), or the running embedded server.

    Raises:
        BadConfig: there is no connection string.
    """
    database = settings.database
    dsn = database.dsn or os.environ.get(DSN_VARIABLE, "")
    if not dsn and database.embedded_dir is not None:
        dsn = running_dsn(database.embedded_dir) or ""
    if not dsn:
        raise BadConfig(
            f"the embedded server in {database.embedded_dir} is not running; `fleet-server run` starts it,"
            " or set database.dsn"
        )
    return dsn


def noticing_silence(dsn: str) -> str:
    """The connection string with ``NOTICE_SILENCE``; what it says itself counts for more. Raises
    psycopg.ProgrammingError when it is none."""
    return make_conninfo("", **{**NOTICE_SILENCE, **conninfo_to_dict(dsn)})


def unreachable(dsn: str, error: Exception) -> str:
    """One line for people that says which database cannot be reached, why, and what to do; without the password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "database.dsn is not a PostgreSQL connection string; see `fleet-server init` for a sample"
    why = " ".join(str(error).split())[-160:]
    where = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
    return f"no connection to PostgreSQL at {where}: {why}; start it or mend database.dsn"
