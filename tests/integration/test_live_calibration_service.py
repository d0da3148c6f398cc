"""Live calibration on a real PostgreSQL: scores with the closing, revisions, verdicts, the service under a verdict."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from prometheus_client import REGISTRY
from support.browser import NOW, bearer, client, seeded
from support.calibration import Place, add_case, forecast, live_lives
from support.database import add_robots, drop_database, new_database, settings_for

from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadInput
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding, to_us
from fleet_server.prognosis.judgement import MODEL_VERSION
from fleet_server.prognosis.learning import add_trajectories
from fleet_server.prognosis.live_calibration import review_cohort, score_case, standing_of
from fleet_server.prognosis.live_calibration.cohorts import Cohort, CohortVerdict, Standing
from fleet_server.prognosis.service import learn_from_case, prognose, reproduce
from fleet_server.resolution.corrections import Correction, correct_outcome
from fleet_server.resolution.states import ForbiddenTransition
from fleet_server.store.pool import Connection, Pool, open_pool, transaction
from models.simulation import simulate_bearings

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLACES = [Place("acme", "site-1", f"robot-{n}", "bearing", "bearing", "robot", "owner") for n in range(60)]
COHORT = Cohort("bearing", "robot", MODEL_VERSION)


@pytest.fixture(scope="module")
def database(fresh_database: str) -> str:
    """Sixty robots, each with a bearing."""
    with psycopg.connect(fresh_database, options="-c search_path=fleet,public") as conn:
        add_robots(conn, [place.asset_id for place in PLACES], START)
        conn.execute(
            "INSERT INTO person (person_id, name, email, role) VALUES ('owner', 'O', 'o@example.org', 'case_owner')"
        )
        for place in PLACES:
            conn.execute(
                "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, valid_from)"
                " VALUES ('acme', %s, 'bearing', 'bearing', %s, %s)",
                (place.asset_id, f"B-{place.asset_id}", START - 9000 * HOUR),
            )
        _store_course(conn)
    return fresh_database


def _store_course(conn: psycopg.Connection) -> None:
    """The bearing of robot 9 has worn for 60 of 120 hours."""
    hours = np.arange(0, 120, 0.25)
    damage = np.exp(np.log(0.01) * (1 - np.clip((hours - 60) / 100, 0, 1))) - 0.01
    values = 0.06 * (1 + 6 * damage) * np.exp(0.01 * np.random.default_rng(3).standard_normal(hours.size))
    row = conn.execute(
        "INSERT INTO series (tenant_id, asset_id, metric, unit, slot)"
        " VALUES ('acme', 'robot-9', 'vibration_rms_g', '[g]', 'bearing') RETURNING series_id"
    ).fetchone()
    assert row is not None
    times_us = [to_us(START) + int(hour * 3.6e9) for hour in hours]
    conn.execute(
        "INSERT INTO samples (series_id, t0, t1, n, bad, times_us, vals, agent_id, outbox_id, batch_no, received_at)"
        " VALUES (%s, %s, %s, %s, 0, %s, %s, 'agent-1', %s, 1, %s)",
        (row[0], START, START + 119.75 * HOUR, hours.size, times_us, values.tolist(), uuid.uuid4(), START + 120 * HOUR),
    )


@pytest.fixture
async def conn(database: str) -> AsyncIterator[Connection]:
    """A worker's transaction that is rolled back."""
    pool: Pool = await open_pool(settings_for(database), "worker", size=1)
    async with transaction(pool) as opened:
        yield opened
        await opened.rollback()
    await pool.close()


async def _scores(conn: Connection) -> list[dict[str, Any]]:
    return await (await conn.execute("SELECT * FROM prognosis_score ORDER BY made_at, revision")).fetchall()


async def _verdicts(conn: Connection) -> list[str]:
    found = await (
        await conn.execute("SELECT action FROM audit_entry WHERE action LIKE 'calibration.%' ORDER BY recorded_at")
    ).fetchall()
    return [row["action"].removeprefix("calibration.") for row in found]


async def test_a_closing_scores_every_forecast_once(conn: Connection) -> None:
    made = [(START, forecast(60.0)), (START + 20 * HOUR, forecast(30.0)), (START + 99 * HOUR, forecast(9.0))]
    outcome = {"failed": True, "replaced": True, "failure_mode": "bearing_spalling"}
    case_id = await add_case(conn, PLACES[0], "B-1", made, START + 50 * HOUR, outcome)
    assert await learn_from_case(conn, SimulatedClock(START + 60 * HOUR), case_id) is None  # there is no course
    assert await score_case(conn, SimulatedClock(START + 70 * HOUR), case_id) == 0
    first, second = await _scores(conn)  # what was made after the end is no forecast of it
    assert (first["remaining_h"], second["remaining_h"]) == (50.0, 30.0)
    assert first["failed"] and first["inside"] and second["inside"]
    assert (first["unit"], first["component_type"], first["mode_found"]) == (
        "robot-0/bearing/B-1", "bearing", "bearing_spalling")  # fmt: skip
    assert set(first["brier"]) == {"24", "72", "168", "720"}
    assert REGISTRY.get_sample_value("forestall_prognosis_coverage", vars_of(COHORT)) == 1.0


def vars_of(cohort: Cohort) -> dict[str, str]:
    return {name: getattr(cohort, name) for name in ("component_type", "asset_class", "model_version")}


async def test_a_false_alarm_is_censored_until_the_component_fails_after_all(conn: Connection) -> None:
    alarm = await add_case(
        conn, PLACES[1], "B-2", [(START, forecast(60.0))], START + 10 * HOUR, None, state="false_alarm"
    )
    assert await score_case(conn, SimulatedClock(START + 10 * HOUR), alarm) == 1
    (only,) = await _scores(conn)
    assert (only["failed"], only["inside"], only["brier"], only["log_error"]) == (False, None, {}, None)
    later = await add_case(
        conn, PLACES[1], "B-2", [(START + 70 * HOUR, forecast(20.0))], START + 90 * HOUR,
        {"failed": True, "failure_mode": "bearing_seizure"},
    )  # fmt: skip
    assert await score_case(conn, SimulatedClock(START + 91 * HOUR), later) == 2
    before, after, own = await _scores(conn)
    assert (before["revision"], after["revision"], own["revision"]) == (1, 2, 1)
    assert (after["failed"], after["remaining_h"], own["remaining_h"]) == (True, 90.0, 20.0)


async def test_what_says_nothing_is_not_scored(conn: Connection) -> None:
    clock = SimulatedClock(START + 99 * HOUR)
    said = [(START, forecast(60.0))]
    cancelled = await add_case(conn, PLACES[2], "B-3", said, START + HOUR, None, state="cancelled")
    still_open = await add_case(conn, PLACES[3], "B-4", said, None, None, state="planning")
    abstained = {"abstained": True, "reason": "No forecast", "abstain_code": "stale"}
    silent = await add_case(conn, PLACES[4], "B-5", [(START, abstained)], START + HOUR, {"failed": True})
    spoilt = await add_case(
        conn, PLACES[5], "B-6", [(START, forecast(60.0) | {"rul_p10_h": 900.0})], START + HOUR, {"failed": True}
    )
    for case_id in (cancelled, still_open, silent, spoilt, uuid.uuid4()):
        assert await score_case(conn, clock, case_id) == 0
    assert await _scores(conn) == []


async def test_a_correction_appends_a_revision(conn: Connection) -> None:
    case_id = await add_case(
        conn, PLACES[6], "B-7", [(START, forecast(60.0))], START + 40 * HOUR, {"failed": False, "replaced": True}
    )
    clock = SimulatedClock(START + 80 * HOUR)
    await score_case(conn, clock, case_id)
    said = Correction(failed=True, failed_at=START + 35 * HOUR, failure_mode="bearing_seizure")
    assert await correct_outcome(conn, clock, "user:erik", case_id, said) == 1
    first, second = await _scores(conn)
    assert (first["failed"], first["remaining_h"]) == (False, 40.0)
    assert (second["failed"], second["remaining_h"], second["mode_found"]) == (True, 35.0, "bearing_seizure")
    for wrong in (
        Correction(failed=True, failure_mode="bad luck"),
        Correction(failed=True, failed_at=START + 999 * HOUR),
        Correction(failed=False, failed_at=START),
    ):
        with pytest.raises(BadInput):
            await correct_outcome(conn, clock, "user:erik", case_id, wrong)
    open_case = await add_case(conn, PLACES[7], "B-8", [(START, forecast(60.0))], None, None, state="planning")
    with pytest.raises(ForbiddenTransition):
        await correct_outcome(conn, clock, "user:erik", open_case, said)


async def test_a_drifted_cohort_is_recalibrated_once_and_keeps_its_promise_again(conn: Connection) -> None:
    rng = np.random.default_rng(8)
    until = await live_lives(conn, PLACES[:30], 30, START, rng, apart_h=2)
    assert await standing_of(conn, COHORT) == Standing()
    await live_lives(conn, PLACES[30:60], 30, until + 1000 * HOUR, rng, shift=-1.1, apart_h=30)
    assert await _verdicts(conn) == ["recalibrated"]
    standing = await standing_of(conn, COHORT)
    assert standing.verdict is CohortVerdict.RECALIBRATE
    assert standing.early > 1.3
    again = await review_cohort(conn, SimulatedClock(until + 2500 * HOUR), COHORT)
    assert again.verdict is standing.verdict
    assert await _verdicts(conn) == ["recalibrated"]
    after = [row for row in await _scores(conn) if row["early"] > 1]
    assert after
    entry = await (
        await conn.execute("SELECT body FROM audit_entry WHERE action = 'calibration.recalibrated'")
    ).fetchone()
    assert entry is not None
    assert {"coverage", "failures", "scores_digest", "drift_wealth"} <= set(entry["body"]["evidence"])


async def _worn_bearing(conn: Connection) -> tuple[SimulatedClock, Finding, dict[str, Any]]:
    """A finding about robot 9, and a library to judge it by."""
    now = START + 120 * HOUR
    await add_trajectories(conn, SimulatedClock(START), simulate_bearings(120, 31))
    found = Finding(
        finding_id=str(uuid.uuid4()), revision=1, component="bearing", state=DetectionState.DEGRADING, score=0.8,
        severity=0.5, detected_us=to_us(now), onset_us=to_us(now - 30 * HOUR),
        channels=(ChannelEvidence("vibration_rms_g", "[g]", 1.0, 0.06, 0.0006, 0.08),), signature=(0.1,),
        detectors={"cusum": 0.9}, indicator_metric="vibration_rms_g", indicator_baseline=0.06,
        indicator_sigma=0.0006, failure_mode="bearing_seizure", mode_confidence=0.7,
    )  # fmt: skip
    return SimulatedClock(now), found, {"asset_id": "robot-9", "tenant_id": "acme", "asset_class": "robot"}


async def _set(conn: Connection, revision: int, verdict: str, early: float = 1.0, late: float = 1.0) -> None:
    values = ("bearing", "robot", MODEL_VERSION, revision, verdict, START, START, early, late, "test", "{}")
    await conn.execute(
        f"INSERT INTO cohort_verdict VALUES ({', '.join(['%s'] * len(values))})",
        values,
    )


async def test_the_service_issues_what_the_verdict_allows_and_can_make_it_again(database: str) -> None:
    pool = await open_pool(settings_for(database), "worker", size=1)
    async with transaction(pool) as conn:
        clock, found, asset = await _worn_bearing(conn)
        plain = await prognose(conn, clock, found, asset, None, "")
        await _set(conn, 1, "recalibrate", 1.5, 1.2)
        wide = await prognose(conn, clock, found, asset, None, "")
        await _set(conn, 2, "abstain")
        kept_back = await prognose(conn, clock, found, asset, None, "")
        made_again = [await reproduce(conn, row["prognosis_id"]) for row in (plain, wide, kept_back)]
        await conn.rollback()
    await pool.close()
    for row in (plain, wide):
        assert not row["abstained"], row["reason"]
    early = [np.log(row["rul_p50_h"] / row["rul_p10_h"]) for row in (plain, wide)]
    late = [np.log(row["rul_p90_h"] / row["rul_p50_h"]) for row in (plain, wide)]
    assert (early[1] / early[0], late[1] / late[0]) == pytest.approx((1.5, 1.2), rel=0.01)
    assert plain["inputs"]["calibration_id"] != wide["inputs"]["calibration_id"]
    assert "cohort" not in plain["inputs"]
    assert (kept_back["abstained"], kept_back["abstain_code"], kept_back["rul_p50_h"], kept_back["p_fail"]) == (
        True, "cohort_drifted", None, {})  # fmt: skip
    assert kept_back["failure_mode"] == plain["failure_mode"]
    assert kept_back["inputs"]["withheld"]["rul_p50_h"] == plain["rul_p50_h"]
    for stored, again in made_again:
        assert stored == again


async def test_a_forecast_kept_back_is_scored_all_the_same(conn: Connection) -> None:
    under = Standing(CohortVerdict.ABSTAIN)
    case_id = await add_case(
        conn, PLACES[8], "B-9", [(START, forecast(60.0, under))], START + 50 * HOUR, {"failed": True}
    )
    assert await score_case(conn, SimulatedClock(START + 60 * HOUR), case_id) == 1
    (only,) = await _scores(conn)
    assert only["withheld"] and only["inside"] and only["early"] == 1.0


@pytest.fixture
def story(postgres_dsn: str) -> Iterator[tuple[str, dict[str, str]]]:
    dsn = new_database(postgres_dsn)
    yield dsn, seeded(dsn)
    drop_database(postgres_dsn, dsn)


async def test_the_api_shows_each_reader_the_cohorts_it_may_see(story: tuple[str, dict[str, str]]) -> None:
    dsn, passwords = story
    pool = await open_pool(settings_for(dsn), "worker", size=1)
    place = Place("northgate", "hamburg-dc2", "amr-002", "drive_left_bearing", "bearing", "robot", "p-owner")
    async with transaction(pool) as conn:
        await live_lives(conn, [place], 12, NOW - 400 * HOUR, np.random.default_rng(3), replaced=0.3)
        case_id = await add_case(conn, place, "B-1", [(NOW - 90 * HOUR, forecast(60.0))], NOW, {"failed": False})
        await score_case(conn, SimulatedClock(NOW), case_id)
    await pool.close()
    async with client(dsn) as http:
        engineer = await bearer(http, "erik", passwords["erik"])
        answer = await http.get("/api/v1/calibration", headers=engineer)
        assert answer.status_code == 200, answer.text
        assert answer.json() == (await http.get("/api/calibration", headers=engineer)).json()
        (cohort,) = answer.json()["cohorts"]
        assert (cohort["lives"], cohort["prognoses"], cohort["verdict"]) == (13, 25, "ok")
        assert cohort["coverage_low"] < cohort["coverage"] <= cohort["coverage_high"]
        assert cohort["brier"] is not None
        assert cohort["reliability"]
        page = await http.get("/calibration", headers=engineer)
        assert page.status_code == 200
        assert "Bearing" in page.text
        director = await bearer(http, "dana", passwords["dana"])
        assert (await http.get("/api/calibration", headers=director)).status_code == 403
        corrected = await http.post(f"/api/cases/{case_id}/outcome", headers=engineer, json={"failed": True})
        assert corrected.status_code == 200, corrected.text
        assert json.loads(corrected.text)["detail"] == "1 forecasts scored anew"
        refused = await http.post(f"/api/cases/{case_id}/outcome", headers=director, json={"failed": True})
        assert refused.status_code == 403
