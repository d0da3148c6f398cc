"""Read the fleet: overview, table of assets, tenants, sites, library."""

from __future__ import annotations

from datetime import datetime

from fleet_server.api.models.base import Record
from fleet_server.api.models.fleet import (
    FleetAsset,
    FleetAssets,
    FleetOverview,
    LevelCount,
    Library,
    LibraryGroup,
    Site,
    Sites,
    Tenant,
    Tenants,
)
from fleet_server.labels import case_label
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

LEVELS = ("critical", "degrading", "watch", "unknown", "good")
_sql = queries("api_fleet")


async def overview(conn: Connection, now: datetime, heard_since: datetime) -> FleetOverview:
    """Counts over everything the reader may see; an agent is online that was heard since then."""
    counts = await (await conn.execute(_sql.overview_counts, {"now": now})).fetchall()
    totals: Record = await (await conn.execute(_sql.overview_totals, {"heard_since": heard_since})).fetchone() or {}
    by_level = {row["level"]: row for row in counts}
    return FleetOverview(
        at=now,
        levels=[LevelCount(level=level, assets=by_level.get(level, {}).get("assets", 0)) for level in LEVELS],
        assets=sum(row["assets"] for row in counts),
        stale=sum(row["stale"] for row in counts),
        in_maintenance=sum(row["in_maintenance"] for row in counts),
        **totals,
    )


async def assets(
    conn: Connection,
    heard_since: datetime,
    *,
    level: str | None = None,
    site_id: str | None = None,
    asset_class: str | None = None,
    search: str | None = None,
    search_names: bool = False,
    limit: int = 100,
    offset: int = 0,
) -> FleetAssets:
    """A page of the fleet table, worst first. ``search`` looks in id, name, serial and model.

    With ``search_names`` it looks in the site's name, too. This is only for roles that may see the name, because a
    search would reveal it to others.
    """
    rows = await (
        await conn.execute(
            _sql.fleet_assets,
            {
                "heard_since": heard_since,
                "level": level,
                "site_id": site_id,
                "asset_class": asset_class,
                "search": like(search),
                "search_names": search_names,
                "limit": limit,
                "offset": offset,
            },
        )
    ).fetchall()
    items = [
        FleetAsset(**row, case_label=case_label(row["case_number"]) if row["case_number"] else None) for row in rows
    ]
    return FleetAssets(total=rows[0]["total"] if rows else 0, items=items)


async def tenants(conn: Connection, limit: int = 100, offset: int = 0) -> Tenants:
    rows = await (await conn.execute(_sql.tenants, {"limit": limit, "offset": offset})).fetchall()
    return Tenants(items=[Tenant(**row) for row in rows])


async def sites(conn: Connection, limit: int = 100, offset: int = 0) -> Sites:
    rows = await (await conn.execute(_sql.sites, {"limit": limit, "offset": offset})).fetchall()
    return Sites(items=[Site(**row) for row in rows])


async def library(conn: Connection) -> Library:
    rows = await (await conn.execute(_sql.library)).fetchall()
    return Library(groups=[LibraryGroup(**row) for row in rows])


def like(search: str | None) -> str | None:
    """A LIKE pattern that finds the text literally; None for no or an empty text."""
    if not search or not search.strip():
        return None
    escaped = search.strip().replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


async def is_registered(conn: Connection, tenant_id: str) -> bool:
    """Whether the reader sees a tenant of that name."""
    return await (await conn.execute(_sql.tenant, {"tenant_id": tenant_id})).fetchone() is not None
