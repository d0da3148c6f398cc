"""Entitlement: does a warranty or a service contract cover the repair of a component?

A check changes nothing, so it takes no key and may be repeated. "Not covered" is an answer, not an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fleet_server.connectors.times import Instant


@dataclass(frozen=True, slots=True)
class EntitlementRequest:
    """Which component of which asset, and the domain time at which it must be covered."""

    tenant_id: str
    asset_serial: str
    component_type: str
    component_serial: str
    at: Instant


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The answer of a check: ``reference`` names the contract when ``covered``, otherwise ``reason`` says why not.

    ``terms`` is what the contract says, any JSON value: it is kept and shown, nothing is decided by it.
    """

    covered: bool
    reference: str = ""
    kind: str = ""
    valid_to: Instant | None = None
    terms: object = field(default_factory=dict)
    reason: str = ""


class EntitlementSource(Protocol):
    async def check(self, request: EntitlementRequest) -> Entitlement:
        """Raises Retryable or Permanent."""
