"""Lives with forecasts and known ends, stored as the programs would, for live calibration's tests and pages."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from psycopg.types.json import Jsonb

from fleet_core.clock import SimulatedClock
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding, to_us
from fleet_server.prognosis.judgement import HORIZONS_H, MODEL_VERSION
from fleet_server.prognosis.live_calibration import score_case, standing_of
from fleet_server.prognosis.live_calibration.cohorts import Cohort, CohortVerdict, Standing
from fleet_server.store.pool import Connection

SIGMA = 0.5  # of the forecasts, in log time


@dataclass(frozen=True)
class Place:
    """Where lives are lived. ``owner`` owns the cases."""

    tenant_id: str
    site_id: str
    asset_id: str
    slot: str
    component_type: str
    asset_class: str
    owner: str


def forecast(median_h: float, under: Standing | None = None) -> dict[str, Any]:
    """A log-normal forecast in the columns of a prognosis, as the service would issue it under a standing."""
    under = under or Standing()
    sides = {10: -1.2816 * under.early, 50: 0.0, 90: 1.2816 * under.late}
    quantiles = {f"rul_p{level}_h": median_h * math.exp(z * SIGMA) for level, z in sides.items()}
    sigma = SIGMA * under.early
    p_fail = {str(h): 0.5 * math.erfc(-math.log(h / median_h) / sigma / math.sqrt(2)) for h in HORIZONS_H}
    columns = {**quantiles, "p_fail": p_fail}
    if under.verdict is CohortVerdict.OK:
        return columns
    cohort = {"cohort": {"verdict": under.verdict.value, "early": under.early, "late": under.late}}
    if under.verdict is CohortVerdict.RECALIBRATE:
        return {**columns, "inputs": cohort}
    return {"abstained": True, "abstain_code": "cohort_drifted", "inputs": {**cohort, "withheld": columns}}


def simulated_end(rng: np.random.Generator, median_h: float, shift: float = 0.0, scale: float = 1.0) -> float:
    """Hours a component with such a forecast really lives; shift 0 and scale 1 keep the forecast's promise."""
    return float(median_h * np.exp(shift + SIGMA * scale * rng.standard_normal()))


async def add_case(
    conn: Connection,
    place: Place,
    serial: str,
    forecasts: Sequence[tuple[datetime, dict[str, Any]]],
    closed_at: datetime | None,
    outcome: dict[str, Any] | None,
    state: str = "closed",
) -> uuid.UUID:
    """A case with its finding and its forecasts [(made_at, columns)]; unscored."""
    opened_at = forecasts[0][0] if forecasts else closed_at
    assert opened_at is not None
    case_id, finding_id = uuid.uuid4(), uuid.uuid4()
    where = {"tenant_id": place.tenant_id, "asset_id": place.asset_id, "slot": place.slot}
    finding = Finding(
        finding_id=str(finding_id), revision=1, component=place.slot, state=DetectionState.DEGRADING, score=0.8,
        severity=0.5, detected_us=to_us(opened_at), onset_us=to_us(opened_at),
        channels=(ChannelEvidence("level", "1", 1.0, 1.0, 0.01, 1.5),), signature=(0.1,), detectors={"cusum": 0.9},
        indicator_metric="level", indicator_baseline=1.0, indicator_sigma=0.01, failure_mode="unknown",
        mode_confidence=0.0,
    )  # fmt: skip
    await _insert(conn, "finding", where | {
        "finding_id": finding_id, "revision": 1, "state": "degrading", "score": 1, "severity": 1,
        "failure_mode": "unknown", "detected_at": opened_at, "onset_at": opened_at,
        "body": json.loads(finding.to_json()), "trace_id": "", "received_at": opened_at,
    })  # fmt: skip
    await _insert(conn, "repair_case", where | {
        "case_id": case_id, "site_id": place.site_id, "state": state, "owner_id": place.owner,
        "finding_id": finding_id, "component_serial": serial, "opened_at": opened_at, "closed_at": closed_at,
        "outcome": outcome, "trace_id": f"trace-{serial}",
    })  # fmt: skip
    scope = {"component_type": place.component_type, "asset_class": place.asset_class, "unit_serial": serial}
    for revision, (made_at, columns) in enumerate(forecasts, 1):
        given = {**columns, "inputs": scope | columns.get("inputs", {})}
        await _insert(conn, "prognosis", where | {
            "prognosis_id": uuid.uuid4(), "case_id": case_id, "finding_id": finding_id, "revision": revision,
            "made_at": made_at, "abstained": False, "reason": "", "failure_mode": "bearing_seizure",
            "library_digest": "x", "model_version": MODEL_VERSION, "trace_id": "", **given,
        })  # fmt: skip
    return case_id


async def live_lives(
    conn: Connection,
    places: Sequence[Place],
    count: int,
    start: datetime,
    rng: np.random.Generator,
    *,
    shift: float = 0.0,
    scale: float = 1.0,
    replaced: float = 0.0,
    apart_h: float = 6.0,
) -> datetime:
    """``count`` lives end one after the other and are scored at once; returns when the last of them ended.

    The share ``replaced`` is taken out at 40 % of its forecast. Each life has two forecasts under the standing.
    """
    ended_at = start
    for number in range(count):
        place = places[number % len(places)]
        ended_at = start + timedelta(hours=apart_h * (number + 1))
        middle_h = float(rng.uniform(30, 300))
        life_h = simulated_end(rng, middle_h, shift, scale)
        failed = rng.random() >= replaced
        lived_h = life_h if failed else min(life_h, 0.4 * middle_h)
        failed = lived_h == life_h
        made_at = ended_at - timedelta(hours=lived_h)
        standing = await standing_of(conn, Cohort(place.component_type, place.asset_class, MODEL_VERSION))
        later_at = made_at + timedelta(hours=lived_h / 3)
        forecasts = [(made_at, forecast(middle_h, standing)), (later_at, forecast(middle_h * 0.7, standing))]
        outcome = {"failed": failed, "replaced": True, "failure_mode": str(rng.choice(("bearing_seizure", "unknown")))}
        serial = f"{place.component_type}-{start:%m%d}-{number}"
        case_id = await add_case(conn, place, serial, forecasts, ended_at, outcome)
        await score_case(conn, SimulatedClock(ended_at), case_id)
    return ended_at


async def _insert(conn: Connection, table: str, columns: dict[str, Any]) -> None:
    """Insert one row; dictionaries become jsonb. Names are this file's own."""
    values = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in columns.items()}
    names = ", ".join(columns)
    places = ", ".join(f"%({name})s" for name in columns)
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"
    await conn.execute(statement, values)
