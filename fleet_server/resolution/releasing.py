"""What a plan no longer needs is released, and what the repair needed is used up.

A held window, part, order or engineer is an act that is ``held``. When a case ends or its plan is given up, ``steps``
hands these acts here one by one, last done first: the other system is told until it agrees, and the act becomes
``released``. In a case that goes on ``do_unwound`` then lets the plan forget the window; an ended case keeps it as a
record, also when an undoing was under way as it ended: that one is finished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fleet_core.errors import OutcomeUnknown, Permanent, Retryable
from fleet_server.resolution.acts import put_off
from fleet_server.resolution.receivers import wms_of_booking
from fleet_server.resolution.records import (
    CaseFile,
    change_case,
    lock_case,
    note,
    settle,
)
from fleet_server.resolution.rows import Act
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import (
    FINAL_CASE_STATES,
    ActEvent,
    ActState,
    CaseState,
    MoveEvent,
    Undoing,
    UndoingEvent,
)
from fleet_server.store.pool import Connection


async def do_release(rt: Runtime, conn: Connection, file: CaseFile, act: Act) -> None:
    """Give up what an act holds, or may hold; repeated until the other system agrees.

    The plan waits for the release of what was not done as asked, so a person is asked about that one in the end.
    """
    try:
        await (await _releaser(rt, conn, file, act))(act.idempotency_key)
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off(rt, conn, file, act, error, gives_up=act.state is ActState.UNWANTED)
        return
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await settle(conn, rt.clock, act, ActEvent.RELEASE, error=act.error)
        await change_case(conn, case)
        await note(conn, rt.clock, case, "released", f"{act.kind.replace('_', ' ')} released", {"kind": act.kind})


async def do_unwound(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """What was to be released is: the undoing is over, and the plan forgets it unless the case has ended."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        undoing = case.plan.undoing
        case = case.after(UndoingEvent.RELEASED)
        if case.state in FINAL_CASE_STATES:
            plan = case.plan
        elif undoing is Undoing.EVERYTHING:
            plan = case.plan.unbooked()
        elif case.state in (CaseState.CONFIRMED, CaseState.PLANNING):
            plan = case.plan.without_window()
        else:  # the window of a move; the booked one stands, also when the work has begun meanwhile
            case = case.after(MoveEvent.NEXT_DROPPED)
            plan = case.plan.unmoved()
        await change_case(conn, replace(case, plan=plan))


async def do_consume(rt: Runtime, conn: Connection, file: CaseFile, act: Act) -> None:
    """The work is done: what was held for it is used up."""
    if act.kind == "reservation":
        try:
            await rt.parts.consume(act.idempotency_key)
        except (Retryable, OutcomeUnknown, Permanent) as error:
            await put_off(rt, conn, file, act, error, gives_up=False)
            return
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await settle(conn, rt.clock, act, ActEvent.CONSUME)
        await change_case(conn, case)
        if act.kind == "reservation":
            part = file.plan.booking.part
            text = f"{part.label} used up" if part else "Part used up"
            await note(conn, rt.clock, case, "part_consumed", text, {"reservation": act.external_ref})


async def _releaser(rt: Runtime, conn: Connection, file: CaseFile, act: Act) -> Callable[[str], Awaitable[None]]:
    """How the system that the act went to is told. Raises BadConfig when that WMS is configured wrongly."""
    if act.kind == "window":
        return (await wms_of_booking(rt, conn, file, act)).release
    return {
        "reservation": rt.parts.release,
        "work_order": rt.field_service.cancel_order,
        "dispatch": rt.field_service.release_dispatch,
    }[act.kind]
