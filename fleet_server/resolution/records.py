"""Reading the whole file of a case, and the few ways of changing it. Every function runs in the caller's transaction.

Whoever changes a case holds its row (``lock_case``) and passes what it last read; every change raises ``version``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from psycopg.types.json import Jsonb

from fleet_core.clock import Clock
from fleet_core.errors import BadInput, Permanent
from fleet_core.telemetry import Finding
from fleet_server.audit.log import record
from fleet_server.resolution.case import Case
from fleet_server.resolution.jobs import defer_advance
from fleet_server.resolution.plan import Plan, write_plan
from fleet_server.resolution.policy import Policy, safe_policy
from fleet_server.resolution.requests import check_request
from fleet_server.resolution.rows import (
    Act,
    Asset,
    Component,
    FindingBody,
    Followed,
    PendingTimer,
    Prognosis,
    Question,
    Site,
    Tenant,
)
from fleet_server.resolution.states import LIVE_ACT_STATES, ActEvent, ActState, next_act_state
from fleet_server.resolution.stored import json_text, storable
from fleet_server.store.fetch import fetch_all, fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

SYSTEM = "system:worker"
_sql = queries("resolution")


class NotFound(Permanent):
    """There is no such case, escalation, work order or asset."""


class StaleCase(Permanent):
    """A case was to be changed from an earlier reading of it; nothing was changed."""


@dataclass(frozen=True)
class CaseFile:
    """Everything a step may need: the case, its acts in order, and what surrounds it, as read in one transaction."""

    case: Case
    acts: list[Act]
    asset: Asset
    site: Site
    tenant: Tenant
    component: Component
    prognosis: Prognosis | None
    policy: Policy
    policy_problem: str
    questions: list[Question] = field(default_factory=list)
    """Those that nobody has decided, the oldest first."""
    timers: list[PendingTimer] = field(default_factory=list)
    """Those that are still to ring, the next first."""
    follows: Followed | None = None
    """The ended case of the same trouble, if this one was opened since it got worse."""

    @property
    def case_id(self) -> uuid.UUID:
        return self.case.case_id

    @property
    def plan(self) -> Plan:
        return self.case.plan

    @property
    def name(self) -> str:
        """How people call the case."""
        return self.case.name

    def latest(self, kind: str) -> Act | None:
        """The newest act of a kind, whatever became of it."""
        return next((act for act in reversed(self.acts) if act.kind == kind), None)

    def live(self, kind: str) -> Act | None:
        """The newest act of a kind that may bind the other system."""
        act = self.latest(kind)
        return act if act is not None and act.state in LIVE_ACT_STATES else None

    def held(self, kind: str) -> Act | None:
        """The newest act of a kind if it is held."""
        act = self.latest(kind)
        return act if act is not None and act.state is ActState.HELD else None

    def next_sequence(self, kind: str, purpose: str = "") -> int:
        """The number of the next act of that kind and purpose."""
        return sum(1 for act in self.acts if act.kind == kind and act.purpose == purpose)


def jsonb(value: object) -> Jsonb:
    """A JSON value for the database, as ``json_text`` writes it. Raises BadInput for what the database cannot hold."""
    text = json_text(value, "stored")
    return Jsonb(value, dumps=lambda _: text)


async def load_case(conn: Connection, case_id: uuid.UUID) -> CaseFile:
    """Read a case with all that surrounds it. Raises NotFound, and BadInput for a plan that cannot be read."""
    case = await fetch_one(conn, Case, _sql.case_by_id, {"case_id": case_id})
    if case is None:
        raise NotFound(f"there is no case {case_id}")
    where = {"case_id": case_id, "asset_id": case.asset_id, "slot": case.slot}
    asset = await fetch_one(conn, Asset, _sql.asset_of, where)
    site = await fetch_one(conn, Site, _sql.site_of, where)
    tenant = await fetch_one(conn, Tenant, _sql.tenant_of, where)
    if asset is None or site is None or tenant is None:
        raise NotFound(f"there is no asset {case.asset_id}")
    policy, problem = safe_policy(tenant.policy)
    return CaseFile(
        case=case,
        acts=await fetch_all(conn, Act, _sql.acts_of, where),
        asset=asset,
        site=site,
        tenant=tenant,
        component=await fetch_one(conn, Component, _sql.component_of, where) or Component(case.slot),
        prognosis=await prognosis_by_id(conn, case.prognosis_id),
        policy=policy,
        policy_problem=problem,
        questions=await fetch_all(conn, Question, _sql.open_questions_of, where),
        timers=await fetch_all(conn, PendingTimer, _sql.timers_of, where),
        follows=await fetch_one(conn, Followed, _sql.followed_case, where),
    )


async def prognosis_by_id(conn: Connection, prognosis_id: uuid.UUID | None) -> Prognosis | None:
    """A stored prognosis; None when there is none under that id, or the id is None."""
    if prognosis_id is None:
        return None
    return await fetch_one(conn, Prognosis, _sql.prognosis_by_id, {"prognosis_id": prognosis_id})


async def finding_of(conn: Connection, case: Case) -> Finding | None:
    """The newest revision of the finding a case rests on; None when it cannot be read any more."""
    row = await fetch_one(conn, FindingBody, _sql.finding_body, {"finding_id": case.finding_id})
    if row is None:
        return None
    try:
        return Finding.from_json(row.body_text)
    except BadInput:
        return None


async def lock_case(conn: Connection, case_id: uuid.UUID) -> Case:
    """The case as it is now, its row held until the transaction ends. Raises NotFound."""
    case = await fetch_one(conn, Case, _sql.lock_case, {"case_id": case_id})
    if case is None:
        raise NotFound(f"there is no case {case_id}")
    return case


async def change_case(conn: Connection, case: Case) -> Case:
    """Write a case that was changed (``Case.after``, ``dataclasses.replace``); its row is held.

    Returns it with its new version. Raises StaleCase when another change came after the reading this one rests on, and
    StatesDiffer when its states are not those that its events led to.
    """
    case.require_answered()
    values = {
        "case_id": case.case_id,
        "state": case.state,
        "failure_mode": case.failure_mode,
        "urgency": case.urgency,
        "finding_id": case.finding_id,
        "prognosis_id": case.prognosis_id,
        "deadline_at": case.deadline_at,
        "part_no": case.part_no,
        "closed_at": case.closed_at,
        "escalated": case.escalated,
        "replanning": case.replanning,
        "waits_for": storable(case.waits_for),
        "plan": jsonb(write_plan(case.plan)),
        "outcome": None if case.outcome is None else jsonb(case.outcome),
        "next_at": case.next_at,
        "version": case.version,
    }
    changed = await fetch_one(conn, Case, _sql.change_case, values)
    if changed is None:
        raise StaleCase(f"case {case.name} was changed since its version {case.version} was read")
    return changed


async def wake(conn: Connection, clock: Clock, case: Case) -> Case:
    """Write a changed case and have a worker look at it as soon as this transaction commits. Raises StaleCase."""
    changed = await change_case(conn, replace(case, next_at=clock.now()))
    await defer_advance(conn, case.case_id)
    return changed


async def note(
    conn: Connection,
    clock: Clock,
    case: Case,
    kind: str,
    summary: str,
    detail: Mapping[str, object] | None = None,
    *,
    actor: str = SYSTEM,
) -> None:
    """One line of the case's timeline and the same decision in the audit log."""
    summary, body = storable(summary), dict(detail or {})
    await conn.execute(
        _sql.insert_event,
        {
            "tenant_id": case.tenant_id,
            "case_id": case.case_id,
            "at": clock.now(),
            "kind": kind,
            "summary": summary,
            "detail": jsonb(body),
        },
    )
    await record(
        conn,
        clock,
        tenant_id=case.tenant_id,
        actor=actor,
        action=f"case.{kind}",
        subject=f"case:{case.case_id}",
        body={"summary": summary, **body},
        trace_id=case.trace_id,
    )


async def intend(
    conn: Connection,
    clock: Clock,
    case: Case,
    kind: str,
    sequence: int,
    request: Mapping[str, object],
    purpose: str = "",
) -> Act | None:
    """Write down an act before it is done. None when the very same act was intended before.

    Raises BadInput for a request that could not be read again.
    """
    check_request(kind, request)
    middle = f"{kind}:{purpose}" if purpose else kind
    values = {
        "act_id": uuid.uuid4(),
        "tenant_id": case.tenant_id,
        "case_id": case.case_id,
        "kind": kind,
        "purpose": purpose.partition(":")[0],
        "sequence": sequence,
        "idempotency_key": f"{case.case_id}:{middle}:{sequence}",
        "request": jsonb(dict(request)),
        "now": clock.now(),
    }
    return await fetch_one(conn, Act, _sql.insert_act, values)


async def settle(
    conn: Connection,
    clock: Clock,
    act: Act,
    event: ActEvent,
    *,
    response: Mapping[str, object] | None = None,
    external_ref: str = "",
    error: str = "",
) -> ActState:
    """Record what became of an act. Raises ForbiddenTransition, and BadInput for an answer that cannot be stored."""
    json_text(external_ref, f"reference_of_{act.kind}")
    state = next_act_state(act.state, event)
    values = {
        "act_id": act.act_id,
        "state": state,
        "response": None if response is None else jsonb(dict(response)),
        "external_ref": external_ref or act.external_ref,
        "now": clock.now(),
        "error": storable(error),
    }
    await conn.execute(_sql.settle_act, values)
    return state


async def set_timer(conn: Connection, case: Case, kind: str, due_at: datetime) -> None:
    """Have ``kind`` happen at a domain time; a timer of that kind that runs is moved."""
    values = {
        "timer_id": uuid.uuid4(),
        "tenant_id": case.tenant_id,
        "case_id": case.case_id,
        "kind": kind,
        "due_at": due_at,
    }
    await conn.execute(_sql.set_timer, values)
