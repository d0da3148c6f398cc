"""The own parts and field-service connectors on their tables, behind the play's faults; and mail that is kept here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleet_core.errors import OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.field_service.api import (
    Dispatch,
    EngineerAvailability,
    EngineerQuery,
    FieldService,
    WorkOrder,
    WorkOrderDraft,
)
from fleet_server.connectors.parts.api import Offer, PartsRequest, PartsSource, Reservation
from fleet_server.notifiers.api import Message, Recipient
from tests.simulation.cases.kinds import Kind, Mixture
from tests.simulation.cases.moment import Moment

Between = Callable[[], Awaitable[None]]


class Parts:
    """The own parts tables, misbehaving."""

    def __init__(self, inner: PartsSource, mixture: Mixture, between: Between) -> None:
        self._inner, self._mixture, self._between = inner, mixture, between

    async def offers(self, request: PartsRequest) -> list[Offer]:
        self._away()
        return await self._inner.offers(request)

    async def reserve(self, tenant_id: str, offer: Offer, *, key: str) -> Reservation:
        await self._between()
        self._away()
        if self._mixture.strikes(Kind.PARTS_REFUSE):
            raise Refused("not_sold", "not to you")
        held = await self._inner.reserve(tenant_id, offer, key=key)
        await self._between()
        self._lost()
        if self._mixture.strikes(Kind.PARTS_OTHER):
            return replace(held, part_no="PN-OTHER")
        if self._mixture.strikes(Kind.PARTS_LATER):
            return replace(held, arrives_at=held.arrives_at + timedelta(days=2))
        return held

    async def lookup(self, key: str) -> Reservation | None:
        self._away()
        return await self._inner.lookup(key)

    async def release(self, key: str) -> None:
        await self._between()
        self._away()
        await self._inner.release(key)
        self._lost()

    async def consume(self, key: str) -> None:
        await self._between()
        self._away()
        await self._inner.consume(key)
        self._lost()

    def _away(self) -> None:
        if self._mixture.strikes(Kind.PARTS_AWAY):
            raise Retryable("the parts system is away")

    def _lost(self) -> None:
        if self._mixture.strikes(Kind.PARTS_DO_AND_TIME_OUT):
            raise OutcomeUnknown("the parts system does not answer, having done it")


class Field:
    """The own field-service tables, misbehaving."""

    def __init__(self, inner: FieldService, mixture: Mixture, between: Between) -> None:
        self._inner, self._mixture, self._between = inner, mixture, between

    async def engineers(self, query: EngineerQuery) -> list[EngineerAvailability]:
        self._away()
        return await self._inner.engineers(query)

    async def create_order(self, draft: WorkOrderDraft, *, key: str) -> WorkOrder:
        await self._between()
        self._away()
        if self._mixture.strikes(Kind.FIELD_REFUSES):
            raise Refused("not_now", "no orders are taken")
        order = await self._inner.create_order(draft, key=key)
        self._lost()
        return order

    async def lookup_order(self, key: str) -> WorkOrder | None:
        self._away()
        return await self._inner.lookup_order(key)

    async def cancel_order(self, key: str) -> None:
        await self._between()
        self._away()
        await self._inner.cancel_order(key)
        self._lost()

    async def dispatch(self, order_key: str, person_id: str, start: datetime, end: datetime, *, key: str) -> Dispatch:
        await self._between()
        self._away()
        if self._mixture.strikes(Kind.FIELD_REFUSES):
            raise Refused("engineer_ill", f"{person_id} is ill")
        held = await self._inner.dispatch(order_key, person_id, start, end, key=key)
        await self._between()
        self._lost()
        if self._mixture.strikes(Kind.FIELD_OTHER_TIME):
            return replace(held, start=held.start + timedelta(hours=1), end=held.end + timedelta(hours=1))
        return held

    async def lookup_dispatch(self, key: str) -> Dispatch | None:
        self._away()
        return await self._inner.lookup_dispatch(key)

    async def release_dispatch(self, key: str) -> None:
        await self._between()
        self._away()
        await self._inner.release_dispatch(key)
        self._lost()

    def _away(self) -> None:
        if self._mixture.strikes(Kind.FIELD_AWAY):
            raise Retryable("the field service is away")

    def _lost(self) -> None:
        if self._mixture.strikes(Kind.FIELD_DOES_AND_TIMES_OUT):
            raise OutcomeUnknown("the field service does not answer, having done it")


@dataclass(frozen=True, slots=True)
class Mail:
    """One accepted message, and when."""

    at: datetime
    message: Message


class Mailbox:
    """A mail server and everybody's letter box. ``handed_over`` looks at each message as it is handed over."""

    def __init__(
        self, moment: Moment, mixture: Mixture, between: Between, handed_over: Callable[[Message], Awaitable[None]]
    ) -> None:
        self.mails: list[Mail] = []
        self._moment, self._mixture, self._between, self._handed_over = moment, mixture, between, handed_over
        self._refused_until: dict[str, datetime] = {}

    def address(self, person: Recipient) -> str:
        return person.email

    async def send(self, message: Message) -> str:
        if not any(mail.message.key == message.key for mail in self.mails):
            await self._handed_over(message)  # what changes while it is on its way nobody can know
        await self._between()
        if self._mixture.strikes(Kind.MAIL_AWAY):
            raise Retryable("the mail server is away")
        now, to = self._moment.clock.at, message.to_address
        if self._mixture.strikes(Kind.MAIL_BOUNCES):
            self._refused_until[to] = now + timedelta(hours=self._moment.rng.choice((2.0, 8.0)))
        if self._refused_until.get(to, now) > now and not self._mixture.healed:
            raise Permanent(f"550 no such mailbox: {to}")
        if not any(mail.message.key == message.key for mail in self.mails):
            self._moment.tell(f"mail to {message.to_name}: {message.subject}")
        self.mails.append(Mail(now, message))
        await self._between()
        if self._mixture.strikes(Kind.MAIL_ACCEPTS_AND_TIMES_OUT):
            raise OutcomeUnknown("the mail server does not answer, having accepted")
        return f"<{len(self.mails)}@mail>"

    async def lookup(self, key: str) -> bool | None:
        return None

    async def close(self) -> None:
        return None
