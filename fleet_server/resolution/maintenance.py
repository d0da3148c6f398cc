"""The end of an asset's maintenance: what was found meanwhile, and is still so, is judged then.

A finding that comes during maintenance is set aside, and its device does not repeat it; without this a machine that
leaves the workshop degraded would never get a case.
"""

from __future__ import annotations

from fleet_core.clock import Clock
from fleet_server.audit.log import record
from fleet_server.resolution.jobs import defer_triage
from fleet_server.resolution.records import SYSTEM
from fleet_server.resolution.rows import AssetRef, FindingRevision
from fleet_server.store.fetch import fetch_all
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")


async def end_maintenance(conn: Connection, clock: Clock) -> int:
    """End every maintenance whose time has passed, in the caller's transaction. Returns how many."""
    ended = await fetch_all(conn, AssetRef, _sql.end_maintenance, {"now": clock.now()})
    for row in ended:
        await record(
            conn,
            clock,
            tenant_id=row.tenant_id,
            actor=SYSTEM,
            action="asset.maintenance_over",
            subject=f"asset:{row.asset_id}",
            body={"findings_to_judge": await judge_again(conn, row.asset_id)},
        )
    return len(ended)


async def judge_again(conn: Connection, asset_id: str) -> int:
    """Have the findings judged that no case has dealt with and whose component is still degraded. Returns how many."""
    found = await fetch_all(conn, FindingRevision, _sql.unjudged_findings, {"asset_id": asset_id})
    for row in found:
        await defer_triage(conn, row.finding_id, row.revision)
    return len(found)
