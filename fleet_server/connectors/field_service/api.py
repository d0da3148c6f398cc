"""Field service: work orders and the engineers who carry them out.

A work order is written first, then an engineer is dispatched to it; an engineer is never booked in two places at once.
Dispatching an order again under a new key moves it: the earlier booking is released in the same step.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fleet_server.connectors.times import Instant

ORDER_HELD = ("open", "dispatched")
"""States of an order that an engineer can be sent to."""
ORDER_STATES = (*ORDER_HELD, "started", "completed", "cancelled")


@dataclass(frozen=True, slots=True)
class EngineerAvailability:
    """A qualified engineer and the spans in which he is taken."""

    person_id: str
    name: str
    busy: tuple[tuple[Instant, Instant], ...] = ()


@dataclass(frozen=True, slots=True)
class EngineerQuery:
    """Asks for engineers with a skill who serve a site: those of the site first, then of the region, then others."""

    skill: str
    tenant_id: str
    site_id: str
    region: str
    start: Instant
    end: Instant


@dataclass(frozen=True, slots=True)
class WorkOrderDraft:
    """A work order to be written: its task and time, and in ``body`` playbook, part and evidence (JSON values)."""

    tenant_id: str
    case_id: str
    asset_id: str
    start: Instant
    end: Instant
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """A work order as the other system tells it, whatever was asked.

    ``state`` is one of ``ORDER_STATES``; any other word counts as "not held". ``asset_id`` "", ``start`` and ``end``
    None: it does not say.
    """

    reference: str
    number: str
    state: str
    asset_id: str = ""
    start: Instant | None = None
    end: Instant | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The booking of an engineer for a work order and a span, as the other system tells it, whatever was asked.

    ``held`` only while it certainly is: not once it was released, nor in a state the connector does not know.
    """

    reference: str
    person_id: str
    start: Instant
    end: Instant
    held: bool = True


class FieldService(Protocol):
    async def engineers(self, query: EngineerQuery) -> list[EngineerAvailability]:
        """Raises Retryable or Permanent."""

    async def create_order(self, draft: WorkOrderDraft, *, key: str) -> WorkOrder:
        """Write a work order. Raises Refused, Retryable, OutcomeUnknown."""

    async def lookup_order(self, key: str) -> WorkOrder | None:
        """The order written with this key, in any state; None when there is none. Raises Retryable."""

    async def cancel_order(self, key: str) -> None:
        """Cancel the order and free its engineer; idempotent. Raises Retryable, OutcomeUnknown."""

    async def dispatch(self, order_key: str, person_id: str, start: datetime, end: datetime, *, key: str) -> Dispatch:
        """Bind an engineer to the order, moving it. Raises Refused (taken, order closed), Retryable, OutcomeUnknown."""

    async def lookup_dispatch(self, key: str) -> Dispatch | None:
        """The booking made with this key, also one that is not held; None when there is none. Raises Retryable."""

    async def release_dispatch(self, key: str) -> None:
        """Free the engineer; idempotent. Raises Retryable, OutcomeUnknown."""
