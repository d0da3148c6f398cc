"""What the customer is told is true: who decided, and whether the repair comes before a failure is expected."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.case_files import BOOKED, WINDOW, case, case_file

from fleet_server.resolution.messages import announcement
from fleet_server.resolution.plan import Cover

START = datetime(2026, 11, 24, 1, tzinfo=UTC)
END = START + timedelta(hours=2)


def told(deadline_at: datetime | None, *, choice: Any = "quietest", sequence: int = 0, decided_by: str = "") -> str:
    window = replace(WINDOW, start=START, end=END, choice=choice)
    plan = replace(BOOKED, booking=replace(BOOKED.booking, window=window, entitlement=Cover("none")))
    file = case_file(case("committed", plan, deadline_at=deadline_at))
    return announcement(file, "Marta", START - timedelta(days=3), sequence, decided_by).text


def test_what_was_automatic_and_in_time() -> None:
    text = told(END)
    assert "arranged automatically" in text and "before a failure is expected" in text
    assert "sorry" not in text and "the window is the quietest that fits" in text


def test_what_a_person_decided_was_not_automatic() -> None:
    text = told(END + timedelta(days=1), decided_by="Nina Hale")
    assert "arranged after a decision by Nina Hale" in text and "automatically" not in text


@pytest.mark.parametrize("sequence", [0, 1])
def test_what_is_late_is_said(sequence: int) -> None:
    text = told(END - timedelta(hours=1), choice="first", sequence=sequence, decided_by="Marta")
    assert "before a failure" not in text
    assert "later than we would like: a failure may come from Tuesday 24 November 2026, 03:00" in text
    assert "the window is the first that is possible" in text and "quietest" not in text


def test_without_a_forecast_nothing_is_promised() -> None:
    text = told(None, decided_by="Marta")
    assert "failure is expected" not in text and "sorry" not in text
