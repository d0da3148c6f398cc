"""What people do while another system does not answer, and what is left of it: no repair is undone behind their back.

The mail server is away for good, the WMS finds nothing, the field service refuses; meanwhile an engineer begins the
work, a person takes over, or the case ends. The marks that remain on the plan must suit whatever comes next.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from psycopg.types.json import Jsonb
from support.resolution import Servers, Stage, certain, finding_at, instant, stage, store_finding

from fleet_core.clock import Clock
from fleet_core.errors import Permanent, Retryable
from fleet_core.telemetry import Finding
from fleet_server.connectors.common import Refused
from fleet_server.connectors.wms.api import Booking
from fleet_server.resolution import decisions
from fleet_server.resolution.case import StatesDiffer
from fleet_server.resolution.commands import WorkReport, cancel_case, complete_work_order, start_work_order
from fleet_server.resolution.decisions import decide_escalation
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.records import intend, load_case, lock_case, set_timer
from fleet_server.resolution.releasing import do_unwound
from fleet_server.resolution.states import CaseState, ForbiddenTransition
from fleet_server.resolution.triage import triage_finding
from fleet_server.resolution.verification import VERIFY
from fleet_server.resolution.windows import do_window
from fleet_server.store.pool import Connection

pytestmark = pytest.mark.integration
QUICK: dict[str, Any] = {"retry_attempts": 2, "retry_first_s": 0.01}
HELD = {"reservation": "held", "window": "held", "work_order": "held", "dispatch": "held"}
REPORT = WorkReport(failure_mode="bearing_spalling", new_serial="BRG-2")


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers, policy=QUICK) as made:
        yield made


class _Instead:
    """Another system of which one call does something else."""

    def __init__(self, system: Any, name: str, call: Callable[..., Awaitable[Any]]) -> None:
        self._system = system
        setattr(self, name, call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)


def _mail_goes_away(ready: Stage) -> None:
    """No message gets out any more but for questions, which are not what is tested here."""
    mail = ready.rt.notifiers["email"]

    async def send(message: Any) -> str:
        if message.purpose == "escalation":
            return await mail.send(message)
        raise Retryable("the mail server is away")

    ready.rt.notifiers = {"email": _Instead(mail, "send", send)}


def _first(ready: Stage, system: str, call: str, meanwhile: Callable[[], Awaitable[Any]], error: Exception) -> None:
    """The next time the system is called, ``meanwhile`` happens before the call fails; later calls fail at once."""
    done = False

    async def failing(*_arguments: Any, **_named: Any) -> Any:
        nonlocal done
        if not done:
            done = True
            await meanwhile()
        raise error

    setattr(ready.rt, system, _Instead(getattr(ready.rt, system), call, failing))


async def _do(ready: Stage, command: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
    """A person's command; what follows from it is left to whoever is at the case."""
    async with ready.rt.pool.connection() as conn:
        await command(conn, ready.clock, "user:test", *arguments)


async def _bound(ready: Stage, case_id: Any) -> dict[str, str]:
    """Where the newest act of each kind stands that binds another system."""
    rows = await ready.rows("SELECT kind, state FROM act WHERE case_id = %s ORDER BY intended_at", case_id)
    return {row["kind"]: row["state"] for row in rows if row["kind"] in HELD}


async def _order(ready: Stage, case_id: Any) -> uuid.UUID:
    (row,) = await ready.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    return row["work_order_id"]


async def _tries(ready: Stage, times: int = 6) -> None:
    for _ in range(times):
        await ready.later(0.2)


async def _nearer(ready: Stage, finding: Any, case_id: Any, hours: float, revision: int, *, run: bool = True) -> None:
    """The deadline moves to ``hours`` before the start of the booked window."""
    start = instant((await ready.case(case_id))["plan"]["window"]["start"])
    ready.rt.prognose = certain((start - ready.clock.now()).total_seconds() / 3600 - hours)
    await ready.finding(replace(finding, revision=revision), run=run)


async def test_mail_that_is_away_undoes_no_repair_that_is_going_on(ready: Stage) -> None:
    _mail_goes_away(ready)
    case_id = await ready.finding()
    await _do(ready, start_work_order, order := await _order(ready, case_id))
    await _tries(ready)
    case = await ready.case(case_id)
    (asked,) = await ready.escalations(case_id)
    assert (case["state"], asked["reason"]) == ("in_progress", "connector_down")
    assert await _bound(ready, case_id) == HELD
    assert {"part", "window", "engineer", "work_order"} <= case["plan"].keys()
    await ready.command(complete_work_order, order, REPORT)
    assert (await ready.case(case_id))["state"] == "verifying"


async def test_mail_that_is_away_takes_nothing_out_of_the_record_of_a_closed_case(ready: Stage) -> None:
    case_id = await ready.finding()
    booked = (await ready.case(case_id))["plan"]
    await ready.command(complete_work_order, await _order(ready, case_id), REPORT)
    _mail_goes_away(ready)
    await _tries(ready, 2)
    for _ in range(3):  # two periods without vitals: a person is asked, and closes
        await ready.later(30)
    (asked,) = await ready.escalations(case_id)
    await ready.command(decide_escalation, asked["escalation_id"], "close_anyway")
    await _tries(ready)
    case = await ready.case(case_id)
    assert case["state"] == "closed"
    for part in ("part", "window", "engineer", "work_order"):
        assert case["plan"][part] == booked[part]
    *_, asked = await ready.escalations(case_id)
    assert (asked["reason"], asked["decided_at"]) == ("connector_down", None)
    assert [option["code"] for option in asked["options"]] == ["retry", "take_over"]
    for choice in ("retry", "take_over"):
        *_, asked = await ready.escalations(case_id)
        await ready.command(decide_escalation, asked["escalation_id"], choice)
        await _tries(ready, 3)
        assert (await ready.case(case_id))["state"] == "closed"


async def test_a_cancellation_that_cannot_be_told_is_asked_about_with_choices_that_an_ended_case_has(
    ready: Stage,
) -> None:
    case_id = await ready.finding()
    booked = (await ready.case(case_id))["plan"]
    _mail_goes_away(ready)
    await ready.command(cancel_case, case_id, "the customer repairs it")
    await _tries(ready)
    (asked,) = await ready.escalations(case_id)
    assert (asked["reason"], [option["code"] for option in asked["options"]]) == (
        "connector_down", ["retry", "take_over"],
    )  # fmt: skip
    case = await ready.case(case_id)
    assert (case["state"], case["plan"]["window"]) == ("cancelled", booked["window"])
    assert set((await _bound(ready, case_id)).values()) == {"released"}


async def test_work_that_begins_while_an_earlier_window_is_looked_for_goes_on(ready: Stage) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    order = await _order(ready, case_id)
    _first(ready, "field_service", "engineers", lambda: _do(ready, start_work_order, order), Permanent("no answer"))
    await _nearer(ready, finding, case_id, 1.5, 2)
    case = await ready.case(case_id)
    assert (case["state"], case["escalated"]) == ("in_progress", False)
    assert await _bound(ready, case_id) == HELD
    await ready.command(complete_work_order, order, REPORT)
    assert (await ready.case(case_id))["plan"]["window"]


async def test_work_that_begins_while_no_earlier_window_is_found_goes_on(ready: Stage) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    order, planned = await _order(ready, case_id), ready.rt.field_service

    async def nobody(*_arguments: Any) -> list[Any]:
        await _do(ready, start_work_order, order)
        return []

    ready.rt.field_service = _Instead(planned, "engineers", nobody)
    await _nearer(ready, finding, case_id, 1.5, 2)
    case = await ready.case(case_id)
    assert (case["state"], case["escalated"], case["plan"].get("unwind")) == ("in_progress", False, None)
    assert await _bound(ready, case_id) == HELD


async def test_work_that_begins_while_the_engineer_of_an_earlier_window_is_asked_keeps_its_own_window(
    ready: Stage,
) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    order, planned, asked = await _order(ready, case_id), ready.rt.field_service, 0
    before = (await ready.case(case_id))["plan"]

    async def soon_nobody(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            return await planned.engineers(*arguments)
        await _do(ready, start_work_order, order)
        return []

    ready.rt.field_service = _Instead(planned, "engineers", soon_nobody)
    await _nearer(ready, finding, case_id, 1.5, 2)
    case = await ready.case(case_id)
    assert (asked, case["state"]) == (2, "in_progress")
    for part in ("window", "engineer"):
        assert case["plan"][part] == before[part]


async def _take_over(conn: Connection, clock: Clock, actor: str, case_id: uuid.UUID) -> None:
    await decisions.CHOICES["take_over"](conn, clock, actor, await lock_case(conn, case_id))


async def _the_case(ready: Stage) -> uuid.UUID:
    (row,) = await ready.rows("SELECT case_id FROM repair_case")
    return row["case_id"]


async def test_what_is_held_stays_held_for_a_person_who_takes_over_while_the_last_try_fails(ready: Stage) -> None:
    async def take_over() -> None:
        await _do(ready, _take_over, await _the_case(ready))

    _first(ready, "field_service", "create_order", take_over, Permanent("no answer"))
    case_id = await ready.finding()
    case = await ready.case(case_id)
    assert (case["state"], case["plan"]["manual"]) == ("planning", "user:test")
    assert await _bound(ready, case_id) == {"reservation": "held", "window": "held", "work_order": "intended"}
    assert {"part", "window", "engineer"} <= case["plan"].keys()


ON_THEIR_WAY = [
    ("entitlement", "check", Refused("not_covered")),
    ("parts", "offers", Permanent("no answer")),
    ("parts", "reserve", Refused("taken")),
    ("field_service", "engineers", Permanent("no answer")),
    ("field_service", "create_order", Permanent("no answer")),
    ("field_service", "dispatch", Permanent("no answer")),
]


@pytest.mark.parametrize(("system", "call", "error"), ON_THEIR_WAY, ids=[call for _, call, _ in ON_THEIR_WAY])
async def test_a_case_that_ends_while_a_call_is_on_its_way_is_asked_nothing_and_stays_a_record(
    ready: Stage, system: str, call: str, error: Exception
) -> None:
    async def end() -> None:
        await _do(ready, cancel_case, await _the_case(ready), "the customer repairs it")

    _first(ready, system, call, end, error)
    case_id = await ready.finding()
    await ready.later(0.1)  # an act that was put off is released when it is due
    case = await ready.case(case_id)
    assert (case["state"], await ready.escalations(case_id)) == ("cancelled", [])
    assert not {"held", "intended", "unknown"} & set((await _bound(ready, case_id)).values())
    assert ("window" in case["plan"]) is (call in ("create_order", "dispatch"))


MARKS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "looking": {"replanning": True},
    "moving": {"replanning": True, "moved": True},
    "moving, no engineer": {"replanning": True, "moved": True, "drop_window": True},
    "pinned": {"keep_plan": "user:anna"},
    "pinned while it moved": {"keep_plan": "user:anna", "moved": True},
    "by hand": {"manual": "user:anna"},
    "by hand while it moved": {"manual": "user:anna", "moved": True},
    "by hand while its window was given up": {"manual": "user:anna", "moved": True, "drop_window": True},
    "by hand and pinned while it moved": {"manual": "user:anna", "keep_plan": "user:anna", "moved": True},
}
"""What decisions and answers leave on a booked case."""
PEOPLE = ("retry", "keep_plan", "plan_again", "take_over", "false_alarm")
EVENTS = (*PEOPLE, "cancel", "start", "complete", "overdue", "nearer deadline", "window booked", "unwound")


def _may_not(event: str, state: str, what: dict[str, Any]) -> bool:
    """What is refused: the end of an undoing where nothing is undone, the start of work that was started, a second
    earlier window beside the first."""
    return (
        (event == "unwound" and "drop_window" not in what)
        or (event == "start" and state == "in_progress")
        or (event == "window booked" and what.get("replanning", False) and "moved" in what)
    )


@pytest.mark.parametrize("state", ["committed", "in_progress"])
async def test_whatever_is_left_on_a_plan_suits_every_event_that_can_follow(ready: Stage, state: str) -> None:
    walk, wrong = await _walk(ready, state), []
    moving = [marks for marks, what in MARKS.items() if state == "committed" or {"replanning", "moved"} & what.keys()]
    for event, marks in itertools.product(EVENTS, moving):
        what = MARKS[marks]
        met: Permanent | None = None
        async with walk.marked(**what) as conn:
            try:
                await walk.happens(conn, event)
            except (ForbiddenTransition, StatesDiffer) as error:
                met = error
        if type(met) is not (ForbiddenTransition if _may_not(event, state, what) else type(None)):
            wrong.append((event, marks, met))
    assert wrong == []


@dataclass
class _Walk:
    """One booked case that is given marks, and what happens to it then; all of it is taken back each time."""

    ready: Stage
    row: dict[str, Any]
    finding: Finding
    order: uuid.UUID

    @asynccontextmanager
    async def marked(
        self, *, replanning: bool = False, moved: bool = False, drop_window: bool = False, **decided: str
    ) -> AsyncIterator[Connection]:
        plan = {**self.row["plan"], **decided}
        if moved:
            start, end = (instant(plan["window"][name]) - timedelta(hours=3) for name in ("start", "end"))
            earlier = {**plan["window"], "start": start.isoformat(), "end": end.isoformat()}
            plan |= {"next_window": earlier, "next_engineer": plan["engineer"]}
        if drop_window:
            plan["drop_window"] = True
        async with self.ready.rt.pool.connection() as conn, conn.transaction(force_rollback=True):
            statement = "UPDATE repair_case SET plan = %s, replanning = %s WHERE case_id = %s"
            await conn.execute(statement, (Jsonb(plan), replanning, self.row["case_id"]))
            yield conn

    async def happens(self, conn: Connection, event: str) -> None:
        clock, rt = self.ready.clock, replace(self.ready.rt, pool=cast("Any", _Within(conn)))
        case, file = await lock_case(conn, self.row["case_id"]), await load_case(conn, self.row["case_id"])
        if event in PEOPLE:
            await decisions.CHOICES[event](conn, clock, "user:test", case)
        elif event == "cancel":
            await cancel_case(conn, clock, "user:test", case.case_id, "the customer repairs it")
        elif event == "start":
            await start_work_order(conn, clock, "user:test", self.order)
        elif event == "complete":
            await complete_work_order(conn, clock, "user:test", self.order, REPORT)
        elif event == "overdue":
            await escalate(conn, clock, rt.notifiers, file, case, "work_overdue", "the work is overdue")
        elif event == "nearer deadline":
            rt.prognose = certain(1.0)
            await store_finding(conn, clock, replace(self.finding, revision=2))
            await triage_finding(rt, self.finding.finding_id, 2)
        elif event == "unwound":
            await do_unwound(rt, conn, file)
        else:
            request = next(act for act in file.acts if act.kind == "window").request
            act = await intend(conn, clock, case, "window", file.next_sequence("window"), request)
            looked_for = replace(file, case=replace(file.case, state=CaseState.COMMITTED))  # it was, when it was begun
            rt.wms_of = lambda _site: cast("Any", _Books())
            await do_window(rt, conn, looked_for, act)


class _Books:
    """A WMS that books what it is asked for."""

    async def lookup(self, _key: str) -> None:
        return None

    async def book(self, _equipment: str, start: datetime, end: datetime, _reason: str, *, key: str) -> Booking:
        return Booking(key, start, end, held=True)


class _Within:
    """A pool whose only connection is in a transaction already."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        yield self._conn


async def _walk(ready: Stage, state: str) -> _Walk:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    order = await _order(ready, case_id)
    if state == "in_progress":
        await ready.command(start_work_order, order)
    row = await ready.case(case_id)
    assert row["state"] == state
    return _Walk(ready, row, finding, order)


async def test_a_case_that_closes_leaves_no_question_open_that_only_a_living_one_can_be_asked(ready: Stage) -> None:
    case_id = await ready.finding()
    await ready.command(complete_work_order, await _order(ready, case_id), REPORT)
    await ready.later(30)
    await ready.later(30)  # two periods without vitals: the repair is not confirmed
    (asked,) = await ready.escalations(case_id)
    assert (asked["reason"], asked["decided_at"]) == ("verification_failed", None)
    await ready.vitals(0.06)
    await ready.command(_judge_the_repair_now, case_id)
    assert (await ready.case(case_id))["state"] == "closed"
    (asked,) = await ready.escalations(case_id)
    assert (asked["decision"], asked["decided_by"]) == ("closed", "system:worker")


async def _judge_the_repair_now(conn: Connection, clock: Clock, _actor: str, case_id: uuid.UUID) -> None:
    await set_timer(conn, await lock_case(conn, case_id), VERIFY, clock.now())


async def test_a_nearer_deadline_moves_nothing_for_a_person_who_took_over_while_the_window_was_moved(
    ready: Stage,
) -> None:
    finding = finding_at(ready.clock)
    case_id = await ready.finding(finding)
    ready.rt.field_service = _Instead(ready.rt.field_service, "dispatch", _refuses)
    await _nearer(ready, finding, case_id, 1.5, 2)
    (asked,) = await ready.escalations(case_id)
    assert asked["reason"] == "connector_down"
    await ready.command(decide_escalation, asked["escalation_id"], "take_over")
    before = await ready.case(case_id)
    assert (before["replanning"], "next_window" in before["plan"]) == (False, True)
    await _nearer(ready, finding, case_id, 3.0, 3)
    case = await ready.case(case_id)
    assert case["deadline_at"] < before["deadline_at"] and case["prognosis_id"] != before["prognosis_id"]
    assert (case["replanning"], case["escalated"], case["plan"]) == (False, False, before["plan"])


async def _refuses(*_arguments: Any, **_named: Any) -> Any:
    raise Permanent("the field service cannot be used")
