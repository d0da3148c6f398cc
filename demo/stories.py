"""The stories of the golden path, followed from outside: through the HTTP interface, the mailbox and the devices.

A story never helps the system along. It plays only the engineer, who starts the work order when its window begins,
swaps the part and reports. A story ends when the case is closed (a repair) or when a named person has been asked (a
hand-over). It fails with the reason when its limit, in story time, passes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from demo.console import Console
from demo.mail_sink import distinct
from demo.stack import Stack

POLL_S = 0.25


class StoryFailed(Exception):
    """The story did not end as it should; the message says what it was waiting for."""


@dataclass(frozen=True)
class Stage:
    """Where stories are played, and who watches. Setting ``over`` ends every story at once with StoryFailed."""

    stack: Stack
    real_at: Callable[[datetime], datetime]
    """The real time at which the story reached a story time."""
    tell: Callable[[str, datetime, str], None] = lambda story, moment, text: None
    """Called with (story, story time, text) for every line that a person watching should read."""
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Repair:
    """A wear-out that is repaired without anybody asking for it. ``swap`` changes the part on the device."""

    name: str
    asset_id: str
    slot: str
    failure_mode: str
    new_serial: str
    swap: Callable[[], None]
    limit_h: float


@dataclass(frozen=True)
class HandOver:
    """A wear-out the system must not decide alone: it asks a named person for ``reason``."""

    name: str
    asset_id: str
    slot: str
    reason: str
    limit_h: float


class Follower:
    """Follows the newest case of one asset and tells every new line of its timeline."""

    def __init__(self, stage: Stage, console: Console, story: Repair | HandOver) -> None:
        self._stage, self._clock, self._console, self._story = stage, stage.stack.clock, console, story
        self._until = self._clock.now() + timedelta(hours=story.limit_h)
        self._told = 0
        self.first_seen: dict[str, Any] = {}
        self.decided_on: datetime | None = None
        """The deadline on which the window was decided: the later of those shown just before and just after it was
        chosen. The deadline goes on being refreshed; a window that it leaves behind by little stands."""
        self._chosen: list[str] = []
        self._deadline_at: datetime | None = None

    def wait(self, what: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The case, once ``done`` holds for it. Raises StoryFailed when the story's time is up."""
        state = "no case yet"
        while self._clock.now() < self._until:
            try:
                case = self._console.case_of(self._story.asset_id, self._story.slot)
            except httpx.HTTPError as error:
                if not is_away(error):
                    raise
                case, state = None, f"the server does not answer ({type(error).__name__})"
            if case:
                self.first_seen = self.first_seen or case
                self._tell_new(case["timeline"])
                self._note_decision(case)
                state = f"{case['summary']['state']}; {case['summary']['waits_for']}"
                if done(case):
                    return case
            self.pause(POLL_S)
        raise StoryFailed(f"waited for {what}; the case: {state}")

    def insist(self, what: str, act: Callable[[], None], done: Callable[[dict[str, Any]], bool]) -> None:
        """Do what a person does when the server is being restarted: once more, unless the case shows it was done."""
        while True:
            try:
                act()
            except httpx.HTTPError as error:
                if not is_away(error):
                    raise
            else:
                return
            if done(self.wait(what, lambda case: True)):
                return

    def has_come(self, order: dict[str, Any], case: dict[str, Any]) -> bool:
        """Whether the order's time has come, or it has another time or another state by now."""
        now = next((one for one in case["work_orders"] if one["work_order_id"] == order["work_order_id"]), None)
        same = now is not None and all(now[name] == order[name] for name in ("state", "starts_at"))
        return not same or self._clock.now() >= datetime.fromisoformat(order["starts_at"])

    def wait_until(self, moment: datetime) -> None:
        """Let story time pass."""
        while self._clock.now() < min(moment, self._until):
            self.pause(POLL_S)

    def pause(self, duration_s: float) -> None:
        """Real seconds. Raises StoryFailed when the stage is closed meanwhile."""
        if self._stage.over.wait(duration_s):
            raise StoryFailed("the play was stopped")

    def _note_decision(self, case: dict[str, Any]) -> None:
        shown = case["summary"]["deadline_at"]
        before, self._deadline_at = self._deadline_at, datetime.fromisoformat(shown) if shown else None
        chosen = [window["start"] for window in case["plan"]["windows"] if window["chosen"]]
        if chosen != self._chosen:
            self._chosen = chosen
            self.decided_on = max(filter(None, (before, self._deadline_at)), default=None)

    def _tell_new(self, timeline: Iterable[dict[str, Any]]) -> None:
        for event in timeline:
            if event["event_id"] > self._told:
                self._told = event["event_id"]
                self._stage.tell(self._story.name, datetime.fromisoformat(event["at"]), event["summary"])


def play_repair(stage: Stage, story: Repair) -> dict[str, Any]:
    """Play a repair to its closed case; returns its part of the JSON document. Raises StoryFailed."""
    with stage.stack.console("engineer") as console:
        follower = Follower(stage, console, story)
        planned = follower.wait("the repair to be arranged", lambda case: _act(case, "message", "announcement") != {})
        deadline_at = follower.decided_on
        case = _perform(console, follower, story, planned)
        mails = _mails_of(stage.stack, case)
    announcements = [mail for mail in distinct(mails) if _purpose(mail) == "announcement"]
    # The prognosis that the plan was decided on: it goes on being refreshed until the repair.
    summary, plan, prognosis = case["summary"], case["plan"], planned["prognosis"]
    window = next(window for window in planned["plan"]["windows"] if window["chosen"])
    # The time of the finding that opened the case: later revisions carry the time they were made.
    finding_at = min(follower.first_seen["finding"]["detected_at"], follower.first_seen["summary"]["opened_at"])
    result = {
        "name": story.name,
        "finding_at": finding_at,
        "failure_mode": summary["failure_mode"],
        "p_fail_72h": prognosis["p_fail"]["72"],
        "rul_h": {name: prognosis[f"rul_{name}_h"] for name in ("p10", "p50", "p90")},
        "neighbours": len(prognosis["neighbours"]),
        "judged_against_itself": _own_unit_among(planned),
        "case_id": summary["case_id"],
        "owner": summary["owner_name"],
        "entitlement": plan["entitlement"],
        "reservation": {"part": plan["part_no"], "centre": plan["centre"]},
        "window": {
            "start": _local(window["start"], summary["time_zone"]),
            "end": _local(window["end"], summary["time_zone"]),
            "load_rank": window["load_rank"],
            "time_zone": summary["time_zone"],
            "before_deadline": deadline_at is not None and datetime.fromisoformat(window["end"]) <= deadline_at,
        },
        "work_order": case["work_orders"][0]["label"] if case["work_orders"] else None,
        "engineer": plan["engineer_name"],
        "notifications": len(announcements),
        "finding_to_notification_s": _latency_s(stage, finding_at, announcements),
        "verified": any(event["kind"] == "verified" for event in case["timeline"]),
        "closed": summary["state"] == "closed",
    }
    result["ok"] = (
        result["closed"]
        and result["verified"]
        and result["notifications"] == 1
        and result["window"]["before_deadline"]
        and not result["judged_against_itself"]
        and all(result[name] for name in ("owner", "entitlement", "work_order", "engineer"))
    )
    return result


def play_hand_over(stage: Stage, story: HandOver) -> dict[str, Any]:
    """Play a hand-over to the named person's escalation; returns its part of the document. Raises StoryFailed."""
    with stage.stack.console("engineer") as console:
        follower = Follower(stage, console, story)
        case = follower.wait(f"an escalation ({story.reason})", lambda case: bool(_open_escalations(case)))
        escalation = _open_escalations(case)[0]
        follower.pause(4 * POLL_S)  # an announcement that should not be sent gets the time to be sent
        case = follower.wait("the case", lambda case: True)
    announcements = [mail for mail in distinct(_mails_of(stage.stack, case)) if _purpose(mail) == "announcement"]
    return {
        "name": story.name,
        "ok": escalation["reason"] == story.reason and bool(escalation["to_name"]) and not announcements,
        "reason": escalation["reason"],
        "case_id": case["summary"]["case_id"],
        "owner": case["summary"]["owner_name"],
        "escalated_to": escalation["to_name"],
        "due_at": escalation["due_at"],
        "options": [option["code"] for option in escalation["options"]],
        "notifications": len(announcements),
    }


def _perform(console: Console, follower: Follower, story: Repair, case: dict[str, Any]) -> dict[str, Any]:
    """Play the engineer: come when the window begins, swap the part, report."""
    while True:
        order = next(order for order in case["work_orders"] if order["state"] in ("open", "dispatched", "started"))
        case = follower.wait("the appointment", partial(follower.has_come, order))
        current = next((one for one in case["work_orders"] if one["work_order_id"] == order["work_order_id"]), None)
        if current and current["state"] == "dispatched" and current["starts_at"] == order["starts_at"]:
            break
        # The plan was changed meanwhile: the engineer comes at the new time.
        case = follower.wait(
            "a new appointment", lambda case: any(o["state"] == "dispatched" for o in case["work_orders"])
        )
    number = order["work_order_id"]
    follower.insist(
        "the work to begin", lambda: console.start(number), lambda case: _order_state(case, number) != "dispatched"
    )
    story.swap()
    follower.wait_until(datetime.fromisoformat(order["starts_at"]) + timedelta(hours=1))
    note = "Old bearing worn; new one fitted and greased."
    follower.insist(
        "the report to be taken",
        lambda: console.complete(number, story.failure_mode, story.new_serial, note),
        lambda case: _order_state(case, number) not in ("dispatched", "started"),
    )
    return follower.wait("the repair to be verified", lambda case: case["summary"]["state"] == "closed")


def _act(case: dict[str, Any], kind: str, purpose: str) -> dict[str, Any]:
    """The settled act of that kind and purpose, or an empty one."""
    matching = (act for act in case["acts"] if act["kind"] == kind and act["purpose"].startswith(purpose))
    return next((act for act in matching if act["state"] in ("held", "consumed")), {})


def _order_state(case: dict[str, Any], number: str) -> str:
    return next((str(one["state"]) for one in case["work_orders"] if one["work_order_id"] == number), "gone")


def is_away(error: httpx.HTTPError) -> bool:
    """Whether the server is only being restarted: no connection, or it says so itself."""
    return isinstance(error, httpx.TransportError) or (
        isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (502, 503, 504)
    )


def _open_escalations(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in case["escalations"] if one["decided_at"] is None]


def _mails_of(stack: Stack, case: dict[str, Any]) -> list[dict[str, Any]]:
    label = case["summary"]["label"]
    return [mail for mail in stack.mails() if label in mail["text"]]


def _purpose(mail: dict[str, Any]) -> str:
    return str(mail["headers"].get("X-Forestall-Purpose", ""))


def _own_unit_among(case: dict[str, Any]) -> bool:
    """Whether the unit was compared with its own history, which must never happen."""
    units = {neighbour["unit_serial"] for neighbour in case["prognosis"]["neighbours"]}
    return case["component_serial"] in units


def _latency_s(stage: Stage, detected_at: str, announcements: list[dict[str, Any]]) -> float | None:
    """Real seconds from the reading that raised the finding to the accepted mail."""
    if not announcements:
        return None
    accepted = datetime.fromisoformat(announcements[0]["received_at"])
    return round((accepted - stage.real_at(datetime.fromisoformat(detected_at))).total_seconds(), 3)


def _local(moment: str, time_zone: str) -> str:
    return datetime.fromisoformat(moment).astimezone(ZoneInfo(time_zone)).isoformat()
