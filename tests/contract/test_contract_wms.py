"""Every WMS connector: load by full UTC hour, one booking per key, release that sticks."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio
from support.connectors import check_shape, config_of
from support.contract_fixtures import *  # noqa: F403 # fixtures
from support.contract_fixtures import Servers

from fleet_core.errors import Permanent
from fleet_core.plugins import plugin_names
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.wms.api import WarehouseSystem

pytestmark = pytest.mark.integration
PACKAGE = "fleet_server.connectors.wms"
WITHOUT_A_SYSTEM = ("none",)


@pytest_asyncio.fixture(params=[name for name in plugin_names(PACKAGE) if name not in WITHOUT_A_SYSTEM])
async def wms(request: pytest.FixtureRequest, deps: ConnectorDeps, servers: Servers) -> AsyncIterator[WarehouseSystem]:
    module = check_shape(PACKAGE, request.param)
    system: WarehouseSystem = module.build(config_of("wms", module, servers), deps)
    yield system
    await system.close()


@pytest.fixture
def equipment() -> str:
    return f"EQ-{uuid.uuid4().hex[:8]}"


def _span(deps: ConnectorDeps, hours: int = 5) -> tuple[datetime, datetime]:
    start = deps.clock.now() + timedelta(hours=hours)
    return start, start + timedelta(hours=2)


async def test_load_covers_every_hour_asked_for(wms: WarehouseSystem, deps: ConnectorDeps, equipment: str) -> None:
    now = deps.clock.now()
    forecast = await wms.load(equipment, now, now + timedelta(hours=30))
    assert set(forecast.orders_by_hour) >= {now + timedelta(hours=n) for n in range(30)}
    assert all(orders >= 0 for orders in forecast.orders_by_hour.values())
    assert forecast.shifts and forecast.taken == ()
    assert await wms.load(equipment, now, now + timedelta(hours=30)) == forecast


async def test_a_key_is_one_booking(wms: WarehouseSystem, deps: ConnectorDeps, equipment: str) -> None:
    start, end = _span(deps)
    key = f"key-{equipment}"
    assert await wms.lookup(key) is None
    first = await wms.book(equipment, start, end, "repair", key=key)
    assert await wms.book(equipment, start, end, "repair", key=key) == first == await wms.lookup(key)
    assert (first.start, first.end, first.equipment, first.held) == (start, end, equipment, True)
    assert first.reference.strip()
    now = deps.clock.now()
    assert (await wms.load(equipment, now, end + timedelta(hours=1))).taken == ((start, end),)


async def test_what_is_taken_is_refused(wms: WarehouseSystem, deps: ConnectorDeps, equipment: str) -> None:
    start, end = _span(deps)
    await wms.book(equipment, start, end, "repair", key=f"key-a-{equipment}")
    with pytest.raises(Refused):
        await wms.book(equipment, start + timedelta(hours=1), end, "repair", key=f"key-b-{equipment}")
    await wms.book(equipment, end, end + timedelta(hours=1), "repair", key=f"key-c-{equipment}")
    await wms.book(f"{equipment}-other", start, end, "repair", key=f"key-d-{equipment}")


async def test_a_release_frees_the_time_and_spends_the_key(
    wms: WarehouseSystem, deps: ConnectorDeps, equipment: str
) -> None:
    start, end = _span(deps)
    key = f"key-{equipment}"
    await wms.book(equipment, start, end, "repair", key=key)
    await wms.release(key)
    await wms.release(key)
    known = await wms.lookup(key)
    assert known is None or not known.held
    with pytest.raises(Refused):
        await wms.book(equipment, start, end, "repair", key=key)
    await wms.book(equipment, start, end, "repair", key=f"again-{equipment}")


async def test_a_booking_that_arrives_after_its_release_is_refused(
    wms: WarehouseSystem, deps: ConnectorDeps, equipment: str
) -> None:
    start, end = _span(deps)
    await wms.release(f"late-{equipment}")
    with pytest.raises(Refused):
        await wms.book(equipment, start, end, "repair", key=f"late-{equipment}")


@pytest.mark.parametrize("name", WITHOUT_A_SYSTEM)
async def test_a_site_without_a_system_says_so(name: str, deps: ConnectorDeps, servers: Servers) -> None:
    module = check_shape(PACKAGE, name)
    wms = module.build(config_of("wms", module, servers), deps)
    start, end = _span(deps)
    with pytest.raises(Permanent):
        await wms.load("EQ", start, end)
    with pytest.raises(Refused):
        await wms.book("EQ", start, end, "repair", key="key")
    assert await wms.lookup("key") is None
    await wms.release("key")
