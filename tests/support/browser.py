"""The web process for tests: a seeded database, an in-process client, a served application, headless Chromium."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from support.database import settings_for
from support.seed_story import seed

from fleet_core.clock import Clock, ScaledClock, SimulatedClock
from fleet_server.api.app import create_app
from fleet_server.settings import Settings
from fleet_server.sovereignty.roles import Role
from fleet_server.sovereignty.users import add_user

NOW = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
ACCOUNTS = (
    ("admin", Role.ADMINISTRATOR, None, None),
    ("erik", Role.ENGINEER, None, "p-eng-1"),
    ("olga", Role.OPERATOR, None, None),
    ("audra", Role.AUDITOR, None, None),
    ("henrik", Role.DIRECTOR, "northgate", "p-dir-n"),
    ("dana", Role.DIRECTOR, "cedar", "p-dir-c"),
)
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def seeded(dsn: str) -> dict[str, str]:
    """Seed a database with the story and the accounts; returns login -> password."""
    seed(dsn, NOW)

    async def accounts() -> dict[str, str]:
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            return {
                login: await add_user(conn, login, role, tenant_id=tenant, person_id=person)
                for login, role, tenant, person in ACCOUNTS
            }

    return asyncio.run(accounts())


@asynccontextmanager
async def client(
    dsn: str, real_clock: Clock | None = None, settings: Settings | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application in this process, at story time NOW."""
    app = create_app(settings or settings_for(dsn), clock=SimulatedClock(NOW), real_clock=real_clock)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://forestall.test") as http:
            yield http


async def bearer(http: httpx.AsyncClient, login: str, password: str) -> dict[str, str]:
    """Sign in and return the headers of a program; the client's cookies stay empty."""
    answer = await http.post("/api/login", json={"login": login, "password": password})
    assert answer.status_code == 200, answer.text
    http.cookies.clear()
    return {"Authorization": f"Bearer {answer.json()['token']}"}


@contextmanager
def served(dsn: str) -> Iterator[str]:
    """The application on a free loopback port, in a thread; story time runs 3600 times faster from NOW."""
    clock = ScaledClock.starting_now(3600.0, NOW)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer's body waits 40 ms for the browser
    config = uvicorn.Config(
        create_app(settings_for(dsn), clock=clock), log_level="warning", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 30
    while not server.started:
        if time.monotonic() > deadline_s or not thread.is_alive():
            raise RuntimeError("the application did not start")
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("FORESTALL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium found: install it or set FORESTALL_CHROMIUM")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
