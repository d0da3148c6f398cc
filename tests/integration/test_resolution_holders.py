"""Whoever holds an appointment, or has a booking, gets its changes and its end: also when the site, its WMS or its
director is another by then."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from support.resolution import (
    ASSET,
    BASELINE_G,
    SITE,
    TENANT,
    Servers,
    Stage,
    certain,
    finding_at,
    instant,
    settings_of,
    stage,
)

from fleet_core.errors import Retryable
from fleet_core.telemetry import Finding
from fleet_server.resolution import commands
from fleet_server.resolution.commands import WorkReport
from fleet_server.store.pool import open_pool

pytestmark = pytest.mark.integration
HOUR = timedelta(hours=1)
HENRIK, VERA = "henrik@people.example", "vera@people.example"


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers) as made:
        yield made


async def change(ready: Stage, dsn: str, *statements: tuple[str, tuple[Any, ...]]) -> None:
    owner = await open_pool(settings_of(dsn, ready.servers.mail_port), "owner", size=1)
    async with owner.connection() as conn:
        for statement, values in statements:
            await conn.execute(statement, values)
    await owner.close()


async def vera_follows(ready: Stage, dsn: str, *, henrik: str = "UPDATE person SET active = false") -> None:
    await change(
        ready,
        dsn,
        (f"{henrik} WHERE person_id = 'henrik'", ()),
        (
            "INSERT INTO person (person_id, tenant_id, name, email, role, skills)"
            " VALUES ('vera', %s, 'Vera Brandt', %s, 'operations_director', '{}')",
            (TENANT, VERA),
        ),
    )


async def moved(ready: Stage, finding: Finding, case_id: uuid.UUID | None, revision: int) -> None:
    """The deadline comes nearer, so the repair is moved."""
    case = await ready.case(case_id)
    before_end = instant(case["plan"]["window"]["end"]) - 0.5 * HOUR
    nearer = instant(case["plan"]["planned_for"]) - 6.5 * HOUR  # what moves by less than six hours changes nothing
    ready.rt.prognose = certain((min(before_end, nearer) - ready.clock.now()) / HOUR)
    await ready.finding(replace(finding, revision=revision))
    after = await ready.case(case_id)
    assert after["plan"]["window"]["start"] < case["plan"]["window"]["start"], after["waits_for"]


def mails(ready: Stage, case_id: object, to: str) -> list[tuple[str, dict[str, Any]]]:
    """What a person got of a case, in order."""
    found = [mail for mail in ready.servers.mails() if mail["headers"].get("X-Forestall-Case") == str(case_id)]
    return [(mail["headers"]["X-Forestall-Purpose"], mail) for mail in found if to in str(mail["headers"].get("To"))]


def entry(mail: dict[str, Any]) -> tuple[str, int]:
    lines = mail["calendar"].splitlines()
    (sequence,) = [line for line in lines if line.startswith("SEQUENCE:")]
    (method,) = [line for line in lines if line.startswith("METHOD:")]
    return method.partition(":")[2], int(sequence.partition(":")[2])


OTHER_ROLE = "UPDATE person SET role = 'site_manager'"


@pytest.mark.parametrize("henrik", ["UPDATE person SET active = false", OTHER_ROLE])
async def test_a_new_director_takes_the_appointment_over(ready: Stage, dsn: str, henrik: str) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    await vera_follows(ready, dsn, henrik=henrik)
    await moved(ready, finding, case_id, 2)

    (_, first), (purpose, taken) = mails(ready, case_id, HENRIK)
    assert (purpose, entry(first), entry(taken)) == ("withdrawal", ("REQUEST", 0), ("CANCEL", 1))
    assert "Vera Brandt" in taken["text"] and "does not take place" not in taken["text"]
    assert taken["in_reply_to"] == first["message_id"]
    ((purpose, whole),) = mails(ready, case_id, VERA)
    assert (purpose, entry(whole)) == ("announcement", ("REQUEST", 1))
    assert "has been moved" not in whole["text"] and "early signs" in whole["text"]
    assert not whole["in_reply_to"]

    await moved(ready, finding, case_id, 3)
    assert len(mails(ready, case_id, HENRIK)) == 2
    purpose, amended = mails(ready, case_id, VERA)[-1]
    assert (purpose, entry(amended), amended["in_reply_to"]) == ("amendment", ("REQUEST", 2), whole["message_id"])

    await ready.command(commands.cancel_case, case_id, "the machine is sold")
    assert len(mails(ready, case_id, HENRIK)) == 2
    purpose, cancelled = mails(ready, case_id, VERA)[-1]
    assert (purpose, entry(cancelled), cancelled["in_reply_to"]) == ("cancellation", ("CANCEL", 3), whole["message_id"])


@pytest.mark.parametrize("end", ["cancellation", "closing"])
async def test_the_end_goes_to_whoever_holds_the_appointment(ready: Stage, dsn: str, end: str) -> None:
    case_id = await ready.finding()
    await vera_follows(ready, dsn)
    if end == "cancellation":
        await ready.command(commands.cancel_case, case_id, "the machine is sold")
    else:
        case = await ready.case(case_id)
        await ready.later((instant(case["plan"]["window"]["start"]) - ready.clock.now()) / HOUR)
        (order,) = await ready.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
        report = WorkReport(failure_mode="bearing_spalling", new_serial="BRG-2")
        await ready.command(commands.complete_work_order, order["work_order_id"], report)
        await ready.later(5)
        await ready.vitals(BASELINE_G)
        await ready.later(2)
    assert [purpose for purpose, _ in mails(ready, case_id, HENRIK)] == ["announcement", end]
    assert mails(ready, case_id, VERA) == []


async def test_a_director_who_comes_back_gets_the_whole_again(ready: Stage, dsn: str) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    await vera_follows(ready, dsn)
    await moved(ready, finding, case_id, 2)
    await change(
        ready, dsn, ("UPDATE person SET active = person_id <> 'vera' WHERE person_id IN ('vera', 'henrik')", ())
    )
    await moved(ready, finding, case_id, 3)
    assert [purpose for purpose, _ in mails(ready, case_id, HENRIK)] == ["announcement", "withdrawal", "announcement"]
    assert [entry(mail) for _, mail in mails(ready, case_id, HENRIK)] == [("REQUEST", 0), ("CANCEL", 1), ("REQUEST", 2)]
    assert [entry(mail) for _, mail in mails(ready, case_id, VERA)] == [("REQUEST", 1), ("CANCEL", 2)]


async def test_nobody_registered_any_more_leaves_the_appointment_where_it_is(ready: Stage, dsn: str) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    await change(ready, dsn, ("UPDATE person SET active = false WHERE person_id = 'henrik'", ()))
    await moved(ready, finding, case_id, 2)
    assert [purpose for purpose, _ in mails(ready, case_id, HENRIK)] == ["announcement", "amendment"]


async def booked_in(ready: Stage, warehouse: str) -> int:
    (asset,) = await ready.rows("SELECT equipment_ref FROM asset")
    since, until = ready.clock.now() - 100 * HOUR, ready.clock.now() + 900 * HOUR
    span = f"from={since:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}"
    path = f"/v1/warehouses/{warehouse}/equipment/{asset['equipment_ref']}/bookings?{span}"
    return len(ready.servers.wms("GET", path)["bookings"])


async def to_bremen(ready: Stage, dsn: str) -> None:
    """The robot stands at another site of its tenant, whose WMS is another warehouse."""
    config = {"url": ready.servers.wms_url, "warehouse": "bremen-2", "token_file": str(ready.servers.token_file)}
    await change(
        ready,
        dsn,
        (
            "INSERT INTO site (site_id, tenant_id, name, region, jurisdiction, time_zone, latitude, longitude,"
            " wms_kind, wms_config)"
            " SELECT 'bremen-dc', tenant_id, 'Bremen DC', region, jurisdiction, time_zone, 53.1, 8.8,"
            " wms_kind, %s FROM site",
            (Jsonb(config),),
        ),
        ("UPDATE asset SET site_id = 'bremen-dc' WHERE asset_id = %s", (ASSET,)),
    )


async def test_a_robot_that_was_moved_is_released_where_it_was_booked(ready: Stage, dsn: str) -> None:
    case_id = await ready.finding()
    assert await booked_in(ready, SITE) == 1
    await to_bremen(ready, dsn)
    await ready.command(commands.cancel_case, case_id, "the machine is elsewhere")
    assert [act["state"] for act in await ready.acts(case_id, "window")] == ["released"]
    assert (await booked_in(ready, SITE), await booked_in(ready, "bremen-2")) == (0, 0)


async def test_a_repair_that_moves_with_its_robot_leaves_nothing_behind(ready: Stage, dsn: str) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    await to_bremen(ready, dsn)
    await moved(ready, finding, case_id, 2)
    assert (await booked_in(ready, SITE), await booked_in(ready, "bremen-2")) == (0, 1)


async def test_a_robot_that_was_moved_while_its_repair_is_planned_is_planned_anew(ready: Stage, dsn: str) -> None:
    straight, away = ready.rt.field_service, [True]

    class NotThere:
        def __getattr__(self, name: str) -> Any:
            return getattr(straight, name)

        async def create_order(self, *arguments: Any, key: str) -> Any:
            if away.pop():
                away.extend([False] * 5)
                raise Retryable("not there")
            return await straight.create_order(*arguments, key=key)

    ready.rt.field_service = NotThere()  # the stage's own runtime
    case_id = await ready.finding()
    assert await booked_in(ready, SITE) == 1
    await to_bremen(ready, dsn)
    await ready.later(0.5)
    case = await ready.case(case_id)
    assert case["state"] == "committed", case["waits_for"]
    assert (await booked_in(ready, SITE), await booked_in(ready, "bremen-2")) == (0, 1)


@pytest.mark.parametrize("secret", ["moved", "gone"])
async def test_the_way_in_is_the_present_one(ready: Stage, dsn: str, secret: str) -> None:
    """A token in another file is found; of a site that speaks to another WMS by now the old settings are used."""
    case_id = await ready.finding()
    other = ready.servers.directory / "other.token"
    other.write_text(ready.servers.token_file.read_text())
    path = "{token_file}" if secret == "moved" else "{warehouse}"
    value = str(other) if secret == "moved" else "another"
    await change(ready, dsn, ("UPDATE site SET wms_config = jsonb_set(wms_config, %s, %s)", (path, Jsonb(value))))
    for system in ready.rt._wms.values():
        await system.close()
    ready.rt._wms.clear()  # as after a restart
    await ready.command(commands.cancel_case, case_id, "the machine is sold")
    assert (await booked_in(ready, SITE), await booked_in(ready, "another")) == (0, 0)
    assert [act["state"] for act in await ready.acts(case_id, "window")] == ["released"]


async def test_a_booking_of_an_earlier_version_is_released_where_its_case_was_opened(ready: Stage, dsn: str) -> None:
    case_id = await ready.finding()
    await change(ready, dsn, ("UPDATE act SET request = request - 'receiver' - 'equipment' WHERE kind = 'window'", ()))
    await to_bremen(ready, dsn)
    await ready.command(commands.cancel_case, case_id, "the machine is elsewhere")
    assert (await booked_in(ready, SITE), await booked_in(ready, "bremen-2")) == (0, 0)
