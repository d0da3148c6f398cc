"""The web process while its database only reads, and people whom strangers must not lock out; on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest
from support.browser import bearer, client, seeded
from support.database import drop_database, new_database
from support.seed_story import ident

from fleet_core.clock import SimulatedClock
from fleet_server.sovereignty.throttle import FREE_TRIES, FREE_TRIES_LOGIN, LoginThrottle

pytestmark = pytest.mark.integration


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[tuple[str, dict[str, str]]]:
    dsn = new_database(postgres_dsn)
    yield dsn, seeded(dsn)
    drop_database(postgres_dsn, dsn)


@pytest.fixture
async def read_only(database: tuple[str, dict[str, str]]) -> AsyncIterator[httpx.AsyncClient]:
    """The web process on a database that was made read-only, with a session begun before."""
    async with client(database[0]) as http:
        http.headers.update(await bearer(http, "erik", database[1]["erik"]))
        set_read_only(database[0], "on")
        yield http


def set_read_only(dsn: str, value: str) -> None:
    """For every session from now on; those that are open end, as they do when a server becomes a standby."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute("SET default_transaction_read_only = off")
        conn.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (name,),
        )


def throttle_of(http: httpx.AsyncClient) -> LoginThrottle:
    throttle: LoginThrottle = http._transport.app.state.services.throttle
    return throttle


async def test_a_read_only_database_is_not_ready_and_says_why(read_only: httpx.AsyncClient) -> None:
    for _ in range(10):  # its connections were cut: at first it may wait for new ones, and is not ready either
        answer = await read_only.get("/ready")
        assert answer.status_code == 503
        if "read-only" in answer.json()["status"]:
            break
    assert "read-only" in answer.json()["status"] and "\n" not in answer.json()["status"]
    assert answer.headers["retry-after"]


async def test_sign_in_and_decide_say_not_now_while_the_database_only_reads(
    read_only: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    right = {"login": "erik", "password": database[1]["erik"]}
    decision = {"decision": "retry", "note": ""}
    for path, body in (
        ("/api/login", right),
        (f"/api/escalations/{ident('escalation:amr-007')}/decide", decision),
    ):
        answer = await read_only.post(path, json=body)
        assert answer.status_code == 503, (path, answer.status_code, answer.text)
        assert "read-only" in answer.json()["detail"] and answer.headers["retry-after"]
    page = await read_only.post("/login", data=right, headers={"accept": "text/html"})
    assert page.status_code == 503 and "read-only" in page.text and "<html" in page.text


async def test_it_is_ready_again_when_the_database_writes_again(
    read_only: httpx.AsyncClient, database: tuple[str, dict[str, str]]
) -> None:
    set_read_only(database[0], "off")
    answers = [(await read_only.get("/ready")).status_code for _ in range(10)]
    assert answers[-1] == 200


async def test_the_metric_of_the_database_follows(read_only: httpx.AsyncClient) -> None:
    assert (await read_only.get("/ready")).status_code == 503
    assert "forestall_database_up 0.0" in (await read_only.get("/metrics")).text


async def test_a_strangers_wrong_passwords_do_not_lock_the_person_out(database: tuple[str, dict[str, str]]) -> None:
    async with client(database[0], real_clock=SimulatedClock()) as http:
        for _ in range(FREE_TRIES + 5):
            await http.post("/api/login", json={"login": "erik", "password": "no"})
        assert throttle_of(http).wait_s("erik", "127.0.0.1") > 0  # this address guessed
        assert throttle_of(http).wait_s("erik", "10.1.1.1") == 0


async def test_a_known_device_has_a_way_in_while_the_name_is_throttled(database: tuple[str, dict[str, str]]) -> None:
    right = {"login": "erik", "password": database[1]["erik"]}
    async with client(database[0], real_clock=SimulatedClock()) as http:
        first = await http.post("/api/login", json=right)
        assert first.status_code == 200 and "forestall_device" in http.cookies
        device = http.cookies["forestall_device"]
        throttle = throttle_of(http)
        for number in range(FREE_TRIES_LOGIN + 5):
            throttle.failed("erik", f"10.0.{number}.1")
        assert throttle.wait_s("erik", "10.9.9.9") > 0
        assert (await http.post("/api/login", json=right)).status_code == 200
        http.cookies.clear()
        assert (await http.post("/api/login", json=right)).status_code == 429
        for forged in (device[:-1] + ("0" if device[-1] != "0" else "1"), "x.1.y", ".." * 40):
            http.cookies.set("forestall_device", forged)
            assert (await http.post("/api/login", json=right)).status_code == 429, forged
        other = {"login": "sanne", "password": "no"}
        for number in range(FREE_TRIES_LOGIN + 5):
            throttle.failed("sanne", f"10.0.{number}.1")
        http.cookies.set("forestall_device", device)  # known to erik, not to sanne
        assert (await http.post("/api/login", json=other)).status_code == 429
        for _ in range(FREE_TRIES):  # a stolen cookie is no licence to guess
            await http.post("/api/login", json={"login": "erik", "password": "no"})
        assert (await http.post("/api/login", json=right)).status_code == 429
