"""A standing case's prognosis is made anew as vitals arrive, so that its deadline follows the interval's early end.

A watched case is looked at again by ``triage.LOOK_AGAIN``; from its confirmation until the repair begins this timer
takes over. When it is due and samples of the indicator have come since the case's prognosis was made, the finding is
judged again: a new prognosis row, the deadline moved, and the repair planned anew when its window no longer ends in
time (``triage``). Without new samples nothing is computed: an asset that is offline keeps its last prognosis.

Invariants: at most one such timer for each case; it is set again before anything that may refuse, so a refusal
(maintenance, an unreadable finding) costs one round, not the refreshing. Runs in the caller's transaction.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter

from fleet_core.clock import Clock
from fleet_server.resolution.case import Case
from fleet_server.resolution.jobs import defer_triage
from fleet_server.resolution.policy import Policy
from fleet_server.resolution.records import CaseFile, lock_case, set_timer
from fleet_server.resolution.rows import FindingRevision, Found, Prognosis
from fleet_server.resolution.states import CaseState
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
REFRESH = "refresh_prognosis"
STANDING = (CaseState.CONFIRMED, CaseState.PLANNING, CaseState.COMMITTED)
"""States in which a repair is arranged and has not begun: what the deadline is for."""

REFRESHES = Counter("forestall_prognosis_refresh_total", "Standing cases whose prognosis was due again", ["outcome"])

_SHARE = 12.0
"""A forecast is made anew this many times before the early end it names: the deadline moves in small steps."""
_SOONEST_H = 0.25
"""Vitals come in batches of minutes; looking oftener than this would find the same ones."""


def refresh_after_h(policy: Policy, prognosis: Prognosis | None) -> float:
    """Hours until a standing case's prognosis is made anew: the nearer the failure, the oftener.

    A twelfth of the time left until the interval's early end, at least a quarter of an hour and at most
    ``look_again_h``, which also holds where there is no forecast.
    """
    early_h = None if prognosis is None or prognosis.abstained else prognosis.rul_p10_h
    if early_h is None:
        return policy.look_again_h
    return min(max(early_h / _SHARE, _SOONEST_H), policy.look_again_h)


async def plan_refresh(
    conn: Connection, clock: Clock, policy: Policy, case_id: UUID, prognosis: Prognosis | None
) -> None:
    """Have the prognosis of a standing case made anew after a while; other cases are left alone."""
    case = await lock_case(conn, case_id)
    if case.state in STANDING:
        await set_timer(conn, case, REFRESH, clock.now() + timedelta(hours=refresh_after_h(policy, prognosis)))


async def refresh_due(conn: Connection, clock: Clock, file: CaseFile, case: Case) -> bool:
    """The timer is due: have the case judged again when there are new vitals. Returns whether there were."""
    if case.state not in STANDING:
        return False
    await plan_refresh(conn, clock, file.policy, case.case_id, file.prognosis)
    where = {"finding_id": case.finding_id, "prognosis_id": case.prognosis_id}
    latest = await fetch_one(conn, FindingRevision, _sql.latest_revision, where)
    news = await fetch_one(conn, Found, _sql.vitals_since_prognosis, where)
    if latest is None or news is None:
        REFRESHES.labels("no_new_vitals").inc()
        return False
    await defer_triage(conn, latest.finding_id, latest.revision)
    REFRESHES.labels("judged_again").inc()
    return True
