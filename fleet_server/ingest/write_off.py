"""Writing off a lost device: the batches that its silent outbox held become declared gaps.

A person decides it, and the decision is recorded in the audit log. In the ledger *stored* takes precedence over *gap*,
so the ledger stays right when the device turns up after all and sends its batches.
"""

from __future__ import annotations

from uuid import UUID

from fleet_core.clock import Clock
from fleet_core.errors import BadConfig
from fleet_server.audit.log import record
from fleet_server.ingest.ledger import read_ledger
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_SQL = queries("ledger")
REASON = "written_off"


async def write_off(
    conn: Connection, clock: Clock, outbox_id: UUID, *, grace_s: float, held_report_age_s: float
) -> int:
    """Declare the batches that an outbox holds as gaps and return their number.

    Raises:
        BadConfig: the outbox is not silent.
    """
    ledger = await read_ledger(conn, grace_s=grace_s, held_report_age_s=held_report_age_s)
    stream = next((one for one in ledger.streams if one.outbox_id == str(outbox_id)), None)
    if stream is None or stream.silent_since is None:
        raise BadConfig(
            f"outbox {outbox_id} is not silent; `fleet-server ledger --json` tells which are (silent_since)"
        )
    values = {"agent_id": stream.agent_id, "outbox_id": outbox_id, "reason": REASON, "at": clock.now()}
    await conn.execute(_SQL.write_off, values)
    await record(
        conn,
        clock,
        tenant_id=stream.tenant_id,
        actor="system:ledger",
        action="ledger.written_off",
        subject=f"agent:{stream.agent_id}",
        body={"outbox": str(outbox_id), "batches": stream.counts.held, "silent_since": stream.silent_since.isoformat()},
    )
    return stream.counts.held
