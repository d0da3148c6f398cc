"""What another system answers is compared with what it was asked: the real engine against answers that differ."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.resolution import SITE, Servers, Stage, instant, stage

from fleet_core.errors import OutcomeUnknown
from fleet_server.resolution.decisions import decide_escalation

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)
BENDS = ("reject", "pend", "odd_state", "move", "shorten", "other_equipment", "no_reference")
ASKED = {
    "reject": "rejected",
    "pend": "pending",
    "odd_state": "planned-by-coordinator",
    "move": "instead of",
    "shorten": "instead of",
    "other_equipment": "-B",
    "no_reference": "no reference",
}
"""What the question names."""


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made
    servers.wms("DELETE", "/_faults")


async def booked(ready: Stage) -> list[tuple[str, datetime, datetime]]:
    """What the WMS keeps of the stage's machine, and of the one it takes for it."""
    (asset,) = await ready.rows("SELECT equipment_ref FROM asset")
    span = {"from": ready.clock.now() - 200 * HOUR, "to": ready.clock.now() + 700 * HOUR}
    query = "&".join(f"{name}={at:%Y-%m-%dT%H:%M:%SZ}" for name, at in span.items())
    found = []
    for equipment in (asset["equipment_ref"], f"{asset['equipment_ref']}-B"):
        rows = ready.servers.wms("GET", f"/v1/warehouses/{SITE}/equipment/{equipment}/bookings?{query}")["bookings"]
        found += [(equipment, instant(row["start"]), instant(row["end"])) for row in rows]
    return found


async def free_engineers(ready: Stage) -> bool:
    return not await ready.rows("SELECT 1 FROM engineer_booking WHERE state = 'held'")


async def part_left(ready: Stage) -> int:
    rows = await ready.rows("SELECT sum(on_hand)::int AS n FROM stock")
    return int(rows[0]["n"])


def told(ready: Stage, case_id: object) -> list[dict[str, Any]]:
    return ready.servers.mails_of(case_id, "announcement")


@pytest.mark.parametrize("kind", BENDS)
async def test_a_window_booked_otherwise_is_given_back_and_another_is_booked(ready: Stage, kind: str) -> None:
    ready.servers.fault(kind=kind)
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert case["state"] == "committed", case["waits_for"]
    first, second = await ready.acts(case_id, "window")
    assert (first["state"], second["state"]) == ("released", "held")
    assert first["request"]["start"] != second["request"]["start"]
    window = case["plan"]["window"]
    (kept,) = await booked(ready)
    assert kept[1:] == (instant(window["start"]), instant(window["end"]))
    (mail,) = told(ready, case_id)
    assert f"{kept[1]:%H:%M}-{kept[2]:%H:%M} UTC" in mail["text"]


@pytest.mark.parametrize("kind", BENDS)
async def test_a_wms_that_never_does_what_it_is_asked_becomes_a_question(ready: Stage, kind: str) -> None:
    ready.servers.fault(kind=kind, count=1000)
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert case["escalated"] and case["state"] != "committed", case["waits_for"]
    (question,) = await ready.escalations(case_id)
    assert ASKED[kind] in question["summary"], question["summary"]
    assert (await booked(ready), told(ready, case_id)) == ([], [])
    assert await part_left(ready) == 7

    ready.servers.wms("DELETE", "/_faults")
    await ready.command(decide_escalation, question["escalation_id"], "retry")
    assert (await ready.case(case_id))["state"] == "committed"
    assert len(await booked(ready)) == 1


async def test_what_was_booked_otherwise_is_given_back_until_the_wms_agrees(ready: Stage) -> None:
    ready.servers.fault(kind="move")
    ready.servers.fault(kind="error_500", target="cancel", count=3)
    case_id = await ready.finding()
    assert (await ready.case(case_id))["state"] == "planning"
    assert [act["state"] for act in await ready.acts(case_id, "window")] == ["unwanted"]
    assert told(ready, case_id) == []
    for _ in range(4):
        await ready.later(0.5)
    assert (await ready.case(case_id))["state"] == "committed"
    assert len(await booked(ready)) == 1


async def test_a_cancellation_that_is_answered_but_not_done_is_repeated(ready: Stage) -> None:
    ready.servers.fault(kind="move")
    ready.servers.fault(kind="keep", target="cancel", count=2)
    case_id = await ready.finding()
    for _ in range(3):
        await ready.later(0.5)
    case = await ready.case(case_id)
    assert case["state"] == "committed"
    assert [span[1] for span in await booked(ready)] == [instant(case["plan"]["window"]["start"])]


async def test_a_booking_found_otherwise_after_a_lost_answer_is_given_back(ready: Stage) -> None:
    """It is judged as the answer would have been."""
    lost: list[str] = []

    class Losing:
        def __init__(self, straight: Any) -> None:
            self._straight = straight

        def __getattr__(self, name: str) -> Any:
            return getattr(self._straight, name)

        async def book(self, *arguments: Any, key: str) -> Any:
            done = await self._straight.book(*arguments, key=key)
            if not lost:
                lost.append(key)
                raise OutcomeUnknown("the answer was lost")
            return done

    straight = ready.rt.wms_of
    ready.rt.wms_of = lambda site: Losing(straight(site))  # the stage's own runtime
    ready.servers.fault(kind="move")
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert case["state"] == "committed", case["waits_for"]
    (kept,) = await booked(ready)
    assert kept[1] == instant(case["plan"]["window"]["start"])


class Bent:
    """A connector whose answers to one call are changed on their way, ``times`` often. What it did stands."""

    def __init__(self, straight: Any, call: str, bend: Callable[[Any], Any], times: int) -> None:
        self._straight, self._call, self._bend, self.times = straight, call, bend, times

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._straight, name)
        if name != self._call:
            return asked

        async def answer(*arguments: Any, **named: Any) -> Any:
            found = await asked(*arguments, **named)
            if self.times <= 0:
                return found
            self.times -= 1
            return self._bend(found)

        return answer


OTHERWISE: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "another_part": ("parts", "reserve", lambda held: replace(held, part_no="PN-9")),
    "another_centre": ("parts", "reserve", lambda held: replace(held, centre_id="atlantis")),
    "two_pieces": ("parts", "reserve", lambda held: replace(held, quantity=2)),
    "part_not_held": ("parts", "reserve", lambda held: replace(held, held=False)),
    "part_too_late": ("parts", "reserve", lambda held: replace(held, arrives_at=held.arrives_at + 400 * HOUR)),
    "part_unnamed": ("parts", "reserve", lambda held: replace(held, reference="")),
    "order_rejected": ("field_service", "create_order", lambda order: replace(order, state="rejected")),
    "order_odd": ("field_service", "create_order", lambda order: replace(order, state="parked")),
    "order_moved": ("field_service", "create_order", lambda order: replace(order, start=order.start + HOUR)),
    "order_of_another": ("field_service", "create_order", lambda order: replace(order, asset_id="amr-99")),
    "order_unnamed": ("field_service", "create_order", lambda order: replace(order, reference="")),
    "another_engineer": ("field_service", "dispatch", lambda held: replace(held, person_id="petra")),
    "engineer_later": ("field_service", "dispatch", lambda held: replace(held, start=held.start + HOUR)),
    "engineer_sooner_gone": ("field_service", "dispatch", lambda held: replace(held, end=held.end - HOUR)),
    "engineer_not_held": ("field_service", "dispatch", lambda held: replace(held, held=False)),
    "engineer_unnamed": ("field_service", "dispatch", lambda held: replace(held, reference="")),
}


@pytest.mark.parametrize("name", OTHERWISE)
async def test_what_is_held_otherwise_is_given_back_and_asked_for_again(ready: Stage, name: str) -> None:
    system, call, bend = OTHERWISE[name]
    setattr(ready.rt, system, Bent(getattr(ready.rt, system), call, bend, times=1))
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert case["state"] == "committed", case["waits_for"]
    kind = {"reserve": "reservation", "create_order": "work_order", "dispatch": "dispatch"}[call]
    assert [act["state"] for act in await ready.acts(case_id, kind)] == ["released", "held"]
    assert await part_left(ready) == 6
    (engineer,) = await ready.rows("SELECT person_id, lower(during) AS at FROM engineer_booking WHERE state = 'held'")
    assert engineer["person_id"] == case["plan"]["engineer"]["id"]
    assert engineer["at"] == instant(case["plan"]["window"]["start"])
    orders = await ready.rows("SELECT state FROM work_order WHERE state <> 'cancelled'")
    assert [order["state"] for order in orders] == ["dispatched"]
    assert len(told(ready, case_id)) == 1


@pytest.mark.parametrize("name", OTHERWISE)
async def test_a_system_that_never_does_what_it_is_asked_becomes_a_question(ready: Stage, name: str) -> None:
    system, call, bend = OTHERWISE[name]
    setattr(ready.rt, system, Bent(getattr(ready.rt, system), call, bend, times=10_000))
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert case["escalated"] and case["state"] != "committed", case["waits_for"]
    (question,) = await ready.escalations(case_id)
    assert (
        "instead of" in question["summary"] or "no reference" in question["summary"] or "holds" in question["summary"]
    )
    assert (await booked(ready), told(ready, case_id)) == ([], [])
    assert await free_engineers(ready)
    assert await part_left(ready) == 7
    assert await ready.rows("SELECT 1 FROM work_order WHERE state <> 'cancelled'") == []

    getattr(ready.rt, system).times = 0
    await ready.command(decide_escalation, question["escalation_id"], "retry")
    assert (await ready.case(case_id))["state"] == "committed"


COVERS: dict[str, Callable[[Any], Any]] = {
    "unnamed": lambda answer: replace(answer, reference=""),
    "over": lambda answer: replace(answer, valid_to=answer.valid_to - timedelta(days=301)),
}


@pytest.mark.parametrize("name", COVERS)
async def test_a_cover_that_does_not_cover_is_none(ready: Stage, name: str) -> None:
    ready.rt.entitlement = Bent(ready.rt.entitlement, "check", COVERS[name], times=1)  # the stage's own runtime
    case_id = await ready.finding()
    (question,) = await ready.escalations(case_id)
    assert question["reason"] == "no_warranty", question["summary"]
    await ready.command(decide_escalation, question["escalation_id"], "retry")
    assert (await ready.case(case_id))["state"] == "committed"
