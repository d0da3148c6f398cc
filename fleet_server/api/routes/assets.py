"""One asset: its page, its vitals thinned to the pixels asked for, its waveform, its prognoses, maintenance."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.exceptions import HTTPException

from fleet_core.errors import BadInput
from fleet_server.api.access import App, found, require
from fleet_server.api.models.assets import Asset, MaintenanceRequest, VitalSeries, WaveformView
from fleet_server.api.models.base import Done
from fleet_server.api.models.prognoses import NeighbourCourses, PrognosisHistory
from fleet_server.api.reads import assets
from fleet_server.api.reads import prognoses as past
from fleet_server.resolution import commands
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api/assets", tags=["assets"])
Viewer = Annotated[User, Depends(require(Permission.VIEW_VITALS))]
Metric = Annotated[str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}$")]
MAX_RANGE = timedelta(days=400)
MAX_MAINTENANCE = timedelta(days=90)


@router.get("/{asset_id}")
async def asset(asset_id: str, user: Viewer, app: App) -> Asset:
    """Installed base, health, findings, prognoses, latest vitals, cases."""
    async with app.reader(user) as conn:
        return view(found(await assets.asset(conn, asset_id, app.heard_since()), "asset"), user.role)


@router.get("/{asset_id}/vitals")
async def vitals(
    asset_id: str,
    metric: Metric,
    user: Viewer,
    app: App,
    from_t: datetime | None = None,
    to_t: datetime | None = None,
    points: Annotated[int, Query(ge=10, le=2000, description="time buckets: one for each pixel")] = 600,
) -> VitalSeries:
    """One metric over a time range (default: the last 72 h) with each bucket's extremes and mean."""
    until = _aware(to_t) or app.clock.now()
    since = _aware(from_t) or until - timedelta(hours=72)
    if not timedelta(0) < until - since <= MAX_RANGE:
        raise HTTPException(422, f"from_t must lie before to_t, at most {MAX_RANGE.days} days")
    async with app.reader(user) as conn:
        series = await assets.vitals(conn, asset_id, metric, since, until, points)
    return view(found(series, "asset or metric"), user.role)


@router.get("/{asset_id}/waveform")
async def waveform(asset_id: str, metric: Metric, user: Viewer, app: App) -> WaveformView:
    """The newest whole waveform of a metric and its amplitude spectrum."""
    async with app.reader(user) as conn:
        if not await assets.exists(conn, asset_id):
            raise HTTPException(404, "no such asset")
        return view(await assets.waveform(conn, asset_id, metric, app.clock.now()), user.role)


@router.get("/{asset_id}/prognoses")
async def prognoses(asset_id: str, slot: Metric, user: Viewer, app: App) -> PrognosisHistory:
    """How the prognosis of one component moved."""
    async with app.reader(user) as conn:
        if not await assets.exists(conn, asset_id):
            raise HTTPException(404, "no such asset")
        return view(await past.prognosis_history(conn, asset_id, slot), user.role)


@router.get("/{asset_id}/prognoses/{prognosis_id}/neighbours")
async def neighbours(asset_id: str, prognosis_id: UUID, user: Viewer, app: App) -> NeighbourCourses:
    """The courses of the past units a prognosis rests on, laid beside the living one."""
    async with app.reader(user) as conn:
        return view(found(await past.neighbour_courses(conn, asset_id, prognosis_id), "prognosis"), user.role)


@router.post("/{asset_id}/maintenance")
async def maintenance(
    asset_id: str,
    body: MaintenanceRequest,
    user: Annotated[User, Depends(require(Permission.SET_MAINTENANCE))],
    app: App,
) -> Done:
    """Set (or with ``until`` null end) an asset's maintenance: meanwhile it is not judged."""
    until = _aware(body.until)
    if until is not None and not timedelta(0) < until - app.clock.now() <= MAX_MAINTENANCE:
        raise BadInput("until", f"maintenance ends in the future, at most {MAX_MAINTENANCE.days} days ahead")
    async with app.reader(user) as conn:
        if not await assets.exists(conn, asset_id):
            raise HTTPException(404, "no such asset")
    async with app.worker() as conn:
        await commands.set_maintenance(conn, app.clock, user.actor, asset_id, until, body.note)
    return Done(detail=f"{asset_id} is in maintenance until {until:%Y-%m-%d %H:%M} UTC" if until else "judged again")


def _aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise HTTPException(422, "times need a zone, e.g. 2026-03-01T12:00:00Z")
    return moment
