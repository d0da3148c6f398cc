"""The step that books a window in the customer's WMS, and the engineers it must fit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from fleet_core.assets import COMPONENT_TYPES
from fleet_core.errors import BadConfig, BadInput, OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.field_service.api import EngineerAvailability, EngineerQuery
from fleet_server.connectors.wms.api import Booking, LoadForecast
from fleet_server.resolution.acts import Doing, Held, intend_now, perform, put_off, put_off_step, unusable
from fleet_server.resolution.case import Case
from fleet_server.resolution.comparing import Differences, NotAsAsked, window_differences
from fleet_server.resolution.cover_and_part import MAX_REFUSALS
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.latest_end import deadline_lifted, late_accepted, latest_end
from fleet_server.resolution.plan import Alternative, PlannedEngineer, Retrying, Window, needed
from fleet_server.resolution.receivers import receiver_of, wms_of_booking
from fleet_server.resolution.records import CaseFile, change_case, lock_case, note
from fleet_server.resolution.requests import BookingRequest, read_request
from fleet_server.resolution.rows import Act
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseState, MoveEvent, UndoingEvent
from fleet_server.resolution.stored import check_answer, table_of
from fleet_server.resolution.window_choice import (
    MAX_ALTERNATIVES,
    Engineer,
    Ranking,
    Shift,
    Span,
    WindowRequest,
    load_by_shift,
    rank_windows,
    why_none,
    zone_info,
)
from fleet_server.store.pool import Connection


async def do_window(rt: Runtime, conn: Connection, file: CaseFile, act: Act | None) -> None:
    """Book the quietest window that fits part, engineer and deadline.

    While a booked window is being moved this books an earlier one beside it; where a person accepted a late window, one
    that begins soon. ``act`` is a booking that was begun and is to be finished, None when a window is yet to be chosen.
    """
    fresh, moves = act is None, file.case.state is CaseState.COMMITTED
    if act is None:
        request = await _choose_window(rt, conn, file)
        if request is None:
            return
        act = await intend_now(rt, conn, file, "window", table_of(request))
        if act is None:
            return
    chosen = read_request(act, BookingRequest)
    start, end = chosen.start, chosen.end
    try:
        wms = await wms_of_booking(rt, conn, file, act)
    except BadConfig as error:
        await put_off(rt, conn, file, act, error)
        return
    equipment = chosen.equipment or _equipment(file)
    reason = f"Preventive repair, case {file.name}"

    async def on_held(conn: Connection, case: Case, booking: Booking) -> Held:
        window = replace(chosen.window, booking=booking.reference)
        move = case.plan.replanning
        booked = replace(case.plan.booking, alternatives=chosen.alternatives, excluded=chosen.excluded)
        if moves:
            case = case.after(MoveEvent.BOOKED)
            move = replace(move, next_window=window, next_engineer=chosen.engineer)
        else:
            booked = replace(booked, window=window, engineer=chosen.engineer)
        plan = replace(case.plan, booking=booked, replanning=move, retrying=Retrying())
        await change_case(conn, replace(case, plan=plan))
        local = start.astimezone(zone_info(window.time_zone))
        text = f"Window booked: {local:%a %Y-%m-%d %H:%M} {window.time_zone}, load rank {window.load_rank}"
        await note(conn, rt.clock, case, "window_booked", text, table_of(window))
        return Held({"start": booking.start, "end": booking.end}, booking.reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        case = await change_case(conn, replace(case, plan=case.plan.refusing(start)))
        refused = case.plan.replanning.refused_windows
        if len(refused) < MAX_REFUSALS:
            return
        if isinstance(error, NotAsAsked):
            why = f"of the last {len(refused)} windows the WMS booked none as asked; the last: {error}"
            await no_window(rt, conn, file, case, why, reason="not_as_asked")
        else:
            await no_window(rt, conn, file, case, f"the WMS refused {len(refused)} windows, last: {error}")

    def compare(booking: Booking) -> Differences:
        return window_differences(chosen, equipment, booking)

    async def call(key: str) -> Booking:
        return await wms.book(equipment, start, end, reason, key=key)

    doing = Doing(call, wms.lookup, on_held, on_refused, Booking, compare)
    await perform(rt, conn, file, act, doing, fresh=fresh)


async def engineers_for(rt: Runtime, file: CaseFile, start: datetime, end: datetime) -> tuple[Engineer, ...]:
    """Qualified engineers, nearest first, and when they are taken.

    Raises as the connector does, and BadInput for an answer that cannot be used.
    """
    query = EngineerQuery(
        skill=_skill(file),
        tenant_id=file.case.tenant_id,
        site_id=file.site.site_id,
        region=file.site.region,
        start=start,
        end=end,
    )
    found = await rt.field_service.engineers(query)
    check_answer(found, list[EngineerAvailability], "engineers")
    return tuple(Engineer(e.person_id, e.name, tuple(Span(a, b) for a, b in e.busy)) for e in found)


async def _choose_window(rt: Runtime, conn: Connection, file: CaseFile) -> BookingRequest | None:
    """The window to book, with its alternatives. None: a person was asked, another system is to be tried later, or the
    case is to be read again since it changed."""
    now = rt.clock.now()
    latest = latest_end(file, now)
    if latest <= now:
        async with conn.transaction():
            case = await lock_case(conn, file.case_id)
            if case.version == file.case.version:
                await no_window(rt, conn, file, case, "the deadline has passed")
        return None
    arrives_at = needed(file.plan.booking.part, "part").arrives_at
    since = max(now, arrives_at - timedelta(days=1)) if deadline_lifted(file) else now  # a WMS answers a bounded span
    try:
        wms = rt.wms_of(file.site)
        forecast, engineers = await asyncio.gather(
            wms.load(_equipment(file), since, latest + timedelta(hours=1)), engineers_for(rt, file, since, latest)
        )
        check_answer(forecast, LoadForecast, "load", finite=False)
    except BadInput as error:
        await put_off_step(rt, conn, file, "load", unusable(error))
        return None
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off_step(rt, conn, file, "load", error)
        return None
    request = _window_request(file, forecast, engineers, now, latest)
    ranking = rank_windows(request)
    own = file.plan.booking.window
    if file.plan.is_emergency and own is not None and (ranking.best is None or ranking.best.start >= own.start):
        await _keep_window(conn, file)
        return None
    if ranking.best is None:
        why = why_none(ranking, request, _skill(file), file.site.region)
        shown = {"excluded": ranking.excluded, "considered": ranking.considered, "latest_end": latest.isoformat()}
        async with conn.transaction():
            case = await lock_case(conn, file.case_id)
            if case.version == file.case.version:
                await no_window(rt, conn, file, case, why, ranking.excluded, shown)
        return None
    return _booking_of(file, ranking, request)


async def _keep_window(conn: Connection, file: CaseFile) -> None:
    """The machine has failed, and no window is earlier than the booked one: that one stands, nobody is asked."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version == file.case.version and case.being_moved:
            case = case.after(MoveEvent.STOPPED)
            await change_case(conn, replace(case, plan=case.plan.unmoved()))


def _window_request(
    file: CaseFile, forecast: LoadForecast, engineers: tuple[Engineer, ...], now: datetime, latest: datetime
) -> WindowRequest:
    arrives_at = needed(file.plan.booking.part, "part").arrives_at
    own = file.plan.booking.window  # when the window is moved, our own booking is not in our way
    taken = tuple(
        Span(start, end) for start, end in forecast.taken if own is None or (start, end) != (own.start, own.end)
    )
    earliest = max(now + timedelta(hours=file.policy.notice_h), arrives_at)
    return WindowRequest(
        earliest=earliest,
        latest_end=latest,
        duration=timedelta(hours=file.policy.work_h),
        time_zone=file.site.time_zone,
        load={hour: orders for hour, orders in forecast.orders_by_hour.items() if math.isfinite(orders)},
        shifts=tuple(Shift(shift.name, shift.start, shift.end) for shift in forecast.shifts),
        taken=taken,
        engineers=engineers,
        refused=frozenset(file.plan.replanning.refused_windows),
        refused_pairs=frozenset(file.plan.replanning.refused_pairs),
        emergency=file.plan.is_emergency,
        soon_until=earliest + timedelta(hours=file.policy.late_window_h) if late_accepted(file) else None,
    )


def _booking_of(file: CaseFile, ranking: Ranking, request: WindowRequest) -> BookingRequest:
    best = ranking.windows[0]
    zone = zone_info(request.time_zone)
    day = best.start.astimezone(zone).date()
    day_orders = sum(load for hour, load in request.load.items() if hour.astimezone(zone).date() == day)
    deadline_at = file.case.deadline_at
    choice: Literal["quietest", "quietest_soon", "first", "emergency"] = "quietest"
    if request.emergency or ranking.first_counts:
        choice = "emergency" if request.emergency else "first"
    elif request.soon_until:
        choice = "quietest_soon"
    window = Window(
        start=best.start,
        end=best.end,
        load=best.load,
        load_rank=best.load_rank,
        shift=best.shift,
        time_zone=request.time_zone,
        day_orders=round(day_orders, 1),
        of_windows=len(ranking.windows),
        before_deadline=deadline_at is None or best.end <= deadline_at,
        choice=choice,
    )
    return BookingRequest(
        start=best.start,
        end=best.end,
        window=window,
        engineer=PlannedEngineer(best.engineer_id, best.engineer_name),
        alternatives=tuple(
            Alternative(other.start, other.end, other.load, other.load_rank, other.shift)
            for other in ranking.windows[1 : 1 + MAX_ALTERNATIVES]
        ),
        excluded=ranking.excluded,
        load_by_hour={hour.isoformat(): load for hour, load in sorted(request.load.items())},
        load_by_shift=load_by_shift(request.load, request.shifts, request.time_zone),
        equipment=_equipment(file),
        receiver=receiver_of(file.site),
    )


async def no_window(
    rt: Runtime,
    conn: Connection,
    file: CaseFile,
    case: Case,
    why: str,
    excluded: Mapping[str, int] = MappingProxyType({}),
    shown: Mapping[str, object] = MappingProxyType({}),
    reason: str = "",
) -> None:
    """Ask the owner; what the plan held is released unless a committed plan stands. Nothing when neither plan nor move
    goes on: the work has begun, the case has ended, or a person took over or pinned the window. ``reason`` is that of
    the question where it is another than that no window fits."""
    detail = {"step": "window", **shown}
    if case.being_moved:
        case = case.after(MoveEvent.STOPPED)
        move = replace(case.plan.replanning, next_window=None)
        case = await change_case(conn, replace(case, plan=replace(case.plan, replanning=move)))
        text = f"The deadline moved to {case.deadline_at:%Y-%m-%d %H:%M} UTC, before the booked window's end; {why}"
        await escalate(conn, rt.clock, rt.notifiers, file, case, "deadline_moved", text, detail)
        return
    if not case.being_planned:
        return
    case = replace(case, plan=case.plan.forgiven()).after(UndoingEvent.GIVE_UP)
    case = await change_case(conn, case)
    if not reason:
        reason = "no_engineer" if "no_qualified_engineer" in excluded else "no_window_in_time"
    by_deadline = latest_end(file, rt.clock.now()) == case.deadline_at and not deadline_lifted(file)
    in_time = " before the deadline" if by_deadline else ""
    text = f"No repair window{in_time}: {why}"
    await escalate(conn, rt.clock, rt.notifiers, file, case, reason, text, detail)


def _skill(file: CaseFile) -> str:
    kind = COMPONENT_TYPES.get(file.component.component_type)
    return kind.skill if kind else ""


def _equipment(file: CaseFile) -> str:
    return str(file.asset.equipment_ref or file.asset.asset_id)
