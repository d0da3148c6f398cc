"""What the acts of a case ask of another system, as kept in ``act.request``. Pure; read strictly, as the plan is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fleet_server.connectors.parts.api import Offer
from fleet_server.connectors.times import Instant
from fleet_server.resolution.plan import Alternative, PlannedEngineer, Window
from fleet_server.resolution.rows import Act
from fleet_server.resolution.stored import json_text, read_stored

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receiver:
    """The WMS of a site as it was configured when the act was intended; no setting holds a secret."""

    site_id: str
    kind: str
    settings: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BookingRequest:
    """The window to book in the WMS, who would come, and what it was chosen from.

    ``load_by_hour``: UTC hour (ISO 8601) to the orders expected in it; ``load_by_shift``: ``2026-03-29 night`` to
    those of that shift. The pages show both. ``equipment`` is what the WMS calls the machine, ``receiver`` which WMS
    it is; earlier versions did not write them.
    """

    start: Instant
    end: Instant
    window: Window
    engineer: PlannedEngineer
    alternatives: tuple[Alternative, ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    load_by_hour: dict[str, float] = field(default_factory=dict)
    load_by_shift: dict[str, float] = field(default_factory=dict)
    equipment: str = ""
    receiver: Receiver | None = None


@dataclass(frozen=True, slots=True)
class DispatchRequest:
    """Who is to come, and for which span."""

    engineer: PlannedEngineer
    start: Instant
    end: Instant


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """Which channel brings the message to whom; ``message`` is a ``notifiers.api.Message`` as JSON."""

    channel: str
    to: str
    message: dict[str, object]
    question: str = ""
    """The id of the question it asks, if it asks one."""


def check_request(kind: str, request: Mapping[str, object]) -> None:
    """Raises BadInput unless the request of an act of that kind can be stored and read again."""
    what = f"request_of_{kind}"
    written = json.loads(json_text(request, what))
    if kind == "work_order":
        read_stored(written.get("window"), Window, what)
    elif kind in _READ_AS:
        read_stored(written, _READ_AS[kind], what)


def ordered_window(work_order: Act) -> Window:
    """The window a work order was written for. Raises BadInput when its request names none."""
    return read_stored(work_order.request.get("window"), Window, "request_of_work_order")


def announced_window(message: Act) -> Window:
    """The window an announcement, or an amendment of it, told of. Raises BadInput when it cannot be read."""
    data = read_request(message, MessageRequest).message.get("data")
    window = data.get("window") if isinstance(data, Mapping) else None
    return read_stored(window, Window, "request_of_message")


def planned_engineer(dispatch: Act) -> str:
    """The person a dispatch is to bring; "" when its request does not name one."""
    engineer = dispatch.request.get("engineer")
    return str(engineer.get("id", "")) if isinstance(engineer, Mapping) else ""


def read_request(act: Act, into: type[T]) -> T:
    """The request of an act. Raises BadInput when it is not one of that kind."""
    return read_stored(act.request, into, f"request_of_{act.kind}")


_READ_AS: Mapping[str, type] = {
    "reservation": Offer,
    "window": BookingRequest,
    "dispatch": DispatchRequest,
    "message": MessageRequest,
}
"""Kind of act -> what its request is read as. A check of cover is never read again, an order only for its window."""
