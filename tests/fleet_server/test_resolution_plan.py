"""A case's plan: every row that was written is read, nothing is lost on the way, nothing odd is taken for a plan."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.case_files import BOOKED, JONAS, NOW, PART, WINDOW

from fleet_core.errors import BadInput
from fleet_server.connectors.parts.api import Offer
from fleet_server.resolution.plan import (
    Alternative,
    Booking,
    Cover,
    Decisions,
    Plan,
    PlanIncomplete,
    PlannedEngineer,
    PlannedOrder,
    Replanning,
    Retrying,
    Window,
    needed,
    plan_of,
    read_plan,
    write_plan,
)
from fleet_server.resolution.requests import BookingRequest, DispatchRequest, MessageRequest, check_request
from fleet_server.resolution.states import Undoing
from fleet_server.resolution.stored import read_stored, to_stored

SAMPLES = json.loads((Path(__file__).parent / "data" / "stored_plans.json").read_text(encoding="utf-8"))
"""Plans and requests as an earlier version of the worker stored them, one of each set of keys."""
REQUESTS: dict[str, type] = {
    "reservation": Offer, "window": BookingRequest, "dispatch": DispatchRequest, "message": MessageRequest,
}  # fmt: skip
_PART: dict[str, Any] = json.loads(json.dumps(to_stored(PART, whole=True)))
NAIVE = NOW.replace(tzinfo=None)
EMPTY: tuple[object, ...] = (None, "", [], {}, False)

instants = st.integers(0, 10**15).map(lambda us: NOW + timedelta(microseconds=us))
words = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
engineers = st.builds(PlannedEngineer, words, words)
counts = st.dictionaries(words, st.integers(0, 9), max_size=3)
loads, ranks = st.floats(0, 1e6), st.integers(0, 99)
windows = st.builds(
    Window, instants, instants, loads, ranks, words, words, loads, ranks, st.booleans(),
    st.sampled_from(["quietest", "quietest_soon", "first"]), words,
)  # fmt: skip
terms = st.recursive(
    st.booleans() | words | ranks | loads,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, st.none() | inner, max_size=2),
    max_leaves=4,
)
covers = st.builds(Cover, words, words, st.none() | instants, terms, words)
plans = st.builds(
    Plan,
    st.builds(
        Booking, st.none() | covers, st.none() | st.just(PART), st.none() | windows, st.none() | engineers,
        st.none() | st.builds(PlannedOrder, words, words),
        st.lists(st.builds(Alternative, instants, instants, loads, ranks, words), max_size=3).map(tuple),
        counts, st.none() | windows, st.none() | instants,
    ),
    st.builds(
        Replanning, st.none() | windows, st.none() | engineers, st.lists(instants, max_size=3).map(tuple),
        st.lists(st.tuples(instants, words), max_size=3).map(tuple),
    ),
    st.builds(Retrying, counts, st.none() | instants),
    st.builds(Decisions, *[words] * 9),
    st.sampled_from(Undoing),
    st.booleans(),
    words,
)  # fmt: skip


@given(plans)
def test_what_is_written_is_read_again(plan: Plan) -> None:
    assert read_plan(json.loads(json.dumps(write_plan(plan)))) == plan


@pytest.mark.parametrize(
    ("booking", "where"),
    [
        (Booking(entitlement=Cover("w", valid_to=NAIVE)), "valid_to"),
        (Booking(entitlement=Cover("w", terms={"limit": math.nan})), "JSON"),
        (Booking(entitlement=Cover("w", terms=["a\x00"])), "NUL"),
        (Booking(entitlement=Cover("w\ud800")), "JSON"),
        (Booking(work_order=PlannedOrder("id-1", cast("str", 7))), "number"),
        (Booking(part=replace(PART, price_eur=math.inf)), "JSON"),
        (Booking(window=replace(WINDOW, start=NAIVE)), "start"),
        (Booking(engineer=PlannedEngineer("jonas", cast("str", ["Jonas"]))), "name"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(booking: Booking, where: str) -> None:
    with pytest.raises(BadInput, match=where) as refused:
        write_plan(Plan(booking=booking))
    assert refused.value.reason == "plan"


def test_a_backslash_before_the_word_of_a_nul_is_no_nul() -> None:
    plan = Plan(booking=Booking(entitlement=Cover("w", terms={"path": "\\u0000", "more": "\\\\u0000"})))
    assert read_plan(json.loads(json.dumps(write_plan(plan)))) == plan


OFFER = Offer("PN-1", "Bearing", "bremen", "Bremen", 2, 120.0, None, 4.0, NOW)
BOOKING = BookingRequest(NOW, NOW, WINDOW, JONAS)


@pytest.mark.parametrize(
    ("kind", "sound", "bad"),
    [
        ("reservation", OFFER, replace(OFFER, arrives_at=NAIVE)),
        ("reservation", OFFER, replace(OFFER, price_eur=math.nan)),
        ("window", BOOKING, replace(BOOKING, end=NAIVE)),
        ("window", BOOKING, replace(BOOKING, load_by_hour={"h": math.nan})),
        ("dispatch", DispatchRequest(JONAS, NOW, NOW), DispatchRequest(JONAS, NOW, NAIVE)),
        ("work_order", {"window": WINDOW}, {"window": replace(WINDOW, start=NAIVE)}),
        ("work_order", {"window": WINDOW}, {}),
        ("message", MessageRequest("email", "henrik", {}), MessageRequest("email", "henrik", cast("Any", "text"))),
        ("entitlement", {"at": NOW}, {"asset_serial": "a\x00"}),
    ],
)
def test_a_request_that_could_not_be_read_again_is_not_stored(kind: str, sound: object, bad: object) -> None:
    check_request(kind, _table(sound))
    with pytest.raises(BadInput, match=f"request_of_{kind}"):
        check_request(kind, _table(bad))


@pytest.mark.parametrize("stored", SAMPLES["plans"], ids=lambda stored: "-".join(sorted(stored))[:60] or "empty")
def test_a_stored_plan_is_read_and_written_as_it_was(stored: dict[str, Any]) -> None:
    assert _filled(write_plan(read_plan(stored))) == _filled(stored)


@pytest.mark.parametrize("sample", SAMPLES["requests"], ids=lambda sample: sample["kind"])
def test_a_stored_request_is_read_and_written_as_it_was(sample: dict[str, Any]) -> None:
    found = read_stored(sample["request"], REQUESTS[sample["kind"]], "request")
    assert _filled(to_stored(found)) == _filled(sample["request"])


def test_the_samples_hold_every_key_that_is_ever_stored() -> None:
    known = {name for stored in SAMPLES["plans"] for name in stored}
    assert known == {
        "entitlement", "part", "window", "engineer", "work_order", "alternatives", "excluded", "announced",
        "planned_for", "next_window", "next_engineer", "refused_windows", "refused_pairs", "tries", "not_before",
        "acted_on_by", "watching", "approved_by", "cost_approved_by", "without_cover", "accept_late", "keep_plan",
        "manual", "closed_by", "unwind", "drop_window", "verify_extended", "ended_because",
    }  # fmt: skip
    assert known == set(write_plan(FULL)) | {"drop_window"}


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        (None, "an object is expected"),
        ([], "an object is expected"),
        ({"windov": {}}, "windov"),
        ({"window": {}}, "start"),
        ({"window": None, "manual": 1}, "manual"),
        ({"unwind": "yes"}, "unwind"),
        ({"engineer": {"id": "jonas", "name": "Jonas", "age": 40}}, "engineer.age"),
        ({"alternatives": [{"start": "2026-01-05"}]}, "alternatives"),
        ({"refused_windows": ["2026-01-05T08:00:00"]}, "timezone"),
        ({"refused_pairs": [["2026-01-05T08:00:00+00:00"]]}, "refused_pairs"),
        ({"tries": {"load": 1.5}}, "tries"),
        ({"planned_for": 3}, "planned_for"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(stored: object, where: str) -> None:
    with pytest.raises(BadInput, match=where) as refused:
        read_plan(stored)
    assert refused.value.reason == "plan"


_WINDOW: dict[str, Any] = json.loads(json.dumps(to_stored(WINDOW, whole=True)))
WINDOW_THEN = {name: value for name, value in _WINDOW.items() if name != "choice"}


@pytest.mark.parametrize(
    ("stored", "plan"),
    [
        ({"window": WINDOW_THEN}, Plan(booking=Booking(window=WINDOW))),
        ({"next_window": {**WINDOW_THEN, "choice": None}}, Plan(replanning=Replanning(next_window=WINDOW))),
        ({"entitlement": {"kind": "w", "terms": None}}, Plan(booking=Booking(Cover("w")))),
        ({"entitlement": {"kind": "w", "terms": {"a": None}}}, Plan(booking=Booking(Cover("w", terms={"a": None})))),
        ({"work_order": {"id": "id-1", "number": None}}, Plan(booking=Booking(work_order=PlannedOrder("id-1")))),
        ({"engineer": {"id": "id-1", "name": None}}, Plan(booking=Booking(engineer=PlannedEngineer("id-1")))),
        ({"part": to_stored(PART, whole=True)}, Plan(booking=Booking(part=PART))),
        ({"alternatives": None, "excluded": None, "tries": None, "refused_windows": None}, Plan()),
        ({"unwind": None, "drop_window": None, "verify_extended": None, "ended_because": None}, Plan()),
        ({"manual": None, "keep_plan": None, "window": None, "planned_for": None}, Plan()),
    ],
)
def test_what_earlier_versions_left_out_or_wrote_as_null_is_absent(stored: dict[str, Any], plan: Plan) -> None:
    assert read_plan(stored) == plan


def test_what_a_stored_plan_leaves_out_is_empty() -> None:
    window = {name: value for name, value in WINDOW_THEN.items() if name != "booking"}
    stored = {"entitlement": {"kind": "w"}, "window": window, "engineer": {"id": "jonas"}, "work_order": {"id": "id-1"}}
    plan = read_plan(stored)
    assert plan.booking.entitlement == Cover("w", reference="", valid_to=None, terms={}, approved_by="")
    assert plan.booking.window == replace(WINDOW, choice="quietest", booking="")
    assert plan.booking.engineer == PlannedEngineer("jonas", name="")
    assert plan.booking.work_order == PlannedOrder("id-1", number="")
    assert plan.decisions == Decisions(*[""] * 9)


def test_how_a_window_was_chosen_is_always_written() -> None:
    assert _table(WINDOW)["choice"] == "quietest"


@pytest.mark.parametrize("stored", [{"part": {**_PART, "label": None}}, {"part": {**_PART, "on_hand": None}}])
def test_a_null_that_stands_for_no_default_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"label|on_hand"):
        read_plan(stored)


def test_of_an_unreadable_plan_the_rest_is_read() -> None:
    stored = {**write_plan(FULL), "window": {"start": "soon"}, "tries": "many", "odd": 1}
    plan = plan_of(stored)
    assert plan.booking == replace(FULL.booking, window=None)
    assert (plan.retrying, plan.decisions) == (Retrying({}, NOW), FULL.decisions)
    assert plan.unread == stored and "odd" in plan.unread_because
    assert plan.fresh().unread == stored and not plan.fresh().unread_because


@pytest.mark.parametrize("stored", [None, 7, "window", ["window"], [["manual", "user:nina"]]])
def test_what_is_no_object_is_an_empty_plan_that_keeps_what_was_stored(stored: object) -> None:
    because = f"plan: an object is expected, not {type(stored).__name__}"
    assert plan_of(stored) == Plan(unread=stored, unread_because=because)


def test_a_plan_that_was_read_already_is_taken_as_it_is() -> None:
    assert read_plan(FULL) is FULL
    assert plan_of(FULL) is FULL


def test_a_plan_whose_window_was_being_dropped_when_all_was_given_up_is_undone_whole() -> None:
    assert read_plan({"unwind": True, "drop_window": True}).undoing is Undoing.EVERYTHING
    assert read_plan({"drop_window": True}).undoing is Undoing.WINDOW
    assert write_plan(Plan(undoing=Undoing.WINDOW)) == {"drop_window": True}
    assert write_plan(Plan(undoing=Undoing.EVERYTHING)) == {"unwind": True}
    assert write_plan(Plan()) == {}


FULL = replace(
    BOOKED,
    booking=replace(
        BOOKED.booking,
        alternatives=(Alternative(NOW, NOW, 1.0, 2, "early"),),
        excluded={"equipment_taken": 3},
        announced=WINDOW,
        planned_for=NOW,
    ),
    replanning=Replanning(WINDOW, JONAS, (NOW,), ((NOW, "jonas"),)),
    retrying=Retrying({"load": 1}, NOW),
    decisions=Decisions(*"abcdefghi"),
    undoing=Undoing.EVERYTHING,
    verify_extended=True,
    ended_because="sold",
)


def test_a_new_plan_forgets_what_was_refused_and_accepted_but_not_what_is_held() -> None:
    fresh = FULL.fresh()
    assert fresh.booking == replace(FULL.booking, planned_for=None)
    assert fresh.replanning == replace(FULL.replanning, refused_windows=(), refused_pairs=())
    assert (fresh.retrying, fresh.verify_extended) == (Retrying(), False)
    gone = {"approved_by", "cost_approved_by", "accept_late", "keep_plan"}
    kept = {name: value for name, value in _table(FULL.decisions).items() if name not in gone}
    assert _table(fresh.decisions) == kept
    assert (fresh.undoing, fresh.ended_because) == (FULL.undoing, FULL.ended_because)


def test_what_was_released_is_forgotten_and_the_announcement_is_not() -> None:
    left = set(_table(FULL.unbooked().booking))
    assert left == {"entitlement", "alternatives", "excluded", "announced", "planned_for"}
    assert set(_table(FULL.unbooked().replanning)) == {"refused_windows", "refused_pairs"}
    without = FULL.without_window()
    assert (without.booking.window, without.booking.engineer, without.booking.part) == (None, None, PART)
    assert without.replanning == FULL.replanning
    stands = FULL.unmoved()
    assert stands.booking == FULL.booking
    assert (stands.replanning.next_window, stands.replanning.next_engineer) == (None, None)


def test_only_the_fifty_newest_refusals_are_remembered() -> None:
    plan = Plan()
    starts = [NOW + timedelta(hours=n) for n in range(53)]
    for start in starts:
        plan = plan.refusing(start).refusing_pair(start, "jonas")
    assert plan.replanning.refused_windows == tuple(starts[3:])
    assert plan.replanning.refused_pairs == tuple((start, "jonas") for start in starts[3:])


@pytest.mark.parametrize("name", ["accept_late", "cost_approved_by", "approved_by", "without_cover", "acted_on_by"])
def test_who_made_a_plan_possible_is_known(name: str) -> None:
    assert Decisions(**{name: "user:nina"}).made_it_possible == "user:nina"


def test_other_decisions_leave_a_plan_automatic() -> None:
    assert Decisions(watching="a", keep_plan="a", manual="a", closed_by="a").made_it_possible == ""


def test_a_missing_part_of_a_plan_is_named() -> None:
    with pytest.raises(PlanIncomplete, match="no window"):
        needed(None, "window")
    assert needed(WINDOW, "window") is WINDOW


def _table(value: object) -> dict[str, Any]:
    stored = to_stored(value)
    assert isinstance(stored, dict)
    return stored


def _filled(value: Any) -> Any:
    """Without what is empty: whether an empty list is stored or left out makes no difference."""
    if isinstance(value, dict):
        return {name: _filled(item) for name, item in value.items() if item not in EMPTY}
    return [_filled(item) for item in value] if isinstance(value, list) else value
