"""The fleet as a whole: overview, assets table, tenants and their switch, sites, library, clock."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException

from fleet_server.api.access import App, Identity, Limit, Offset, Search, require
from fleet_server.api.models.base import Asked, Done, operational
from fleet_server.api.models.fleet import ClockInfo, FleetAssets, FleetOverview, Library, Sites, Tenants
from fleet_server.api.reads import fleet
from fleet_server.resolution import commands
from fleet_server.sovereignty.data_class import DataClass
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission, cleared
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api", tags=["fleet"])
Viewer = Annotated[User, Depends(require(Permission.VIEW_FLEET))]
Level = Literal["critical", "degrading", "watch", "unknown", "good"]


class ObserveOnlyRequest(Asked):
    on: bool = operational()


@router.get("/overview")
async def overview(user: Viewer, app: App) -> FleetOverview:
    """Counts by health level, cases, escalations, agents."""
    async with app.reader(user) as conn:
        return view(await fleet.overview(conn, app.clock.now(), app.heard_since()), user.role)


@router.get("/assets")
async def assets(
    user: Viewer,
    app: App,
    level: Level | None = None,
    site_id: Identity = None,
    asset_class: Identity = None,
    search: Search = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> FleetAssets:
    """The fleet table, worst first."""
    async with app.reader(user) as conn:
        page = await fleet.assets(
            conn,
            app.heard_since(),
            level=level,
            site_id=site_id,
            asset_class=asset_class,
            search=search,
            search_names=cleared(user.role, DataClass.CUSTOMER),
            limit=limit,
            offset=offset,
        )
    return view(page, user.role)


@router.get("/tenants")
async def tenants(user: Viewer, app: App, limit: Limit = 100, offset: Offset = 0) -> Tenants:
    """The tenants one may see."""
    async with app.reader(user) as conn:
        return view(await fleet.tenants(conn, limit, offset), user.role)


@router.post("/tenants/{tenant_id}/observe-only")
async def observe_only(
    tenant_id: str,
    body: ObserveOnlyRequest,
    user: Annotated[User, Depends(require(Permission.SET_OBSERVE_ONLY))],
    app: App,
) -> Done:
    """Stop (or resume) every automatic act for a tenant; the watching goes on."""
    async with app.reader(user) as conn:
        if not await fleet.is_registered(conn, tenant_id):
            raise HTTPException(404, "no such tenant")
    async with app.worker() as conn:
        await commands.set_observe_only(conn, app.clock, user.actor, tenant_id, body.on)
    return Done(detail="acts are stopped, watching goes on" if body.on else "acts resume")


@router.get("/sites")
async def sites(user: Viewer, app: App, limit: Limit = 100, offset: Offset = 0) -> Sites:
    """The sites one may see."""
    async with app.reader(user) as conn:
        return view(await fleet.sites(conn, limit, offset), user.role)


@router.get("/library")
async def library(user: Annotated[User, Depends(require(Permission.VIEW_LIBRARY))], app: App) -> Library:
    """What the prognosis compares with: past trajectories by component, failure mode and source."""
    async with app.reader(user) as conn:
        return view(await fleet.library(conn), user.role)


@router.get("/clock")
async def clock(app: App) -> ClockInfo:
    """Domain ("story") time beside real time. Needs no login: pages show it before one."""
    return ClockInfo(
        now=app.clock.now(),
        real_now=app.real_clock.now(),
        scale=app.clock.scale,
        story=app.clock.scale != 1.0,
    )
