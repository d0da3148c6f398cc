"""A case's plan (``fleet_server/resolution/plan.py``) as a page shows it. Pure.

A page shows the plan at every stage of its making, so any part of it may be missing. Of a plan or a request that the
resolution's strict reader refuses a page shows what can be read; the case's question ``plan_unreadable`` says that the
rest cannot, and a request that cannot is logged. The loads are in
the request of the act that booked the window (``load_by_hour`` when the WMS gave hours, and ``load_by_shift``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from fleet_core.errors import BadInput
from fleet_server.api.models.base import Record
from fleet_server.api.models.cases import LoadHour, Plan, ShiftLoad, Window
from fleet_server.resolution import plan as resolution
from fleet_server.resolution.requests import BookingRequest
from fleet_server.resolution.stored import read_stored

log = logging.getLogger(__name__)

MAX_HOURS = 24 * 31
MAX_SHIFTS = 93
MAX_WINDOWS = 25
LOAD_UNIT = "orders"


def read_plan(stored: object, acts: Sequence[Record], part: Record | None, part_no: str) -> Plan:
    """The plan for people; ``acts`` are the acts of the case, oldest first, ``part`` is the row of the catalogue.

    Parts of a stored plan that cannot be read are left out; the question ``plan_unreadable`` of the case says so.
    """
    found = resolution.plan_of(stored)
    booking = found.booking
    loads = next((act["request"] for act in reversed(acts) if act["kind"] == "window"), None)
    asked = None
    if loads is not None:
        try:
            asked = read_stored(loads, BookingRequest, "request_of_window")
        except BadInput as error:
            log.warning("the request that booked a window cannot be read, its loads are not shown: %s", error)
    chosen, reserved = booking.window, booking.part
    return Plan(
        part_no=(reserved.part_no if reserved else "") or part_no or None,
        part_label=part["label"] if part else (reserved.label or None) if reserved else None,
        centre=(reserved.centre_name or reserved.centre_id or None) if reserved else None,
        arrives_at=reserved.arrives_at.astimezone(UTC) if reserved else None,
        entitlement=_entitlement(booking.entitlement),
        engineer_name=(booking.engineer.name or None) if booking.engineer else None,
        windows=_windows(chosen, booking.alternatives),
        windows_considered=chosen.of_windows if chosen else None,
        excluded=booking.excluded,
        load_by_hour=_hours(asked.load_by_hour) if asked else [],
        load_by_shift=[
            ShiftLoad(shift=name, load=load)
            for name, load in list((asked.load_by_shift if asked else {}).items())[:MAX_SHIFTS]
            if math.isfinite(load)
        ],
        load_unit=LOAD_UNIT,
    )


def _windows(chosen: resolution.Window | None, others: Sequence[resolution.Alternative]) -> list[Window]:
    ranked: list[resolution.Window | resolution.Alternative] = [*([chosen] if chosen else []), *others]
    windows = [
        Window(
            start=one.start.astimezone(UTC),
            end=one.end.astimezone(UTC),
            load=one.load if math.isfinite(one.load) else None,
            load_rank=one.load_rank,
            chosen=one is chosen,
            shift=one.shift,
        )
        for one in ranked[:MAX_WINDOWS]
    ]
    return sorted(windows, key=lambda window: (window.load_rank or 0, window.start))


def _hours(load: dict[str, float]) -> list[LoadHour]:
    hours = []
    for at, orders in list(load.items())[:MAX_HOURS]:
        moment = _time(at)
        if moment is not None and math.isfinite(orders):
            hours.append(LoadHour(at=moment, load=orders))
    return sorted(hours, key=lambda hour: hour.at)


def _entitlement(cover: resolution.Cover | None) -> str | None:
    if cover is None:
        return None
    return " · ".join(filter(None, (cover.kind.capitalize(), cover.reference))) or None


def _time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
