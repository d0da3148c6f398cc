"""What a case does next is found from its rows alone; pure."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet_server.resolution.policy import policy_for
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.steps import Step, next_step

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
HELD = ("entitlement", "reservation", "window", "work_order", "dispatch")


def act(kind: str, state: str = "held", **changes: Any) -> dict[str, Any]:
    return {"kind": kind, "purpose": "", "sequence": 0, "state": state, "due_at": NOW, "request": {}, **changes}


def file(state: str, *acts: dict[str, Any], plan: dict[str, Any] | None = None, **changes: Any) -> CaseFile:
    case = {"case_id": uuid.uuid4(), "number": 1, "state": state, "escalated": False, "replanning": False,
            "plan": plan or {}, "deadline_at": None, **changes}  # fmt: skip
    observing = changes.get("observe_only", False)
    asset = {"asset_class": changes.get("asset_class", "robot")}
    return CaseFile(case, list(acts), asset, {}, {"observe_only": observing}, {}, None, policy_for({}), "")


@pytest.mark.parametrize(
    ("done", "step"),
    list(enumerate((Step.ENTITLEMENT, Step.PART, Step.WINDOW, Step.WORK_ORDER, Step.DISPATCH, Step.COMMIT))),
)
def test_the_order_of_a_plan(done: int, step: Step) -> None:
    assert next_step(file("planning", *map(act, HELD[:done])), NOW).step is step


@pytest.mark.parametrize("state", ["intended", "unknown"])
def test_what_was_begun_is_finished_first(state: str) -> None:
    begun = act("reservation", state)
    found = next_step(file("planning", act("entitlement"), begun), NOW)
    assert (found.step, found.act) == (Step.PART, begun)


def test_what_was_refused_is_done_anew() -> None:
    found = next_step(file("planning", act("entitlement"), act("reservation", "refused")), NOW)
    assert (found.step, found.act) == (Step.PART, None)


def test_what_was_put_off_is_waited_for() -> None:
    found = next_step(file("planning", act("entitlement"), act("reservation", "unknown", due_at=LATER)), NOW)
    assert (found.step, found.until) == (Step.WAIT, LATER)
    found = next_step(file("planning", act("entitlement"), plan={"not_before": LATER.isoformat()}), NOW)
    assert (found.step, found.until) == (Step.WAIT, LATER)


@pytest.mark.parametrize("changes", [{"escalated": True}, {"observe_only": True}, {"plan": {"manual": "anna"}}])
def test_nothing_is_planned_while_a_person_has_the_word(changes: dict[str, Any]) -> None:
    assert next_step(file("planning", act("entitlement"), **changes), NOW).step is Step.WAIT


def test_a_medical_device_asks_before_anything_is_reserved() -> None:
    pump = file("confirmed", act("entitlement"), asset_class="infusion_pump")
    assert next_step(pump, NOW).step is Step.APPROVAL
    approved = file("confirmed", act("entitlement"), asset_class="infusion_pump", plan={"approved_by": "anna"})
    assert next_step(approved, NOW).step is Step.PART


@pytest.mark.parametrize(("state", "plan"), [("planning", {"unwind": True}), ("cancelled", {}), ("false_alarm", {})])
def test_a_plan_given_up_is_undone_last_first(state: str, plan: dict[str, Any]) -> None:
    acts = [act(kind) for kind in HELD]
    for kind in ("dispatch", "work_order", "window", "reservation"):
        found = next_step(file(state, *acts, plan=plan, escalated=True), NOW)
        assert found.step is Step.RELEASE and found.act is not None and found.act["kind"] == kind
        found.act["state"] = "released"
    assert next_step(file(state, *acts, plan=plan), NOW).step is (Step.UNWOUND if plan else Step.WAIT)


def test_what_was_held_is_used_up_after_the_work() -> None:
    found = next_step(file("verifying", act("entitlement", "consumed"), act("reservation")), NOW)
    assert found.step is Step.CONSUME and found.act is not None and found.act["kind"] == "reservation"
    assert next_step(file("closed", act("reservation", "consumed")), NOW).step is Step.WAIT


def test_messages_go_out_whatever_else_waits_but_not_to_customers_who_only_observe() -> None:
    message = act("message", "intended", purpose="announcement")
    asking = act("message", "intended", purpose="escalation")
    assert next_step(file("committed", message, escalated=True), NOW).step is Step.SEND
    assert next_step(file("committed", message, observe_only=True), NOW).step is Step.WAIT
    assert next_step(file("committed", asking, observe_only=True), NOW).step is Step.SEND
    put_off = act("message", "unknown", purpose="announcement", due_at=LATER)
    assert next_step(file("committed", put_off), NOW).until == LATER


def test_replanning_books_the_new_before_it_releases_the_old() -> None:
    old, new = "2026-01-06T02:00:00+00:00", "2026-01-05T12:00:00+00:00"
    window, dispatch = act("window"), act("dispatch", request={"start": old})
    base = [act("entitlement"), act("reservation"), act("work_order"), window, dispatch]

    def step(*acts: dict[str, Any], **plan: Any) -> tuple[Step, Any]:
        found = next_step(file("committed", *base, *acts, replanning=True, plan=plan), NOW)
        return found.step, found.act

    moved, redispatched = act("window"), act("dispatch", request={"start": new})
    assert step()[0] is Step.WINDOW
    assert step(moved, next_window={"start": new})[0] is Step.DISPATCH
    assert step(moved, redispatched, next_window={"start": new}) == (Step.RELEASE, window)
    window["state"] = "released"
    assert step(moved, redispatched, next_window={"start": new}) == (Step.RELEASE, dispatch)
    dispatch["state"] = "released"
    assert step(moved, redispatched, next_window={"start": new})[0] is Step.AMEND
