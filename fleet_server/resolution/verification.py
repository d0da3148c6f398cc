"""After the repair: do the vitals confirm it? The judgement is pure; the shell reads the vitals and closes or asks.

Sound means: enough values since the repair, their mean back in the healthy band of the finding's baseline, and the
device not reporting a degradation that began after the repair. Without enough vitals the period is extended once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from fleet_core.telemetry import DetectionState, Finding
from fleet_server.resolution import messages
from fleet_server.resolution.case import Case
from fleet_server.resolution.escalations import escalate, intend_message, person
from fleet_server.resolution.holders import Holder, holders_of
from fleet_server.resolution.metrics import CASES
from fleet_server.resolution.plan import needed
from fleet_server.resolution.records import (
    SYSTEM,
    CaseFile,
    change_case,
    finding_of,
    load_case,
    note,
    set_timer,
    wake,
)
from fleet_server.resolution.rows import DeviceState, Vitals
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseEvent, CaseState, ControlEvent
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

VERIFY = "verify"
MIN_VALUES = 3
_BAD = (DetectionState.DEGRADING.value, DetectionState.CRITICAL.value)
_sql = queries("resolution")


class Verification(StrEnum):
    SOUND = "sound"
    UNSOUND = "unsound"
    NO_VITALS = "no_vitals"


@dataclass(frozen=True, slots=True)
class Verified:
    """``text`` is for people."""

    verification: Verification
    text: str


def healthy_band(baseline: float, sigma: float) -> tuple[float, float]:
    """Low and high end of what counts as healthy again; a new part may sit a quarter off the old one's baseline."""
    half = max(6.0 * sigma, 0.25 * abs(baseline))
    return baseline - half, baseline + half


def verify(
    finding: Finding, values: int, mean: float | None, device: DeviceState | None, completed_at: datetime
) -> Verified:
    """Judge a repair that ended at ``completed_at`` from ``values`` values since then with that ``mean``."""
    if device is not None and device.state in _BAD and device.since > completed_at:
        return Verified(Verification.UNSOUND, f"the device reports {device.state} again since the repair")
    if values < MIN_VALUES or mean is None:
        return Verified(Verification.NO_VITALS, f"only {values} values of {finding.indicator_metric} since the repair")
    low, high = healthy_band(finding.indicator_baseline, finding.indicator_sigma)
    text = (
        f"{finding.indicator_metric} is {mean:.4g} on average over {values} values, healthy is {low:.4g} to {high:.4g}"
    )
    return Verified(Verification.SOUND if low <= mean <= high else Verification.UNSOUND, text)


async def verification_due(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> None:
    """The verification period has passed; the case's row is held."""
    if case.state is not CaseState.VERIFYING:
        return
    finding = await finding_of(conn, case)
    completed_at = needed(case.completed_at, "time at which the work was reported as done")
    if finding is None:
        await _failed(rt, conn, file, case, "the finding can no longer be read, so there is no healthy band")
        return
    where = {
        "asset_id": case.asset_id,
        "slot": case.slot,
        "metric": finding.indicator_metric,
        "unit": next((one.unit for one in finding.channels if one.metric == finding.indicator_metric), None),
        "after": completed_at,
        "now": rt.clock.now(),
    }
    vitals = await fetch_one(conn, Vitals, _sql.vitals_after, where)
    device = await fetch_one(conn, DeviceState, _sql.device_state, where)
    assert vitals is not None  # an aggregate has one row
    judged = verify(finding, vitals.n, vitals.mean, device, completed_at)
    if judged.verification is Verification.SOUND:
        await close(rt, conn, file, case, judged.text)
    elif judged.verification is Verification.NO_VITALS and not case.plan.verify_extended:
        case = await change_case(conn, replace(case, plan=replace(case.plan, verify_extended=True)))
        await set_timer(conn, case, VERIFY, rt.clock.now() + timedelta(hours=file.policy.verify_h))
        await note(conn, rt.clock, case, "verification_extended", f"Not yet verified: {judged.text}")
    else:
        await _failed(rt, conn, file, case, judged.text)


async def close(rt: Runtime, conn: Connection, file: CaseFile, case: Case, why: str, actor: str = "") -> Case:
    """Verified: the case closes, with every question that is still open; its outcome joins the library, the director
    gets the closing line."""
    case = case.after(CaseEvent.VERIFY, ControlEvent.ANSWERED)
    values = {"case_id": case.case_id, "now": rt.clock.now(), "actor": actor or SYSTEM, "note": why}
    await conn.execute(_sql.close_escalations, {**values, "decision": case.state})
    await conn.execute(_sql.stop_timers, values)
    case = await change_case(conn, replace(case, closed_at=rt.clock.now(), waits_for=""))
    detail = {"outcome": case.outcome}
    actor = actor or SYSTEM
    await note(conn, rt.clock, case, "verified", f"Repair verified: {why}", detail, actor=actor)
    await note(conn, rt.clock, case, "closed", "Case closed; its outcome joins the library", actor=actor)
    await rt.learn(conn, rt.clock, case.case_id)
    await tell_closing(rt, conn, file, case)
    CASES.labels("closed").inc()
    return await wake(conn, rt.clock, case)


async def tell_closing(
    rt: Runtime, conn: Connection, file: CaseFile, case: Case, channels: Collection[str] = ()
) -> None:
    """The closing line, in the announcement's thread, to whoever holds the appointment; nothing where nobody does.

    ``channels``: by these alone, where it was refused before.
    """
    owner = await person(conn, case.owner_id)
    fresh = await load_case(conn, case.case_id)
    sequence = file.next_sequence("message", "closing")
    for number, holder in enumerate(holders_of(file.acts)):
        composed = messages.closing(fresh, owner.name)
        tag = holder.person_id if number else ""
        await tell_holder(rt, conn, case, composed, holder, sequence, tag=tag, channels=channels)


async def tell_holder(
    rt: Runtime,
    conn: Connection,
    case: Case,
    composed: messages.Composed,
    holder: Holder,
    sequence: int,
    *,
    tag: str = "",
    channels: Collection[str] = (),
) -> None:
    """Intend a message in the threads of whoever holds the appointment; ``tag`` tells several holders apart, and
    ``channels`` are those of them to use, () for all."""
    wanted = [channel for channel in holder.threads if not channels or channel in channels]
    if wanted:
        to = await person(conn, holder.person_id)
        await intend_message(
            conn, rt.clock, rt.notifiers, case, composed, to, sequence=sequence, tag=tag, thread=holder.threads,
            channels=wanted,
        )  # fmt: skip


async def _failed(rt: Runtime, conn: Connection, file: CaseFile, case: Case, why: str) -> None:
    summary = f"The repair is not confirmed: {why}"
    await escalate(conn, rt.clock, rt.notifiers, file, case, "verification_failed", summary, {"step": "verification"})
