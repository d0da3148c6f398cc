"""Entitlement from Forestall's own table ``contract``; a warranty takes precedence over a service contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleet_server.connectors.common import ConnectorDeps
from fleet_server.connectors.entitlement.api import Entitlement, EntitlementRequest, EntitlementSource
from fleet_server.store.pool import Pool
from fleet_server.store.sql import queries

SAMPLE = ""
_sql = queries("resolution_connectors")


@dataclass(frozen=True, slots=True)
class Config:
    """Nothing to configure: the contracts are rows."""


def build(config: Config, deps: ConnectorDeps) -> EntitlementSource:
    return OwnContracts(deps.pool)


class OwnContracts:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def check(self, request: EntitlementRequest) -> Entitlement:
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                _sql.contracts_of,
                {"tenant_id": request.tenant_id, "asset_serial": request.asset_serial},
            )
            contracts = await cursor.fetchall()
        reasons: list[str] = []
        for contract in contracts:
            reason = _why_not(contract, request)
            if not reason:
                return Entitlement(
                    covered=True,
                    reference=contract["contract_id"],
                    kind=contract["kind"],
                    valid_to=contract["valid_to"],
                    terms=contract["terms"],
                )
            reasons.append(f"{contract['contract_id']}: {reason}")
        return Entitlement(covered=False, reason="; ".join(reasons[:5]) or "no contract names this asset")


def _why_not(contract: dict[str, Any], request: EntitlementRequest) -> str:
    if request.at < contract["valid_from"]:
        return f"begins only on {contract['valid_from']:%Y-%m-%d}"
    if request.at >= contract["valid_to"]:
        return f"ended on {contract['valid_to']:%Y-%m-%d}"
    if request.component_type not in contract["component_types"] and "*" not in contract["component_types"]:
        return f"does not cover a {request.component_type}"
    return ""
