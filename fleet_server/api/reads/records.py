"""Read the proofs: the ledger, audit entries, and where the audit log stands."""

from __future__ import annotations

from dataclasses import asdict

from fleet_server.api.models.base import Record
from fleet_server.api.models.records import AuditEntries, AuditEntry, AuditStatus, Ledger, LedgerCounts, LedgerLine
from fleet_server.api.reads.fleet import like
from fleet_server.api.services import Services
from fleet_server.ingest.ledger import Counts, read_ledger
from fleet_server.sovereignty.users import User
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("api_records")


async def audit_entries(
    conn: Connection,
    *,
    subject: str | None = None,
    action: str | None = None,
    search: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> AuditEntries:
    """A page of entries, those not yet sequenced first, then newest first."""
    query = {"subject": subject, "action": action, "search": like(search), "limit": limit, "offset": offset}
    rows = await (await conn.execute(_sql.audit_entries, query)).fetchall()
    items = [AuditEntry(**row | {"body": _table(row["body"])}) for row in rows]
    return AuditEntries(total=rows[0]["total"] if rows else 0, items=items)


async def audit_status(conn: Connection) -> AuditStatus:
    """Entries, pending ones, and the newest signed checkpoint."""
    row: Record = await (await conn.execute(_sql.audit_status)).fetchone() or {}
    return AuditStatus(**row)


async def ledger(app: Services, user: User) -> Ledger:
    """The conservation ledger, counted under the worker role and filtered by tenant here.

    Telemetry tables have no row-level security, so the reader's role cannot count them.
    """
    async with app.worker() as conn:
        limits = app.settings.ingest
        counted = await read_ledger(conn, grace_s=limits.ledger_grace_s, held_report_age_s=limits.held_report_age_s)
    streams = [stream for stream in counted.streams if user.tenant_id in (None, stream.tenant_id)]
    totals = Counts()
    for stream in streams:
        totals.add(stream.counts)
    return Ledger(
        totals=LedgerCounts(**asdict(totals)),
        agents=[
            LedgerLine(
                agent_id=stream.agent_id,
                outbox_id=stream.outbox_id,
                silent_since=stream.silent_since,
                **asdict(stream.counts),
            )
            for stream in streams
        ],
    )


def _table(body: object) -> Record:
    return body if isinstance(body, dict) else {"body": body}
