"""Registry files: read, refused with the entry's name, imported again without harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.database import drop_database, new_database, settings_for

from fleet_core.assets import component_type
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig
from fleet_server.registry import SAMPLE, import_registry, parse_registry
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
