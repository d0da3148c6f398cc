"""Parts, fulfilment centres and stock in Forestall's own tables.

Stock is decremented in the transaction of the reservation, and the constraint ``on_hand >= 0`` of the table prevents
overselling, whatever the code does. The delivery time is the centre's handling time plus transport: the great-circle
distance times a road factor at an average speed, or a day where places are unknown.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fleet_core.clock import Clock
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.parts.api import Offer, PartsRequest, PartsSource, Reservation
from fleet_server.store.pool import Connection, Pool
from fleet_server.store.sql import queries

SAMPLE = "road_factor = 1.3\nspeed_km_h = 60.0\n"
EARTH_RADIUS_KM = 6371.0
UNKNOWN_PLACE_H = 24.0
_sql = queries("resolution_connectors")


@dataclass(frozen=True, slots=True)
class Config:
    road_factor: float = 1.3
    speed_km_h: float = 60.0


def build(config: Config, deps: ConnectorDeps) -> PartsSource:
    return OwnParts(config, deps.pool, deps.clock)


class OwnParts:
    def __init__(self, config: Config, pool: Pool, clock: Clock) -> None:
        self._config = config
        self._pool = pool
        self._clock = clock

    async def offers(self, request: PartsRequest) -> list[Offer]:
        wanted = {"component_type": request.component_type, "model": request.model, "part_no": request.part_no}
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_sql.stock_that_fits, wanted)).fetchall()
        offers = [self._offer(row, request) for row in rows]
        return sorted(offers, key=lambda offer: (offer.arrives_at, offer.price_eur, offer.centre_id, offer.part_no))

    async def reserve(self, tenant_id: str, offer: Offer, *, key: str) -> Reservation:
        async with self._pool.connection() as conn:
            # The key is inserted first: a second caller with the same key waits here until the first has committed.
            row = {
                "reservation_id": uuid.uuid4(),
                "tenant_id": tenant_id,
                "key": key,
                "centre_id": offer.centre_id,
                "part_no": offer.part_no,
                "arrives_at": offer.arrives_at,
                "reserved_at": self._clock.now(),
            }
            added = await (await conn.execute(_sql.reserve_part, row)).fetchone()
            if added is None:
                return _checked(await _by_key(conn, key), key)
            taken = await (await conn.execute(_sql.take_stock, row)).fetchone()
            if taken is None:
                raise Refused("out_of_stock", f"{offer.part_no} is no longer on hand in {offer.centre_id}")
            return _reservation(added)

    async def lookup(self, key: str) -> Reservation | None:
        async with self._pool.connection() as conn:
            row = await _by_key(conn, key)
        return _reservation(row) if row else None

    async def release(self, key: str) -> None:
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_sql.release_part, {"key": key})).fetchone()
            if row is not None:  # the reservation was held until now, so the piece goes back exactly once
                await conn.execute(_sql.return_stock, {"centre_id": row["centre_id"], "part_no": row["part_no"]})

    async def consume(self, key: str) -> None:
        async with self._pool.connection() as conn:
            await conn.execute(_sql.consume_part, {"key": key})

    def _offer(self, row: dict[str, Any], request: PartsRequest) -> Offer:
        distance_km, transport_h = None, UNKNOWN_PLACE_H
        if request.latitude is not None and request.longitude is not None:
            distance_km = distance_between_km(request.latitude, request.longitude, row["latitude"], row["longitude"])
            transport_h = distance_km * self._config.road_factor / self._config.speed_km_h
        lead_time_h = float(row["handling_h"]) + transport_h
        return Offer(
            part_no=row["part_no"],
            label=row["label"],
            centre_id=row["centre_id"],
            centre_name=row["centre_name"],
            on_hand=row["on_hand"],
            price_eur=float(row["price_eur"]),
            distance_km=None if distance_km is None else round(distance_km, 1),
            lead_time_h=round(lead_time_h, 2),
            arrives_at=request.at + timedelta(hours=lead_time_h),
        )


def distance_between_km(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """Great-circle distance of two places given in degrees (haversine)."""
    a, b = math.radians(latitude_a), math.radians(latitude_b)
    half_latitude, half_longitude = (b - a) / 2, math.radians(longitude_b - longitude_a) / 2
    chord = math.sin(half_latitude) ** 2 + math.cos(a) * math.cos(b) * math.sin(half_longitude) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


async def _by_key(conn: Connection, key: str) -> dict[str, Any] | None:
    return await (await conn.execute(_sql.reservation_by_key, {"key": key})).fetchone()


def _checked(row: dict[str, Any] | None, key: str) -> Reservation:
    if row is None or row["state"] != "held":
        raise Refused("key_released", f"the reservation {key} was released or used")
    return _reservation(row)


def _reservation(row: dict[str, Any]) -> Reservation:
    return Reservation(
        reference=str(row["reservation_id"]),
        part_no=row["part_no"],
        centre_id=row["centre_id"],
        arrives_at=row["arrives_at"],
        held=row["state"] == "held",
        quantity=row["quantity"],
    )
