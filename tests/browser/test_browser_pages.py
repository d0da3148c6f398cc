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
PAGES = ("/", "/cases", "/escalations", "/library", "/calibration", "/demand", "/ledger", "/audit", "/account", "/docs",
         "/assets/amr-001", f"/cases/{ident('case:amr-001')}")  # fmt: skip


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


def test_the_prognosis_says_what_past_units_did_and_is_a_table_too(
    page: Any, site: tuple[str, str, dict[str, str]]
) -> None:
    for path in ("/assets/amr-001", f"/cases/{ident('case:amr-001')}"):
        with page.expect_response("**/neighbours") as answered:
            page.goto(site[0] + path)
        assert len(answered.value.json()["courses"]) == 9
        card = page.locator("section.prognosis")
        assert "9 past bearings looked like this; half of them failed within" in card.inner_text()
        assert "times of Europe/Berlin" in card.inner_text()
        card.get_by_text("The same as a table").focus()
        page.keyboard.press("Enter")
        rows = card.locator("tbody").first.inner_text()
        for said in (
            "Part arrives",
            "Repair window",
            "Deadline of FS-",
            "Early end",
            "Middle",
            "Late end",
            "× healthy",
        ):
            assert said in rows


def test_a_prognosis_that_abstains_says_why(page: Any, site: tuple[str, str, dict[str, str]]) -> None:
    nothing = "abstained = true, rul_p10_h = NULL, rul_p50_h = NULL, rul_p90_h = NULL, p_fail = '{}', survival = '[]'"
    with psycopg.connect(site[1]) as conn:
        conn.execute(
            f"UPDATE fleet.prognosis SET {nothing}, reason = 'No forecast: it is old.' WHERE asset_id = 'srv-02'"
        )
        conn.execute(
            f"UPDATE fleet.prognosis SET {nothing}, course = '[]', neighbours = '[]', inputs = '{{}}',"
            " reason = 'No forecast: no course.' WHERE asset_id = 'pump-01'"
        )
    page.goto(f"{site[0]}/assets/srv-02")
    card = page.locator("section.prognosis")
    assert "It abstains. No forecast: it is old." in card.inner_text()
    assert "looked like this" not in card.inner_text()
    card.locator("canvas").wait_for(timeout=15_000)
    page.goto(f"{site[0]}/assets/pump-01")
    assert "It abstains. No forecast: no course." in card.inner_text()
    assert card.locator("[data-chart]").count() == 0
    page.goto(f"{site[0]}/assets/amr-002")
    page.get_by_text("No prognosis").wait_for()


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


def test_an_outcome_is_corrected_where_the_case_is_shown(page: Any, site: tuple[str, str, dict[str, str]]) -> None:
    page.goto(f"{site[0]}/cases/{ident('case:amr-009')}")
    form = page.locator("#correct")
    form.get_by_text("Correct the outcome").click()
    form.get_by_label("The component had failed").check()
    form.get_by_label("Failed at").fill("2026-03-04T06:00")
    form.get_by_label("Failure mode").select_option("bearing_seizure")
    form.get_by_label("Note").fill("the lab found it seized")
    form.get_by_role("button", name="Correct outcome").click()
    page.locator("#outcome").get_by_text("the lab found it seized").wait_for(timeout=10_000)
    with psycopg.connect(site[1]) as conn:
        (outcome,) = conn.execute(
            "SELECT outcome FROM fleet.repair_case WHERE case_id = %s", (ident("case:amr-009"),)
        ).fetchone()
    assert (outcome["failed"], outcome["failed_at"], outcome["failure_mode"]) == (
        True, "2026-03-04T06:00:00Z", "bearing_seizure"
    )  # fmt: skip
    page.goto(f"{site[0]}/cases/{ident('case:amr-001')}")
    assert page.locator("#correct").inner_text() == ""  # it has not ended


def test_parts_that_no_centre_keeps_are_not_said_to_last(page: Any, site: tuple[str, str, dict[str, str]]) -> None:
    page.goto(f"{site[0]}/demand")
    page.get_by_text("3 parts are needed that no centre keeps in stock").wait_for()
    assert page.get_by_text("Nothing to order").count() == 0


def test_the_first_tab_stop_skips_to_the_content(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
