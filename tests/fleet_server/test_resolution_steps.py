"""What a case does next is found from its rows alone; pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.case_files import JONAS, NOW, WINDOW, act, case, case_file

from fleet_server.resolution.plan import Booking, Cover, Decisions, Plan, Replanning, Retrying
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.requests import DispatchRequest
from fleet_server.resolution.rows import Act
from fleet_server.resolution.states import ActState, Undoing
from fleet_server.resolution.steps import Step, next_step
from fleet_server.resolution.stored import table_of

LATER = NOW + timedelta(hours=1)
HELD = ("entitlement", "reservation", "window", "work_order", "dispatch")


def file(state: str, *acts: Act, plan: Plan = Plan(), **changes: Any) -> CaseFile:
    around = {name: changes.pop(name) for name in ("asset_class", "observe_only") if name in changes}
    return case_file(case(state, plan, **changes), *acts, **around)


def test_a_step_is_called_what_it_does() -> None:
    assert list(Step) == [
        "end_questions", "withdraw", "send", "tell_again",
        "release", "unwound", "consume", "entitlement", "approval", "unreadable", "part", "window",
        "work_order", "dispatch", "commit", "amend", "wait",
    ]  # fmt: skip


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
    later, over = (Plan(retrying=Retrying(not_before=until)) for until in (LATER, NOW))
    found = next_step(file("planning", act("entitlement"), plan=later), NOW)
    assert (found.step, found.until) == (Step.WAIT, LATER)
    assert next_step(file("planning", act("entitlement"), plan=over), NOW).step is Step.PART


@pytest.mark.parametrize(
    "changes", [{"escalated": True}, {"observe_only": True}, {"plan": Plan(decisions=Decisions(manual="anna"))}]
)
def test_nothing_is_planned_while_a_person_has_the_word(changes: dict[str, Any]) -> None:
    assert next_step(file("planning", act("entitlement"), **changes), NOW).step is Step.WAIT


UNREAD = Plan(unread={"windov": 1}, unread_because="unknown key")


@pytest.mark.parametrize("state", ["confirmed", "planning", "committed"])
@pytest.mark.parametrize("observe_only", [False, True])
def test_a_person_is_asked_about_a_plan_that_cannot_be_read(state: str, observe_only: bool) -> None:
    assert next_step(file(state, *map(act, HELD), plan=UNREAD, observe_only=observe_only), NOW).step is Step.UNREADABLE


@pytest.mark.parametrize("state", ["open", "in_progress", "cancelled"])
def test_nobody_is_asked_about_an_unreadable_plan_that_nothing_is_planned_by(state: str) -> None:
    assert next_step(file(state, plan=UNREAD), NOW).step is Step.WAIT
    by_hand = replace(UNREAD, decisions=Decisions(manual="anna"))
    assert next_step(file("planning", plan=by_hand), NOW).step is Step.WAIT
    assert next_step(file("planning", plan=UNREAD, escalated=True), NOW).step is Step.WAIT


def test_cover_that_was_lost_with_an_unreadable_plan_is_checked_again() -> None:
    decided = replace(UNREAD, unread_because="")
    assert next_step(file("planning", act("entitlement"), plan=decided), NOW).step is Step.ENTITLEMENT
    covered = replace(decided, booking=Booking(entitlement=Cover("warranty", "W-1")))
    assert next_step(file("planning", act("entitlement"), plan=covered), NOW).step is Step.PART


def test_a_medical_device_asks_before_anything_is_reserved() -> None:
    pump = file("confirmed", act("entitlement"), asset_class="infusion_pump")
    assert next_step(pump, NOW).step is Step.APPROVAL
    approved = file(
        "confirmed", act("entitlement"), asset_class="infusion_pump", plan=Plan(decisions=Decisions(approved_by="anna"))
    )
    assert next_step(approved, NOW).step is Step.PART


@pytest.mark.parametrize(
    ("state", "undoing"),
    [("planning", Undoing.EVERYTHING), ("cancelled", Undoing.NOTHING), ("false_alarm", Undoing.NOTHING)],
)
def test_a_plan_given_up_is_undone_last_first(state: str, undoing: Undoing) -> None:
    plan = Plan(undoing=undoing)
    acts = [act(kind) for kind in HELD]
    for kind in ("dispatch", "work_order", "window", "reservation"):
        found = next_step(file(state, *acts, plan=plan, escalated=True), NOW)
        assert found.step is Step.RELEASE and found.act is not None and found.act.kind == kind
        found.act.state = ActState.RELEASED
    assert next_step(file(state, *acts, plan=plan), NOW).step is (
        Step.UNWOUND if undoing is Undoing.EVERYTHING else Step.WAIT
    )


def test_what_was_held_is_used_up_after_the_work() -> None:
    found = next_step(file("verifying", act("entitlement", "consumed"), act("reservation")), NOW)
    assert found.step is Step.CONSUME and found.act is not None and found.act.kind == "reservation"
    assert next_step(file("closed", act("reservation", "consumed")), NOW).step is Step.WAIT
    assert next_step(file("closed", act("reservation")), NOW).step is Step.CONSUME
    assert next_step(file("verifying", act("message")), NOW).step is Step.WAIT  # a sent message is not used up


def test_messages_go_out_whatever_else_waits_but_not_to_customers_who_only_observe() -> None:
    message = act("message", "intended", purpose="announcement")
    asking = act("message", "intended", purpose="escalation")
    assert next_step(file("committed", message, escalated=True), NOW).step is Step.SEND
    assert next_step(file("committed", message, observe_only=True), NOW).step is Step.WAIT
    assert next_step(file("committed", asking, observe_only=True), NOW).step is Step.SEND
    put_off = act("message", "unknown", purpose="announcement", due_at=LATER)
    assert next_step(file("committed", put_off), NOW).until == LATER
    assert next_step(file("committed", act("message")), NOW).step is Step.WAIT


def test_of_several_waits_the_first_to_end_is_waited_for() -> None:
    put_off = [act("message", "unknown", due_at=LATER + timedelta(hours=hours)) for hours in (2, 0, 1)]
    found = next_step(file("committed", *put_off), NOW)
    assert (found.step, found.until) == (Step.WAIT, LATER)


def test_a_repair_that_a_person_has_done_without_cover_goes_on_to_its_part() -> None:
    uncovered = Plan(decisions=Decisions(without_cover="user:nina"))
    assert next_step(file("planning", plan=uncovered), NOW).step is Step.PART


def test_replanning_books_the_new_before_it_releases_the_old() -> None:
    old, new = NOW + timedelta(hours=18), NOW + timedelta(hours=4)
    window, dispatch = act("window"), dispatched(old)
    base = [act("entitlement"), act("reservation"), act("work_order"), window, dispatch]

    def step(*acts: Act, plan: Plan = Plan()) -> tuple[Step, Any]:
        found = next_step(file("committed", *base, *acts, replanning=True, plan=plan), NOW)
        return found.step, found.act

    moving = Plan(replanning=Replanning(next_window=replace(WINDOW, start=new), next_engineer=JONAS))
    moved, redispatched = act("window"), dispatched(new)
    assert step()[0] is Step.WINDOW
    assert step(moved, plan=moving)[0] is Step.DISPATCH
    undispatched = file("committed", window, moved, replanning=True, plan=moving)
    assert next_step(undispatched, NOW).step is Step.DISPATCH
    begun_window, begun_dispatch = act("window", "intended"), dispatched(new)
    assert step(begun_window, plan=moving) == (Step.WINDOW, begun_window)
    begun_dispatch.state = ActState.INTENDED
    assert step(moved, begun_dispatch, plan=moving) == (Step.DISPATCH, begun_dispatch)
    begun_dispatch.state = ActState.REFUSED
    assert step(moved, begun_dispatch, plan=moving) == (Step.DISPATCH, None)
    assert step(moved, redispatched, plan=moving) == (Step.RELEASE, window)
    window.state = ActState.RELEASED
    assert step(moved, redispatched, plan=moving) == (Step.RELEASE, dispatch)
    dispatch.state = ActState.RELEASED
    assert step(moved, redispatched, plan=moving)[0] is Step.AMEND


def test_one_window_is_dropped_before_anything_else_is_planned() -> None:
    dropping = Plan(undoing=Undoing.WINDOW)
    acts = [act("entitlement"), act("reservation"), act("window")]
    found = next_step(file("planning", *acts, plan=dropping, escalated=True), NOW)
    assert found.step is Step.RELEASE and found.act is acts[-1]
    acts[-1].state = ActState.RELEASED
    assert next_step(file("planning", *acts, plan=dropping), NOW).step is Step.UNWOUND
    assert next_step(file("planning", *acts), NOW).step is Step.WINDOW


def dispatched(start: datetime) -> Act:
    return act("dispatch", request=table_of(DispatchRequest(JONAS, start, start + timedelta(hours=2))))
