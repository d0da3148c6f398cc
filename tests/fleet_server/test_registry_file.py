"""Registry files: read, refused with the entry's name, imported again without harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.database import drop_database, new_database, settings_for

from fleet_core.assets import component_type
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig
from fleet_server.registry import SAMPLE, import_registry, parse_registry, who_cannot_be_asked
from fleet_server.registry_kept import Imported
from fleet_server.store.pool import Pool, open_pool, transaction


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('time_zone = "Europe/Berlin"', 'time_zone = "Mars/Olympus"', "site.1.time_zone"),
        ('type = "bearing"', 'type = "flux capacitor"', "asset.1.component.1.type"),
        ('role = "operations_director"', 'role = "king"', "person.1.role"),
        ('serial = "SN-0001"', 'serial = "SN-0001"\nshoe_size = 3', "asset.1.shoe_size"),
        ("[[tenant]]", "[[tenant", "registry"),
        (
            'wms_kind = "none"',
            'wms_kind = "telepathy"',
            r"site\.1: .*wms_kind: .*no plugin 'telepathy'; there are: none, ref",
        ),
        ('wms_kind = "none"', 'wms_kind = "reference_http"', r"site\.1: .*wms_config: setting 'url' is missing"),
        (
            'wms_kind = "none"',
            'wms_kind = "none"\nwms_config = {url = "x"}',
            r"site\.1: .*wms_config: unknown setting 'url'",
        ),
    ],
)
def test_a_wrong_entry_is_named(old: str, new: str, complaint: str) -> None:
    assert old in SAMPLE
    with pytest.raises(BadConfig, match=complaint):
        parse_registry(SAMPLE.replace(old, new, 1))


def test_the_sample_can_own_a_case_and_repair_it() -> None:
    registry = parse_registry(SAMPLE)
    people = {person.role: person for person in registry.person}
    assert {"operations_director", "case_owner", "engineer"} <= set(people)
    skills = {component_type(part.type).skill for asset in registry.asset for part in asset.component}
    assert skills <= set(people["engineer"].skills)
    assert people["engineer"].region == registry.site[0].region


@pytest.fixture
async def owner(postgres_dsn: str) -> AsyncIterator[Pool]:
    dsn = new_database(postgres_dsn)
    pool = await open_pool(settings_for(dsn), "owner", size=1)
    yield pool
    await pool.close()
    drop_database(postgres_dsn, dsn)


async def _import(owner: Pool, text: str, **options: bool) -> None:
    async with transaction(owner) as conn:
        await import_registry(conn, SimulatedClock(), parse_registry(text), actor="system:test", **options)


async def _one(owner: Pool, statement: str) -> dict[str, Any]:
    async with transaction(owner) as conn:
        row = await (await conn.execute(statement)).fetchone()  # type: ignore[arg-type] # the test's own text
    assert row is not None
    return row


@pytest.mark.integration
async def test_a_second_import_keeps_what_the_world_changed(owner: Pool) -> None:
    await _import(owner, SAMPLE)
    async with transaction(owner) as conn:
        await conn.execute("UPDATE component SET serial = 'B-0002'")
        await conn.execute("UPDATE stock SET on_hand = 1")
        await conn.execute("UPDATE tenant SET observe_only = true")
    await _import(owner, SAMPLE.replace('name = "Robot 1"', 'name = "Robot One"'))
    assert await _one(owner, "SELECT count(*) AS n, min(serial) AS serial FROM component") == {
        "n": 1,
        "serial": "B-0002",
    }
    assert (await _one(owner, "SELECT on_hand FROM stock"))["on_hand"] == 1
    assert (await _one(owner, "SELECT name FROM asset"))["name"] == "Robot One"
    assert (await _one(owner, "SELECT observe_only FROM tenant"))["observe_only"] is True
    await _import(owner, SAMPLE, reset_stock=True)
    assert (await _one(owner, "SELECT on_hand FROM stock"))["on_hand"] == 3


@pytest.mark.integration
async def test_nothing_is_half_imported(owner: Pool) -> None:
    with pytest.raises(BadConfig, match=r"asset robot-1: .*not registered"):
        await _import(owner, SAMPLE.replace('agent_id = "agent-1"\nname', 'agent_id = "agent-9"\nname'))
    assert (await _one(owner, "SELECT count(*) AS n FROM tenant"))["n"] == 0


@pytest.mark.integration
async def test_an_asset_never_moves_to_another_tenant(owner: Pool) -> None:
    await _import(owner, SAMPLE)
    other = SAMPLE.replace('"acme"', '"rival"').replace('"acme-berlin"', '"rival-berlin"').replace("agent-1", "agent-r")
    with pytest.raises(BadConfig, match="belongs to another tenant"):
        await _import(owner, other.replace("dana", "dora").replace("C-1", "C-2"))


# -- a file again, with less in it, or corrected


async def _told(owner: Pool, text: str, **options: bool) -> Imported:
    async with transaction(owner) as conn:
        return await import_registry(conn, SimulatedClock(), parse_registry(text), actor="system:test", **options)


@pytest.mark.integration
async def test_what_a_file_leaves_out_stays(owner: Pool, tmp_path: Path) -> None:
    token = tmp_path / "wms.token"
    token.write_text("secret")
    wms = (
        'wms_kind = "reference_http"\nwms_config = '
        f'{{ url = "https://wms.example.com", warehouse = "b", token_file = "{token}" }}'
    )
    full = SAMPLE.replace('wms_kind = "none" ', wms + " #")
    full = full.replace('jurisdiction = "EU"', 'jurisdiction = "EU"\npolicy = { cost_limit_eur = 900.0 }', 1)
    full = full.replace("on_order = 0 ", "on_order = 4 ")
    await _import(owner, full)
    less = "\n".join(
        line
        for line in SAMPLE.splitlines()
        if not line.startswith(("wms_kind", "latitude", "on_order", "skills", "price"))
    )
    less = less.replace("[[centre]]", "[[centre]]\nlatitude = 51.34")
    told = await _told(owner, less)
    site = await _one(owner, "SELECT wms_kind, latitude FROM site")
    assert site == {"wms_kind": "reference_http", "latitude": 52.52}
    assert (await _one(owner, "SELECT policy FROM tenant"))["policy"] == {"cost_limit_eur": 900.0}
    assert (await _one(owner, "SELECT skills FROM person WHERE person_id = 'emil'"))["skills"] == ["drive-mechanics"]
    assert (await _one(owner, "SELECT price_eur FROM part"))["price_eur"] == Decimal("84.50")
    assert (await _one(owner, "SELECT on_order FROM stock"))["on_order"] == 4
    assert told.changes == [], told.changes
    await _import(owner, SAMPLE.replace('jurisdiction = "EU"', 'jurisdiction = "EU"\npolicy = {}', 1))  # said: removed
    assert (await _one(owner, "SELECT wms_kind FROM site"))["wms_kind"] == "none"
    assert (await _one(owner, "SELECT policy FROM tenant"))["policy"] == {}


@pytest.mark.integration
async def test_a_corrected_serial_model_and_component_change_and_are_told(owner: Pool) -> None:
    await _import(owner, SAMPLE)
    text = SAMPLE.replace('serial = "SN-0001"', 'serial = "SN-0007"', 1).replace('"RX-2"', '"RX-3"')
    told = await _told(owner, text.replace('serial = "B-0001"', 'serial = "B-0009"'))
    assert await _one(owner, "SELECT serial, model FROM asset") == {"serial": "SN-0007", "model": "RX-3"}
    assert await _one(owner, "SELECT serial, valid_to FROM component") == {"serial": "B-0009", "valid_to": None}
    assert "asset robot-1: model RX-2 -> RX-3, serial SN-0001 -> SN-0007" in told.changes
    assert "component robot-1 bearing-1: serial B-0001 -> B-0009" in told.changes
    assert told.counts["asset"].changed == 1 and told.counts["site"].unchanged == 1


@pytest.mark.integration
async def test_a_component_that_was_swapped_keeps_its_history(owner: Pool) -> None:
    await _import(owner, SAMPLE.replace('slot = "bearing-1"', 'slot = "bearing-1"\nvalid_from = 2020-01-01T00:00:00Z'))
    swapped = SAMPLE.replace('slot = "bearing-1"', 'slot = "bearing-1"\nvalid_from = 2024-01-01T00:00:00Z')
    told = await _told(owner, swapped.replace('serial = "B-0001"', 'serial = "B-0009"'))
    async with transaction(owner) as conn:
        rows = await (await conn.execute("SELECT serial, valid_to FROM component ORDER BY valid_from")).fetchall()
    assert [(row["serial"], row["valid_to"] is None) for row in rows] == [("B-0001", False), ("B-0009", True)]
    assert told.counts["component"].ended == 1 and told.counts["component"].added == 1


@pytest.mark.integration
async def test_a_missing_token_file_is_an_error_at_the_import(owner: Pool) -> None:
    wms = (
        'wms_kind = "reference_http"\nwms_config = '
        '{ url = "https://wms.example.com", warehouse = "b", token_file = "/nowhere/wms.token" }'
    )
    with pytest.raises(BadConfig, match=r"site acme-berlin: token_file /nowhere/wms\.token .*write the token there"):
        await _import(owner, SAMPLE.replace('wms_kind = "none" ', wms + " #"))


@pytest.mark.parametrize(
    ("old", "new", "near"), [("serial =", "seriel =", "serial"), ("[[stock]]", "[[stok]]", "stock")]
)
def test_an_unknown_key_names_the_nearest_known_one(old: str, new: str, near: str) -> None:
    with pytest.raises(BadConfig, match=f"did you mean '{near}'"):
        parse_registry(SAMPLE.replace(old, new, 1))


async def test_who_can_never_be_asked_is_said_with_the_mend(owner: Pool) -> None:
    text = SAMPLE.replace('email = "olga@example.org"\n', "")
    async with owner.connection() as conn:
        await import_registry(conn, SimulatedClock(), parse_registry(text), actor="test")
        person, tenant = await who_cannot_be_asked(conn, ["email"])
        assert "person olga (case_owner) has no address on a configured channel (email)" in person
        assert "tenant acme has no last line" in tenant
        await import_registry(conn, SimulatedClock(), parse_registry(SAMPLE), actor="test")
        assert await who_cannot_be_asked(conn, ["email"]) == []
