"""Parts: which parts fit, where they are in stock, when they can be on site; and reserving one piece.

``reserve`` is idempotent by its key and never sells the same piece twice, however many callers reserve at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fleet_server.connectors.times import Instant

PIECES = 1
"""Pieces that a reservation is for."""


@dataclass(frozen=True, slots=True)
class PartsRequest:
    """Asks for a part at a site; latitude and longitude are degrees, None when the place of the site is unknown."""

    tenant_id: str
    component_type: str
    model: str
    part_no: str
    region: str
    jurisdiction: str
    latitude: float | None
    longitude: float | None
    at: Instant


@dataclass(frozen=True, slots=True)
class Offer:
    """One part in one fulfilment centre; ``arrives_at`` is its arrival in domain time, if it were reserved now."""

    part_no: str
    label: str
    centre_id: str
    centre_name: str
    on_hand: int
    price_eur: float
    distance_km: float | None
    lead_time_h: float
    arrives_at: Instant


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is reserved under ``reference``, as the other system tells it, whatever was asked.

    ``held`` only while it certainly is: not once it was released or used, nor in a state the connector does not know.
    """

    reference: str
    part_no: str
    centre_id: str
    arrives_at: Instant
    held: bool = True
    quantity: int = PIECES


class PartsSource(Protocol):
    async def offers(self, request: PartsRequest) -> list[Offer]:
        """The offers of parts on hand, earliest arrival first. Raises Retryable or Permanent."""

    async def reserve(self, tenant_id: str, offer: Offer, *, key: str) -> Reservation:
        """Reserve one piece. Raises Refused (out of stock, or the key was released before), Retryable,
        OutcomeUnknown."""

    async def lookup(self, key: str) -> Reservation | None:
        """The reservation made with this key, also one that is not held; None when there is none. Raises Retryable."""

    async def release(self, key: str) -> None:
        """Give the piece back; idempotent. Raises Retryable, OutcomeUnknown."""

    async def consume(self, key: str) -> None:
        """Record that the piece was used; idempotent. Raises Retryable, OutcomeUnknown."""
