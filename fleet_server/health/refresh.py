"""Keeps the rows for whole assets (slot '') in the table ``health`` current: worst component, staleness, data quality.

A worker runs this every few seconds. An advisory lock in the transaction admits one worker; another one finds the lock
taken and skips its turn. An asset that cannot be assessed or written keeps its last health and is put off; the other
assets are assessed and written all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fleet_core.clock import Clock
from fleet_core.put_off import PutOff
from fleet_server.health.assess import Assessment, Component, assess
from fleet_server.store.alone import do_alone
from fleet_server.store.pool import REFUSED, Connection
from fleet_server.store.sql import queries

LOCK_KEY = 0x48454C54  # "HELT"
QUALITY_WINDOW = timedelta(hours=24)
QUALITY_BATCHES = 100
"""At most this many of the newest batches of each series are counted."""
_SQL = queries("health")


@dataclass(frozen=True, slots=True)
class _Assessed:
    asset_id: str
    tenant_id: str
    health: Assessment


async def refresh_health(conn: Connection, clock: Clock, assets: PutOff, *, count_quality: bool = True) -> int:
    """Assess every asset in the caller's transaction (worker role).

    ``assets`` holds those that could not be assessed or written. Returns the number of assets; 0 when another worker
    holds the lock. Counting the data quality reads telemetry and costs time: without ``count_quality`` the stored
    quality is kept. Database errors are raised, but for the refusal of a single asset's row.
    """
    locked = await (await conn.execute(_SQL.alone, {"lock": LOCK_KEY})).fetchone()
    if not locked or not locked["alone"]:
        return 0
    now = clock.now()
    shares = await _good_shares(conn, now) if count_quality else None
    found = []
    for row in await (await conn.execute(_SQL.assets)).fetchall():
        if assets.waits(row["asset_id"]):
            continue
        try:
            found.append(_assess(row, shares, now))
        except Exception as error:  # noqa: BLE001 - one asset's fault must not stop the others: logged and counted
            assets.failed(row["asset_id"], error)
    await _put_all(conn, found, assets, now)
    await conn.execute(_SQL.spread_staleness)
    return len(found)


def _assess(row: Mapping[str, Any], shares: Mapping[str, float] | None, now: datetime) -> _Assessed:
    parts = zip(row["states"] or (), row["levels"] or (), row["scores"] or (), row["since"] or (), strict=True)
    health = assess(
        [Component(*part) for part in parts],
        last_seen_at=row["last_seen_at"],
        longest_period_s=row["longest_period_s"],
        good_share=row["data_quality"] if shares is None else shares.get(row["asset_id"], 1.0),
        now=now,
    )
    return _Assessed(row["asset_id"], row["tenant_id"], health)


async def _put_all(conn: Connection, found: Sequence[_Assessed], assets: PutOff, now: datetime) -> None:
    """Write all at once; when the database refuses one of them, one by one."""
    try:
        async with conn.transaction():
            await _put(conn, found, now)
    except REFUSED:
        for one in found:
            await do_alone(conn, assets, one.asset_id, partial(_put, conn, [one], now))
    else:
        for one in found:
            assets.succeeded(one.asset_id)


async def _put(conn: Connection, found: Sequence[_Assessed], now: datetime) -> None:
    values = {
        "assets": [one.asset_id for one in found],
        "slots": [""] * len(found),
        "tenants": [one.tenant_id for one in found],
        "states": [one.health.state for one in found],
        "levels": [one.health.level for one in found],
        "scores": [one.health.score for one in found],
        "since": [one.health.since for one in found],
        "now": [now] * len(found),
        "quality": [one.health.data_quality for one in found],
        "stale": [one.health.stale for one in found],
    }
    await conn.execute(_SQL.put_asset, values)


async def _good_shares(conn: Connection, now: datetime) -> dict[str, float]:
    """Share of good samples (0..1) by asset, over ``QUALITY_WINDOW``; assets without samples are left out."""
    window = {"since": now - QUALITY_WINDOW, "until": now + timedelta(hours=1), "most": QUALITY_BATCHES}
    rows = await (await conn.execute(_SQL.quality, window)).fetchall()
    return {row["asset_id"]: 1.0 - row["bad"] / row["n"] for row in rows if row["n"]}
