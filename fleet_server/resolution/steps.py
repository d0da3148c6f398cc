"""What a case does next. Pure: (case file, now) -> one step, or waiting until some time, or for an event.

The order of a plan is entitlement, part, window, work order, dispatch, commitment, announcement. Every step is found
from the rows alone, so a worker that starts after a crash goes on exactly where the rows say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleet_server.resolution.records import CaseFile, Row
from fleet_server.resolution.states import ActState, CaseState

PENDING = (ActState.INTENDED, ActState.UNKNOWN)
UNDOABLE = ("reservation", "window", "work_order", "dispatch")
"""Kinds of acts that bind another system and are released when a plan is given up, last done first."""


class Step(StrEnum):
    SEND = "send"
    RELEASE = "release"
    UNWOUND = "unwound"
    CONSUME = "consume"
    ENTITLEMENT = "entitlement"
    APPROVAL = "approval"
    PART = "part"
    WINDOW = "window"
    WORK_ORDER = "work_order"
    DISPATCH = "dispatch"
    COMMIT = "commit"
    AMEND = "amend"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Next:
    """A step; ``act`` is the row it continues. For WAIT ``until`` is the domain time to look again, None: an event."""

    step: Step
    act: Row | None = None
    until: datetime | None = None


def next_step(file: CaseFile, now: datetime) -> Next:
    """The one thing to do now."""
    messages = [
        act
        for act in file.acts
        if act["kind"] == "message"
        and act["state"] in PENDING
        and (act["purpose"] == "escalation" or not file.tenant["observe_only"])
    ]
    for act in messages:
        if act["due_at"] <= now:
            return Next(Step.SEND, act)
    found = _undoing(file, now) or _using_up(file, now) or _planning(file, now)
    if found.step is not Step.WAIT:
        return found
    return Next(Step.WAIT, until=_earliest([*(act["due_at"] for act in messages), found.until]))


def _undoing(file: CaseFile, now: datetime) -> Next | None:
    """Release what is held when the plan was given up; None when there is nothing to undo."""
    if file.plan.get("drop_window"):
        window = file.live("window")
        if window is not None:
            return _when_due(Step.RELEASE, window, now)
        return Next(Step.UNWOUND)
    if file.case["state"] not in (CaseState.CANCELLED, CaseState.FALSE_ALARM) and not file.plan.get("unwind"):
        return None
    held = [act for act in file.acts if act["kind"] in UNDOABLE and act["state"] in (*PENDING, ActState.HELD)]
    if held:
        return _when_due(Step.RELEASE, held[-1], now)
    return Next(Step.UNWOUND) if file.plan.get("unwind") else Next(Step.WAIT)


def _using_up(file: CaseFile, now: datetime) -> Next | None:
    """Mark what was held as used once the work is done; None before that."""
    if file.case["state"] not in (CaseState.VERIFYING, CaseState.CLOSED):
        return None
    for act in file.acts:
        if act["kind"] != "message" and act["state"] == ActState.HELD:
            return _when_due(Step.CONSUME, act, now)
    return Next(Step.WAIT)


def _planning(file: CaseFile, now: datetime) -> Next:
    state = file.case["state"]
    if file.case["escalated"] or file.plan.get("manual") or file.tenant["observe_only"]:
        return Next(Step.WAIT)
    not_before = file.plan.get("not_before")
    if not_before and datetime.fromisoformat(not_before) > now:
        return Next(Step.WAIT, until=datetime.fromisoformat(not_before))
    if state in (CaseState.CONFIRMED, CaseState.PLANNING):
        return _next_of_plan(file, now)
    if state == CaseState.COMMITTED and file.case["replanning"]:
        return _next_of_replan(file, now)
    return Next(Step.WAIT)


def _next_of_plan(file: CaseFile, now: datetime) -> Next:
    if file.held("entitlement") is None and not file.plan.get("without_cover"):
        return _when_due(Step.ENTITLEMENT, _pending(file, "entitlement"), now)
    if file.policy.asks_a_person(file.asset["asset_class"]) and not file.plan.get("approved_by"):
        return Next(Step.APPROVAL)
    for kind, step in (
        ("reservation", Step.PART),
        ("window", Step.WINDOW),
        ("work_order", Step.WORK_ORDER),
        ("dispatch", Step.DISPATCH),
    ):
        if file.held(kind) is None:
            return _when_due(step, _pending(file, kind), now)
    return Next(Step.COMMIT)


def _next_of_replan(file: CaseFile, now: datetime) -> Next:
    """Book the earlier window, move the engineer, give up the old window, tell."""
    moved = file.plan.get("next_window")
    pending = _pending(file, "window")
    if moved is None or pending is not None:
        return _when_due(Step.WINDOW, pending, now)
    dispatch = file.latest("dispatch")
    if dispatch is None or dispatch["state"] != ActState.HELD or dispatch["request"]["start"] != moved["start"]:
        return _when_due(Step.DISPATCH, _pending(file, "dispatch"), now)
    newest = {"window": file.latest("window"), "dispatch": dispatch}
    for act in file.acts:
        if act["kind"] in newest and act["state"] == ActState.HELD and act is not newest[act["kind"]]:
            return _when_due(Step.RELEASE, act, now)
    return Next(Step.AMEND)


def _pending(file: CaseFile, kind: str) -> Row | None:
    act = file.latest(kind)
    return act if act is not None and act["state"] in PENDING else None


def _when_due(step: Step, act: Row | None, now: datetime) -> Next:
    if act is not None and act["due_at"] > now:
        return Next(Step.WAIT, until=act["due_at"])
    return Next(step, act)


def _earliest(times: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in times if moment is not None), default=None)
