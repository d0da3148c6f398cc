"""Waking the workers: procrastinate jobs that commit with the transition that needs them.

The truth of what must happen is rows (``repair_case.next_at``, ``act.due_at``, ``timer.due_at``,
``escalation.due_at``); a job only shortens the wait until a worker looks. A lost or doubled job therefore costs
latency, never correctness: the workers' sweep finds what is due, and every task is idempotent.

A key names what is to be looked at. While a job with the same key waits, another adds nothing and is not stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import procrastinate
import psycopg
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from psycopg import AsyncConnection

TRIAGE_FINDING = "triage_finding"
ADVANCE_CASE = "advance_case"


def make_app() -> procrastinate.App:
    """A procrastinate app without tasks or connections; a worker opens it on its own pool."""
    return procrastinate.App(connector=procrastinate.PsycopgConnector())


_deferring_app = make_app()  # never opened: it only writes jobs on connections handed in


async def defer_on(conn: AsyncConnection[Any], task_name: str, args: Mapping[str, Any], *, key: str) -> bool:
    """Defer a job on the caller's connection, so that it commits, or not, with the caller's transaction.

    ``args`` are JSON values. Returns False when a job with this ``key`` is waiting already. Raises psycopg.Error as any
    statement on the connection does, not the job library's word for it.
    """
    deferrer = _deferring_app.configure_task(task_name, queueing_lock=key, connection=conn)
    try:
        async with conn.transaction():  # a savepoint: the refusal of a double must not spoil the caller's work
            await deferrer.defer_async(**args)
    except AlreadyEnqueued:
        return False
    except ConnectorException as error:
        if isinstance(error.__cause__, psycopg.Error):
            raise error.__cause__ from None
        raise
    return True


async def defer_triage(conn: AsyncConnection[Any], finding_id: UUID | str, revision: int) -> bool:
    """Have a stored finding judged."""
    args = {"finding_id": str(finding_id), "revision": revision}
    return await defer_on(conn, TRIAGE_FINDING, args, key=f"finding:{finding_id}:{revision}")


async def defer_advance(conn: AsyncConnection[Any], case_id: UUID | str) -> bool:
    """Have a case looked at. The caller holds the case's row, so that a waiting job sees what it commits."""
    return await defer_on(conn, ADVANCE_CASE, {"case_id": str(case_id)}, key=f"case:{case_id}")
