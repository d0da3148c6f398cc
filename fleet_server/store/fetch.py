"""Rows as dataclasses: a statement's columns are the fields of a class, by name (psycopg's ``class_row``).

A column without a field, or a field without a column and default, raises TypeError. The connection's own row factory
stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString, TypeVar

from psycopg.rows import class_row

from fleet_server.store.pool import Connection

T = TypeVar("T")


async def fetch_one(conn: Connection, row: type[T], statement: LiteralString, values: Mapping[str, object]) -> T | None:
    """The statement's first row, None when it has none."""
    async with conn.cursor(row_factory=class_row(row)) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchone()


async def fetch_all(conn: Connection, row: type[T], statement: LiteralString, values: Mapping[str, object]) -> list[T]:
    """All rows of the statement."""
    async with conn.cursor(row_factory=class_row(row)) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()
