"""Keeps the rows for whole assets (slot '') in the table ``health`` current: worst component, staleness, data quality.

A worker runs this every few seconds. An advisory lock in the transaction admits one worker; another one finds the lock
taken and skips its turn.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet_core.clock import Clock
from fleet_server.health.assess import Component, assess
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

LOCK_KEY = 0x48454C54  # "HELT"
QUALITY_WINDOW = timedelta(hours=24)
QUALITY_BATCHES = 100
"""At most this many of the newest batches of each series are counted."""
_SQL = queries("health")


async def refresh_health(conn: Connection, clock: Clock, *, count_quality: bool = True) -> int:
    """Assess every asset in the caller's transaction (worker role).

    Returns the number of assets; 0 when another worker holds the lock. Counting the data quality reads telemetry and
    costs time: without ``count_quality`` the stored quality is kept. Database errors are raised.
    """
    locked = await (await conn.execute(_SQL.alone, {"lock": LOCK_KEY})).fetchone()
    if not locked or not locked["alone"]:
        return 0
    now = clock.now()
    shares = await _good_shares(conn, now) if count_quality else {}
    rows = await (await conn.execute(_SQL.assets)).fetchall()
    found = []
    for row in rows:
        parts = zip(row["states"] or (), row["levels"] or (), row["scores"] or (), row["since"] or (), strict=True)
        assessment = assess(
            [Component(*part) for part in parts],
            last_seen_at=row["last_seen_at"],
            longest_period_s=row["longest_period_s"],
            good_share=shares.get(row["asset_id"], 1.0 if count_quality else row["data_quality"]),
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


async def _good_shares(conn: Connection, now: datetime) -> dict[str, float]:
    """Share of good samples (0..1) by asset, over ``QUALITY_WINDOW``; assets without samples are left out."""
    window = {"since": now - QUALITY_WINDOW, "until": now + timedelta(hours=1), "most": QUALITY_BATCHES}
    rows = await (await conn.execute(_SQL.quality, window)).fetchall()
    return {row["asset_id"]: 1.0 - row["bad"] / row["n"] for row in rows if row["n"]}
