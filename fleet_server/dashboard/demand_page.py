"""The page of demand: what to order, and what the fleet will need of parts and skills."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from fleet_server.api.access import App, require
from fleet_server.api.reads import demand as reads
from fleet_server.api.routes.demand import Days
from fleet_server.dashboard.rendering import render
from fleet_server.insights.demand import amount, parse_days
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission
from fleet_server.sovereignty.users import User

router = APIRouter(include_in_schema=False)


@router.get("/demand")
async def demand_page(
    request: Request, user: Annotated[User, Depends(require(Permission.VIEW_FLEET))], app: App, days: Days = "30,90"
) -> Response:
    horizons = parse_days(days)
    async with app.reader(user) as conn:
        demand = view(await reads.demand(conn, app.clock.now(), horizons, user.tenant_id), user.role)
    highest = [
        max((need.high for line in lines for need in line.needs), default=0) for lines in (demand.parts, demand.skills)
    ]
    return render(
        request,
        "demand.html",
        user,
        demand=demand,
        amount=amount,
        kept=sum(1 for line in demand.parts if line.on_hand is not None),
        unkept=sum(1 for line in demand.parts if line.on_hand is None),
        orders=sum(1 for line in demand.parts if line.order),
        pieces=sum(line.order or 0 for line in demand.parts),
        highest_part=max(1, highest[0], *(line.on_hand or 0 for line in demand.parts)),
        highest_job=max(1, highest[1]),
    )
