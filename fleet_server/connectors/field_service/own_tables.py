"""Engineers, their calendars and work orders in Forestall's own tables.

The exclusion constraint ``engineer_in_one_place`` decides which booking gets an engineer, not the code: of two bookings
that overlap, the later one is refused. Order and calendar change in one transaction.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.errors import ExclusionViolation
from psycopg.types.json import Jsonb

from fleet_core.clock import Clock
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.field_service.api import (
    Dispatch,
    EngineerAvailability,
    EngineerQuery,
    FieldService,
    WorkOrder,
    WorkOrderDraft,
)
from fleet_server.labels import work_order_label
from fleet_server.store.pool import Connection, Pool
from fleet_server.store.sql import queries

SAMPLE = ""
_sql = queries("resolution_connectors")


@dataclass(frozen=True, slots=True)
class Config:
    """Nothing to configure: engineers are rows of ``person``."""


def build(config: Config, deps: ConnectorDeps) -> FieldService:
    return OwnFieldService(deps.pool, deps.clock)


class OwnFieldService:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def engineers(self, query: EngineerQuery) -> list[EngineerAvailability]:
        wanted = {
            "skill": query.skill,
            "tenant_id": query.tenant_id,
            "site_id": query.site_id,
            "region": query.region,
            "start": query.start,
            "end": query.end,
        }
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_sql.engineers_with_skill, wanted)).fetchall()
        return [
            EngineerAvailability(row["person_id"], row["name"], tuple(zip(row["starts"], row["ends"], strict=True)))
            for row in rows
        ]

    async def create_order(self, draft: WorkOrderDraft, *, key: str) -> WorkOrder:
        row = {
            "work_order_id": uuid.uuid4(),
            "tenant_id": draft.tenant_id,
            "case_id": draft.case_id,
            "key": key,
            "asset_id": draft.asset_id,
            "starts_at": draft.start,
            "ends_at": draft.end,
            "body": Jsonb(draft.body),
            "created_at": self._clock.now(),
        }
        async with self._pool.connection() as conn:
            await conn.execute(_sql.create_order, row)
            order = await _order(conn, key)
        if order is None or order["state"] == "cancelled":
            raise Refused("order_cancelled", f"the work order {key} was cancelled")
        return _work_order(order)

    async def lookup_order(self, key: str) -> WorkOrder | None:
        async with self._pool.connection() as conn:
            row = await _order(conn, key)
        return _work_order(row) if row else None

    async def cancel_order(self, key: str) -> None:
        async with self._pool.connection() as conn:
            order = await (await conn.execute(_sql.cancel_order, {"key": key})).fetchone()
            if order is not None:
                await conn.execute(_sql.release_bookings_of_order, {"key": key})

    async def dispatch(self, order_key: str, person_id: str, start: datetime, end: datetime, *, key: str) -> Dispatch:
        async with self._pool.connection() as conn:
            order = await (await conn.execute(_sql.lock_order, {"key": order_key})).fetchone()
            known = await _booking(conn, key)
            if known is not None:
                return _checked(known, key)
            if order is None or order["state"] not in ("open", "dispatched"):
                raise Refused("order_closed", f"the work order {order_key} takes no engineer any more")
            row = {
                "booking_id": uuid.uuid4(),
                "tenant_id": order["tenant_id"],
                "key": key,
                "person_id": person_id,
                "start": start,
                "end": end,
                "order_key": order_key,
            }
            await conn.execute(_sql.release_bookings_of_order, {"key": order_key})
            try:
                booking = await (await conn.execute(_sql.book_engineer, row)).fetchone()
            except ExclusionViolation:
                raise Refused("engineer_taken", f"{person_id} is taken from {start:%Y-%m-%d %H:%M} UTC") from None
            await conn.execute(_sql.dispatch_order, row)
        return _checked(booking, key)

    async def lookup_dispatch(self, key: str) -> Dispatch | None:
        async with self._pool.connection() as conn:
            row = await _booking(conn, key)
        return _dispatch(row) if row else None

    async def release_dispatch(self, key: str) -> None:
        async with self._pool.connection() as conn:
            await conn.execute(_sql.release_booking, {"key": key})


async def _order(conn: Connection, key: str) -> dict[str, Any] | None:
    return await (await conn.execute(_sql.order_by_key, {"key": key})).fetchone()


async def _booking(conn: Connection, key: str) -> dict[str, Any] | None:
    return await (await conn.execute(_sql.booking_by_key, {"key": key})).fetchone()


def _checked(row: dict[str, Any] | None, key: str) -> Dispatch:
    if row is None or row["state"] != "held":
        raise Refused("key_released", f"the booking {key} was released")
    return _dispatch(row)


def _dispatch(row: dict[str, Any]) -> Dispatch:
    return Dispatch(str(row["booking_id"]), row["person_id"], row["start"], row["end"], row["state"] == "held")


def _work_order(row: dict[str, Any]) -> WorkOrder:
    return WorkOrder(
        reference=str(row["work_order_id"]),
        number=work_order_label(row["number"]),
        state=row["state"],
        asset_id=row["asset_id"],
        start=row["starts_at"],
        end=row["ends_at"],
    )
