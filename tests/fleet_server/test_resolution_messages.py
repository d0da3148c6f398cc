"""What the customer is told is true: who decided, and whether the repair comes before a failure is expected."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.case_files import BOOKED, WINDOW, case, case_file

from fleet_server.health.running import Running, RunningState, Why
from fleet_server.resolution.messages import announcement, cancellation, closing, escalation, failure, runs_again
from fleet_server.resolution.plan import Cover, Emergency

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


def announced(now: datetime, state: str = "committed", machine: Running | None = None, **changes: Any) -> str:
    """The announcement composed at ``now``; ``machine`` is the running state, ``failed_at`` makes it an emergency."""
    window = replace(WINDOW, start=START, end=END, choice="emergency" if "failed_at" in changes else "quietest")
    booking = replace(BOOKED.booking, window=window, announced=window)
    plan = replace(BOOKED, booking=booking, emergency=Emergency(changes.pop("failed_at", None), "it stood"))
    seen = RunningState(machine, START - timedelta(days=4), Why.VITALS, "seen") if machine else None
    return announcement(case_file(case(state, plan, **changes)), "Marta", now, machine=seen).text


BEFORE = START - timedelta(days=3)


@pytest.mark.parametrize("machine", [None, *Running])
def test_only_of_a_machine_that_runs_it_is_said_that_it_works(machine: Running | None) -> None:
    text = announced(BEFORE, machine=machine)
    assert ("still works normally" in text) is (machine is Running.RUNNING)
    assert ("stands still at present, as meant" in text) is (machine is Running.RESTING)
    assert ("although it should run" in text) is (machine is Running.STOPPED)
    assert ("Nothing has been heard" in text) is (machine is Running.SILENT)


def test_a_deadline_that_is_over_promises_nothing_and_is_said_to_be_over() -> None:
    late = announced(BEFORE, machine=Running.RUNNING, deadline_at=BEFORE + timedelta(hours=1))
    assert "a failure may come from" in late and "keep watching the machine until then" in late
    past = announced(BEFORE, machine=Running.RUNNING, deadline_at=BEFORE - timedelta(hours=1))
    assert "A failure has been possible since" in past and "until then" not in past and "may come" not in past
    assert "keep watching" not in announced(BEFORE, machine=Running.SILENT, deadline_at=BEFORE + timedelta(hours=1))


@pytest.mark.parametrize(
    ("at", "state", "words"),
    [
        (START - timedelta(minutes=1), "committed", "and takes place on"),
        (START + timedelta(minutes=1), "committed", "takes place now"),
        (END, "committed", "was to take place on"),
        (END + timedelta(days=2), "verifying", "has been reported as done"),
        (START, "closed", "has been reported as done"),
    ],
)
def test_the_window_is_ahead_now_or_over(at: datetime, state: str, words: str) -> None:
    text = announced(at, state, Running.RUNNING, deadline_at=END + timedelta(days=9))
    assert words in text
    assert ("before a failure is expected" in text) is (at < START and state == "committed")
    assert ("attached for your calendar" in text) is (at < END and state == "committed")


def test_a_failed_machine_is_announced_as_one() -> None:
    text = announced(BEFORE, failed_at=BEFORE - timedelta(hours=3), deadline_at=END + timedelta(days=1))
    assert "has stood still since" in text and "is taken for failed" in text and "is on site by" in text
    assert "the earliest that is possible" in text
    for words in ("works normally", "early signs", "failure is expected", "may come", "sorry", "keep watching"):
        assert words not in text


def test_what_is_told_at_once_says_what_is_arranged_by_then() -> None:
    window = replace(WINDOW, start=START, end=END)
    emergency = Emergency(BEFORE, "its bearing was critical, then it stood still")
    booked = replace(BOOKED, booking=replace(BOOKED.booking, window=window), emergency=emergency)
    for state, plan, words in (
        ("committed", booked, "Its repair is arranged on Tuesday 24 November"),
        ("planning", replace(booked, booking=replace(booked.booking, window=None)), "is being arranged"),
        ("in_progress", booked, "It is being repaired now"),
        ("open", booked, "No repair is arranged yet"),
    ):
        text = failure(case_file(case(state, plan)), "Marta", BEFORE + timedelta(hours=1), "failure").text
        assert words in text and "has stood still since" in text, state
    alert = failure(case_file(case("committed", booked)), "Marta", BEFORE, "alert").text
    assert "was critical, then it stood still" in alert
    silent = replace(booked, emergency=replace(emergency, fell_silent=True))
    assert "has been silent since" in failure(case_file(case("committed", silent)), "Marta", BEFORE, "failure").text
    back = runs_again(case_file(case("committed", booked)), "Marta", BEFORE, BEFORE, "failure").text
    assert "runs again since" in back and "it had only stopped" in back


def test_what_is_taken_back_or_closed_is_told_as_it_was() -> None:
    window = replace(WINDOW, start=START, end=END)
    plan = replace(BOOKED, booking=replace(BOOKED.booking, announced=window))
    file = case_file(case("cancelled", plan))
    assert "does not take place" in cancellation(file, "Marta", BEFORE, 1).text
    assert "did not take place" in cancellation(file, "Marta", END, 1).text
    assert "could not be delivered to you" in closing(file, "Marta", announced=False).text


def test_the_subject_of_a_question_says_which_asset_what_and_until_when() -> None:
    file = case_file(case("planning", BOOKED))
    asked = escalation(file, "The first part comes late", START, [], "no_part_in_time")
    assert asked.subject.startswith(f"{file.asset.name}: no part before the deadline; decide by Tue 24 Nov, 02:00")
    assert file.name in asked.subject


def test_what_comes_in_time_is_announced_as_the_preventive_maintenance_it_is() -> None:
    promise = "An optimised preventive maintenance is arranged, for continuous performance."
    assert promise in told(END) and promise not in told(END - timedelta(hours=1))
