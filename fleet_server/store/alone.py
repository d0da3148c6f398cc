"""One piece of work that fails alone: in a savepoint of the caller's transaction, put off when it cannot be done.

Whatever the piece meets while the connection stands is its own matter, also what the database refuses: its changes
are rolled back, the failure is logged and counted (``fleet_core/put_off.py``), and the caller goes on in the same
transaction. A database that goes away is nobody's fault: that error is raised, and the loop around waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable

import psycopg

from fleet_core.errors import ForestallError
from fleet_core.put_off import PutOff
from fleet_server.store.pool import Connection

KNOWN = (psycopg.Error, ForestallError)
"""Errors whose words say enough; any other is logged with its traceback."""


async def do_alone(
    conn: Connection, pieces: PutOff, piece: Hashable, work: Callable[[], Awaitable[object]]
) -> float | None:
    """Do a piece of work. Returns None when it is done, else how long it is to be left alone, in real seconds.

    Raises what the connection did not survive.
    """
    try:
        async with conn.transaction():
            await work()
    except Exception as error:
        if conn.closed:
            raise
        return pieces.failed(piece, error)
    pieces.succeeded(piece)
    return None
