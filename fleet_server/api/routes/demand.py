"""What the fleet will need: parts, skills, proposals of orders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from fleet_server.api.access import App, require
from fleet_server.api.models.demand import Demand
from fleet_server.api.reads import demand as reads
from fleet_server.insights.demand import parse_days
from fleet_server.sovereignty.directives import view
from fleet_server.sovereignty.roles import Permission
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api", tags=["fleet"])
Days = Annotated[str, Query(max_length=40, description="horizons in days, such as 30,90")]


@router.get("/demand")
async def demand(
    user: Annotated[User, Depends(require(Permission.VIEW_FLEET))], app: App, days: Days = "30,90"
) -> Demand:
    """Expected need of parts and skills with intervals; stock and what to order for readers of the whole fleet."""
    horizons = parse_days(days)
    async with app.reader(user) as conn:
        return view(await reads.demand(conn, app.clock.now(), horizons, user.tenant_id), user.role)
