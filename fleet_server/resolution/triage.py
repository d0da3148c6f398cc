"""From a finding to a case: at most one open case for each asset and slot, always with a named owner.

Runs in one transaction. Findings of the same component at the same time queue up behind an advisory lock and join the
case the first one opened; the table's unique index is the last word. Every revision brings a new prognosis, and with
it a new judgement: act, watch or ask.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

from fleet_core.assets import COMPONENT_TYPES, failure_mode
from fleet_core.errors import BadInput, Permanent
from fleet_core.telemetry import DetectionState, Finding, from_us
from fleet_server.audit.log import record
from fleet_server.health.running_kept import why_standing
from fleet_server.labels import case_label
from fleet_server.resolution.case import Case
from fleet_server.resolution.chain import reachable
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.metrics import CASES, FINDINGS
from fleet_server.resolution.policy import (
    PolicyJudgement,
    Verdict,
    deadline,
    judge,
    look_again_after_h,
    needs_replan,
    urgency,
)
from fleet_server.resolution.records import (
    SYSTEM,
    CaseFile,
    change_case,
    load_case,
    note,
    set_timer,
    wake,
)
from fleet_server.resolution.refreshing import plan_refresh
from fleet_server.resolution.rows import (
    CaseNumber,
    EndedCase,
    FindingRow,
    Found,
    JudgedAsset,
    Person,
    Prognosis,
    Region,
)
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseEvent, CaseState, Control, ControlEvent, Move, MoveEvent
from fleet_server.resolution.verification import VERIFY
from fleet_server.store.fetch import fetch_all, fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_sql = queries("resolution")
LOOK_AGAIN = "look_again"
STANDING_STILL = "standing_still"
_DEGRADED = (DetectionState.DEGRADING, DetectionState.CRITICAL)


async def triage_finding(rt: Runtime, finding_id: str, revision: int) -> str | None:
    """Judge one stored finding. Returns the case it belongs to, None when it led to none.

    Raises Permanent when the finding does not exist or nobody can own a case.
    """
    async with rt.pool.connection() as conn:
        row = await _finding_row(conn, finding_id, revision)
        try:
            finding = Finding.from_json(row.body_text)
        except BadInput as error:
            await _not_judged(rt, conn, row, "unreadable", str(error))
            return None
        where = {"asset_id": row.asset_id, "slot": row.slot}
        await conn.execute(_sql.lock_component, where)
        asset = await fetch_one(conn, JudgedAsset, _sql.asset_row, where)
        if asset is None:
            raise Permanent(f"there is no asset {row.asset_id}")
        case = await fetch_one(conn, Case, _sql.open_case_of, where)
        reason = await _why_not_judged(rt, conn, row, finding, asset, case)
        if reason:
            await _not_judged(rt, conn, row, *reason)
            await _look_again_later(rt, conn, case)
            return None
        if case is None:
            case = await open_case(rt, conn, row, finding, asset)
        await _judge(rt, conn, row, finding, asset, case)
        return str(case.case_id)


async def _why_not_judged(
    rt: Runtime, conn: Connection, row: FindingRow, finding: Finding, asset: JudgedAsset, case: Case | None
) -> tuple[str, str] | None:
    until = asset.maintenance_until
    if until is not None and until > rt.clock.now():
        return "maintenance", f"in maintenance until {until:%Y-%m-%d %H:%M} UTC: {asset.maintenance_note}"
    if finding.state not in _DEGRADED and case is None:
        return "not_degraded", f"the device says {finding.state}"
    if case is not None and case.state in (CaseState.IN_PROGRESS, CaseState.VERIFYING):
        told_after = case.completed_at is not None and from_us(finding.detected_us) > case.completed_at
        if not told_after:
            return "under_repair", f"case {case.name} is being repaired"
    elif standing := await why_standing(conn, row.asset_id, row.slot, rt.clock.now()):
        return STANDING_STILL, standing
    if case is None:
        where = {"asset_id": row.asset_id, "slot": row.slot, "finding_id": row.finding_id}
        known = await fetch_one(conn, EndedCase, _sql.last_ended_case_of, where)
        if known is not None and not _is_new_trouble(known, finding):
            return "already_handled", f"its case ended as {known.state}"
    return None


async def _look_again_later(rt: Runtime, conn: Connection, case: Case | None) -> None:
    """A case that is only watched keeps its next look although nothing can be judged now."""
    if case is not None and case.state is CaseState.OPEN:
        policy = (await load_case(conn, case.case_id)).policy
        after_h = look_again_after_h(policy, (rt.clock.now() - case.opened_at) / timedelta(hours=1))
        await set_timer(conn, case, LOOK_AGAIN, rt.clock.now() + timedelta(hours=after_h))


def _is_new_trouble(known: EndedCase, finding: Finding) -> bool:
    """Whether a finding whose case has ended tells of more than was known then: a case is opened for it, beside the
    history of that one.

    It does when it is critical and was not before, when it is critical after a repair, and when the device had found
    the component healthy meanwhile. A revision that was judged before tells nothing new, however often it comes.
    """
    if finding.revision <= known.revision:
        return False
    detected = from_us(finding.detected_us)
    ended, healthy = known.closed_at, known.recovered_at
    if ended is not None and healthy is not None and ended <= healthy <= detected:
        return True
    if finding.state is not DetectionState.CRITICAL:
        return False
    repaired = known.state == CaseState.CLOSED and known.closed_at is not None and detected > known.closed_at
    return repaired or not known.was_critical


async def open_case(rt: Runtime, conn: Connection, row: FindingRow, finding: Finding, asset: JudgedAsset) -> Case:
    """Open a case, beside the ended one of the same finding. Raises Permanent when no person at all could own it."""
    where = {"asset_id": row.asset_id, "slot": row.slot, "finding_id": row.finding_id}
    known = await fetch_one(conn, EndedCase, _sql.last_ended_case_of, where)
    site = await fetch_one(conn, Region, _sql.region_of_site, {"site_id": row.site_id})
    wanted = {"tenant_id": row.tenant_id, "site_id": row.site_id, "region": site.region if site else None}
    candidates = await fetch_all(conn, Person, _sql.case_owner, wanted)
    owner = next((one for one in candidates if reachable(one, rt.notifiers)), next(iter(candidates), None))
    if owner is None:
        raise Permanent(
            f"nobody can own a case at site {row.site_id}; register a person with role case_owner (site, region or"
            " none for all) and the finding is judged again"
        )
    values = {
        "case_id": uuid.uuid4(),
        "tenant_id": row.tenant_id,
        "site_id": row.site_id,
        "asset_id": row.asset_id,
        "slot": row.slot,
        "failure_mode": failure_mode(finding.failure_mode).code,
        "owner_id": owner.person_id,
        "impact": impact_text(asset),
        "urgency": urgency(None, rt.clock.now(), asset.criticality),
        "finding_id": row.finding_id,
        "component_serial": asset.component_serial or "",
        "part_no": asset.part_no or "",
        "opened_at": rt.clock.now(),
        "trace_id": finding.trace_id or row.trace_id or uuid.uuid4().hex,
    }
    case = await fetch_one(conn, Case, _sql.insert_case, values)
    assert case is not None
    if known is not None:
        await conn.execute(_sql.follow, {"case_id": case.case_id, "follows": known.case_id})
    text = f"Case opened for {asset.name}, {row.slot}; owner {owner.name}"
    await note(conn, rt.clock, case, "opened", text, {"owner": owner.name, "finding_id": str(row.finding_id)})
    CASES.labels("opened").inc()
    return case


async def _judge(
    rt: Runtime, conn: Connection, row: FindingRow, finding: Finding, asset: JudgedAsset, case: Case
) -> None:
    """A new prognosis for the case and what follows from it; the case's row is held."""
    this = {"case_id": case.case_id, "finding_id": row.finding_id, "revision": row.revision}
    judged_before = await fetch_one(conn, Found, _sql.judged_before, this)
    prognosis = await _prognosis(rt, conn, finding, asset, case)
    before, moved_to = case.deadline_at, deadline(prognosis)
    case = replace(case, prognosis_id=prognosis.prognosis_id, finding_id=row.finding_id)
    if not prognosis.abstained:
        urgent = urgency(moved_to, rt.clock.now(), asset.criticality)
        case = replace(case, failure_mode=prognosis.failure_mode, deadline_at=moved_to, urgency=urgent)
    case = await change_case(conn, case)
    file = await load_case(conn, case.case_id)
    where = {"asset_id": case.asset_id, "slot": case.slot}
    other = await fetch_one(conn, CaseNumber, _sql.other_open_case_of, where)
    judgement = judge(
        file.policy,
        prognosis,
        finding.failure_mode,
        finding.mode_confidence,
        watched_h=(rt.clock.now() - case.opened_at) / timedelta(hours=1),
        related=case_label(other.number) if other else "",
    )
    FINDINGS.labels(judgement.verdict).inc()
    shown = {
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "probability": judgement.probability,
        "revision": row.revision,
        "deadline_at": moved_to,
        "prognosis_id": str(prognosis.prognosis_id),
    }
    confirms = judgement.verdict is Verdict.ACT and case.state is CaseState.OPEN
    if judged_before is None or confirms:  # looked at again with no news: nothing to tell
        await note(conn, rt.clock, case, "judged", judgement.text, shown)
    await _follow(rt, conn, file, case, judgement, before, moved_to)
    await plan_refresh(conn, rt.clock, file.policy, case.case_id, prognosis)


async def _prognosis(rt: Runtime, conn: Connection, finding: Finding, asset: JudgedAsset, case: Case) -> Prognosis:
    """A new prognosis, as it was stored."""
    of = {"asset_id": asset.asset_id, "tenant_id": asset.tenant_id, "asset_class": asset.asset_class}
    made = await rt.prognose(conn, rt.clock, finding, of, case.case_id, case.trace_id)
    stored = await fetch_one(conn, Prognosis, _sql.prognosis_by_id, {"prognosis_id": made["prognosis_id"]})
    if stored is None:
        raise Permanent(f"the prognosis {made['prognosis_id']} was not stored")
    return stored


async def _follow(
    rt: Runtime,
    conn: Connection,
    file: CaseFile,
    case: Case,
    judgement: PolicyJudgement,
    before: datetime | None,
    moved_to: datetime | None,
) -> None:
    """What the judgement means where the case stands."""
    if case.state is CaseState.OPEN and case.control is not Control.BY_HAND:
        await _follow_open(rt, conn, file, case, judgement)
    elif case.state is CaseState.COMMITTED:
        await _follow_committed(rt, conn, file, case, before, moved_to)
    elif case.state is CaseState.VERIFYING:
        await set_timer(conn, case, VERIFY, rt.clock.now())  # a finding after the repair: judge it now
    else:
        await wake(conn, rt.clock, case)


async def _follow_open(rt: Runtime, conn: Connection, file: CaseFile, case: Case, judgement: PolicyJudgement) -> None:
    if judgement.verdict is Verdict.ACT:
        waits_for = "tenant is set to observe only" if file.tenant.observe_only else ""
        values = {"case_id": case.case_id, "now": rt.clock.now(), "actor": SYSTEM, "note": judgement.text}
        await conn.execute(_sql.close_escalations, {**values, "decision": "evidence_changed"})
        confirmed = case.after(CaseEvent.CONFIRM, ControlEvent.ANSWERED)
        case = await wake(conn, rt.clock, replace(confirmed, waits_for=waits_for))
        text = "Confirmed; a repair is being arranged" if not waits_for else f"Confirmed; no acts: {waits_for}"
        await note(conn, rt.clock, case, "confirmed", text, {"probability": judgement.probability})
        CASES.labels("confirmed").inc()
        return
    if judgement.verdict is Verdict.ASK and not case.plan.decisions.watching:
        await escalate(conn, rt.clock, rt.notifiers, file, case, judgement.reason, judgement.text, {"step": "triage"})
    elif not case.escalated:
        await change_case(conn, replace(case, waits_for=f"watching: {judgement.text}"[:300]))
    now = rt.clock.now()
    after_h = look_again_after_h(file.policy, (now - case.opened_at) / timedelta(hours=1))
    await set_timer(conn, case, LOOK_AGAIN, now + timedelta(hours=after_h))


async def _follow_committed(
    rt: Runtime, conn: Connection, file: CaseFile, case: Case, before: datetime | None, moved_to: datetime | None
) -> None:
    """The booked window may no longer end before the deadline. What counts is the deadline it was planned for."""
    reference = case.plan.booking.planned_for or before
    window = case.plan.booking.window
    if window is None or case.control is Control.BY_HAND:
        # the worker asks about a plan that cannot be read; for a person who took over nothing is moved any more, and
        # what a stopped move left on the plan stays there
        await wake(conn, rt.clock, case)
        return
    if case.escalated:  # a person is asked already; the next refresh after the decision looks again
        return
    if case.move is not Move.STAYS or not needs_replan(file.policy, window.end, reference, moved_to):
        return
    case = await wake(conn, rt.clock, case.after(MoveEvent.DEADLINE_MOVED))
    text = f"The deadline moved to {moved_to:%Y-%m-%d %H:%M} UTC, before the booked window's end"
    await note(conn, rt.clock, case, "deadline_moved", text, {"from": reference, "to": moved_to})


def impact_text(asset: JudgedAsset) -> str:
    """What stands still when it fails, for people."""
    kind = COMPONENT_TYPES.get(asset.component_type or "")
    part = kind.label.lower() if kind else "component"
    weight = {1: "critical to the site", 2: "important to the site", 3: "replaceable for a while"}
    return f"If the {part} fails, {asset.name} stops; it is {weight[asset.criticality]}."


async def _finding_row(conn: Connection, finding_id: str, revision: int) -> FindingRow:
    wanted = {"finding_id": finding_id, "revision": revision}
    row = await fetch_one(conn, FindingRow, _sql.finding_to_judge, wanted)
    if row is None:
        raise Permanent(f"there is no finding {finding_id} revision {revision}")
    return row


async def _not_judged(rt: Runtime, conn: Connection, row: FindingRow, reason: str, text: str) -> None:
    FINDINGS.labels(reason).inc()
    if reason == STANDING_STILL:
        return  # the audit has one entry when it began to stand, not one for each finding
    body = {"reason": reason, "text": text, "asset_id": row.asset_id, "revision": row.revision}
    await record(
        conn,
        rt.clock,
        tenant_id=row.tenant_id,
        actor=SYSTEM,
        action="finding.not_judged",
        subject=f"finding:{row.finding_id}",
        body=body,
        trace_id=row.trace_id,
    )
