"""Looks whether machines run, and does what follows for their cases when one fails, stops or runs again.

``watch_running`` is a loop of the worker. Every asset is looked at in a transaction of its own; one that cannot be
looked at is put off, the others are not held up by it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from fleet_server.health.running import Running
from fleet_server.health.running_kept import keep_running
from fleet_server.resolution.emergency import begin_emergency, end_emergency
from fleet_server.resolution.maintenance import judge_again
from fleet_server.resolution.rows import AssetId
from fleet_server.resolution.runtime import Runtime
from fleet_server.store.alone import do_alone
from fleet_server.store.fetch import fetch_all
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

LOOK_EVERY = timedelta(minutes=2)
"""Domain time: how long a stop that lasted long enough stays unseen at most, of an asset that gives cause to look."""
LOOK_EVERY_HEALTHY = timedelta(minutes=20)
MOST_AT_ONCE = 24
_running = queries("running")


async def watch_running(rt: Runtime) -> int:
    """Look at the assets that are due, at most ``MOST_AT_ONCE``. Returns how many. Raises psycopg.Error when the
    database is away."""
    now = rt.clock.now()
    values = {"suspicious_before": now - LOOK_EVERY, "before": now - LOOK_EVERY_HEALTHY, "most": MOST_AT_ONCE}
    async with rt.pool.connection() as conn:
        due = await fetch_all(conn, AssetId, _running.due, values)
    for asset in due:
        if not rt.pieces.running.waits(asset.asset_id):
            async with rt.pool.connection() as conn:
                await do_alone(conn, rt.pieces.running, asset.asset_id, partial(_look, rt, conn, asset.asset_id))
    return len(due)


async def _look(rt: Runtime, conn: Connection, asset_id: str) -> None:
    kept = await keep_running(conn, rt.clock, asset_id)
    if kept is None:
        return
    for slot, state in kept.now.parts.items():
        if (
            state.state is Running.FAILED
        ):  # at each look: what could not be done before (nobody to own a case) is done then
            await begin_emergency(rt, conn, asset_id, slot, state)
        elif state.state is Running.RUNNING:
            await end_emergency(rt, conn, asset_id, slot, state)
    if kept.runs_again:
        await judge_again(conn, asset_id)
