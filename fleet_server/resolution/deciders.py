"""Who made a plan possible, by name, where people were asked. Runs in the caller's transaction."""

from __future__ import annotations

from fleet_server.resolution.plan import Plan
from fleet_server.resolution.rows import Name
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")


async def decider_of(conn: Connection, plan: Plan, owner_name: str) -> str:
    """The name of who decided; "" when the plan was arranged automatically."""
    actor = plan.decisions.made_it_possible
    if not actor:
        return ""
    user = {"user_id": actor.removeprefix("user:")}
    found = await fetch_one(conn, Name, _sql.name_of_user, user)
    return found.name if found else f"{owner_name}'s team"
