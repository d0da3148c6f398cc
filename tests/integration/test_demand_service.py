"""Demand on a real PostgreSQL: what counts, who sees shelves, tenants apart, the API, the page, the command line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.browser import NOW, bearer, client, seeded
from support.database import drop_database, new_database, settings_for
from support.seed_story import ident, insert
from typer.testing import CliRunner

from fleet_server.api.models.demand import Demand
from fleet_server.api.reads.demand import demand
from fleet_server.demand_cli import demand_app
from fleet_server.store.pool import as_reader, open_pool, transaction

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database(postgres_dsn: str) -> Iterator[tuple[str, dict[str, str]]]:
    dsn = new_database(postgres_dsn)
    passwords = seeded(dsn)
    stocked(dsn)
    yield dsn, passwords
    drop_database(postgres_dsn, dsn)


def stocked(dsn: str) -> None:
    """Two centres, shelves, engineers with skills, and sites with places, beside the seeded story."""
    with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
        for centre_id, region, place in (
            ("fc-bremen", "eu-north", (53.1, 8.8)),
            ("fc-dallas", "us-south", (32.8, -96.8)),
        ):
            insert(
                conn,
                "fulfilment_centre",
                centre_id=centre_id,
                name=centre_id[3:].title(),
                region=region,
                jurisdiction="DE",
                latitude=place[0],
                longitude=place[1],
                handling_h=4.0,
            )
            for part_no, on_hand in (("PN-BEAR-20", 1), ("PN-DISK-20", 2)):
                insert(conn, "stock", centre_id=centre_id, part_no=part_no, on_hand=on_hand)
        conn.execute("UPDATE part SET replenish_days = 10 WHERE part_no = 'PN-BEAR-20'")
        conn.execute("UPDATE site SET latitude = 53.5, longitude = 10.0 WHERE region = 'eu-north'")
        conn.execute("UPDATE site SET latitude = 35.1, longitude = -90.0 WHERE region = 'us-south'")
        conn.execute(
            "UPDATE person SET region = 'eu-north', skills = '{drive-mechanics,server-hardware}'"
            " WHERE person_id = 'p-eng-1'"
        )


@pytest.fixture
async def http(database: tuple[str, dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    async with client(database[0]) as opened:
        yield opened


async def read(dsn: str, tenant_id: str | None = None) -> Demand:
    """As the web process would, for a reader of one tenant or of all."""
    pool = await open_pool(settings_for(dsn), "web", size=1)
    try:
        async with transaction(pool) as conn:
            await as_reader(conn, tenant_id)
            return await demand(conn, NOW, (30, 90), tenant_id)
    finally:
        await pool.close()


def needs(found: Demand, part_no: str = "PN-BEAR-20") -> float:
    return sum(line.needs[0].mean for line in found.parts if line.part_no == part_no)


async def test_every_component_counts_once_at_the_nearest_centre(database: tuple[str, dict[str, str]]) -> None:
    found = await read(database[0])
    assert found.components == sum(line.components for line in found.parts) == 24
    lines = {(line.part_no, line.centre_id): line for line in found.parts}
    assert set(lines) == {
        ("PN-BEAR-20", "fc-bremen"), ("PN-BEAR-20", "fc-dallas"), ("PN-DISK-20", "fc-bremen"),
        ("PN-DISK-20", "fc-dallas"), ("PN-BATT-20", ""),
    }  # fmt: skip
    bremen = lines["PN-BEAR-20", "fc-bremen"]
    assert bremen.basis["provided"] == 2 and bremen.basis["case"] == 1  # amr-001, amr-004 have theirs; amr-007 has not
    assert (bremen.lead_days, bremen.lead_assumed, bremen.on_hand) == (10.0, False, 1)
    assert lines["PN-DISK-20", "fc-bremen"].lead_assumed is True
    assert lines["PN-BATT-20", ""].order is None and "no centre" in lines["PN-BATT-20", ""].reason
    skills = {(line.skill, line.region): line for line in found.skills}
    assert skills["drive-mechanics", "eu-north"].engineers == 1
    assert skills["medical-devices", "us-south"].engineers == 0
    assert "nobody here" in skills["medical-devices", "us-south"].reason


async def test_a_settled_forecast_and_a_retired_asset_no_longer_count(postgres_dsn: str) -> None:
    dsn = new_database(postgres_dsn)
    try:
        await asyncio.to_thread(seeded, dsn)
        stocked(dsn)
        before = await read(dsn)
        with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
            insert(
                conn, "prognosis", prognosis_id=ident("prognosis:new"), tenant_id="northgate", asset_id="amr-002",
                slot="drive_left_bearing", finding_id=ident("f"), revision=1, made_at=NOW - timedelta(hours=1),
                abstained=False, reason="x", failure_mode="bearing_seizure", library_digest="x", model_version="x",
                trace_id="x", survival=Jsonb([[0, 1], [100, 0.5], [200, 0.01]]),
            )  # fmt: skip
        worse = await read(dsn)
        assert needs(worse) - needs(before) > 0.9
        modes = {mode for line in worse.parts for mode in line.modes}
        assert "bearing_seizure" in modes
        with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
            conn.execute(
                "UPDATE asset SET maintenance_until = %s WHERE asset_id = 'amr-002'", (NOW + timedelta(days=60),)
            )
        # it stands still beyond the horizon: not even its class counts it
        assert needs(before) - 0.1 < needs(await read(dsn)) < needs(before)
        with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
            conn.execute("UPDATE asset SET maintenance_until = NULL WHERE asset_id = 'amr-002'")
            conn.execute(
                "UPDATE prognosis SET abstained = true, survival = '[]' WHERE prognosis_id = %s",
                (ident("prognosis:new"),),
            )
        unsure = await read(dsn)
        assert unsure.abstained == before.abstained + 1 and needs(unsure) == pytest.approx(needs(before), abs=1e-9)
        with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
            conn.execute("UPDATE component SET valid_to = %s WHERE asset_id = 'amr-002' AND valid_to IS NULL", (NOW,))
        assert (await read(dsn)).components == before.components - 1
    finally:
        drop_database(postgres_dsn, dsn)


async def test_tenants_are_counted_apart_and_see_no_shelves(database: tuple[str, dict[str, str]]) -> None:
    """What one tenant reads of its need is its share of what the fleet's planners read."""
    whole, north, south = [await read(database[0], tenant) for tenant in (None, "northgate", "cedar")]
    for part_no in ("PN-BEAR-20", "PN-DISK-20"):
        assert needs(north, part_no) + needs(south, part_no) == pytest.approx(needs(whole, part_no), abs=1e-3)
    assert north.components + south.components == whole.components
    for own in (north, south):
        assert own.shelves_shown is False and all(job.engineers is None for job in own.skills)
        assert all((line.on_hand, line.order, line.reserved) == (None, None, None) for line in own.parts)
        assert all("stock" not in line.reason for line in own.parts if line.centre_id)


async def test_the_api_and_the_page(http: httpx.AsyncClient, database: tuple[str, dict[str, str]]) -> None:
    for login in ("olga", "dana", "audra"):
        headers = await bearer(http, login, database[1][login])
        answer = await http.get("/api/demand", params={"days": "7,30"}, headers=headers)
        assert answer.status_code == 200 and answer.json()["days"] == [7, 30]
        assert answer.json()["shelves_shown"] is (login != "dana")
        page = await http.get("/demand", headers=headers)
        assert page.status_code == 200 and "Drive bearing" in page.text
        assert ("Bremen" in page.text) is (login != "dana")
        if login == "dana":  # nothing of the other customer
            assert not any(
                name in text for name in ("eu-north", "amr-0", "Northgate") for text in (answer.text, page.text)
            )
    for wrong in ("0", "x", "1,2,3,4,5,6", "9" * 41):
        assert 400 <= (await http.get("/api/demand", params={"days": wrong}, headers=headers)).status_code < 500
    assert (await http.get("/api/demand")).status_code == 401


def test_the_command_line(database: tuple[str, dict[str, str]], tmp_path: Path, monkeypatch: Any) -> None:
    config = tmp_path / "server.toml"
    clock = f"scaled:1:{time.time()}:{NOW.timestamp()}"
    config.write_text(f'clock = "{clock}"\n[database]\ndsn = "{database[0]}"\n')
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Any:
        return CliRunner().invoke(demand_app, ["--config", str(config), *words])

    found = json.loads(run("--json", "--days", "30,90").output)
    assert found["days"] == [30, 90] and found["components"] == 24
    shown = run()
    assert shown.exit_code == 0 and "PN-BEAR-20" in shown.output and "count by class rate" in shown.output
    assert json.loads(run("--json", "--tenant", "cedar").output)["shelves_shown"] is False
    assert json.loads(run("--json", "--lead-days", "3").output)["assumed"]["lead_days"] == 3
    for words in (("--tenant", "nobody"), ("--days", "400")):
        refused = run(*words)
        assert refused.exit_code == 2 and "Traceback" not in refused.output and "error:" in refused.output
