"""What the customer is told is true: who decided, and whether the repair comes before a failure is expected."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet_server.resolution.messages import announcement
from fleet_server.resolution.policy import policy_for
from fleet_server.resolution.records import CaseFile

START = datetime(2026, 11, 24, 1, tzinfo=UTC)
END = START + timedelta(hours=2)


def told(deadline_at: datetime | None, *, choice: str = "quietest", sequence: int = 0, decided_by: str = "") -> str:
    window: dict[str, Any] = {
        "start": START.isoformat(), "end": END.isoformat(), "time_zone": "Europe/Berlin", "load_rank": 1, "load": 12.0,
        "choice": choice,
    }  # fmt: skip
    plan = {"window": window, "engineer": {"name": "Jonas"}, "part": {"label": "Bearing"}, "entitlement": {}}
    case = {"case_id": uuid.uuid4(), "number": 1, "plan": plan, "deadline_at": deadline_at,
            "failure_mode": "bearing_spalling", "slot": "drive_bearing"}  # fmt: skip
    asset, site = {"name": "AMR 17", "asset_id": "amr-17"}, {"name": "Hamburg", "site_id": "hamburg"}
    file = CaseFile(case, [], asset, site, {}, {"component_type": "bearing"}, None, policy_for({}), "")
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
