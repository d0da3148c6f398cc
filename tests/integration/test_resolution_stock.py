"""What becomes of a part that was not needed, and of pieces that are reserved while the shelf is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from support.resolution import Servers, Stage, instant, settings_of, stage

from fleet_server.connectors.parts.api import PartsRequest
from fleet_server.registry import import_registry, parse_registry
from fleet_server.resolution import commands
from fleet_server.resolution.commands import WorkReport
from fleet_server.store.pool import open_pool

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made


async def count_shelf(ready: Stage, dsn: str, pieces: int, *, reset: bool = True) -> None:
    """Import a count of the shelf in Bremen."""
    text = f'[[stock]]\ncentre_id = "bremen"\npart_no = "PN-1"\non_hand = {pieces}\n'
    owner = await open_pool(settings_of(dsn, ready.servers.mail_port), "owner", size=1)
    async with owner.connection() as conn:
        await import_registry(conn, ready.clock, parse_registry(text, "count"), actor="test", reset_stock=reset)
    await owner.close()


async def free(ready: Stage) -> int:
    rows = await ready.rows("SELECT on_hand FROM stock WHERE centre_id = 'bremen'")
    return int(rows[0]["on_hand"])


async def reserve(ready: Stage, *keys: str) -> None:
    request = PartsRequest("northgate", "bearing", "Transit 500", "", "eu-north", "DE", 53.5, 10.0, ready.clock.now())
    for key in keys:
        (offer,) = [one for one in await ready.rt.parts.offers(request) if one.centre_id == "bremen"]
        await ready.rt.parts.reserve("northgate", offer, key=key)


async def repaired(ready: Stage, *, replaced: bool) -> str:
    """Play a case up to the engineer's report."""
    case_id = await ready.finding()
    case = await ready.case(case_id)
    await ready.later((instant(case["plan"]["window"]["start"]) - ready.clock.now()) / HOUR)
    (order,) = await ready.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    report = WorkReport(failure_mode="bearing_spalling", replaced=replaced, new_serial="BRG-2" if replaced else "")
    await ready.command(commands.complete_work_order, order["work_order_id"], report)
    return str(case_id)


@pytest.mark.parametrize(("replaced", "state", "left"), [(True, "consumed", 1), (False, "released", 2)])
async def test_only_a_part_that_was_built_in_is_used_up(ready: Stage, replaced: bool, state: str, left: int) -> None:
    case_id = await repaired(ready, replaced=replaced)
    acts = await ready.rows("SELECT kind, state FROM act WHERE case_id = %s AND kind <> 'message'", case_id)
    assert {act["kind"]: act["state"] for act in acts} == {
        "entitlement": "consumed", "reservation": state, "window": "consumed", "work_order": "consumed",
        "dispatch": "consumed",
    }  # fmt: skip
    assert await free(ready) == left
    kinds = [row["kind"] for row in await ready.rows("SELECT kind FROM case_event WHERE case_id = %s", case_id)]
    assert ("part_consumed" in kinds, "released" in kinds) == (replaced, not replaced)


async def test_a_count_of_the_shelf_has_the_reserved_pieces_in_it(ready: Stage, dsn: str) -> None:
    """Two pieces lie there, one of them is promised: one is free, and two are when the promise is taken back."""
    await reserve(ready, "key-1-of-test")
    await count_shelf(ready, dsn, 2)
    assert await free(ready) == 1
    await ready.rt.parts.release("key-1-of-test")
    assert await free(ready) == 2


async def test_a_count_after_a_piece_was_used_is_what_is_left(ready: Stage, dsn: str) -> None:
    await reserve(ready, "key-1-of-test")
    await ready.rt.parts.consume("key-1-of-test")
    await count_shelf(ready, dsn, 5)
    assert await free(ready) == 5


@pytest.mark.parametrize("counted", [0, 1])
async def test_fewer_pieces_than_are_promised_are_never_sold_again(ready: Stage, dsn: str, counted: int) -> None:
    await reserve(ready, "key-1-of-test", "key-2-of-test")
    await count_shelf(ready, dsn, counted)
    assert await free(ready) == 0
    await ready.rt.parts.release("key-1-of-test")
    assert await free(ready) == 0
    await ready.rt.parts.release("key-2-of-test")
    assert await free(ready) == counted
    await count_shelf(ready, dsn, 3)
    assert await free(ready) == 3


async def test_a_count_that_is_only_for_new_shelves_changes_nothing(ready: Stage, dsn: str) -> None:
    await reserve(ready, "key-1-of-test")
    await count_shelf(ready, dsn, 9, reset=False)
    assert await free(ready) == 1
    await ready.rt.parts.release("key-1-of-test")
    assert await free(ready) == 2
