"""Live calibration in the database: scores of prognoses whose outcome is known, and the verdicts on their cohorts.

This module is the shell around ``scoring``, ``cohorts`` and ``reliability``. Everything runs on the caller's connection
and transaction (worker role), so a case closes together with its scores or not at all. Scoring is idempotent: when an
outcome turns out to be another one (a late correction, a false alarm whose component fails after all), a revision of
the score is appended, and the latest revision counts. A lock for each cohort takes its ended cases one after the other,
so that every change of verdict is made, and recorded in the audit log, once.

Verdicts rest on the outcomes of all tenants; only the verdict and its factors are shown outside this package. A stored
forecast that cannot be scored is left out, logged and counted; the others are scored. Database errors are raised.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Gauge
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from fleet_core.assets import UNKNOWN_FAILURE_MODE, failure_mode
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_core.telemetry import from_us
from fleet_server.audit.log import record
from fleet_server.prognosis.learning import case_course, case_record
from fleet_server.prognosis.live_calibration.cohorts import (
    WINDOW,
    Cohort,
    CohortVerdict,
    Life,
    Scored,
    Standing,
    coverage_of,
    drift,
    lives_of,
    review,
)
from fleet_server.prognosis.live_calibration.reliability import HORIZON_H, ProbabilityOutcome, reliability
from fleet_server.prognosis.live_calibration.scoring import Forecasted, Score, score
from fleet_server.prognosis.shelf import rows
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)

_COHORT = ["component_type", "asset_class", "model_version"]
SCORED = Counter("forestall_prognosis_scored_total", "Prognoses scored, by what became of the component", ["outcome"])
COVERAGE = Gauge("forestall_prognosis_coverage", "Share of lives that ended inside the 80 % interval", _COHORT)
BRIER = Gauge("forestall_prognosis_brier", "Brier score of failing within 72 h", _COHORT)
BASE_BRIER = Gauge("forestall_prognosis_base_brier", "Brier score of always telling the cohort's own rate", _COHORT)
LIVES = Gauge("forestall_prognosis_scored_lives", "Component lives in the cohort's window", _COHORT)
WEALTH = Gauge(
    "forestall_calibration_drift_wealth", "What a bet on broken promises would have won (alarm: 200)", _COHORT
)
VERDICT = Gauge("forestall_calibration_verdict", "1 for the cohort's verdict, 0 for the others", [*_COHORT, "verdict"])

_ACTIONS = {
    CohortVerdict.OK: "calibration.restored",
    CohortVerdict.RECALIBRATE: "calibration.recalibrated",
    CohortVerdict.ABSTAIN: "calibration.suspended",
}
_sql = queries("live_calibration")
_Row = dict[str, Any]


async def score_case(conn: AsyncConnection[Any], clock: Clock, case_id: uuid.UUID | str) -> int:
    """Score the prognoses of a case that has ended; returns how many scores are new.

    When the outcome says that the component failed, its life ended at the peak of its indicator. Otherwise the
    component is censored at its repair, or at the end of a false alarm. The result is 0 for a case that was cancelled
    or is still open, because it says nothing about its component, and for a component that the registry does not know,
    because it has no forecasts.
    """
    try:
        case = await case_record(conn, case_id)
    except BadInput as error:
        log.info("nothing to score: %s", error)
        return 0
    ended = await _end_of(conn, clock, case)
    if ended is None:
        return 0
    ended_at, failed = ended
    await conn.execute(_sql.lock_cohort, case)
    wanted = {"case_id": case_id, "ended_at": ended_at, "serial": case["component_serial"]}
    found = await rows(conn, _sql.scorable, {**case, **wanted})
    outcome = case["outcome"] or {}
    mode_found = failure_mode(str(outcome.get("failure_mode") or UNKNOWN_FAILURE_MODE)).code
    cohorts: set[Cohort] = set()
    added = 0
    for made in found:
        if (made["ended_at"], made["failed"], made["mode_found"]) == (ended_at, failed, mode_found):
            continue
        values = _scored(made, case, ended_at, failed)
        if values is None:
            continue
        values |= {"case_id": case_id, "mode_found": mode_found, "scored_at": clock.now()}
        await conn.execute(_sql.add_score, values)
        SCORED.labels("failed" if failed else "censored").inc()
        cohorts.add(Cohort(*(values[name] for name in _COHORT)))
        added += 1
    for cohort in sorted(cohorts, key=str):
        await review_cohort(conn, clock, cohort, case["trace_id"])
    return added


async def standing_of(conn: AsyncConnection[Any], cohort: Cohort) -> Standing:
    """The verdict under which a cohort stands now (``ok`` when none was stored)."""
    standing, _ = await _standing(conn, cohort)
    return standing


async def review_cohort(conn: AsyncConnection[Any], clock: Clock, cohort: Cohort, trace_id: str = "") -> Standing:
    """Judge a cohort by its scores and return its verdict.

    A change of verdict is stored with its evidence and recorded in the audit log.
    """
    now = clock.now()
    key = _key(cohort)
    await conn.execute(_sql.lock_cohort, key)
    before, revision = await _standing(conn, cohort)
    scores = await rows(conn, _sql.cohort_scores, {**key, "from_t": now - WINDOW})
    lives = lives_of((scored_of(row) for row in scores), now)
    after = review(lives, before, now)
    evidence = _evidence(lives, scores)
    _show(cohort, after, evidence)
    if after is before:
        return before
    values = {
        "verdict": after.verdict.value,
        "since": now,
        "counts_from": after.counts_from or now,
        "early": after.early,
        "late": after.late,
        "reason": after.reason,
    }
    revision += 1
    await conn.execute(_sql.add_verdict, {**key, **values, "revision": revision, "evidence": Jsonb(evidence)})
    body = {**key, **values, "revision": revision, "before": before.verdict.value, "evidence": evidence}
    await record(
        conn,
        clock,
        tenant_id=None,
        actor="system:worker",
        action=_ACTIONS[after.verdict],
        subject=f"cohort:{cohort}",
        body=body,
        trace_id=trace_id,
    )
    log.warning("calibration of %s: %s. %s", cohort, after.verdict.value, after.reason)
    return after


def scored_of(row: _Row) -> Scored:
    """A row of the table of scores as the cohort's test reads it."""
    return Scored(**{name: row[name] for name in Scored.__dataclass_fields__})


def outcome_of(row: _Row, horizon_h: float = HORIZON_H) -> ProbabilityOutcome | None:
    """The forecast probability of a scored prognosis for a horizon, with its outcome; None without such a forecast."""
    share = row["p_fail"].get(f"{horizon_h:g}")
    return None if share is None else ProbabilityOutcome(row["unit"], float(share), row["remaining_h"], row["failed"])


async def _end_of(conn: AsyncConnection[Any], clock: Clock, case: _Row) -> tuple[datetime, bool] | None:
    """When the component's life ended, and whether in a failure (else censored); None when nothing is known of it."""
    outcome = case["outcome"] if isinstance(case["outcome"], dict) else {}
    until: datetime | None = case["repaired_at"] or case["closed_at"]
    if until is None or case["state"] == "cancelled":
        return None
    if outcome.get("failed") is not True:
        return (until, False) if outcome or case["state"] == "false_alarm" else None
    if outcome.get("failed_at"):  # the failure was reported later, see ``resolution.corrections``
        return datetime.fromisoformat(outcome["failed_at"]), True
    times_us, _ = await case_course(conn, clock, case)
    return (min(until, from_us(int(times_us[-1]))) if times_us.size else until), True


def _scored(made: _Row, case: _Row, ended_at: datetime, failed: bool) -> _Row | None:
    """The columns of a new score, as in table ``prognosis_score``; None when the stored forecast cannot be scored."""
    inputs = made["inputs"]
    withheld = inputs.get("withheld") if made["abstained"] else None
    said = withheld or {name: made[name] for name in ("rul_p10_h", "rul_p50_h", "rul_p90_h", "p_fail")}
    try:
        p_fail = {str(horizon): float(share) for horizon, share in said["p_fail"].items()}
        low, middle, high = (float(said[name]) for name in ("rul_p10_h", "rul_p50_h", "rul_p90_h"))
        scored: Score = score(
            Forecasted(low, middle, high, p_fail), (ended_at - made["made_at"]).total_seconds() / 3600, failed
        )
    except (BadInput, KeyError, TypeError, ValueError, AttributeError) as error:
        SCORED.labels("unusable").inc()
        log.warning("prognosis %s cannot be scored: %r", made["prognosis_id"], error)
        return None
    stretch = (inputs.get("cohort") or {}) if not withheld else {}
    serial = inputs.get("unit_serial") or case["component_serial"]
    return {
        **{name: getattr(scored, name) for name in
           ("failed", "remaining_h", "inside", "credit", "position", "pinball_h", "log_error")},
        "prognosis_id": made["prognosis_id"],
        "revision": (made["revision"] or 0) + 1,
        "tenant_id": case["tenant_id"],
        "asset_id": case["asset_id"],
        "unit": f"{case['asset_id']}/{case['slot']}/{serial}",
        "component_type": inputs.get("component_type") or case["component_type"],
        "asset_class": inputs.get("asset_class") or case["asset_class"],
        "model_version": made["model_version"],
        "withheld": withheld is not None,
        "mode_named": made["failure_mode"],
        "made_at": made["made_at"],
        "ended_at": ended_at,
        "early": float(stretch.get("early", 1.0)),
        "late": float(stretch.get("late", 1.0)),
        "p_fail": Jsonb(p_fail),
        "brier": Jsonb(dict(scored.brier)),
    }  # fmt: skip


async def _standing(conn: AsyncConnection[Any], cohort: Cohort) -> tuple[Standing, int]:
    found = await rows(conn, _sql.standing, _key(cohort))
    if not found:
        return Standing(), 0
    row = found[0]
    standing = Standing(CohortVerdict(row["verdict"]), row["counts_from"], row["early"], row["late"], row["reason"])
    return standing, row["revision"]


def _evidence(lives: list[Life], scores: list[_Row]) -> _Row:
    """The figures that a verdict rests on, and one digest over all scores that were judged."""
    share, low, high = coverage_of(lives)
    told = reliability([one for row in scores if (one := outcome_of(row)) is not None])
    judged = sorted([row["unit"], row["made_at"].isoformat(), row["position"], row["failed"]] for row in scores)
    return {
        "lives": len(lives),
        "failures": sum(life.failed for life in lives),
        "prognoses": len(scores),
        "coverage": round(share, 4) if lives else None,
        "coverage_low": round(low, 4),
        "coverage_high": round(high, 4),
        "drift_wealth": round(min(drift(lives).wealth, 1e12), 3),
        "brier_72h": told.brier,
        "base_brier_72h": told.base_brier,
        "scores_digest": hashlib.sha256(json.dumps(judged).encode()).hexdigest(),
    }


def _show(cohort: Cohort, standing: Standing, evidence: _Row) -> None:
    labels = (cohort.component_type, cohort.asset_class, cohort.model_version)
    shown = ((COVERAGE, "coverage"), (BRIER, "brier_72h"), (BASE_BRIER, "base_brier_72h"), (LIVES, "lives"),
             (WEALTH, "drift_wealth"))  # fmt: skip
    for gauge, name in shown:
        gauge.labels(*labels).set(float("nan") if evidence[name] is None else evidence[name])
    for verdict in CohortVerdict:
        VERDICT.labels(*labels, verdict.value).set(verdict is standing.verdict)


def _key(cohort: Cohort) -> dict[str, str]:
    return {name: getattr(cohort, name) for name in _COHORT}
