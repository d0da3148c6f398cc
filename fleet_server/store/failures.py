"""What PostgreSQL answered instead of doing its work, in one line with the mend, as an error of ours.

Used where the whole command or request ends by it; loops that go on use ``pool.AWAY``.
"""

from __future__ import annotations

import psycopg

from fleet_core.errors import BadConfig, ForestallError, Permanent, Retryable
from fleet_server.store.schema import MIGRATE

LACKING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidSchemaName,
)
"""The schema is not there, or not this version's."""


def explained(error: psycopg.Error) -> ForestallError:
    """The same as an error of ours; its text is one line without secrets."""
    what = error.diag.message_primary or " ".join(str(error).split())[-200:] or type(error).__name__
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return Retryable(f"the database is read-only ({what}): a standby, or default_transaction_read_only is on")
    if isinstance(error, psycopg.errors.DiskFull):
        return Retryable(f"the database's disk is full ({what}): free space there")
    if isinstance(error, LACKING):
        return BadConfig(f"the database lacks something of this version's schema ({what}); run `{MIGRATE}`")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return BadConfig(f"the database refuses its user a right ({what}); run `{MIGRATE}`, which repairs rights")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Retryable(f"the database does not answer ({what})")
    return Permanent(f"the database refuses a statement ({what})")
