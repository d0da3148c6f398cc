"""The customer's warehouse management system (WMS): it knows the load by hour and takes equipment out of use.

``book`` is idempotent by its key. All times are UTC instants; shifts are local wall times of the site.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Protocol

from fleet_server.connectors.times import Instant


@dataclass(frozen=True, slots=True)
class WorkShift:
    """A shift by local wall time; one that ends at or before its start runs over midnight."""

    name: str
    start: time
    end: time


@dataclass(frozen=True, slots=True)
class LoadForecast:
    """Expected load: ``orders_by_hour`` by the instant at which the site's hour begins;
    ``taken`` are spans in which the equipment is out of use."""

    orders_by_hour: dict[Instant, float]
    shifts: tuple[WorkShift, ...] = ()
    taken: tuple[tuple[Instant, Instant], ...] = ()
    total_orders: float = field(default=0.0)


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking that takes equipment out of use, as the other system tells it, whatever was asked.

    ``held`` only while it certainly is: not when it was cancelled or rejected, waits for somebody's word, or is in a
    state that the connector does not know. ``state`` is the other system's own word, ``equipment`` its name for the
    machine; "" where it does not say.
    """

    reference: str
    start: Instant
    end: Instant
    held: bool = True
    equipment: str = ""
    state: str = ""


class WarehouseSystem(Protocol):
    async def load(self, equipment_ref: str, start: datetime, end: datetime) -> LoadForecast:
        """Load of the site and bookings of the equipment in a span. Raises Retryable or Permanent."""

    async def book(self, equipment_ref: str, start: datetime, end: datetime, reason: str, *, key: str) -> Booking:
        """Take equipment out of use. Raises Refused (taken, not wanted), Retryable, OutcomeUnknown."""

    async def lookup(self, key: str) -> Booking | None:
        """The booking made with this key, also one that is not held; None when there is none. Raises Retryable."""

    async def release(self, key: str) -> None:
        """Cancel the booking; idempotent, and a ``book`` arriving late is refused. Raises Retryable, OutcomeUnknown."""

    async def close(self) -> None:
        """Close connections."""
