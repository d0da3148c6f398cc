"""Every field service connector: qualified engineers, one order per key, nobody in two places."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from support.connectors import check_shape, config_of
from support.contract_fixtures import *  # noqa: F403 # fixtures
from support.contract_fixtures import Servers
from support.resolution import ASSET, SITE, SLOT, TENANT

from fleet_core.plugins import plugin_names
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.field_service.api import ORDER_HELD, EngineerQuery, FieldService, WorkOrderDraft

pytestmark = pytest.mark.integration
PACKAGE = "fleet_server.connectors.field_service"
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture(params=plugin_names(PACKAGE))
async def service(request: pytest.FixtureRequest, deps: ConnectorDeps, servers: Servers) -> AsyncIterator[FieldService]:
    module = check_shape(PACKAGE, request.param)
    yield module.build(config_of("field_service", module, servers), deps)


@pytest_asyncio.fixture
async def draft(deps: ConnectorDeps) -> WorkOrderDraft:
    case_id = uuid.uuid4()
    now = deps.clock.now()
    async with deps.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO repair_case (case_id, tenant_id, site_id, asset_id, slot, state, owner_id, finding_id,"
            " opened_at, trace_id) VALUES (%s, %s, %s, %s, %s, 'planning', 'marta', %s, %s, 't')",
            (case_id, TENANT, SITE, ASSET, SLOT, uuid.uuid4(), now),
        )
    return WorkOrderDraft(TENANT, str(case_id), ASSET, now + 5 * HOUR, now + 7 * HOUR, {"playbook": ["look"]})


def _query(deps: ConnectorDeps, skill: str) -> EngineerQuery:
    now = deps.clock.now()
    return EngineerQuery(skill, TENANT, SITE, "eu-north", now, now + 48 * HOUR)


async def test_only_the_qualified_are_offered(service: FieldService, deps: ConnectorDeps) -> None:
    assert {e.person_id for e in await service.engineers(_query(deps, "drive-mechanics"))} == {"jonas", "aisha"}
    assert {e.person_id for e in await service.engineers(_query(deps, "medical-devices"))} == {"jonas"}
    assert await service.engineers(_query(deps, "welding")) == []


async def test_a_key_is_one_order(service: FieldService, draft: WorkOrderDraft) -> None:
    assert await service.lookup_order("order-1") is None
    first, second = await asyncio.gather(*(service.create_order(draft, key="order-1") for _ in range(2)))
    assert first == second == await service.lookup_order("order-1")
    assert first.number.startswith("WO-") and first.reference.strip()
    assert (first.asset_id, first.start, first.end) == (draft.asset_id, draft.start, draft.end)
    assert first.state in ORDER_HELD
    await service.cancel_order("order-1")
    known = await service.lookup_order("order-1")
    assert known is None or known.state not in ORDER_HELD


async def test_nobody_is_in_two_places(service: FieldService, deps: ConnectorDeps, draft: WorkOrderDraft) -> None:
    for key in ("order-1", "order-2"):
        await service.create_order(draft, key=key)
    start, end = draft.start, draft.end
    first = await service.dispatch("order-1", "jonas", start, end, key="d-1")
    assert await service.dispatch("order-1", "jonas", start, end, key="d-1") == first
    assert await service.lookup_dispatch("d-1") == first
    assert (first.person_id, first.start, first.end, first.held) == ("jonas", start, end, True)
    assert first.reference.strip()
    with pytest.raises(Refused):
        await service.dispatch("order-2", "jonas", start + HOUR, end + HOUR, key="d-2")
    assert await service.lookup_dispatch("d-2") is None
    await service.dispatch("order-2", "jonas", end, end + HOUR, key="d-3")
    (jonas,) = await service.engineers(_query(deps, "medical-devices"))
    assert jonas.busy == ((start, end), (end, end + HOUR))


async def test_dispatching_again_moves_the_order(service: FieldService, draft: WorkOrderDraft) -> None:
    await service.create_order(draft, key="order-1")
    await service.dispatch("order-1", "jonas", draft.start, draft.end, key="d-1")
    await service.dispatch("order-1", "jonas", draft.start - HOUR, draft.end - HOUR, key="d-2")
    old = await service.lookup_dispatch("d-1")
    assert old is not None and not old.held


async def test_a_cancelled_order_frees_its_engineer(service: FieldService, draft: WorkOrderDraft) -> None:
    await service.create_order(draft, key="order-1")
    await service.create_order(draft, key="order-2")
    await service.dispatch("order-1", "jonas", draft.start, draft.end, key="d-1")
    await service.cancel_order("order-1")
    await service.cancel_order("order-1")
    await service.cancel_order("never-seen")
    await service.dispatch("order-2", "jonas", draft.start, draft.end, key="d-2")
    for again in (service.create_order(draft, key="order-1"),
                  service.dispatch("order-1", "aisha", draft.start, draft.end, key="d-3")):  # fmt: skip
        with pytest.raises(Refused):
            await again
    await service.release_dispatch("d-2")
    await service.release_dispatch("never-seen")
    freed = await service.lookup_dispatch("d-2")
    assert freed is not None and not freed.held
