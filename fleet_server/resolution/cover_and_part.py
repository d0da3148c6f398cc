"""The first steps of a plan: entitlement, approval, part; and the question about a plan that cannot be read.

Each leaves rows that say it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from fleet_core.errors import BadInput, OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.entitlement.api import Entitlement, EntitlementRequest
from fleet_server.connectors.parts.api import Offer, PartsRequest, Reservation
from fleet_server.resolution.acts import Doing, Held, intend_now, perform, put_off_step, unusable
from fleet_server.resolution.case import Case
from fleet_server.resolution.comparing import (
    Differences,
    NotAsAsked,
    cover_differences,
    reservation_differences,
)
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.latest_end import deadline_lifted, latest_end
from fleet_server.resolution.plan import Cover, Part, Retrying
from fleet_server.resolution.records import CaseFile, change_case, lock_case, note
from fleet_server.resolution.requests import read_request
from fleet_server.resolution.rows import Act
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActState, CaseEvent, CaseState, UndoingEvent
from fleet_server.resolution.stored import check_answer, table_of
from fleet_server.store.pool import Connection

MAX_REFUSALS = 10
"""Refused windows, or reservations, after which a person is asked."""


async def do_entitlement(rt: Runtime, conn: Connection, file: CaseFile, act: Act | None) -> None:
    """Check the cover of this serial number and component; without it a person decides."""
    request = EntitlementRequest(
        tenant_id=file.case.tenant_id,
        asset_serial=file.asset.serial,
        component_type=file.component.component_type,
        component_serial=file.component.serial,
        at=rt.clock.now(),
    )

    async def call(key: str) -> Entitlement:
        answer = await rt.entitlement.check(request)
        if not answer.covered:
            raise Refused("not_covered", answer.reason)
        return answer

    async def on_held(conn: Connection, case: Case, answer: Entitlement) -> Held:
        cover = Cover(answer.kind, answer.reference, answer.valid_to, answer.terms)
        booking = replace(case.plan.booking, entitlement=cover)
        await change_case(conn, replace(case, plan=replace(case.plan, booking=booking)))
        shown = {"reference": cover.reference, "kind": cover.kind, "valid_to": cover.valid_to, "terms": cover.terms}
        await note(conn, rt.clock, case, "entitlement_verified", f"Covered by {answer.kind} {answer.reference}", shown)
        return Held(asdict(answer), answer.reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        if not case.being_planned:
            await change_case(conn, case)
            return
        summary = f"No cover for the repair: {error}"
        await escalate(conn, rt.clock, rt.notifiers, file, case, "no_warranty", summary, {"step": "entitlement"})

    fresh = act is None
    act = act or await intend_now(rt, conn, file, "entitlement", asdict(request) | {"at": request.at.isoformat()})

    def compare(answer: Entitlement) -> Differences:
        return cover_differences(request.at, answer, file.site.time_zone)

    if act is not None:
        await perform(rt, conn, file, act, Doing(call, None, on_held, on_refused, Entitlement, compare), fresh=fresh)


async def do_approval(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """Ask before anything is reserved or booked."""
    why = file.policy_problem or f"the policy asks a person for every {file.asset.asset_class.replace('_', ' ')}"
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        summary = f"Approval needed: {why}"
        await escalate(conn, rt.clock, rt.notifiers, file, case, "approval_required", summary)


async def do_unreadable(rt: Runtime, conn: Connection, file: CaseFile) -> None:
    """Ask what is to become of a plan of which not all can be read. What is held stands until it is answered."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        summary = f"What was planned cannot be read, so nothing more is arranged: {case.plan.unread_because}"[:400]
        detail = {"step": "plan", "unread": case.plan.unread}
        await escalate(conn, rt.clock, rt.notifiers, file, case, "plan_unreadable", summary, detail)


async def do_part(rt: Runtime, conn: Connection, file: CaseFile, act: Act | None) -> None:
    """Reserve the part that is on site first, of those in time and within the cost limit."""
    fresh = act is None
    if act is None:
        offer = await _choose_offer(rt, conn, file)
        if offer is None:
            return
        act = await intend_now(rt, conn, file, "reservation", table_of(offer))
        if act is None:
            return
    else:
        offer = read_request(act, Offer)

    async def on_held(conn: Connection, case: Case, held: Reservation) -> Held:
        part = Part(**asdict(replace(offer, arrives_at=held.arrives_at)), reservation=held.reference)
        if case.state is CaseState.CONFIRMED:
            case = case.after(CaseEvent.PLAN)
        plan = replace(case.plan, booking=replace(case.plan.booking, part=part), retrying=Retrying())
        await change_case(conn, replace(case, part_no=held.part_no, plan=plan))
        text = f"{offer.label} reserved in {offer.centre_name}, on site by {held.arrives_at:%Y-%m-%d %H:%M} UTC"
        await note(conn, rt.clock, case, "part_reserved", text, table_of(part))
        return Held(asdict(held) | {"arrives_at": held.arrives_at.isoformat()}, held.reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        case = await change_case(conn, replace(case, plan=case.plan.refusing_offer(offer.centre_id, offer.part_no)))
        refused = case.plan.replanning.refused_offers
        if case.being_planned and len(refused) >= MAX_REFUSALS:
            why = f"No part was reserved as asked in {len(refused)} attempts, last: {error}"
            await _no_part(rt, conn, file, case, why, as_asked=not isinstance(error, NotAsAsked))

    def compare(held: Reservation) -> Differences:
        return reservation_differences(offer, _latest_arrival(rt, file), held, file.site.time_zone)

    async def call(key: str) -> Reservation:
        return await rt.parts.reserve(file.case.tenant_id, offer, key=key)

    doing = Doing(call, rt.parts.lookup, on_held, on_refused, Reservation, compare)
    await perform(rt, conn, file, act, doing, fresh=fresh)


async def _choose_offer(rt: Runtime, conn: Connection, file: CaseFile) -> Offer | None:
    """The offer to reserve; None when a person was asked, or when it is to be tried later."""
    now = rt.clock.now()
    request = PartsRequest(
        tenant_id=file.case.tenant_id,
        component_type=file.component.component_type,
        model=file.asset.model,
        part_no=file.component.part_no,
        region=file.site.region,
        jurisdiction=file.site.jurisdiction,
        latitude=file.site.latitude,
        longitude=file.site.longitude,
        at=now,
    )
    try:
        offers = await rt.parts.offers(request)
        check_answer(offers, list[Offer], "offers")
    except BadInput as error:
        await put_off_step(rt, conn, file, "parts", unusable(error))
        return None
    except (Retryable, OutcomeUnknown, Permanent) as error:
        await put_off_step(rt, conn, file, "parts", error)
        return None
    latest = latest_end(file, now)
    refused = file.plan.replanning.refused_offers
    left = [offer for offer in offers if (offer.centre_id, offer.part_no) not in refused]
    if offers and not left:
        last = file.latest("reservation")
        why = f"No centre reserved the part as asked, the last answer: {last.error if last else ''}"
        async with conn.transaction():
            case = await lock_case(conn, file.case_id)
            if case.version == file.case.version:
                await _no_part(rt, conn, file, case, why, as_asked=last is None or last.state is ActState.REFUSED)
        return None
    offers, latest_arrival = left, _latest_arrival(rt, file)
    in_time = [offer for offer in offers if latest_arrival is None or offer.arrives_at <= latest_arrival]
    if file.plan.is_emergency:  # by arrival, whatever the order in which the parts system offers them
        in_time = sorted(in_time, key=lambda offer: (offer.arrives_at, offer.price_eur))
    cost_approved = bool(file.plan.decisions.cost_approved_by)
    affordable = [offer for offer in in_time if cost_approved or offer.price_eur <= file.policy.cost_limit_eur]
    if affordable:
        return affordable[0]
    shown = {"step": "parts", "offers": [table_of(offer) for offer in offers[:20]]}
    if in_time:
        reason = "policy_limit"
        summary = f"{in_time[0].label} costs {in_time[0].price_eur:.2f} EUR, above {file.policy.cost_limit_eur:.2f} EUR"
    else:
        reason = "no_part_in_time"
        summary = "No part is in stock anywhere"
        if offers:
            first = f"the first of {len(offers)} arrives {offers[0].arrives_at:%Y-%m-%d %H:%M} UTC"
            summary = f"No part can be on site before {latest:%Y-%m-%d %H:%M} UTC: {first}"
    await _ask(rt, conn, file, reason, summary, shown)
    return None


def _latest_arrival(rt: Runtime, file: CaseFile) -> datetime | None:
    """By when the part must be on site for the work to be over in time; None where lateness was accepted."""
    if deadline_lifted(file):
        return None
    return latest_end(file, rt.clock.now()) - timedelta(hours=file.policy.work_h)


async def _no_part(rt: Runtime, conn: Connection, file: CaseFile, case: Case, summary: str, *, as_asked: bool) -> None:
    """Ask the owner; every centre may be tried again then. ``as_asked``: the last one plainly refused."""
    case = await change_case(conn, replace(case, plan=case.plan.forgiven()).after(UndoingEvent.GIVE_UP))
    reason = "no_part_in_time" if as_asked else "not_as_asked"
    await escalate(conn, rt.clock, rt.notifiers, file, case, reason, summary, {"step": "parts"})


async def _ask(
    rt: Runtime, conn: Connection, file: CaseFile, reason: str, summary: str, detail: Mapping[str, object]
) -> None:
    """Ask the owner; what the plan held is released. A case that changed meanwhile is to be read again."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        case = await change_case(conn, case.after(UndoingEvent.GIVE_UP))
        await escalate(conn, rt.clock, rt.notifiers, file, case, reason, summary, detail)
