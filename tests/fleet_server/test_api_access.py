"""The API on a real database: who sees and does what, sessions, CSRF, bounds, problems."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest
from support.browser import ACCOUNTS, bearer, client, seeded
from support.database import drop_database, new_database
from support.seed_story import ident

from fleet_core.clock import SimulatedClock
from fleet_server.sovereignty.roles import Role
from fleet_server.sovereignty.throttle import FREE_TRIES
from fleet_server.sovereignty.users import add_user

pytestmark = pytest.mark.integration
NORTH = ("AMR 001", "Northgate", "hamburg", "leipzig", "Henrik", "amr-0")
CASE = ident("case:amr-001")


@pytest.fixture(scope="module")
def database(postgres_dsn: str) -> Iterator[tuple[str, dict[str, str]]]:
    dsn = new_database(postgres_dsn)
    yield dsn, seeded(dsn)
    drop_database(postgres_dsn, dsn)


@pytest.fixture
async def http(database: tuple[str, dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    async with client(database[0]) as opened:
        yield opened


def get_routes() -> list[str]:
    """Every GET route of the API and the dashboard, with the ids of things of tenant northgate filled in."""
    filled = {
        "asset_id": "amr-001",
        "case_id": str(CASE),
        "escalation_id": str(ident("escalation:amr-007")),
        "work_order_id": str(ident("order:amr-001")),
        "prognosis_id": str(ident("prognosis:amr-001")),
    }
    from fleet_server.api.app import create_app
    from fleet_server.settings import Database, Settings

    app = create_app(Settings(database=Database(dsn="x")), clock=SimulatedClock())
    paths = [path for path, item in app.openapi()["paths"].items() if "get" in item]
    pages = [
        "/",
        "/cases",
        "/escalations",
        "/ledger",
        "/audit",
        "/library",
        "/calibration",
        "/demand",
        "/assets/{asset_id}",
        "/cases/{case_id}",
    ]
    skipped = ("/api/events", "/health", "/ready", "/api/clock")
    return [path.format(**filled) for path in (*paths, *pages) if path not in skipped]


@pytest.mark.parametrize("route", get_routes())
async def test_a_tenant_sees_nothing_of_another_by_any_route(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]], route: str
) -> None:
    headers = await bearer(http, "dana", database[1]["dana"])
    answer = await http.get(route, params={"metric": "vibration", "slot": "drive_left_bearing"}, headers=headers)
    if any(str(thing) in route for thing in ("amr-001", CASE, "escalations/", "work-orders/")):
        assert answer.status_code in (403, 404), answer.text[:300]
    found = [word for word in NORTH if word.lower() in answer.text.lower()]
    assert found == [], f"{route} shows {found}"


@pytest.mark.parametrize("route", get_routes())
async def test_its_own_people_see_it(http: httpx.AsyncClient, database: tuple[str, dict[str, str]], route: str) -> None:
    headers = await bearer(http, "admin", database[1]["admin"])
    answer = await http.get(route, params={"metric": "vibration", "slot": "drive_left_bearing"}, headers=headers)
    assert answer.status_code == 200, answer.text[:300]


@pytest.mark.parametrize("route", get_routes())
async def test_nobody_sees_anything_without_a_session(http: httpx.AsyncClient, route: str) -> None:
    answer = await http.get(route)
    assert answer.status_code in (401, 303)
    assert answer.headers.get("location", "/login").startswith("/login")


@pytest.mark.parametrize("route", get_routes())
async def test_an_operator_sees_no_customer_and_no_person(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]], route: str
) -> None:
    headers = await bearer(http, "olga", database[1]["olga"])
    answer = await http.get(route, params={"metric": "vibration", "slot": "drive_left_bearing"}, headers=headers)
    names = ("Northgate", "Cedar", "Paulsen", "Whitfield", "Lindqvist", "Weber", "Hamburg DC2", "120 orders")
    assert [name for name in names if name in answer.text] == []


async def test_a_search_tells_an_operator_nothing_withheld(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    for login, hits in (("olga", 0), ("erik", 6)):
        headers = await bearer(http, login, database[1][login])
        found = (await http.get("/api/assets", params={"search": "Memphis FC"}, headers=headers)).json()["total"]
        assert bool(found) == bool(hits)


COMMANDS = {
    f"/api/escalations/{ident('escalation:amr-007')}/decide": {"decision": "retry"},
    f"/api/escalations/{ident('escalation:amr-007')}/acknowledge": {"hours": 4},
    f"/api/work-orders/{ident('order:amr-001')}/start": {},
    f"/api/work-orders/{ident('order:amr-001')}/complete": {"failure_mode": "bearing_spalling", "new_serial": "N-1"},
    f"/api/cases/{CASE}/cancel": {"reason": "test"},
    "/api/assets/amr-001/maintenance": {"until": None},
    "/api/tenants/northgate/observe-only": {"on": False},
}


@pytest.mark.parametrize("route", COMMANDS)
async def test_another_tenants_things_cannot_be_changed(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]], route: str
) -> None:
    headers = await bearer(http, "dana", database[1]["dana"])
    answer = await http.post(route, json=COMMANDS[route], headers=headers)
    assert answer.status_code in (403, 404)


@pytest.mark.parametrize("route", COMMANDS)
async def test_an_auditor_changes_nothing(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]], route: str
) -> None:
    headers = await bearer(http, "audra", database[1]["audra"])
    assert (await http.post(route, json=COMMANDS[route], headers=headers)).status_code == 403


async def test_a_cookie_session_needs_its_csrf_token(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    signed = await http.post("/api/login", json={"login": "erik", "password": database[1]["erik"]})
    cookie = signed.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    url, body = "/api/assets/amr-002/maintenance", {"until": None}
    assert (await http.post(url, json=body)).status_code == 403
    assert (await http.post(url, json=body, headers={"X-CSRF-Token": "0" * 64})).status_code == 403
    assert (await http.post(url, json=body, headers={"X-CSRF-Token": signed.json()["csrf"]})).status_code == 200


async def test_a_session_ends_by_logout_and_by_time(database: tuple[str, dict[str, str]]) -> None:
    clock = SimulatedClock()
    async with client(database[0], real_clock=clock) as http:
        headers = await bearer(http, "erik", database[1]["erik"])
        assert (await http.get("/api/me", headers=headers)).json()["role"] == "engineer"
        await http.post("/api/logout", headers=headers)
        assert (await http.get("/api/me", headers=headers)).status_code == 401
        headers = await bearer(http, "erik", database[1]["erik"])
        clock.shift(13 * 3600)
        assert (await http.get("/api/me", headers=headers)).status_code == 401


async def test_guessing_is_throttled_by_the_injected_clock(database: tuple[str, dict[str, str]]) -> None:
    clock = SimulatedClock()
    async with client(database[0], real_clock=clock) as http:
        for _ in range(FREE_TRIES):
            wrong = await http.post("/api/login", json={"login": "erik", "password": "no"})
            assert wrong.status_code == 401
        right = {"login": "erik", "password": database[1]["erik"]}
        refused = await http.post("/api/login", json=right)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        clock.shift(10)
        assert (await http.post("/api/login", json=right)).status_code == 200


async def test_a_one_time_password_opens_one_session_in_which_an_own_one_is_set(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    async with await psycopg.AsyncConnection.connect(database[0]) as conn:
        password = await add_user(conn, "guest", Role.ENGINEER, one_time=True)
    headers = await bearer(http, "guest", password)
    again = await http.post("/api/login", json={"login": "guest", "password": password})
    assert again.status_code == 401
    assert (await http.get("/api/me", headers=headers)).json()["must_change_password"] is True
    assert (await http.post("/api/password", json={"password": "short"}, headers=headers)).status_code == 422
    changed = await http.post("/api/password", json={"password": "a longer one, mine"}, headers=headers)
    assert changed.json()["must_change_password"] is False
    assert (await http.get("/api/me", headers=headers)).status_code == 401  # the old session ended
    await bearer(http, "guest", "a longer one, mine")


async def test_the_web_role_cannot_read_accounts(database: tuple[str, dict[str, str]]) -> None:
    async with await psycopg.AsyncConnection.connect(database[0]) as conn:
        await conn.execute("SET ROLE forestall_web")
        for table in ("app_user", "web_session"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                async with conn.transaction():
                    await conn.execute(f"SELECT * FROM fleet.{table}")


async def test_vitals_keep_the_extremes_of_each_bucket(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    headers = await bearer(http, "erik", database[1]["erik"])
    span = {"from_t": "2026-02-25T00:00:00Z", "to_t": "2026-03-04T09:30:00Z", "metric": "vibration"}
    seen = [
        (await http.get("/api/assets/amr-001/vitals", params={**span, "points": points}, headers=headers)).json()
        for points in (20, 2000)
    ]
    coarse, fine = ([point for point in series["points"] if point["n"]] for series in seen)
    assert len(coarse) <= 20 < len(fine)
    assert sum(point["n"] for point in coarse) == sum(point["n"] for point in fine)
    assert max(point["high"] for point in coarse) == max(point["high"] for point in fine)
    assert min(point["low"] for point in coarse) == min(point["low"] for point in fine)
    assert seen[0]["unit_label"] == "g"


@pytest.mark.parametrize(
    ("route", "params", "status"),
    [
        ("/api/assets", {"limit": 501}, 422),
        ("/api/assets", {"offset": -1}, 422),
        ("/api/assets", {"search": "x" * 101}, 422),
        ("/api/cases/not-a-uuid", {}, 422),
        (f"/api/cases/{uuid.UUID(int=1)}", {}, 404),
        ("/api/assets/amr-001/vitals", {"metric": "vibration", "from_t": "2020-01-01T00:00:00Z"}, 422),
        ("/api/assets/amr-001/vitals", {"metric": "vibration", "from_t": "2026-03-01T00:00:00"}, 422),
        ("/api/assets/amr-001/vitals", {"metric": "nothing"}, 404),
        ("/api/assets/%00", {}, 422),
        ("/api/nothing", {}, 404),
    ],
)
async def test_bad_requests_are_problems(
    http: httpx.AsyncClient,
    database: tuple[str, dict[str, str]],
    route: str,
    params: dict[str, str | int],
    status: int,
) -> None:
    headers = await bearer(http, "admin", database[1]["admin"])
    answer = await http.get(route, params=params, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


async def test_a_large_body_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/login", content=b"x" * 100_000, headers={"content-type": "application/json"})
    assert answer.status_code == 413


async def test_security_headers_are_on_everything(http: httpx.AsyncClient) -> None:
    for route in ("/login", "/api/assets", "/static/app.css"):
        answer = await http.get(route)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_escalation_is_decided_once_by_who_may(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    url = f"/api/escalations/{ident('escalation:pump-01')}/decide"
    dana = await bearer(http, "dana", database[1]["dana"])  # a director, but it is addressed to somebody else
    assert (await http.post(url, json={"decision": "approve"}, headers=dana)).status_code == 403
    erik = await bearer(http, "erik", database[1]["erik"])
    assert (await http.post(url, json={"decision": "explode"}, headers=erik)).status_code == 422
    assert (await http.post(url, json={"decision": "take_over"}, headers=erik)).status_code == 200
    assert (await http.post(url, json={"decision": "take_over"}, headers=erik)).status_code == 409
    detail = (await http.get(url.removesuffix("/decide"), headers=erik)).json()
    assert (detail["decision"], detail["decided_by"]) == ("take_over", "user:erik")


async def test_an_engineer_completes_a_work_order(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    url = f"/api/work-orders/{ident('order:srv-02')}"
    erik = await bearer(http, "erik", database[1]["erik"])
    report = {"failure_mode": "disk_failure", "replaced": True, "note": "as predicted"}
    assert (await http.post(f"{url}/complete", json=report, headers=erik)).status_code == 422  # no new serial
    done = await http.post(f"{url}/complete", json={**report, "new_serial": "D-77"}, headers=erik)
    assert done.status_code == 200, done.text
    assert (await http.get(url, headers=erik)).json()["state"] == "completed"
    assert (await http.post(f"{url}/complete", json={**report, "new_serial": "D-78"}, headers=erik)).status_code == 409


async def test_the_openapi_document_classifies_its_fields_and_loads_nothing_from_elsewhere(
    http: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    schema = (await http.get("/api/openapi.json")).json()
    assert schema["components"]["schemas"]["FleetAsset"]["properties"]["tenant_name"]["x-data-class"] == "customer"
    headers = await bearer(http, "admin", database[1]["admin"])
    page = (await http.get("/docs", headers=headers)).text
    assert "/api/cases/{case_id}" in page
    assert "//cdn" not in page


async def test_probes_answer_machines(http: httpx.AsyncClient) -> None:
    assert (await http.get("/ready")).json()["database"] is True
    assert (await http.get("/health")).status_code == 200
    assert "forestall_web_requests_total" in (await http.get("/metrics")).text


def test_accounts_cover_every_role() -> None:
    assert {role for _, role, _, _ in ACCOUNTS} == set(Role)
