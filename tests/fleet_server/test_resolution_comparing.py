"""What differs between what was asked and what came back, by kind of act."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet_server.connectors.entitlement.api import Entitlement
from fleet_server.connectors.field_service.api import ORDER_STATES, Dispatch, WorkOrder, WorkOrderDraft
from fleet_server.connectors.parts.api import Offer, Reservation
from fleet_server.connectors.wms.api import Booking
from fleet_server.resolution.comparing import (
    NotAsAsked,
    cover_differences,
    dispatch_differences,
    order_differences,
    reservation_differences,
    window_differences,
)
from fleet_server.resolution.plan import PlannedEngineer, Window
from fleet_server.resolution.requests import BookingRequest, DispatchRequest

START = datetime(2026, 1, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
END = START + 2 * HOUR
ZONE = "Europe/Berlin"
ASKED = BookingRequest(
    START, END, Window(START, END, 4.0, 1, "night", ZONE, 90.0, 12, True), PlannedEngineer("jonas", "Jonas Weber")
)
BOOKED = Booking("b-1", START, END, True, "EQ-1", "booked")


def named(found: Any) -> list[str]:
    return [one.named for one in found]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, []),
        ({"start": START + timedelta(milliseconds=400)}, []),
        ({"start": START.astimezone(UTC) + timedelta(seconds=1)}, ["start"]),
        ({"equipment": "", "state": ""}, []),
        ({"held": False}, ["state"]),
        ({"held": False, "state": "rejected"}, ["state"]),
        ({"reference": ""}, ["reference"]),
        ({"reference": " \t"}, ["reference"]),
        ({"equipment": "EQ-2"}, ["equipment"]),
        ({"end": END - HOUR}, ["end"]),
        ({"start": START + 3 * HOUR, "end": END + 3 * HOUR}, ["start", "end"]),
        ({"held": False, "equipment": "EQ-2", "reference": ""}, ["state", "reference", "equipment"]),
    ],
)
def test_a_window(changes: dict[str, Any], differs: list[str]) -> None:
    assert named(window_differences(ASKED, "EQ-1", replace(BOOKED, **changes))) == differs


def test_what_people_read_of_it() -> None:
    moved = replace(BOOKED, start=START + 3 * HOUR, end=END + 3 * HOUR)
    error = NotAsAsked(window_differences(ASKED, "EQ-1", moved))
    assert str(error) == (
        "it begins Tue 6 Jan, 05:00 instead of Tue 6 Jan, 02:00 (Europe/Berlin);"
        " it ends Tue 6 Jan, 07:00 instead of Tue 6 Jan, 04:00 (Europe/Berlin)"
    )
    assert error.named == ("start", "end")


OFFER = Offer("PN-1", "Bearing", "bremen", "Bremen", 2, 120.0, 90.0, 6.0, START)
RESERVED = Reservation("r-1", "PN-1", "bremen", START)


@pytest.mark.parametrize(
    ("changes", "latest", "differs"),
    [
        ({}, END, []),
        ({"arrives_at": START - HOUR}, END, []),
        ({"arrives_at": END}, END, []),
        ({"arrives_at": END + HOUR}, END, ["arrival"]),
        ({"arrives_at": END + HOUR}, None, []),
        ({}, START - HOUR, []),  # it was offered as late as that
        ({"arrives_at": START + HOUR}, START - HOUR, ["arrival"]),
        ({"quantity": 0}, END, ["quantity"]),
        ({"part_no": "PN-2", "centre_id": "lyon", "held": False}, END, ["state", "part", "centre"]),
    ],
)
def test_a_reservation(changes: dict[str, Any], latest: datetime | None, differs: list[str]) -> None:
    assert named(reservation_differences(OFFER, latest, replace(RESERVED, **changes), ZONE)) == differs


DRAFT = WorkOrderDraft("northgate", "case", "amr-17", START, END, {})


@pytest.mark.parametrize("state", [*ORDER_STATES, "rejected", "parked", ""])
def test_an_order_is_held_in_the_states_that_are_known_as_held(state: str) -> None:
    held = state in ("open", "dispatched")
    found = named(order_differences(DRAFT, WorkOrder("w-1", "WO-1", state), ZONE))
    assert found == ([] if held else ["state"])


def test_an_order() -> None:
    order = WorkOrder("w-1", "WO-1", "open", "amr-17", START, END)
    assert order_differences(DRAFT, order, ZONE) == ()
    other = replace(order, asset_id="amr-18", start=END, end=START, reference="")
    assert named(order_differences(DRAFT, other, ZONE)) == ["reference", "asset", "start", "end"]


def test_a_dispatch() -> None:
    asked, sent = DispatchRequest(PlannedEngineer("jonas"), START, END), Dispatch("d-1", "jonas", START, END)
    assert dispatch_differences(asked, sent, ZONE) == ()
    other = Dispatch("", "petra", START + HOUR, END, held=False)
    assert named(dispatch_differences(asked, other, ZONE)) == ["state", "reference", "person", "start"]


def test_a_cover() -> None:
    cover = Entitlement(True, "W-1", "warranty", START + HOUR)
    assert cover_differences(START, cover, ZONE) == ()
    assert cover_differences(START, replace(cover, valid_to=None), ZONE) == ()
    assert named(cover_differences(START, replace(cover, reference="", valid_to=START), ZONE)) == ["reference"]
    assert named(cover_differences(START, replace(cover, valid_to=START - HOUR), ZONE)) == ["valid_to"]
