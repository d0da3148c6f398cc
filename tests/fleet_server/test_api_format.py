"""How a page writes times, numbers and JSON; reading a plan with care."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.api.reads.fleet import like
from fleet_server.api.reads.plan import read_plan
from fleet_server.dashboard import format as written
from fleet_server.dashboard.pages import _inside

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


def test_a_time_shows_the_sites_zone_and_utc_across_the_change_to_summer() -> None:
    before, after = datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert "01:30 CET" in written.local(before, "Europe/Berlin", "both")
    assert "03:30 CEST" in written.local(after, "Europe/Berlin", "both")
    assert "00:30 UTC" in written.local(before, "Europe/Berlin", "both")


def test_an_unknown_zone_is_shown_as_utc() -> None:
    assert "12:00 UTC" in written.local(datetime(2026, 1, 1, 12, tzinfo=UTC), "Nowhere/At_All")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0623, "g", "0.0623\xa0g"), (12345.0, "h", "12\u202f345\xa0h"), (float("nan"), "g", "–"), (3.0, "", "3")],
)
def test_numbers_carry_their_unit(value: float, unit: str, text: str) -> None:
    assert written.number(value, unit) == text


def test_a_share_is_never_rounded_to_certainty() -> None:
    assert written.percent(0.9999).startswith(">")
    assert written.percent(0.0001).startswith("<")


def test_durations_use_two_units() -> None:
    assert written.duration(timedelta(days=2, hours=4, minutes=3)) == "2 d 4 h"
    assert written.duration(timedelta(minutes=59)) == "59 min"
    assert written.story_second(3600.0) == "1\xa0h"


@given(json_values)
def test_a_data_block_cannot_be_left(value: Any) -> None:
    block = written.data_block(value)
    assert "<" not in block
    assert json.loads(block) == value


@given(json_values)
def test_any_plan_can_be_shown(plan: Any) -> None:
    read_plan(plan, [{"kind": "window", "request": plan}], None, "")


@given(json_values)
def test_any_object_can_be_shown_as_facts(value: Any) -> None:
    assert all(isinstance(text, str) for _, text in written.facts(value))


def test_a_search_is_literal() -> None:
    assert like("50%_a") == r"%50\%\_a%"
    assert like("  ") is None


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x"])
def test_a_login_leads_only_inside(target: str) -> None:
    assert _inside(target) == "/"


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("motor_current_a", "Motor current"),
        ("bearing_temperature_cel", "Bearing temperature"),
        ("vibration_rms_g", "Vibration RMS"),
        ("vibration.band_2", "Vibration, band 2"),
        ("disk_write_by_s", "Disk write"),
        ("cpu_percent", "CPU"),
        ("area_alpha", "Area alpha"),
    ],
)
def test_a_vital_is_named_without_its_unit(metric: str, name: str) -> None:
    assert written.vital_name(metric) == name


def test_times_inside_a_record_are_written_for_people() -> None:
    record = {"latest_end": "2026-11-18T14:22:00+01:00", "offers": [{"arrives_at": "2026-11-18T14:22:00.5Z"}]}
    lines = dict(written.facts(record | {"odd": "2026-99-18T14:22:00+00:00"}))
    assert lines["Latest end"] == "Wed 18 Nov 13:22 UTC"
    assert "Wed 18 Nov 14:22 UTC" in lines["Offers"]
    assert lines["Odd"] == "2026-99-18T14:22:00+00:00"


def test_of_an_unreadable_plan_the_rest_is_shown() -> None:
    stored = {"engineer": {"id": "jonas", "name": "Jonas"}, "window": {"start": "soon"}}
    plan = read_plan(stored, [], None, "")
    assert (plan.engineer_name, plan.windows) == ("Jonas", [])
    assert not read_plan({}, [{"kind": "window", "request": {"start": "soon"}}], None, "").load_by_hour
