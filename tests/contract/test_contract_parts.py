"""Every parts connector: honest offers, one piece per key, never more pieces than there are."""

from __future__ import annotations

import asyncio

import pytest
from support.connectors import check_shape, config_of
from support.contract_fixtures import *  # noqa: F403 # fixtures
from support.contract_fixtures import Servers
from support.resolution import TENANT

from fleet_core.plugins import plugin_names
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.parts.api import PartsRequest, PartsSource

pytestmark = pytest.mark.integration
PACKAGE = "fleet_server.connectors.parts"


@pytest.fixture(params=plugin_names(PACKAGE))
def parts(request: pytest.FixtureRequest, deps: ConnectorDeps, servers: Servers) -> PartsSource:
    module = check_shape(PACKAGE, request.param)
    source: PartsSource = module.build(config_of("parts", module, servers), deps)
    return source


def _request(deps: ConnectorDeps, component_type: str = "bearing") -> PartsRequest:
    return PartsRequest(TENANT, component_type, "Transit 500", "", "eu-north", "DE", 53.5, 10.0, deps.clock.now())


async def test_offers_come_earliest_first(parts: PartsSource, deps: ConnectorDeps) -> None:
    offers = await parts.offers(_request(deps))
    assert [offer.centre_id for offer in offers] == ["bremen", "lyon"]
    assert all(offer.arrives_at > deps.clock.now() and offer.on_hand > 0 for offer in offers)
    assert offers == sorted(offers, key=lambda offer: offer.arrives_at)
    assert await parts.offers(_request(deps, "disk")) == []


async def test_a_key_is_one_piece(parts: PartsSource, deps: ConnectorDeps) -> None:
    offer = (await parts.offers(_request(deps)))[0]
    assert await parts.lookup("key-1") is None
    first, second = await asyncio.gather(*(parts.reserve(TENANT, offer, key="key-1") for _ in range(2)))
    assert first == second == await parts.lookup("key-1")
    assert first.reference.strip()
    assert (first.held, first.part_no, first.centre_id) == (True, offer.part_no, offer.centre_id)
    assert (first.quantity, first.arrives_at) == (1, offer.arrives_at)
    assert (await parts.offers(_request(deps)))[0].on_hand == offer.on_hand - 1


async def test_no_more_is_sold_than_there_is(parts: PartsSource, deps: ConnectorDeps) -> None:
    offer = (await parts.offers(_request(deps)))[0]
    results = await asyncio.gather(
        *(parts.reserve(TENANT, offer, key=f"key-{n}") for n in range(6)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == offer.on_hand == 2
    assert all(isinstance(result, Refused) for result in results if isinstance(result, BaseException))
    refused = [f"key-{n}" for n, result in enumerate(results) if isinstance(result, Refused)]
    assert [await parts.lookup(key) for key in refused] == [None] * 4


async def test_releasing_gives_back_exactly_once(parts: PartsSource, deps: ConnectorDeps) -> None:
    offer = (await parts.offers(_request(deps)))[0]
    await parts.reserve(TENANT, offer, key="key-1")
    await asyncio.gather(*(parts.release("key-1") for _ in range(3)))
    await parts.release("never-seen")
    assert (await parts.offers(_request(deps)))[0].on_hand == offer.on_hand
    with pytest.raises(Refused):
        await parts.reserve(TENANT, offer, key="key-1")
    known = await parts.lookup("key-1")
    assert known is None or not known.held


async def test_a_used_piece_does_not_come_back(parts: PartsSource, deps: ConnectorDeps) -> None:
    offer = (await parts.offers(_request(deps)))[0]
    await parts.reserve(TENANT, offer, key="key-1")
    await parts.consume("key-1")
    await parts.consume("key-1")
    await parts.release("key-1")
    assert (await parts.offers(_request(deps)))[0].on_hand == offer.on_hand - 1
