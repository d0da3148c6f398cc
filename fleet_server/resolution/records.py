"""Rows of a case: reading the whole file of one, and the few ways of changing it. Every function runs in the caller's
transaction; whoever changes a case holds its row (``lock_case``), and every change raises its ``version``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from fleet_core.clock import Clock
from fleet_core.errors import BadInput, Permanent
from fleet_core.telemetry import Finding
from fleet_server.audit.log import record
from fleet_server.resolution.jobs import defer_advance
from fleet_server.resolution.names import case_label
from fleet_server.resolution.policy import Policy, safe_policy
from fleet_server.resolution.states import LIVE_ACT_STATES, ActEvent, ActState, next_act_state
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

Row = dict[str, Any]
SYSTEM = "system:worker"
_sql = queries("resolution")


class NotFound(Permanent):
    """There is no such case, escalation, work order or asset."""


@dataclass(frozen=True)
class CaseFile:
    """Everything a step may need: the case, its acts in order, and what surrounds it, as read in one transaction."""

    case: Row
    acts: list[Row]
    asset: Row
    site: Row
    tenant: Row
    component: Row
    prognosis: Row | None
    policy: Policy
    policy_problem: str

    @property
    def case_id(self) -> uuid.UUID:
        case_id: uuid.UUID = self.case["case_id"]
        return case_id

    @property
    def plan(self) -> Row:
        plan: Row = self.case["plan"]
        return plan

    @property
    def name(self) -> str:
        """How people call the case."""
        return case_label(self.case["number"])

    def latest(self, kind: str) -> Row | None:
        """The newest act of a kind, whatever became of it."""
        return next((act for act in reversed(self.acts) if act["kind"] == kind), None)

    def live(self, kind: str) -> Row | None:
        """The newest act of a kind that may bind the other system."""
        act = self.latest(kind)
        return act if act is not None and act["state"] in LIVE_ACT_STATES else None

    def held(self, kind: str) -> Row | None:
        """The newest act of a kind if it is held."""
        act = self.latest(kind)
        return act if act is not None and act["state"] == ActState.HELD else None

    def next_sequence(self, kind: str, purpose: str = "") -> int:
        return sum(1 for act in self.acts if act["kind"] == kind and act["purpose"] == purpose)


def jsonb(value: Any) -> Jsonb:
    """A JSON value for the database; times are written as ISO 8601, ids and numbers of other kinds as text."""
    return Jsonb(value, dumps=_dumps)


async def load_case(conn: Connection, case_id: uuid.UUID) -> CaseFile:
    """Read a case with all that surrounds it. Raises NotFound."""
    case = await (await conn.execute(_sql.case_by_id, {"case_id": case_id})).fetchone()
    if case is None:
        raise NotFound(f"there is no case {case_id}")
    acts = await (await conn.execute(_sql.acts_of, {"case_id": case_id})).fetchall()
    around = await surroundings(conn, case["asset_id"], case["slot"])
    prognosis = None
    if case["prognosis_id"] is not None:
        prognosis = await (await conn.execute(_sql.prognosis_by_id, {"prognosis_id": case["prognosis_id"]})).fetchone()
    policy, problem = safe_policy(around["tenant"]["policy"])
    component = around["component"] or {"component_type": "", "serial": "", "part_no": "", "slot": case["slot"]}
    return CaseFile(
        case, acts, around["asset"], around["site"], around["tenant"], component, prognosis, policy, problem
    )


async def surroundings(conn: Connection, asset_id: str, slot: str) -> Row:
    """Asset, site, tenant and the installed component (None when the registry knows none). Raises NotFound."""
    row = await (await conn.execute(_sql.surroundings, {"asset_id": asset_id, "slot": slot})).fetchone()
    if row is None:
        raise NotFound(f"there is no asset {asset_id}")
    return row


async def finding_of(conn: Connection, case: Row) -> Finding | None:
    """The newest revision of the finding a case rests on; None when it cannot be read any more."""
    row = await (await conn.execute(_sql.finding_body, {"finding_id": case["finding_id"]})).fetchone()
    if row is None:
        return None
    try:
        return Finding.from_json(row["body_text"])
    except BadInput:
        return None


async def lock_case(conn: Connection, case_id: uuid.UUID) -> Row:
    """The case's row, held until the transaction ends. Raises NotFound."""
    case = await (await conn.execute(_sql.lock_case, {"case_id": case_id})).fetchone()
    if case is None:
        raise NotFound(f"there is no case {case_id}")
    return case


async def change_case(conn: Connection, case: Row, *, plan: Mapping[str, Any] | None = None, **columns: Any) -> Row:
    """Set columns of a case whose row is held; ``plan`` is merged into its plan, key by key (None removes a key)."""
    values: Row = dict(columns)
    if plan is not None:
        merged = {**case["plan"], **plan}
        values["plan"] = jsonb({key: value for key, value in merged.items() if value is not None})
    assignments: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values
    ]
    assignments.append(sql.SQL("version = version + 1"))
    statement = sql.SQL("UPDATE repair_case SET {} WHERE case_id = {} RETURNING *").format(
        sql.SQL(", ").join(assignments), sql.Placeholder("the_case")
    )
    changed = await (await conn.execute(statement, {**values, "the_case": case["case_id"]})).fetchone()
    assert changed is not None  # its row is held
    return changed


async def wake(conn: Connection, clock: Clock, case: Row, **columns: Any) -> Row:
    """Change a case and have a worker look at it as soon as this transaction commits."""
    changed = await change_case(conn, case, next_at=clock.now(), **columns)
    await defer_advance(conn, case["case_id"])
    return changed


async def note(
    conn: Connection,
    clock: Clock,
    case: Row,
    kind: str,
    summary: str,
    detail: Mapping[str, Any] | None = None,
    *,
    actor: str = SYSTEM,
) -> None:
    """One line of the case's timeline and the same decision in the audit log."""
    body = dict(detail or {})
    await conn.execute(
        _sql.insert_event,
        {
            "tenant_id": case["tenant_id"],
            "case_id": case["case_id"],
            "at": clock.now(),
            "kind": kind,
            "summary": summary,
            "detail": jsonb(body),
        },
    )
    await record(
        conn,
        clock,
        tenant_id=case["tenant_id"],
        actor=actor,
        action=f"case.{kind}",
        subject=f"case:{case['case_id']}",
        body={"summary": summary, **body},
        trace_id=case["trace_id"],
    )


async def intend(
    conn: Connection, clock: Clock, case: Row, kind: str, sequence: int, request: Mapping[str, Any], purpose: str = ""
) -> Row | None:
    """Write down an act before it is done. None when the very same act was intended before."""
    middle = f"{kind}:{purpose}" if purpose else kind
    values = {
        "act_id": uuid.uuid4(),
        "tenant_id": case["tenant_id"],
        "case_id": case["case_id"],
        "kind": kind,
        "purpose": purpose.partition(":")[0],
        "sequence": sequence,
        "idempotency_key": f"{case['case_id']}:{middle}:{sequence}",
        "request": jsonb(dict(request)),
        "now": clock.now(),
    }
    return await (await conn.execute(_sql.insert_act, values)).fetchone()


async def settle(
    conn: Connection,
    clock: Clock,
    act: Row,
    event: ActEvent,
    *,
    response: Mapping[str, Any] | None = None,
    external_ref: str = "",
    error: str = "",
) -> ActState:
    """Record what became of an act. Raises ForbiddenTransition."""
    state = next_act_state(ActState(act["state"]), event)
    values = {
        "act_id": act["act_id"],
        "state": state,
        "response": None if response is None else jsonb(dict(response)),
        "external_ref": external_ref or act["external_ref"],
        "now": clock.now(),
        "error": error,
    }
    await conn.execute(_sql.settle_act, values)
    return state


async def set_timer(conn: Connection, case: Row, kind: str, due_at: datetime) -> None:
    """Have ``kind`` happen at a domain time; a timer of that kind that runs is moved."""
    values = {
        "timer_id": uuid.uuid4(),
        "tenant_id": case["tenant_id"],
        "case_id": case["case_id"],
        "kind": kind,
        "due_at": due_at,
    }
    await conn.execute(_sql.set_timer, values)


def _dumps(value: Any) -> str:
    return json.dumps(value, default=lambda item: item.isoformat() if isinstance(item, datetime) else str(item))
