"""A connector that answers what cannot be written down: nothing of it is kept, and a person is asked, who can go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from support.resolution import Servers, Stage, settings_of, stage

from fleet_server.resolution.decisions import decide_escalation
from fleet_server.store.pool import open_pool

pytestmark = pytest.mark.integration


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made


class Bent:
    """A connector whose answers to one call are changed on their way."""

    def __init__(self, straight: Any, call: str, bend: Callable[[Any], Any]) -> None:
        self._straight, self._call, self._bend = straight, call, bend
        self.bends = True

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._straight, name)
        if name != self._call:
            return asked

        async def answer(*arguments: Any, **named: Any) -> Any:
            found = await asked(*arguments, **named)
            return self._bend(found) if self.bends else found

        return answer


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None)


BENT: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "valid_to": ("entitlement", "check", lambda answer: replace(answer, valid_to=_naive(answer.valid_to))),
    "no_reference": ("entitlement", "check", lambda answer: replace(answer, reference=None)),
    "terms_not_finite": ("entitlement", "check", lambda answer: replace(answer, terms={"limit": float("nan")})),
    "terms_nul": ("entitlement", "check", lambda answer: replace(answer, terms={"text": "a\x00b"})),
    "offer_arrives": ("parts", "offers",
                      lambda found: [replace(one, arrives_at=_naive(one.arrives_at)) for one in found]),
    "offer_price": ("parts", "offers", lambda found: [replace(one, price_eur="dear") for one in found]),
    "offers_none": ("parts", "offers", lambda found: None),
    "part_arrives": ("parts", "reserve", lambda held: replace(held, arrives_at=_naive(held.arrives_at))),
    "part_reference": ("parts", "reserve", lambda held: replace(held, reference="R\x00")),
    "busy": ("field_service", "engineers",
             lambda found: [replace(one, busy=((_naive(one.busy[0][0]), one.busy[0][1]),)) if one.busy
                            else replace(one, name=None) for one in found]),
    "order_number": ("field_service", "create_order", lambda order: replace(order, number=None)),
    "dispatch_start": ("field_service", "dispatch", lambda held: replace(held, start=_naive(held.start))),
    "dispatch_reference": ("field_service", "dispatch", lambda held: replace(held, reference=7)),
    "load_hours": ("wms", "load", lambda load: replace(
        load, orders_by_hour={_naive(hour): orders for hour, orders in load.orders_by_hour.items()})),
    "window_start": ("wms", "book", lambda booked: replace(booked, start=_naive(booked.start))),
    "window_reference": ("wms", "book", lambda booked: replace(booked, reference=None)),
}  # fmt: skip


@pytest.mark.parametrize("bent", BENT)
async def test_an_answer_that_cannot_be_written_down_becomes_a_question(ready: Stage, bent: str) -> None:
    system, call, bend = BENT[bent]
    if system == "wms":
        straight = ready.rt.wms_of
        made: dict[int, Bent] = {}
        ready.rt.wms_of = lambda site: made.setdefault(0, Bent(straight(site), call, bend))  # the stage's own runtime
    else:
        setattr(ready.rt, system, Bent(getattr(ready.rt, system), call, bend))
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert case["escalated"], case["waits_for"]
    (question,) = await ready.escalations(case_id)
    assert question["reason"] == "connector_down"
    assert "cannot be used" in question["summary"] and "a repair of Forestall" not in case["waits_for"]
    binding = (
        "SELECT kind FROM act WHERE case_id = %s AND kind NOT IN ('entitlement', 'message')"
        " AND state IN ('held', 'intended', 'unknown')"
    )
    await ready.later(0.5)  # what may be held by an act whose answer was bad is released when it is due again
    assert await ready.rows(binding, case_id) == []

    connector = made[0] if system == "wms" else getattr(ready.rt, system)
    connector.bends = False
    await ready.command(decide_escalation, question["escalation_id"], "retry")
    assert (await ready.case(case_id))["state"] == "committed"


async def test_a_load_that_is_no_number_makes_its_hour_impossible_and_no_more(ready: Stage) -> None:
    straight = ready.rt.wms_of

    def first_is_no_number(load: Any) -> Any:
        first = min(load.orders_by_hour)
        return replace(load, orders_by_hour={**load.orders_by_hour, first: float("nan")})

    ready.rt.wms_of = lambda site: Bent(straight(site), "load", first_is_no_number)  # the stage's own runtime
    case = await ready.case(await ready.finding())
    assert case["state"] == "committed", case["waits_for"]


@pytest.mark.parametrize("terms", [["parts only"], "parts only", 7, {"parts": None}, [], {}, False])
async def test_the_terms_of_a_contract_are_any_json_value(ready: Stage, dsn: str, terms: object) -> None:
    owner = await open_pool(settings_of(dsn, ready.servers.mail_port), "owner", size=1)
    async with owner.connection() as conn:
        await conn.execute("UPDATE contract SET terms = %s", (Jsonb(terms),))
    await owner.close()
    case = await ready.case(await ready.finding())
    assert case["state"] == "committed", case["waits_for"]
    assert case["plan"]["entitlement"].get("terms", {}) == terms
