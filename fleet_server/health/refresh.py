"""Keep the table ``health`` true for whole assets (slot ''): worst component, staleness, data quality.

Run every few seconds by one worker (advisory lock in the transaction); a second one finds the lock taken and skips.
"""

from __future__ import annotations

from datetime import timedelta

from fleet_core.clock import Clock
from fleet_server.health.assess import Component, assess
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

LOCK_KEY = 0x48454C54  # "HELT"
QUALITY_WINDOW = timedelta(hours=24)
_SQL = queries("health")


async def refresh_health(conn: Connection, clock: Clock) -> int:
    """Assess every asset in the caller's transaction (worker role). Returns how many; 0 when another is at it."""
    locked = await (await conn.execute("SELECT pg_try_advisory_xact_lock(%s) AS mine", (LOCK_KEY,))).fetchone()
    if not locked or not locked["mine"]:
        return 0
    now = clock.now()
    window = {"since": now - QUALITY_WINDOW, "until": now + timedelta(hours=1)}
    quality = {row["asset_id"]: row for row in await (await conn.execute(_SQL.quality, window)).fetchall()}
    rows = await (await conn.execute(_SQL.assets)).fetchall()
    found = []
    for row in rows:
        parts = zip(row["states"] or (), row["levels"] or (), row["scores"] or (), row["since"] or (), strict=True)
        counted = quality.get(row["asset_id"])
        share = 1.0 - counted["bad"] / counted["n"] if counted and counted["n"] else 1.0
        assessment = assess(
            [Component(*part) for part in parts],
            last_seen_at=row["last_seen_at"],
            longest_period_s=row["longest_period_s"],
            good_share=share,
            now=now,
        )
        found.append((row["asset_id"], row["tenant_id"], assessment))
    await conn.execute(
        _SQL.put_asset,
        {
            "assets": [asset_id for asset_id, _, _ in found],
            "slots": [""] * len(found),
            "tenants": [tenant_id for _, tenant_id, _ in found],
            "states": [item.state for _, _, item in found],
            "levels": [item.level for _, _, item in found],
            "scores": [item.score for _, _, item in found],
            "since": [item.since for _, _, item in found],
            "now": [now] * len(found),
            "quality": [item.data_quality for _, _, item in found],
            "stale": [item.stale for _, _, item in found],
        },
    )
    await conn.execute(_SQL.spread_staleness)
    return len(found)
