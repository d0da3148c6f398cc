"""What was asked of another system beside what it answered: the fields that differ, in plain words. Pure.

One function for each kind of act; nothing differs when it returns an empty tuple. ``acts.perform`` lets none of an
act's answers pass without it, be it the answer of the call or of a look-up after a crash. A state that the connector
does not know as held is not held. What a system does not tell (an empty text, None) cannot differ, but for the
reference: without it nobody could name to the other system what it holds. Times are compared to the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_server.connectors.common import Refused
from fleet_server.connectors.entitlement.api import Entitlement
from fleet_server.connectors.field_service.api import ORDER_HELD, Dispatch, WorkOrder, WorkOrderDraft
from fleet_server.connectors.parts.api import PIECES, Offer, Reservation
from fleet_server.connectors.wms.api import Booking
from fleet_server.resolution.requests import BookingRequest, DispatchRequest
from fleet_server.resolution.window_choice import zone_info

PRECISION = timedelta(seconds=1)
"""Systems that keep whole seconds answer the same time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """``named`` is the field, a stable code; ``text`` says to people what came instead of what."""

    named: str
    text: str


Differences = tuple[Difference, ...]


class NotAsAsked(Refused):
    """The other system answered a success, of something else than it was asked; ``named`` are the fields."""

    def __init__(self, differences: Differences) -> None:
        super().__init__("not_as_asked")
        self.args = ("; ".join(one.text for one in differences),)
        self.named = tuple(one.named for one in differences)


def window_differences(asked: BookingRequest, equipment: str, answered: Booking) -> Differences:
    """The equipment is out of use for exactly the span that was asked for, under a name."""
    zone = asked.window.time_zone
    return _those(
        _held(answered.held, answered.state),
        _reference(answered.reference),
        _text("equipment", "it is for", equipment, answered.equipment),
        _time("start", "it begins", asked.start, answered.start, zone),
        _time("end", "it ends", asked.end, answered.end, zone),
    )


def reservation_differences(asked: Offer, latest: datetime | None, answered: Reservation, zone: str) -> Differences:
    """One piece of that part from that centre.

    A piece that comes later than it was offered differs when it comes after ``latest`` (None: it may come when it
    comes); before that the plan goes by the arrival that was answered.
    """
    late = latest is not None and answered.arrives_at > max(latest, asked.arrives_at)
    return _those(
        _held(answered.held, ""),
        _reference(answered.reference),
        _text("part", "it is part", asked.part_no, answered.part_no),
        _text("centre", "it comes from", asked.centre_id, answered.centre_id),
        _text("quantity", "the number of pieces is", str(PIECES), str(answered.quantity)),
        _time("arrival", "it arrives", asked.arrives_at, answered.arrives_at, zone) if late else None,
    )


def order_differences(asked: WorkOrderDraft, answered: WorkOrder, zone: str) -> Differences:
    """The order can be worked on, for that asset and at that time."""
    return _those(
        _held(answered.state in ORDER_HELD, answered.state),
        _reference(answered.reference),
        _text("asset", "it is for", asked.asset_id, answered.asset_id),
        _time("start", "it begins", asked.start, answered.start, zone),
        _time("end", "it ends", asked.end, answered.end, zone),
    )


def dispatch_differences(asked: DispatchRequest, answered: Dispatch, zone: str) -> Differences:
    """That engineer comes, for exactly that span."""
    return _those(
        _held(answered.held, ""),
        _reference(answered.reference),
        _text("person", "who comes is", asked.engineer.id, answered.person_id),
        _time("start", "it begins", asked.start, answered.start, zone),
        _time("end", "it ends", asked.end, answered.end, zone),
    )


def cover_differences(at: datetime, answered: Entitlement, zone: str) -> Differences:
    """A contract that has a name and is still valid at that time."""
    over = answered.valid_to is not None and answered.valid_to <= at
    return _those(
        _reference(answered.reference),
        _time("valid_to", "it is valid until", at, answered.valid_to, zone) if over else None,
    )


def nothing_differs(answered: object) -> Differences:
    """A message is accepted or not: what comes back is only the other system's name for it."""
    return ()


def _those(*found: Difference | None) -> Differences:
    return tuple(one for one in found if one is not None)


def _held(held: bool, word: str) -> Difference | None:
    if held:
        return None
    return Difference("state", f'its state is "{word[:60]}" instead of held' if word else "it holds nothing")


def _reference(reference: str) -> Difference | None:
    return None if reference.strip() else Difference("reference", "it gives no reference for what it holds")


def _text(named: str, words: str, asked: str, answered: str) -> Difference | None:
    if answered in ("", asked):
        return None
    return Difference(named, f"{words} {answered[:120]} instead of {asked}")


def _time(named: str, words: str, asked: datetime, answered: datetime | None, zone: str) -> Difference | None:
    if answered is None or abs(answered - asked) < PRECISION:
        return None
    return Difference(named, f"{words} {_local(answered, zone)} instead of {_local(asked, zone)} ({zone})")


def _local(instant: datetime, zone: str) -> str:
    local = instant.astimezone(zone_info(zone))
    return f"{local:%a} {local.day} {local:%b}, {local:%H:%M}"
