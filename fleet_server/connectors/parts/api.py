"""Parts: what fits, where it lies, when it can be on site; reserving one piece of it.

``reserve`` is idempotent by key and never sells the same piece twice, however many reserve at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PartsRequest:
    """What is needed where. Latitude and longitude in degrees, None when the site's place is unknown."""

    tenant_id: str
    component_type: str
    model: str
    part_no: str
    region: str
    jurisdiction: str
    latitude: float | None
    longitude: float | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Offer:
    """One part in one fulfilment centre. ``arrives_at`` is domain time, if it were reserved now."""

    part_no: str
    label: str
    centre_id: str
    centre_name: str
    on_hand: int
    price_eur: float
    distance_km: float | None
    lead_time_h: float
    arrives_at: datetime


@dataclass(frozen=True, slots=True)
class Reservation:
    """A piece set aside under ``reference``. ``held`` is False once it was released or used."""

    reference: str
    part_no: str
    centre_id: str
    arrives_at: datetime
    held: bool = True


class PartsSource(Protocol):
    async def offers(self, request: PartsRequest) -> list[Offer]:
        """What is on hand, earliest arrival first. Raises Retryable or Permanent."""

    async def reserve(self, tenant_id: str, offer: Offer, *, key: str) -> Reservation:
        """Set one piece aside. Raises Refused (out of stock, key released before), Retryable, OutcomeUnknown."""

    async def lookup(self, key: str) -> Reservation | None:
        """What ``reserve`` with this key did, None when nothing. Raises Retryable."""

    async def release(self, key: str) -> None:
        """Give the piece back; idempotent. Raises Retryable, OutcomeUnknown."""

    async def consume(self, key: str) -> None:
        """The piece was used; idempotent. Raises Retryable, OutcomeUnknown."""
