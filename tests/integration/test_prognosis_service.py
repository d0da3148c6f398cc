"""Prognoses on a real PostgreSQL: from samples and a finding to a row, its reproduction, learning, the command line."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.database import add_robots, settings_for
from typer.testing import CliRunner

from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadInput
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding, to_us
from fleet_server.prognosis import service, shelf
from fleet_server.prognosis.history import write_history
from fleet_server.prognosis.history.cli import history_app
from fleet_server.prognosis.learning import add_trajectories
from fleet_server.prognosis.library import Trajectory
from fleet_server.prognosis.service import learn_from_case, prognose, reproduce
from fleet_server.prognosis.shelf import Shelf
from fleet_server.prognosis.warming import warm_shelf
from fleet_server.store.pool import Connection, Pool, open_pool, transaction
from models.simulation import simulate_bearings

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(hours=120)
BASELINE_G = 0.06
ASSET = {"asset_id": "robot-1", "tenant_id": "acme", "asset_class": "robot"}


@pytest.fixture(scope="module")
def database(fresh_database: str) -> str:
    _fill(fresh_database)
    return fresh_database


def _fill(dsn: str) -> None:
    """A tenant with one robot whose bearing has worn, and whose filter has clogged, for 60 of 120 hours."""
    with psycopg.connect(dsn, options="-c search_path=fleet,public") as conn:
        add_robots(conn, ["robot-1", "robot-2"], START)
        conn.execute(
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, valid_from)"
            " VALUES ('acme', 'robot-1', 'drive_bearing', 'bearing', 'BRG-1', %s)",
            (START,),
        )
        conn.execute(
            "INSERT INTO person (person_id, name, email, role) VALUES ('owner', 'O', 'o@example.org', 'case_owner')"
        )
        _store_course(conn)
        _store_course(conn, "permeability", turned=True)
        _store_course(conn, "pressure_drop")


def _store_course(conn: psycopg.Connection, metric: str = "vibration_rms_g", turned: bool = False) -> None:
    hours = np.arange(0, 120, 1 / 6)
    damage = np.exp(np.log(0.01) * (1 - np.clip((hours - 60) / 100, 0, 1))) - 0.01
    noise = np.exp(0.01 * np.random.default_rng(3).standard_normal(hours.size))
    values = BASELINE_G * (1 + 6 * damage) * noise
    values[5] = np.nan
    if turned:
        values = 1 / values
    (series_id,) = conn.execute(
        "INSERT INTO series (tenant_id, asset_id, metric, unit, slot)"
        " VALUES ('acme', 'robot-1', %s, '[g]', 'drive_bearing') RETURNING series_id",
        (metric,),
    ).fetchone()
    outbox = uuid.uuid4()
    for batch, at in enumerate(np.array_split(np.arange(hours.size), 40)):
        times = [to_us(START) + int(hour * 3.6e9) for hour in hours[at]]
        conn.execute(
            "INSERT INTO samples"
            " (series_id, t0, t1, n, bad, times_us, vals, agent_id, outbox_id, batch_no, received_at)"
            " VALUES (%s, %s, %s, %s, 0, %s, %s, 'agent-1', %s, %s, %s)",
            (
                series_id,
                START + timedelta(hours=float(hours[at[0]])),
                START + timedelta(hours=float(hours[at[-1]])),
                len(at),
                times,
                values[at].tolist(),
                outbox,
                batch,
                NOW,
            ),
        )


def finding(**changes: object) -> Finding:
    fields: dict = {
        "finding_id": str(uuid.uuid4()),
        "revision": 1,
        "component": "drive_bearing",
        "state": DetectionState.DEGRADING,
        "score": 0.8,
        "severity": 0.5,
        "detected_us": to_us(NOW),
        "onset_us": to_us(NOW - timedelta(hours=30)),
        "channels": (ChannelEvidence("vibration_rms_g", "[g]", 1.0, BASELINE_G, 0.0006, 0.08),),
        "signature": (0.1, 0.2),
        "detectors": {"cusum": 0.9},
        "indicator_metric": "vibration_rms_g",
        "indicator_baseline": BASELINE_G,
        "indicator_sigma": 0.0006,
        "failure_mode": "bearing_seizure",
        "mode_confidence": 0.7,
    }
    return Finding(**(fields | changes))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    opened = await open_pool(settings_for(database), "worker", size=2)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
async def stocked(pool: Pool) -> Pool:
    async with transaction(pool) as conn:
        await add_trajectories(conn, SimulatedClock(START), simulate_bearings(120, 31))
    return pool


async def test_an_empty_library_abstains(dsn: str, clock: SimulatedClock) -> None:
    _fill(dsn)
    pool = await open_pool(settings_for(dsn), "worker", size=2)
    async with transaction(pool) as conn:
        row = await prognose(conn, clock, finding(), ASSET, None, "t1")
    await pool.close()
    assert row["abstained"]
    assert "past cases of a bearing" in row["reason"]


async def test_a_prognosis_is_stored_with_what_it_rests_on_and_can_be_made_again(
    stocked: Pool, clock: SimulatedClock
) -> None:
    found = finding()
    async with transaction(stocked) as conn:
        row = await prognose(conn, clock, found, ASSET, None, "trace-1")
    assert not row["abstained"], row["reason"]
    assert row["rul_p10_h"] < 40 < row["rul_p90_h"]  # the bearing's true end is 40 h away
    assert row["failure_mode"] == "bearing_seizure"
    assert not row["conflicting"]
    assert row["made_at"] == NOW
    assert row["inputs"]["unit_serial"] == "BRG-1"
    async with transaction(stocked) as conn:
        await add_trajectories(conn, SimulatedClock(NOW + timedelta(hours=1)), simulate_bearings(5, 99))
        stored, again = await reproduce(conn, row["prognosis_id"])
        audit = await (await conn.execute("SELECT action, body FROM audit_entry WHERE trace_id = 'trace-1'")).fetchall()
    assert stored == again
    assert stored["survival"] == row["survival"]
    assert [entry["action"] for entry in audit] == ["prognosis.made"]
    assert audit[0]["body"]["library_digest"] == row["library_digest"]


@pytest.fixture
def clogging_filter(database: str) -> Iterator[None]:
    """The robot has a filter as well: its permeability falls and the pressure it costs rises."""
    with psycopg.connect(database, options="-c search_path=fleet,public", autocommit=True) as conn:
        conn.execute(
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, valid_from)"
            " VALUES ('acme', 'robot-1', 'filter', 'filter', 'FLT-1', %s)",
            (START,),
        )
        yield
        conn.execute("DELETE FROM component WHERE serial = 'FLT-1'")


@pytest.mark.usefixtures("clogging_filter")
@pytest.mark.parametrize(
    "seen",
    [
        ChannelEvidence("permeability", "L/min/bar", 1.0, 1 / BASELINE_G, 0.16, 12.0),
        ChannelEvidence("pressure_drop", "bar", 1.0, BASELINE_G, 0.0006, 0.08),
    ],
    ids=lambda seen: seen.metric,
)
async def test_a_filter_that_clogs_is_not_at_its_healthy_level(
    pool: Pool, clock: SimulatedClock, seen: ChannelEvidence
) -> None:
    lives = [
        replace(unit, trajectory_id=f"filter:{unit.unit_serial}", component_type="filter")
        for unit in simulate_bearings(120, 31)
    ]
    found = finding(
        component="filter",
        failure_mode="filter_clogging",
        channels=(seen,),
        indicator_metric=seen.metric,
        indicator_baseline=seen.baseline_mean,
        indicator_sigma=seen.baseline_sigma,
    )
    async with transaction(pool) as conn:
        await add_trajectories(conn, SimulatedClock(START), lives)
        row = await prognose(conn, clock, found, ASSET, None, "t-filter")
        await conn.rollback()
    assert not row["abstained"], row["reason"]
    assert row["rul_p10_h"] < 40 < row["rul_p90_h"]
    assert row["inputs"]["falls"] is (seen.metric == "permeability")


@pytest.fixture
def other_parts(database: str) -> Iterator[None]:
    """The robot has a fan, a battery and a filter as well; their vitals take the course of the worn bearing."""
    with psycopg.connect(database, options="-c search_path=fleet,public", autocommit=True) as conn:
        for kind in ("fan", "battery", "filter"):
            conn.execute(
                "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, valid_from)"
                " VALUES ('acme', 'robot-1', %s, %s, %s, %s)",
                (f"the_{kind}", kind, f"P-{kind}", START),
            )
        for metric in ("fan_1", "battery_full", "level", "fan_speed_percent"):
            if not conn.execute("SELECT 1 FROM series WHERE metric = %s", (metric,)).fetchone():
                _store_course(conn, metric)
        yield
        conn.execute("DELETE FROM component WHERE serial LIKE 'P-%'")


def of_part(kind: str, metric: str, unit: str, sigmas: float, **changes: object) -> Finding:
    """A finding that vibration raised, with the part's own vital so many sigmas from its baseline."""
    seen = ChannelEvidence(metric, unit, 0.2, BASELINE_G, 0.0006, BASELINE_G + sigmas * 0.0006)
    first = ChannelEvidence("vibration_rms_g", "[g]", 0.8, 0.1, 0.001, 0.2)
    given = {"component": f"the_{kind}", "channels": (first, seen), "indicator_metric": metric}
    return finding(**(given | changes))


@pytest.mark.usefixtures("other_parts")
@pytest.mark.parametrize(
    ("kind", "metric", "unit", "sigmas", "falls"),
    [
        ("fan", "fan_1", "{rpm}", 1.0, True),
        ("fan", "fan_1", "r/min", 30.0, True),
        ("fan", "fan_1", "Hz", 30.0, True),
        ("fan", "fan_speed_percent", "%", 30.0, True),
        ("battery", "battery_full", "mA.h", 0.0, True),
        ("battery", "battery_full", "%", 1.0, True),
        ("filter", "level", "kPa", 30.0, False),
        ("filter", "level", "kPa", -1.0, False),
        ("filter", "level", "kPa", -30.0, True),
    ],
)
async def test_the_forecast_and_the_library_turn_a_course_the_same_way(
    pool: Pool, clock: SimulatedClock, kind: str, metric: str, unit: str, sigmas: float, falls: bool
) -> None:
    found = of_part(kind, metric, unit, sigmas)
    async with transaction(pool) as conn:
        row = await prognose(conn, clock, found, ASSET, None, "t-way")
        case_id = await _case(conn, found, {"replaced": True})
        assert (await learned(conn, clock, case_id) > 1.5) is not falls
        await conn.rollback()
    assert row["inputs"]["falls"] is falls
    assert (max(level for _, level in row["course"]) > 1.5) is not falls


async def learned(conn: Connection, clock: SimulatedClock, case_id: uuid.UUID) -> float:
    """The highest ratio of the course that the library learns from a case."""
    assert await learn_from_case(conn, clock, case_id)
    at = await conn.execute("SELECT indicator FROM trajectory WHERE trajectory_id = %s", (f"case:{case_id}",))
    return max((await at.fetchone())["indicator"])


@pytest.mark.usefixtures("other_parts")
@pytest.mark.parametrize(
    ("seen", "ways"),
    [
        ((30.0, 1.0, -30.0), (False, False, False)),
        ((-30.0, 1.0, 30.0), (True, True, True)),
        ((1.0, -30.0, 30.0), (False, True, True)),  # nothing was decided until the second
    ],
)
async def test_what_a_finding_decided_holds_for_its_life_and_for_the_library(
    pool: Pool, clock: SimulatedClock, seen: tuple[float, ...], ways: tuple[bool, ...]
) -> None:
    identity = str(uuid.uuid4())
    revisions = [
        of_part("filter", "level", "kPa", at, finding_id=identity, revision=n + 1) for n, at in enumerate(seen)
    ]
    async with transaction(pool) as conn:
        rows = [await prognose(conn, clock, found, ASSET, None, "t-life") for found in revisions]
        assert tuple(row["inputs"]["falls"] for row in rows) == ways
        case_id = await _case(conn, revisions[-1], {"replaced": True})
        assert (await learned(conn, clock, case_id) > 1.5) is not ways[-1]
        other = await prognose(conn, clock, of_part("filter", "level", "kPa", -seen[0]), ASSET, None, "t-other")
        assert other["inputs"]["falls"] is (seen[0] > 4)  # another finding decides for itself
        await conn.rollback()


async def test_what_cannot_be_judged_is_an_abstention(stocked: Pool, clock: SimulatedClock) -> None:
    late = SimulatedClock(NOW + timedelta(days=2))
    cases = [
        (finding(indicator_metric="no_such_metric"), ASSET, clock, "no course"),
        (finding(indicator_baseline=0.0), ASSET, clock, "no course"),
        (finding(), ASSET, late, "h old"),
        (finding(component="unknown_slot"), ASSET, clock, "registry"),
        (finding(), ASSET | {"asset_id": "robot-2"}, clock, "registry"),
    ]
    async with transaction(stocked) as conn:
        for given, asset, at, words in cases:
            row = await prognose(conn, at, given, asset, None, "t2")
            assert row["abstained"]
            assert words in row["reason"]
            assert row["rul_p10_h"] is None


async def test_history_of_other_tenants_and_jurisdictions_is_not_used(stocked: Pool, clock: SimulatedClock) -> None:
    foreign = [
        *(_owned(unit, tenant_id="acme", jurisdiction="US") for unit in simulate_bearings(10, 51)),
        *(_owned(unit, jurisdiction="NL", asset_class="server") for unit in simulate_bearings(10, 52)),
    ]
    async with transaction(stocked) as conn:
        before = await prognose(conn, clock, finding(), ASSET, None, "t3")
        await conn.execute("INSERT INTO tenant (tenant_id, name, jurisdiction) VALUES ('other', 'Other', 'NL')")
        others = [_owned(unit, tenant_id="other", jurisdiction="NL") for unit in simulate_bearings(10, 53)]
        await add_trajectories(conn, SimulatedClock(START), [*foreign, *others])
        after = await prognose(conn, clock, finding(), ASSET, None, "t3")
        await add_trajectories(
            conn, SimulatedClock(START), [_owned(u, tenant_id="acme") for u in simulate_bearings(4, 54)]
        )
        own = await prognose(conn, clock, finding(), ASSET, None, "t3")
        await conn.rollback()
    assert before["library_digest"] == after["library_digest"] != own["library_digest"]


async def test_a_poisoned_trajectory_is_left_out(stocked: Pool, clock: SimulatedClock) -> None:
    async with transaction(stocked) as conn:
        await conn.execute(
            "INSERT INTO trajectory (trajectory_id, component_type, unit_serial, source, failure_mode, failed, hours,"
            " indicator, added_at) VALUES ('poison', 'bearing', 'P', 'case', 'x', true, '{3,2,1}', '{1,NaN,2}', %s)",
            (START,),
        )
        row = await prognose(conn, clock, finding(), ASSET, None, "t4")
        await conn.rollback()
    assert not row["abstained"]


async def test_many_prognoses_share_one_library_and_one_calibration(
    pool: Pool, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand trajectories are prepared once; the time of each prognosis after that is printed, not judged."""
    monkeypatch.setattr(service, "_shelf", Shelf())
    built = MagicMock(side_effect=shelf.Library)
    calibrated = MagicMock(side_effect=shelf.calibrate)
    monkeypatch.setattr(shelf, "Library", built)
    monkeypatch.setattr(shelf, "calibrate", calibrated)
    taken_s = []
    async with transaction(pool) as conn:
        await add_trajectories(conn, SimulatedClock(START), simulate_bearings(1000, 77))
        for _ in range(20):
            started_s = time.perf_counter()
            row = await prognose(conn, clock, finding(), ASSET, None, "t5")
            taken_s.append(time.perf_counter() - started_s)
        await conn.rollback()
    assert not row["abstained"]
    assert (built.call_count, calibrated.call_count) == (1, 1)
    print(f"first {taken_s[0]:.2f} s, then at most {max(taken_s[1:]) * 1000:.1f} ms")


async def test_after_a_start_the_first_prognosis_finds_its_library_ready(
    stocked: Pool, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_shelf", Shelf())  # a process that has just started
    assert await warm_shelf(stocked, clock) == 1  # two robots, one with a bearing
    made_late = MagicMock(side_effect=AssertionError("made when it was asked for"))
    monkeypatch.setattr(shelf, "Library", made_late)
    monkeypatch.setattr(shelf, "calibrate", made_late)
    async with transaction(stocked) as conn:
        row = await prognose(conn, clock, finding(), ASSET, None, "t8")
    assert not row["abstained"], row["reason"]


@pytest.mark.parametrize(
    ("error", "traced"), [(BadInput("library", "is not one"), False), (AttributeError("a fault of ours"), True)]
)
async def test_a_library_that_cannot_be_made_ready_is_left_to_its_first_prognosis(
    stocked: Pool,
    clock: SimulatedClock,
    error: Exception,
    traced: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(service, "_shelf", Shelf())
    monkeypatch.setattr(shelf, "Library", MagicMock(side_effect=error))
    assert await warm_shelf(stocked, clock) == 0
    assert "bearing, robot, NL, acme is not ready" in caplog.text and ("Traceback" in caplog.text) is traced


async def test_a_closed_case_teaches_the_library(stocked: Pool, clock: SimulatedClock) -> None:
    found = finding()
    async with transaction(stocked) as conn:
        replaced = await _case(conn, found, {"failure_mode": "bearing_spalling", "replaced": True})
        assert await learn_from_case(conn, clock, replaced) == f"case:{replaced}"
        assert await learn_from_case(conn, clock, replaced) == f"case:{replaced}"
        rows = await (await conn.execute("SELECT * FROM trajectory WHERE source = 'case'")).fetchall()
        assert len(rows) == 1
        row = rows[0]
        assert (row["failed"], row["failure_mode"], row["unit_serial"]) == (False, "bearing_spalling", "BRG-1")
        assert (row["tenant_id"], row["jurisdiction"], row["asset_class"]) == ("acme", "NL", "robot")
        assert len(row["hours"]) == 719  # 120 h at 10 min, without the value that is not a number
        assert np.isfinite(row["indicator"]).all()
        again = await prognose(conn, clock, finding(), ASSET, replaced, "t6")
        assert f"case:{replaced}" not in {item["trajectory_id"] for item in again["neighbours"]}  # the same bearing
        false_alarm = await _case(conn, finding(), {"failure_mode": "unknown"}, state="false_alarm")
        assert await learn_from_case(conn, clock, false_alarm) is None
        no_course = await _case(conn, finding(indicator_metric="none"), {"failure_mode": "bearing_seizure"})
        assert await learn_from_case(conn, clock, no_course) is None
        failed = await _case(conn, finding(), {"failed": True, "failure_mode": "bearing_seizure"})
        await learn_from_case(conn, clock, failed)
        row = await (
            await conn.execute("SELECT failed FROM trajectory WHERE trajectory_id = %s", (f"case:{failed}",))
        ).fetchone()
        assert row["failed"]
        with pytest.raises(BadInput):
            await learn_from_case(conn, clock, uuid.uuid4())
        await conn.rollback()


def test_history_commands(database: str, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f"[database]\ndsn = {json.dumps(database)}\n")
    units = simulate_bearings(12, 61)
    path = tmp_path / "history.csv.gz"
    write_history(path, units)
    runner = CliRunner()
    excluded = units[3].unit_serial
    arguments = ["import", str(path), "--config", str(config), "--exclude", excluded, "--json"]
    first, second = (json.loads(runner.invoke(history_app, arguments).output) for _ in range(2))
    assert [each["files"][str(path)]["new"] for each in (first, second)] == [11, 0]
    listed = json.loads(runner.invoke(history_app, ["list", "--config", str(config), "--json"]).output)
    assert sum(row["units"] for row in listed) >= 11
    assert "bearing" in runner.invoke(history_app, ["list", "--config", str(config)]).output
    with psycopg.connect(database) as conn:
        (count,) = conn.execute("SELECT count(*) FROM fleet.trajectory WHERE unit_serial = %s", (excluded,)).fetchone()
    assert count == 0
    for bad in (["import", "nowhere.csv", "--config", str(config)], ["list", "--config", "nowhere.toml"]):
        failed = runner.invoke(history_app, bad)
        assert failed.exit_code == 2
        assert "nowhere" in failed.output


def _owned(unit: Trajectory, **fields: str) -> Trajectory:
    return replace(unit, trajectory_id=f"own:{unit.unit_serial}:{'-'.join(fields.values())}", **fields)


async def _case(conn: Connection, found: Finding, outcome: dict, state: str = "verifying") -> uuid.UUID:
    """A case with its finding, in a slot of its own state so that the one-open-case rule does not bite."""
    case_id = uuid.uuid4()
    await conn.execute(
        "INSERT INTO finding (finding_id, revision, tenant_id, asset_id, slot, state, score, severity, failure_mode,"
        " detected_at, onset_at, body, trace_id, received_at)"
        " VALUES (%s, 1, 'acme', 'robot-1', %s, 'degrading', 1, 1, 'unknown', %s, %s, %s, '', %s)",
        (found.finding_id, found.component, NOW, NOW, Jsonb(json.loads(found.to_json())), NOW),
    )
    await conn.execute(
        "INSERT INTO repair_case (case_id, tenant_id, site_id, asset_id, slot, state, owner_id, finding_id,"
        " component_serial, opened_at, outcome, trace_id)"
        " VALUES (%s, 'acme', 'site-1', 'robot-1', %s, %s, 'owner', %s, 'BRG-1', %s, %s, '')",
        (case_id, found.component, "closed" if state == "verifying" else state, found.finding_id, NOW, Jsonb(outcome)),
    )
    return case_id


async def test_a_calibration_of_a_rolled_back_transaction_is_stored_by_the_next(
    stocked: Pool, clock: SimulatedClock
) -> None:
    async with transaction(stocked) as conn:
        await add_trajectories(conn, SimulatedClock(START), simulate_bearings(60, 91))  # too different to reuse one
    async with transaction(stocked) as conn:
        await prognose(conn, clock, finding(), ASSET, None, "t7")
        await conn.rollback()
    async with transaction(stocked) as conn:
        row = await prognose(conn, clock, finding(), ASSET, None, "t7")
    async with transaction(stocked) as conn:
        stored, again = await reproduce(conn, row["prognosis_id"])
    assert stored == again


async def test_a_calibration_that_a_restored_database_lost_is_stored_again(
    database: str, stocked: Pool, clock: SimulatedClock
) -> None:
    async with transaction(stocked) as conn:
        await prognose(conn, clock, finding(), ASSET, None, "t9")
    with psycopg.connect(database) as conn:
        conn.execute("DELETE FROM fleet.calibration")
    async with transaction(stocked) as conn:
        row = await prognose(conn, clock, finding(), ASSET, None, "t9")
    async with transaction(stocked) as conn:
        stored, again = await reproduce(conn, row["prognosis_id"])
    assert stored == again
