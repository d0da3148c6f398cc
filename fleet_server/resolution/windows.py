"""The step that books a window in the customer's WMS, and the engineers it must fit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fleet_core.assets import COMPONENT_TYPES
from fleet_core.errors import OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.field_service.api import EngineerQuery
from fleet_server.connectors.wms.api import Booking, LoadForecast
from fleet_server.resolution.acts import Doing, Held, intend_now, perform, put_off_step
from fleet_server.resolution.cover_and_part import MAX_REFUSALS, late_accepted, latest_end
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.records import CaseFile, Row, change_case, lock_case, note
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseState
from fleet_server.resolution.window_choice import (
    MAX_ALTERNATIVES,
    Engineer,
    Ranking,
    Shift,
    Span,
    Window,
    WindowRequest,
    load_by_shift,
    rank_windows,
    why_none,
    zone_info,
)
from fleet_server.store.pool import Connection


async def do_window(rt: Runtime, conn: Connection, file: CaseFile, act: Row | None) -> None:
    """Book the quietest window that fits part, engineer and deadline (an earlier one when replanning, one that begins
    soon when a person accepted a late one)."""
    fresh = act is None
    if act is None:
        request = await _choose_window(rt, conn, file)
        if request is None:
            return
        act = await intend_now(rt, conn, file, "window", request)
        if act is None:
            return
    chosen = act["request"]
    start, end = (datetime.fromisoformat(chosen[name]) for name in ("start", "end"))
    wms = rt.wms_of(file.site)
    equipment = _equipment(file)
    reason = f"Preventive repair, case {file.name}"

    async def lookup(key: str) -> Booking | None:
        known = await wms.lookup(key)
        return known if known is not None and known.held else None

    async def on_held(conn: Connection, case: Row, booking: Booking) -> Held:
        window = {**chosen["window"], "booking": booking.reference}
        if case["state"] == CaseState.COMMITTED:
            plan: dict[str, Any] = {"next_window": window, "next_engineer": chosen["engineer"]}
        else:
            plan = {"window": window, "engineer": chosen["engineer"]}
        offered = {"alternatives": chosen["alternatives"], "excluded": chosen["excluded"]}
        await change_case(conn, case, plan={**plan, **offered, "tries": None, "not_before": None})
        local = start.astimezone(zone_info(window["time_zone"]))
        text = f"Window booked: {local:%a %Y-%m-%d %H:%M} {window['time_zone']}, load rank {window['load_rank']}"
        await note(conn, rt.clock, case, "window_booked", text, window)
        return Held({"start": booking.start, "end": booking.end}, booking.reference)

    async def on_refused(conn: Connection, case: Row, error: Refused) -> None:
        refused = [*case["plan"].get("refused_windows", []), chosen["start"]]
        case = await change_case(conn, case, plan={"refused_windows": refused})
        if len(refused) >= MAX_REFUSALS:
            await _no_window(rt, conn, file, case, f"the WMS refused {len(refused)} windows, last: {error}")

    doing = Doing(lambda key: wms.book(equipment, start, end, reason, key=key), lookup, on_held, on_refused)
    await perform(rt, conn, file, act, doing, fresh=fresh)


async def engineers_for(rt: Runtime, file: CaseFile, start: datetime, end: datetime) -> tuple[Engineer, ...]:
    """Qualified engineers, nearest first, and when they are taken. Raises as the connector does."""
    query = EngineerQuery(
        skill=_skill(file),
        tenant_id=file.case["tenant_id"],
        site_id=file.site["site_id"],
        region=file.site["region"],
        start=start,
        end=end,
    )
    found = await rt.field_service.engineers(query)
    return tuple(Engineer(e.person_id, e.name, tuple(Span(a, b) for a, b in e.busy)) for e in found)


async def _choose_window(rt: Runtime, conn: Connection, file: CaseFile) -> Row | None:
    """The window to book with its ranked alternatives; None when a person was asked or it is to be tried later."""
    now = rt.clock.now()
    latest = latest_end(file, now)
    if latest <= now:
        await _no_window_now(rt, conn, file, "the deadline has passed", {})
        return None
    arrives_at = datetime.fromisoformat(file.plan["part"]["arrives_at"])
    since = max(now, arrives_at - timedelta(days=1)) if late_accepted(file) else now  # a WMS answers a bounded span
    try:
        wms = rt.wms_of(file.site)
        forecast, engineers = await asyncio.gather(
            wms.load(_equipment(file), since, latest + timedelta(hours=1)), engineers_for(rt, file, since, latest)
        )
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off_step(rt, conn, file, "load", error)
        return None
    request = _window_request(file, forecast, engineers, now, latest)
    ranking = rank_windows(request)
    if ranking.best is None:
        shown = {"excluded": ranking.excluded, "considered": ranking.considered, "latest_end": latest.isoformat()}
        await _no_window_now(rt, conn, file, why_none(ranking, request, _skill(file), file.site["region"]), shown)
        return None
    return _window_json(file, ranking, request)


def _window_request(
    file: CaseFile, forecast: LoadForecast, engineers: tuple[Engineer, ...], now: datetime, latest: datetime
) -> WindowRequest:
    arrives_at = datetime.fromisoformat(file.plan["part"]["arrives_at"])
    own = file.plan.get("window")  # when replanning, our own booking is not in our way
    taken = tuple(
        Span(start, end)
        for start, end in forecast.taken
        if own is None or (start, end) != (datetime.fromisoformat(own["start"]), datetime.fromisoformat(own["end"]))
    )
    earliest = max(now + timedelta(hours=file.policy.notice_h), arrives_at)
    return WindowRequest(
        earliest=earliest,
        latest_end=latest,
        duration=timedelta(hours=file.policy.work_h),
        time_zone=file.site["time_zone"],
        load=forecast.orders_by_hour,
        shifts=tuple(Shift(shift.name, shift.start, shift.end) for shift in forecast.shifts),
        taken=taken,
        engineers=engineers,
        refused=frozenset(datetime.fromisoformat(start) for start in file.plan.get("refused_windows", [])),
        refused_pairs=frozenset(
            (datetime.fromisoformat(start), who) for start, who in file.plan.get("refused_pairs", [])
        ),
        soon_until=earliest + timedelta(hours=file.policy.late_window_h) if late_accepted(file) else None,
    )


def _window_json(file: CaseFile, ranking: Ranking, request: WindowRequest) -> Row:
    best = ranking.windows[0]
    zone = zone_info(request.time_zone)
    day = best.start.astimezone(zone).date()
    day_orders = sum(load for hour, load in request.load.items() if hour.astimezone(zone).date() == day)
    deadline_at: datetime | None = file.case["deadline_at"]
    window = _shown(best) | {
        "time_zone": request.time_zone,
        "day_orders": round(day_orders, 1),
        "of_windows": len(ranking.windows),
        "before_deadline": deadline_at is None or best.end <= deadline_at,
        "choice": "first" if ranking.first_counts else "quietest_soon" if request.soon_until else "quietest",
    }
    return {
        "start": best.start.isoformat(),
        "end": best.end.isoformat(),
        "window": window,
        "engineer": {"id": best.engineer_id, "name": best.engineer_name},
        "alternatives": [_shown(window) for window in ranking.windows[1 : 1 + MAX_ALTERNATIVES]],
        "excluded": ranking.excluded,
        "load_by_hour": {hour.isoformat(): load for hour, load in sorted(request.load.items())},
        "load_by_shift": load_by_shift(request.load, request.shifts, request.time_zone),
    }


def _shown(window: Window) -> Row:
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "load": window.load,
        "load_rank": window.load_rank,
        "shift": window.shift,
    }


async def _no_window_now(rt: Runtime, conn: Connection, file: CaseFile, why: str, shown: Mapping[str, Any]) -> None:
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        await _no_window(rt, conn, file, case, why, shown)


async def _no_window(
    rt: Runtime, conn: Connection, file: CaseFile, case: Row, why: str, shown: Mapping[str, Any] | None = None
) -> None:
    """Ask the owner; what the plan held is released unless a committed plan stands."""
    detail = {"step": "window", **(shown or {})}
    if case["state"] == CaseState.COMMITTED:
        case = await change_case(conn, case, replanning=False, plan={"next_window": None})
        text = f"The deadline moved to {case['deadline_at']:%Y-%m-%d %H:%M} UTC, before the booked window's end; {why}"
        await escalate(conn, rt.clock, rt.notifiers, file, case, "deadline_moved", text, detail)
        return
    case = await change_case(conn, case, plan={"unwind": True, "refused_windows": None, "refused_pairs": None})
    reasons = (shown or {}).get("excluded", {})
    reason = "no_engineer" if set(reasons) & {"no_qualified_engineer"} else "no_window_in_time"
    in_time = "" if case["deadline_at"] is None or late_accepted(file) else " before the deadline"
    text = f"No repair window{in_time}: {why}"
    await escalate(conn, rt.clock, rt.notifiers, file, case, reason, text, detail)


def _skill(file: CaseFile) -> str:
    kind = COMPONENT_TYPES.get(file.component["component_type"])
    return kind.skill if kind else ""


def _equipment(file: CaseFile) -> str:
    return str(file.asset["equipment_ref"] or file.asset["asset_id"])
