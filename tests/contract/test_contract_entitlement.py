"""Every entitlement connector: covers what a contract covers, and says why not otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.connectors import check_shape, config_of
from support.contract_fixtures import *  # noqa: F403 # fixtures
from support.contract_fixtures import Servers
from support.resolution import TENANT

from fleet_core.plugins import plugin_names
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.connectors.entitlement.api import Entitlement, EntitlementRequest
from fleet_server.resolution.stored import check_answer

pytestmark = pytest.mark.integration
PACKAGE = "fleet_server.connectors.entitlement"


@pytest.mark.parametrize("name", plugin_names(PACKAGE))
async def test_it_is_an_entitlement_source(name: str, deps: ConnectorDeps, servers: Servers) -> None:
    module = check_shape(PACKAGE, name)
    source = module.build(config_of("entitlement", module, servers), deps)
    covered = EntitlementRequest(TENANT, "SN-17", "bearing", "BRG-1", deps.clock.now())
    answer = await source.check(covered)
    assert answer.covered and answer.reference and answer.kind in ("warranty", "service") and not answer.reason
    assert answer.valid_to is None or answer.valid_to.tzinfo is not None
    check_answer(answer, Entitlement, name)
    assert await source.check(covered) == answer
    for uncovered in (
        replace(covered, asset_serial="SN-18"),
        replace(covered, component_type="motor"),
        replace(covered, tenant_id="other"),
        replace(covered, at=covered.at + timedelta(days=400)),
        replace(covered, at=covered.at - timedelta(days=400)),
    ):
        refused = await source.check(uncovered)
        assert not refused.covered and refused.reason and not refused.reference
