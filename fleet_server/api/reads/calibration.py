"""Read live calibration: by cohort, the scores that the reader may see, with the verdicts over the whole fleet."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from statistics import fmean, median

from fleet_core.assets import UNKNOWN_FAILURE_MODE
from fleet_server.api.models.base import Record
from fleet_server.api.models.calibration import CalibrationAnswer, CohortCalibration, ReliabilityBin
from fleet_server.prognosis.live_calibration.cohorts import ALARM, WINDOW, WINDOW_LIVES, coverage_of, drift, lives_of
from fleet_server.prognosis.live_calibration.reliability import HORIZON_H, reliability
from fleet_server.prognosis.live_calibration.service import outcome_of, scored_of
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("live_calibration")
_Key = tuple[str, str, str]


async def calibration(conn: Connection, now: datetime) -> CalibrationAnswer:
    """Every cohort with scores in the window: cohorts with a drift first, then by the number of lives."""
    scores = await (await conn.execute(_sql.visible_scores, {"from_t": now - WINDOW})).fetchall()
    verdicts = {_key(row): row for row in await (await conn.execute(_sql.verdicts)).fetchall()}
    groups: dict[_Key, list[Record]] = defaultdict(list)
    for row in scores:
        groups[_key(row)].append(row)
    cohorts = [_cohort(key, rows, verdicts.get(key, {}), now) for key, rows in groups.items()]
    cohorts.sort(key=lambda one: (one.verdict == "ok", -one.lives, one.component_type, one.asset_class))
    return CalibrationAnswer(window_days=WINDOW.days, window_lives=WINDOW_LIVES, cohorts=cohorts)


def _cohort(key: _Key, rows: list[Record], verdict: Record, now: datetime) -> CohortCalibration:
    lives = lives_of((scored_of(row) for row in rows), now)
    within = {life.unit for life in lives}
    rows = [row for row in rows if row["unit"] in within]
    coverage, low, high = coverage_of(lives)
    told = reliability([one for row in rows if (one := outcome_of(row)) is not None])
    failed = [row for row in rows if row["failed"]]
    named = {row["unit"]: row for row in sorted(rows, key=lambda row: row["made_at"]) if _names_a_mode(row)}
    return CohortCalibration(
        component_type=key[0],
        asset_class=key[1],
        model_version=key[2],
        lives=len(lives),
        failures=sum(life.failed for life in lives),
        censored=sum(not life.failed for life in lives),
        prognoses=len(rows),
        withheld=sum(row["withheld"] for row in rows),
        coverage=coverage if lives else None,
        coverage_low=low if lives else None,
        coverage_high=high if lives else None,
        drift=drift(lives).wealth,
        drift_alarm=ALARM,
        brier=told.brier,
        base_brier=told.base_brier,
        base_rate=told.base_rate,
        horizon_h=HORIZON_H,
        reliability=[ReliabilityBin.model_validate(one) for one in told.bins],
        log_error=median(row["log_error"] for row in failed) if failed else None,
        pinball_h=fmean(row["pinball_h"] for row in failed) if failed else None,
        modes_judged=len(named),
        modes_right=sum(row["mode_named"] == row["mode_found"] for row in named.values()),
        verdict=str(verdict.get("verdict", "ok")),
        since=verdict.get("since"),
        early=verdict.get("early", 1.0),
        late=verdict.get("late", 1.0),
    )


def _names_a_mode(row: Record) -> bool:
    return UNKNOWN_FAILURE_MODE not in (row["mode_found"], row["mode_named"])


def _key(row: Record) -> _Key:
    return row["component_type"], row["asset_class"], row["model_version"]
