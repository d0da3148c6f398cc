"""The connector of a site without a WMS: there is no system to ask, so a person plans every repair."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fleet_core.errors import Permanent
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.wms.api import Booking, LoadForecast, WarehouseSystem

SAMPLE = ""


@dataclass(frozen=True, slots=True)
class Config:
    """Nothing to configure."""


def build(config: Config, deps: ConnectorDeps) -> WarehouseSystem:
    return NoWarehouseSystem()


class NoWarehouseSystem:
    async def load(self, equipment_ref: str, start: datetime, end: datetime) -> LoadForecast:
        raise Permanent("the site has no WMS configured: its load is unknown")

    async def book(self, equipment_ref: str, start: datetime, end: datetime, reason: str, *, key: str) -> Booking:
        raise Refused("no_wms", "the site has no WMS configured")

    async def lookup(self, key: str) -> Booking | None:
        return None

    async def release(self, key: str) -> None:
        return None

    async def close(self) -> None:
        return None
