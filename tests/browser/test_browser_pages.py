"""The dashboard in headless Chromium: sign in, overview, asset, case, decide; no error, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from support.browser import chromium, seeded, served
from support.database import drop_database, new_database
from support.seed_story import ident

pytestmark = [pytest.mark.browser, pytest.mark.integration]
PAGES = ("/", "/cases", "/escalations", "/library", "/ledger", "/audit", "/account", "/docs", "/assets/amr-001",
         f"/cases/{ident('case:amr-001')}")  # fmt: skip


@pytest.fixture(scope="module")
def site(postgres_dsn: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    dsn = new_database(postgres_dsn)
    passwords = seeded(dsn)
    with served(dsn) as url:
        yield url, dsn, passwords
    drop_database(postgres_dsn, dsn)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(site: tuple[str, str, dict[str, str]], browser: Any) -> Iterator[Any]:
    """A page signed in as the administrator; errors and foreign requests fail the test."""
    url, _, passwords = site
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on(
        "request", lambda request: faults.append(request.url) if not request.url.startswith((url, "data:")) else None
    )
    opened.goto(f"{url}/login")
    opened.get_by_label("Login").fill("admin")
    opened.get_by_label("Password").fill(passwords["admin"])
    opened.get_by_role("button", name="Sign in").click()
    opened.wait_for_url(f"{url}/")
    yield opened
    context.close()
    assert faults == []


@pytest.mark.parametrize("width", [1440, 800])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_renders_and_fits(page: Any, site: tuple[str, str, dict[str, str]], path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(site[0] + path)
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.title().endswith("Forestall")


def test_the_overview_is_worst_first_and_filters(page: Any) -> None:
    assert "Critical" in page.locator("#fleet-table tbody tr").first.inner_text()
    page.get_by_label("Class").select_option("server")
    page.wait_for_url("**asset_class=server**")
    assert page.locator("#fleet-table tbody tr").count() == 4
    page.get_by_label("Search").fill("no such thing")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("No asset matches").wait_for()


def test_story_time_is_told_apart(page: Any) -> None:
    banner = page.get_by_role("note")
    assert "1 s = 1\xa0h" in banner.inner_text()
    before = page.locator("[data-clock=story]").inner_text()
    page.wait_for_timeout(600)
    assert page.locator("[data-clock=story]").inner_text() != before


def test_the_charts_of_asset_and_case_are_drawn(page: Any, site: tuple[str, str, dict[str, str]]) -> None:
    for path, charts in (("/assets/amr-001", 4), (f"/cases/{ident('case:amr-001')}", 2)):
        page.goto(site[0] + path)
        page.locator("[data-chart] canvas").nth(charts - 1).wait_for(timeout=15_000)
        assert page.locator("[data-chart] canvas").count() == charts


def test_a_change_in_the_database_appears_without_a_reload(page: Any, site: tuple[str, str, dict[str, str]]) -> None:
    page.evaluate("window.stillHere = true")
    with psycopg.connect(site[1]) as conn:
        conn.execute("UPDATE fleet.asset SET name = 'AMR renamed' WHERE asset_id = 'amr-002'")
    page.get_by_text("AMR renamed").wait_for(timeout=8_000)
    assert page.evaluate("window.stillHere") is True


def test_an_escalation_is_decided_by_keyboard(page: Any, site: tuple[str, str, dict[str, str]]) -> None:
    page.goto(f"{site[0]}/escalations")
    card = page.locator(f"#ask-{ident('escalation:amr-007')}")
    card.get_by_label("Take over by hand").focus()
    page.keyboard.press("Space")
    card.get_by_label("Note for the record").fill("on my way")
    page.wait_for_timeout(2_500)  # a refresh must not take away what was typed
    assert card.get_by_label("Note for the record").input_value() == "on my way"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    card.wait_for(state="detached", timeout=10_000)
    assert "Take over" in page.locator("#decided").inner_text()
    with psycopg.connect(site[1]) as conn:
        row = conn.execute(
            "SELECT decision, decided_by, note FROM fleet.escalation WHERE escalation_id = %s",
            (ident("escalation:amr-007"),),
        ).fetchone()
    assert row == ("take_over", "user:admin", "on my way")


def test_the_first_tab_stop_skips_to_the_content(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
