"""Prognoses in the database: read the course, judge it, and store the answer with everything it was computed from.

This module is the shell around the pure modules (signatures, library, survival, calibration, judgement). Everything
runs on the caller's connection and transaction (worker role); nothing is committed here. The row of a prognosis names
the digests of its library and its calibration and holds its exact course, so that :func:`reproduce` computes the same
answer, bit for bit, at any later time.

Missing or poor data lead to an abstention with its reason, not to an error. Only database errors are raised.
"""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta
from typing import Any, TypedDict

import numpy as np
from prometheus_client import Counter, Histogram
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from fleet_core.assets import failure_mode
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_core.telemetry import Finding, to_us
from fleet_server.audit.log import record
from fleet_server.prognosis import learning
from fleet_server.prognosis.course import HOUR_US, read_course, read_direction
from fleet_server.prognosis.judgement import MODEL_VERSION, Evidence, Prognosis, judge, withheld
from fleet_server.prognosis.live_calibration import score_case, standing_of
from fleet_server.prognosis.live_calibration.cohorts import Cohort, CohortVerdict
from fleet_server.prognosis.shelf import Scope, Shelf, rows
from fleet_server.prognosis.signatures import MAX_COURSE_H, canonical_course, indicator_ratio
from fleet_server.store.sql import queries

SECONDS = Histogram(
    "forestall_prognosis_seconds", "Real time a prognosis took", buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 1)
)
MADE = Counter("forestall_prognosis_total", "Prognoses by outcome", ["outcome"])

__all__ = ["PrognosisRow", "learn_from_case", "prepare", "prepare_scope", "prognose", "reproduce"]

_FORECAST = ("rul_p10_h", "rul_p50_h", "rul_p90_h", "p_fail")
_sql = queries("prognosis")
_shelf = Shelf()


class PrognosisRow(TypedDict):
    """A row of the table ``prognosis``; hours count from ``made_at``."""

    prognosis_id: uuid.UUID
    tenant_id: str
    asset_id: str
    slot: str
    case_id: uuid.UUID | None
    finding_id: uuid.UUID
    revision: int
    made_at: datetime
    abstained: bool
    reason: str
    abstain_code: str
    failure_mode: str
    conflicting: bool
    mode_share: dict[str, float]
    p_fail: dict[str, float]
    rul_p10_h: float | None
    rul_p50_h: float | None
    rul_p90_h: float | None
    survival: list[list[float]]
    neighbours: list[dict[str, Any]]
    course: list[list[float]]
    library_digest: str
    model_version: str
    inputs: dict[str, Any]
    trace_id: str


async def prognose(
    conn: AsyncConnection[Any],
    clock: Clock,
    finding: Finding,
    asset_row: dict[str, Any],
    case_id: uuid.UUID | str | None,
    trace_id: str,
) -> PrognosisRow:
    """Make, store and return the prognosis of a finding's component.

    ``asset_row`` needs ``asset_id``, ``tenant_id`` and ``asset_class``. When the data do not suffice, the row is an
    abstention (``abstained``, with its reason); only database errors are raised.
    """
    started_s = time.perf_counter()
    now = clock.now()
    asset_id = asset_row["asset_id"]
    subject = (await rows(conn, _sql.subject, {"asset_id": asset_id, "slot": finding.component, "now": now}) or [{}])[0]
    component_type = subject.get("component_type") or ""
    since = max(now - timedelta(hours=MAX_COURSE_H), subject.get("since") or datetime.min.replace(tzinfo=now.tzinfo))
    times_us, values = await read_course(conn, asset_id, finding.indicator_metric, since, now)
    direction = await read_direction(conn, asset_id, component_type, finding)
    ratio = indicator_ratio(values, finding.indicator_baseline, falls=direction.falls)
    hours_before, ratio = canonical_course((to_us(now) - times_us) / HOUR_US, ratio)
    scope = Scope(component_type, asset_row["asset_class"], subject.get("jurisdiction") or "", asset_row["tenant_id"])
    inputs: dict[str, Any] = {
        **vars(scope),
        "unit_serial": subject.get("serial") or "",
        "metric": finding.indicator_metric,
        "baseline": finding.indicator_baseline,
        "falls": direction.falls,
        "falls_by": direction.by.value,
        "sigma_ratio": _sigma_ratio(finding),
        "device_mode": failure_mode(finding.failure_mode).code,
        "device_confidence": finding.mode_confidence,
        "device_state": finding.state.value,
        "onset_us": finding.onset_us,
    }
    standing = await standing_of(conn, Cohort(scope.component_type, scope.asset_class, MODEL_VERSION))
    if standing.verdict is not CohortVerdict.OK:
        inputs["cohort"] = {"verdict": standing.verdict.value, "early": standing.early, "late": standing.late}
    course = [[float(age_h), float(level)] for age_h, level in zip(hours_before, ratio, strict=True)]
    made, library_digest, inputs["calibration_id"] = await _judge(conn, scope, inputs, course, now)
    judgement = _issued(made, inputs)
    # A forecast that is withheld is stored and scored all the same: only its scores can lift the cohort's verdict.
    if judgement is not made:
        inputs["withheld"] = {name: value for name, value in _answer(made).items() if name in _FORECAST}
    row: PrognosisRow = {
        "prognosis_id": uuid.uuid4(),
        "tenant_id": scope.tenant_id,
        "asset_id": asset_id,
        "slot": finding.component,
        "case_id": uuid.UUID(str(case_id)) if case_id else None,
        "finding_id": uuid.UUID(finding.finding_id),
        "revision": finding.revision,
        "made_at": now,
        **_answer(judgement),  # type: ignore[typeddict-item] # the judgement's fields have the row's names
        "course": course,
        "library_digest": library_digest,
        "model_version": MODEL_VERSION,
        "inputs": inputs,
        "trace_id": trace_id,
    }
    await conn.execute(_sql.add_prognosis, {name: _stored(value) for name, value in row.items()})
    await _audit(conn, clock, row)
    MADE.labels("abstained" if judgement.abstained else "made").inc()
    SECONDS.observe(time.perf_counter() - started_s)
    return row


async def reproduce(conn: AsyncConnection[Any], prognosis_id: uuid.UUID | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute a stored prognosis again: the stored answer, and the answer that the same inputs give now.

    Raises:
        BadInput: the prognosis does not exist, was made by another model version, or its library is no longer complete.
    """
    found = await rows(conn, _sql.prognosis, {"prognosis_id": prognosis_id})
    if not found:
        raise BadInput("prognosis", f"{prognosis_id} does not exist")
    row = found[0]
    if row["model_version"] != MODEL_VERSION:
        raise BadInput("prognosis", f"was made by {row['model_version']}, this is {MODEL_VERSION}")
    inputs = row["inputs"]
    scope = Scope(*(inputs[name] for name in ("component_type", "asset_class", "jurisdiction", "tenant_id")))
    again, digest, _ = await _judge(conn, scope, inputs, row["course"], row["made_at"])
    if digest != row["library_digest"]:
        raise BadInput("prognosis", "the library of that moment is no longer complete")
    answer = _answer(_issued(again, inputs))
    return {name: row[name] for name in answer}, answer


async def learn_from_case(conn: AsyncConnection[Any], clock: Clock, case_id: uuid.UUID | str) -> str | None:
    """Add the course of a closed case to the library (see ``learning``) and score the prognoses of the case."""
    learned = await learning.learn_from_case(conn, clock, case_id)
    await score_case(conn, clock, case_id)
    return learned


async def prepare(conn: AsyncConnection[Any], clock: Clock, component_type: str) -> int:
    """Calibrate the public library of a component type ahead of its first use; returns its number of units."""
    return await prepare_scope(conn, clock, Scope(component_type, "", "", ""))


async def prepare_scope(conn: AsyncConnection[Any], clock: Clock, scope: Scope) -> int:
    """Load and calibrate the library of a scope ahead of its first prognosis; returns its number of units."""
    library = await _shelf.library(conn, scope, clock.now())
    if len(library):
        await _shelf.calibration(conn, scope.component_type, library, clock.now())
    return len(library)


async def _judge(
    conn: AsyncConnection[Any], scope: Scope, inputs: dict[str, Any], course: list[list[float]], known_at: datetime
) -> tuple[Prognosis, str, str]:
    """The prognosis of recorded inputs by the library known at a time, with the digests of library and calibration."""
    columns = np.array(course, dtype=np.float64).reshape(-1, 2)
    evidence = Evidence(
        component_type=scope.component_type,
        unit_serial=inputs["unit_serial"],
        hours_before=columns[:, 0],
        ratio=columns[:, 1],
        sigma_ratio=inputs["sigma_ratio"],
        device_mode=inputs["device_mode"],
        device_confidence=inputs["device_confidence"],
    )
    library = await _shelf.library(conn, scope, known_at)
    if "calibration_id" in inputs:
        calibration = await _shelf.stored_calibration(conn, inputs["calibration_id"])
    else:
        calibration = await _shelf.calibration(conn, scope.component_type, library, known_at)
        cohort = inputs.get("cohort", {})
        if cohort.get("verdict") == CohortVerdict.RECALIBRATE:
            stretch = cohort["early"], cohort["late"]
            calibration = await _shelf.widened(conn, scope.component_type, calibration, stretch, known_at)
    return judge(evidence, library, calibration), library.digest, calibration.digest


def _issued(made: Prognosis, inputs: dict[str, Any]) -> Prognosis:
    """The prognosis that is issued: an abstention instead of a forecast whose cohort has drifted."""
    if inputs.get("cohort", {}).get("verdict") == CohortVerdict.ABSTAIN:
        return withheld(made, inputs["component_type"])
    return made


def _sigma_ratio(finding: Finding) -> float:
    level = abs(finding.indicator_baseline)
    return round(min(finding.indicator_sigma / level, 1e6), 9) if level > 0 else 0.0


def _answer(judgement: Prognosis) -> dict[str, Any]:
    """A prognosis under the row's column names and in JSON's types."""
    return {
        **vars(judgement),
        "mode_share": dict(judgement.mode_share),
        "p_fail": dict(judgement.p_fail),
        "survival": [list(point) for point in judgement.survival],
        "neighbours": [dict(item) for item in judgement.neighbours],
    }


def _stored(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict | list) else value


async def _audit(conn: AsyncConnection[Any], clock: Clock, row: PrognosisRow) -> None:
    left_out = ("tenant_id", "asset_id", "slot", "case_id", "survival", "neighbours", "course", "inputs", "trace_id")
    body = {name: value for name, value in row.items() if name not in left_out}
    body["calibration_id"] = row["inputs"]["calibration_id"]
    subject = f"case:{row['case_id']}" if row["case_id"] else f"asset:{row['asset_id']}"
    await record(
        conn,
        clock,
        tenant_id=row["tenant_id"],
        actor="system:worker",
        action="prognosis.abstained" if row["abstained"] else "prognosis.made",
        subject=subject,
        body=body,
        trace_id=row["trace_id"],
    )
