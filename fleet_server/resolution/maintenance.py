"""The end of an asset's maintenance: what was found meanwhile, and is still so, is judged then.

A finding that comes during maintenance is set aside, and its device does not repeat it; without this a machine that
leaves the workshop degraded would never get a case. An asset whose maintenance cannot be ended is put off, the others
are not held up by it.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from fleet_core.clock import Clock
from fleet_core.put_off import PutOff
from fleet_server.audit.log import record
from fleet_server.resolution.jobs import defer_triage
from fleet_server.resolution.records import SYSTEM
from fleet_server.resolution.rows import AssetRef, FindingRevision
from fleet_server.store.alone import do_alone
from fleet_server.store.fetch import fetch_all
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")


async def end_maintenance(conn: Connection, clock: Clock, windows: PutOff) -> int:
    """End every maintenance whose time has passed, in the caller's transaction. Returns how many.

    ``windows`` are those that could not be ended, by asset.
    """
    now = clock.now()
    ended = 0
    for asset in await fetch_all(conn, AssetRef, _sql.maintenance_over, {"now": now}):
        if not windows.waits(asset.asset_id):
            pause_s = await do_alone(conn, windows, asset.asset_id, partial(_end, conn, clock, asset, now))
            ended += pause_s is None
    return ended


async def _end(conn: Connection, clock: Clock, asset: AssetRef, now: datetime) -> None:
    if not (await conn.execute(_sql.end_maintenance, {"asset_id": asset.asset_id, "now": now})).rowcount:
        return  # another worker ended it, or it was made longer
    await record(
        conn,
        clock,
        tenant_id=asset.tenant_id,
        actor=SYSTEM,
        action="asset.maintenance_over",
        subject=f"asset:{asset.asset_id}",
        body={"findings_to_judge": await judge_again(conn, asset.asset_id)},
    )


async def judge_again(conn: Connection, asset_id: str) -> int:
    """Have the findings judged that no case has dealt with and whose component is still degraded. Returns how many."""
    found = await fetch_all(conn, FindingRevision, _sql.unjudged_findings, {"asset_id": asset_id})
    for row in found:
        await defer_triage(conn, row.finding_id, row.revision)
    return len(found)
