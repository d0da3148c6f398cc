"""The plan stands: everything is held, the customer's director is told once, and told again when the window moves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from fleet_server.resolution import messages, telling
from fleet_server.resolution.case import Case
from fleet_server.resolution.commands import OVERDUE, TELL_CANCELLED
from fleet_server.resolution.escalations import intend_message, person
from fleet_server.resolution.holders import holders_of, next_revision
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.plan import Plan, Window, needed
from fleet_server.resolution.receivers import went_to
from fleet_server.resolution.records import (
    CaseFile,
    change_case,
    load_case,
    lock_case,
    note,
    set_timer,
    settle,
)
from fleet_server.resolution.requests import announced_window
from fleet_server.resolution.rows import Act, Name, Person
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActEvent, ActState, CaseEvent, CaseState, MoveEvent, UndoingEvent
from fleet_server.resolution.stored import table_of
from fleet_server.resolution.telling import channel_of
from fleet_server.resolution.verification import tell_closing, tell_holder
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")


async def do_commit(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """Everything is held: the plan stands, and the customer's director is told, once."""
    booking = file.plan.booking
    window, engineer = needed(booking.window, "window"), needed(booking.engineer, "engineer")
    part = needed(booking.part, "part")
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        held = file.held("window")
        if held is not None and went_to(file, held) != file.site.site_id:
            case = await change_case(conn, replace(case, plan=case.plan.fresh()).after(UndoingEvent.GIVE_UP))
            text = f"{file.asset.name} stands at {file.site.name} by now: the repair is planned anew there"
            await note(conn, rt.clock, case, "asset_moved", text, {"site_id": file.site.site_id})
            return
        case = case.after(CaseEvent.COMMIT, MoveEvent.NEW_PLAN)
        plan = replace(
            case.plan,
            booking=replace(case.plan.booking, planned_for=case.deadline_at, announced=window),
            replanning=case.plan.replanning.forgiven(),
            decisions=replace(case.plan.decisions, accept_late="", keep_plan=""),
        )
        case = await change_case(conn, replace(case, plan=plan, waits_for=_repair_on(window)))
        await set_timer(conn, case, OVERDUE, window.end + timedelta(hours=file.policy.overdue_h))
        shown = {"window": table_of(window), "part": table_of(part), "engineer": table_of(engineer)}
        await note(conn, rt.clock, case, "committed", "Part, window and engineer are held; the plan stands", shown)
        await _tell_director(rt, conn, file, case)
    CASES.labels("committed").inc()


async def do_amend(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """The earlier window is held and the old one released: the moved plan stands, and the announcement is amended."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        moved = needed(file.plan.replanning.next_window, "earlier window")
        engineer = needed(file.plan.replanning.next_engineer, "engineer for the earlier window")
        case = case.after(MoveEvent.AMENDED)
        plan = case.plan.unmoved()
        plan = replace(
            plan,
            booking=replace(
                plan.booking, window=moved, engineer=engineer, planned_for=case.deadline_at, announced=moved
            ),
            replanning=replace(plan.replanning, refused_windows=()),
        )
        case = await change_case(conn, replace(case, plan=plan, waits_for=_repair_on(moved)))
        await set_timer(conn, case, OVERDUE, moved.end + timedelta(hours=file.policy.overdue_h))
        shown = {"window": table_of(moved)}
        await note(conn, rt.clock, case, "replanned", "The repair was moved to an earlier window", shown)
        await _tell_director(rt, conn, await load_case(conn, file.case_id), case)
    CASES.labels("replanned").inc()


def _repair_on(window: Window) -> str:
    return f"the repair on {messages.short_time(window.start, window.time_zone)} ({window.time_zone})"


async def do_tell_again(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """A person decided so: the customer is told what was refused, composed anew as the facts and addresses are now."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        channels = telling.refused(case, file.acts)
        decided = replace(case.plan.decisions, tell_again="")
        case = await change_case(conn, replace(case, plan=replace(case.plan, decisions=decided)))
        file = replace(file, case=case)
        if case.state in (CaseState.COMMITTED, CaseState.IN_PROGRESS):
            await _tell_director(rt, conn, file, case, channels)
        elif case.state is CaseState.CLOSED:
            await tell_closing(rt, conn, file, case, channels)
        else:
            await set_timer(conn, case, TELL_CANCELLED, rt.clock.now())


async def _tell_director(
    rt: Runtime, conn: Connection, file: CaseFile, case: Case, channels: Collection[str] = ()
) -> None:
    """Intend the announcement; where a channel has brought one before, its amendment. ``channels``: by these alone.

    An announcement that waits to be sent is withdrawn: the new one takes its place. The appointment follows the site's
    director: of one who is no longer it is taken back, and the new one, who was told nothing before, gets the whole
    announcement. Where nobody is registered by now, the holder keeps it.
    """
    wanted = {"tenant_id": case.tenant_id, "site_id": file.site.site_id}
    director = await fetch_one(conn, Person, _sql.directors, wanted)
    acts = [await _withdrawn(rt, conn, act) for act in file.acts]
    holding = {holder.person_id: holder for holder in holders_of(acts)}
    if director is None and not holding:
        await note(conn, rt.clock, case, "nobody_to_tell", "No operations director is registered for the site")
        return
    owner = await person(conn, case.owner_id)
    decider = await _decider(conn, file.plan, owner.name)
    now, revision = rt.clock.now(), next_revision(acts)
    to = director or await person(conn, next(iter(holding)))
    for holder in holding.values():
        if holder.person_id == to.person_id:
            continue
        before = announced_window(holder.told)
        composed = messages.withdrawal(file, owner.name, to.name, before, now, revision)
        several = len(holding) > 2  # their keys would be the same
        await tell_holder(rt, conn, case, composed, holder, revision, tag=holder.person_id if several else "")
    threads = holding[to.person_id].threads if to.person_id in holding else {}
    addressed = []
    for channel in channels or rt.notifiers:
        again = sum(
            1 for act in acts if act.purpose == "announcement" and act.kind == "message" and channel_of(act) == channel
        )
        composed = messages.announcement(file, owner.name, now, revision, decider, amends=channel in threads)
        addressed += await intend_message(
            conn, rt.clock, rt.notifiers, case, composed, to, sequence=revision,
            tag=f"again{again}" if again and channel not in threads else "", thread=threads, channels=(channel,),
        )  # fmt: skip
    if not addressed:
        await note(conn, rt.clock, case, "nobody_to_tell", f"No channel reaches {to.name}")


async def _withdrawn(rt: Runtime, conn: Connection, act: Act) -> Act:
    """An announcement that nobody has got yet is not sent any more; any other act stays as it is."""
    if act.kind != "message" or act.purpose not in telling.APPOINTMENT or act.state is not ActState.INTENDED:
        return act
    return replace(act, state=await settle(conn, rt.clock, act, ActEvent.RELEASE, error=act.error))


async def _decider(conn: Connection, plan: Plan, owner_name: str) -> str:
    """Who made this plan possible where people were asked; "" when it was arranged automatically."""
    actor = plan.decisions.made_it_possible
    if not actor:
        return ""
    user = {"user_id": actor.removeprefix("user:")}
    found = await fetch_one(conn, Name, _sql.name_of_user, user)
    return found.name if found else f"{owner_name}'s team"
