"""Add trajectories to the library: courses of closed cases, labelled by their outcome, and imported histories.

Everything runs on the caller's connection and transaction (worker role). Nothing in the library is ever changed or
replaced: a trajectory whose id is known stays as it is, so that every prognosis can be computed again from the same
trajectories.
"""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import numpy as np
from prometheus_client import Counter
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from fleet_core.assets import failure_mode
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_core.telemetry import Finding
from fleet_server.audit.log import record
from fleet_server.prognosis.course import HOUR_US, read_course, read_direction
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.shelf import rows
from fleet_server.prognosis.signatures import Floats, indicator_ratio
from fleet_server.store.sql import queries

LEARNED_DAYS = 60
MAX_LEARNED_POINTS = 3_000

LEARNED = Counter("forestall_library_cases_total", "Closed cases by what the library learned", ["outcome"])

_sql = queries("prognosis")
_TEXTS = ("trajectory_id", "tenant_id", "jurisdiction", "component_type", "asset_class", "unit_serial", "source",
          "failure_mode")  # fmt: skip


async def learn_from_case(conn: AsyncConnection[Any], clock: Clock, case_id: uuid.UUID | str) -> str | None:
    """Add the course of a case's component to the library, labelled by what the engineer found.

    Returns the id of the trajectory. The unit counts as failed when the outcome says ``failed``: its course then ends
    at its peak, because what follows is standstill. Otherwise the unit is censored: it was replaced in time. A false
    alarm, a cancelled case, or a case without a usable course adds nothing and returns None. Idempotent.

    Raises:
        BadInput: ``case`` when the case is not known.
    """
    case = await case_record(conn, case_id)
    outcome = case["outcome"] if isinstance(case["outcome"], dict) else {}
    if case["state"] in ("false_alarm", "cancelled") or outcome.get("false_alarm"):
        return None
    finding = Finding.from_json(json.dumps(case["body"]))
    times_us, ratio = await case_course(conn, clock, case)
    failed = outcome.get("failed") is True
    try:
        learned = Trajectory(
            trajectory_id=f"case:{case_id}",
            component_type=case["component_type"],
            unit_serial=case["component_serial"] or f"{case['asset_id']}/{case['slot']}",
            source="case",
            failure_mode=failure_mode(str(outcome.get("failure_mode") or case["failure_mode"])).code,
            failed=failed,
            hours=np.round((times_us - times_us[:1]) / HOUR_US, 6),
            ratio=np.round(ratio, 6),
            asset_class=case["asset_class"],
            jurisdiction=case["jurisdiction"],
            tenant_id=case["tenant_id"],
            detail={"finding_id": finding.finding_id, "replaced": outcome.get("replaced") is True},
        )
    except BadInput as error:
        LEARNED.labels("nothing").inc()
        body = {"learned": False, "reason": str(error)}
        await _audit_learning(conn, clock, case, case_id, body)
        return None
    await add_trajectories(conn, clock, [learned])
    LEARNED.labels("failed" if learned.failed else "censored").inc()
    body = {"learned": True, "trajectory": learned.trajectory_id, "failed": learned.failed, "digest": learned.digest}
    await _audit_learning(conn, clock, case, case_id, body)
    return learned.trajectory_id


async def case_record(conn: AsyncConnection[Any], case_id: uuid.UUID | str) -> dict[str, Any]:
    """Read an ended case with its finding (``body``) and its component. Raises BadInput for an unknown case."""
    found = await rows(conn, _sql.closed_case, {"case_id": case_id})
    if not found:
        raise BadInput("case", f"{case_id} does not exist, or its finding or component does not")
    return found[0]


async def case_course(conn: AsyncConnection[Any], clock: Clock, case: dict[str, Any]) -> tuple[Floats, Floats]:
    """The course of a case's component up to its repair, at most ``LEARNED_DAYS`` and ``MAX_LEARNED_POINTS`` long.

    Returns times (n,) in microseconds since 1970 and finite ratios (n,) of the indicator to its healthy level. The
    course of a component that failed ends at its peak: what follows is standstill. Database errors are raised.
    """
    finding = Finding.from_json(json.dumps(case["body"]))
    until = case["repaired_at"] or clock.now()
    since = max(until - timedelta(days=LEARNED_DAYS), case["since"] or until - timedelta(days=LEARNED_DAYS))
    times_us, values = await read_course(
        conn, case["asset_id"], finding.indicator_metric, since, until, MAX_LEARNED_POINTS
    )
    direction = await read_direction(conn, case["asset_id"], case["component_type"], finding)
    ratio = indicator_ratio(values, finding.indicator_baseline, falls=direction.falls)
    keep = np.isfinite(ratio)
    outcome = case["outcome"] if isinstance(case["outcome"], dict) else {}
    if outcome.get("failed") is True and keep.any():
        keep[int(np.nanargmax(ratio)) + 1 :] = False
    return times_us[keep], ratio[keep]


async def add_trajectories(conn: AsyncConnection[Any], clock: Clock, units: list[Trajectory]) -> int:
    """Add trajectories to the library and return how many are new; a trajectory whose id is known stays as it is."""
    now = clock.now()
    added = 0
    for unit in units:
        cursor = await conn.execute(
            _sql.add_trajectory,
            {
                **{name: getattr(unit, name) for name in _TEXTS},
                "failed": unit.failed,
                "hours": unit.hours.tolist(),
                "indicator": unit.ratio.tolist(),
                "detail": Jsonb(dict(unit.detail)),
                "digest": unit.digest,
                "added_at": now,
            },
        )
        added += cursor.rowcount
    return added


async def _audit_learning(
    conn: AsyncConnection[Any], clock: Clock, case: dict[str, Any], case_id: uuid.UUID | str, body: dict[str, Any]
) -> None:
    await record(
        conn,
        clock,
        tenant_id=case["tenant_id"],
        actor="system:worker",
        action="library.learned",
        subject=f"case:{case_id}",
        body=body,
        trace_id=case["trace_id"],
    )
