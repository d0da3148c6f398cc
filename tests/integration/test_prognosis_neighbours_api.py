"""The courses of past units: laid beside the living one, thinned, and only those the reader may see."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from support.browser import bearer, client, seeded
from support.database import drop_database, new_database
from support.seed_story import ident

from fleet_server.api.reads.prognoses import COURSE_POINTS

pytestmark = pytest.mark.integration
ROUTE = f"/api/assets/amr-001/prognoses/{ident('prognosis:amr-001')}/neighbours"


@pytest.fixture(scope="module")
def database(postgres_dsn: str) -> Iterator[tuple[str, dict[str, str]]]:
    dsn = new_database(postgres_dsn)
    yield dsn, seeded(dsn)
    drop_database(postgres_dsn, dsn)


async def test_courses_end_where_their_units_did(database: tuple[str, dict[str, str]]) -> None:
    dsn, passwords = database
    async with client(dsn) as http:
        headers = await bearer(http, "olga", passwords["olga"])
        asset = (await http.get("/api/assets/amr-001", headers=headers)).json()
        made = asset["prognoses"][0]
        said = (await http.get(ROUTE, headers=headers)).json()
        assert made["likeness"].startswith("9 past bearings looked like this")
        assert (made["indicator"], made["falls"], made["component_type"]) == ("vibration", False, "bearing")
        assert [unit["remaining_h"] for unit in said["courses"]] == [n["remaining_h"] for n in made["neighbours"]]
        for unit in said["courses"]:
            assert 2 <= len(unit["points"]) <= COURSE_POINTS
            assert unit["points"][-1][0] == pytest.approx(unit["remaining_h"], abs=1e-3)
        assert said["shape"][0] == [0.0, pytest.approx(made["course"][-1][1])]
        wrong = ROUTE.replace("amr-001/", "amr-002/")
        assert (await http.get(wrong, headers=headers)).status_code == 404
        assert (await http.get(ROUTE.replace("neighbours", ""), headers=headers)).status_code == 404


async def test_another_customers_courses_stay_invisible(database: tuple[str, dict[str, str]]) -> None:
    dsn, passwords = database
    async with client(dsn) as http:
        dana = await bearer(http, "dana", passwords["dana"])
        assert (await http.get(ROUTE, headers=dana)).status_code == 404
        with psycopg.connect(dsn) as conn:
            conn.execute("UPDATE fleet.trajectory SET tenant_id = 'cedar' WHERE trajectory_id = 'simulated-1'")
        henrik = await bearer(http, "henrik", passwords["henrik"])
        assert len((await http.get(ROUTE, headers=henrik)).json()["courses"]) == 8
