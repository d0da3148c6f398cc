import dataclasses
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from fleet_core.errors import BadConfig
from models.cli import app
from models.detection_evaluation import baselines, fleet, nab_corpus, run_to_failure, skab
from models.detection_evaluation.judging import DetectorRun, Recording, judge_file, judge_table
from models.detection_evaluation.report import Floor, Table, shown
from models.detection_evaluation.run import Options, evaluate
from models.detection_evaluation.tasks import NOVELTY, OURS, Task, TaskResult, judge

START = datetime(2024, 1, 1, tzinfo=UTC)


def write_csv(path, values, step_s=1.0, labels=None, delimiter=","):
    header = ["datetime", *(f"v{i}" for i in range(values.shape[1])), *(["anomaly"] if labels is not None else [])]
    rows = [delimiter.join(header)]
    for index, row in enumerate(values):
        cells = [f"{START + timedelta(seconds=index * step_s):%Y-%m-%d %H:%M:%S}", *(f"{value:.6f}" for value in row)]
        rows.append(delimiter.join([*cells, *([f"{labels[index]:.1f}"] if labels is not None else [])]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def stepped(rows=500, at=400, channels=3, seed=1):
    values = np.random.default_rng(seed).standard_normal((rows, channels))
    values[at:] += 12.0
    return values


def judged_with(alarm, healthy_share=0.0, step_s=3600.0, learned=0, labels=None):
    rows = len(alarm)
    times_us = (np.arange(rows) * step_s * 1e6).astype(np.int64)
    recording = Recording(("v",), times_us, np.zeros((rows, 1)), labels or {})
    verdict = DetectorRun(np.asarray(alarm, dtype=float), np.asarray(alarm, dtype=bool), learned)
    return TaskResult(Task("c", "g", "n", "unused", healthy_share=healthy_share), recording, {OURS: verdict})


def test_a_file_is_judged_as_the_command_judges_it(tmp_path):
    path = write_csv(tmp_path / "pump.csv", stepped(), labels=np.zeros(500), delimiter=";")
    recording, verdict = judge_file(path)
    assert recording.names == ("v0", "v1", "v2") and recording.values.shape == (500, 3)
    assert recording.labels["anomaly"].shape == (500,)
    assert len(verdict.score) == 500 and 0 < verdict.learned < 400
    assert verdict.alarm[-50:].all() and not verdict.alarm[: verdict.learned].any()
    only, _ = judge_file(path, ("v1",))
    assert only.names == ("v1",) and (only.values[:, 0] == recording.values[:, 1]).all()


def test_a_table_is_judged_as_a_file_is(tmp_path):
    values = np.round(stepped(), 6)
    recording, from_file = judge_file(write_csv(tmp_path / "a.csv", values))
    from_table = judge_table(recording.times_us, ["v0", "v1", "v2"], values)
    assert from_table.learned == from_file.learned
    assert from_table.score == pytest.approx(from_file.score, abs=1e-6)
    assert (from_table.alarm == from_file.alarm).all()


def test_a_file_that_is_refused_is_named_and_does_not_stop_the_rest(tmp_path):
    path = tmp_path / "broken.csv"
    path.write_text("nothing\n")
    found = judge(Task("skab", "g", "broken", path, baselines=()))
    assert found.refused and found.recording is None and not found.verdicts


def test_waveforms_are_read_as_their_features(tmp_path):
    path = tmp_path / "b.npz"
    waves = np.random.default_rng(1).standard_normal((5, 256, 2)).astype(np.float32)
    np.savez(path, acceleration_g=waves, time_of_day_s=np.arange(5) * 10.0, sample_rate_hz=25600.0)
    recording, verdict = judge_file(path)
    assert len(verdict.score) == 5 and verdict.learned == 5
    assert recording.values.shape == (5, len(recording.names)) and "vibration_1.rms" in recording.names


def test_skab_rates_are_pooled_over_rows():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0], dtype=bool)
    flags = np.array([0, 1, 0, 0, 0, 1, 1, 1, 1, 0], dtype=bool)
    found = skab.rates(truth, flags)
    assert (found.far, found.mar) == (pytest.approx(1 / 5), pytest.approx(1 / 5))
    assert found.f1 == pytest.approx(2 * 0.8 * 0.8 / 1.6)
    assert np.isnan(skab.rates(np.zeros(0, bool), np.zeros(0, bool)).far)


def test_skab_delays_and_windows():
    truth = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0, 0], dtype=bool)
    flags = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    one = judged_with(flags, step_s=10.0, labels={"anomaly": truth.astype(float)})
    assert skab.delays_s(one, flags, truth) == [20.0, float("inf")]
    assert skab.delays_s(one, ~flags, ~truth) == [10.0, 0.0]
    assert skab.anomaly_windows(one.recording) == [(10_000_000, 30_000_000), (60_000_000, 70_000_000)]


def test_run_to_failure_course():
    alarm = np.zeros(100, bool)
    alarm[[20, 21]] = True
    alarm[70:98] = True
    assert run_to_failure.course(judged_with(alarm), OURS) == (100, 20.0, 80.0, 70.0, 2)
    alarm[90:] = False
    assert run_to_failure.course(judged_with(alarm), OURS) == (100, 20.0, 80.0, None, 2)
    assert run_to_failure.course(judged_with(np.zeros(100, bool)), OURS) == (100, None, None, None, 0)


def test_false_alarms_count_onsets_on_healthy_rows_after_learning():
    alarm = np.zeros(24 * 60, bool)
    alarm[500:520] = alarm[600:602] = alarm[1000:1010] = True
    months, alarms, share = fleet.false_alarms(judged_with(alarm, healthy_share=0.5, learned=120), OURS)
    assert months == pytest.approx((720 - 120) / 24 / 30) and alarms == 2
    assert share == pytest.approx(22 / 600)


def test_delay_runs_from_the_drift_to_the_next_onset():
    alarm = np.zeros(24 * 30, bool)
    alarm[100:110] = alarm[24 * 12 :] = True
    one = judged_with(alarm)
    assert fleet.delay_days(one, OURS, 10.0) == pytest.approx(2.0)
    assert fleet.delay_days(one, OURS, 13.0) is None
    assert fleet.delay_days(judged_with(np.zeros(24 * 30, bool)), OURS, 10.0) == float("inf")


def test_fleet_tasks_are_seeded_and_judge_the_months_asked_for():
    found = fleet.tasks(300, 7)
    assert found == fleet.tasks(300, 7) and len({task.source.seed for task in found}) == len(found)
    reference = [task.source for task in found if task.group == "simulated reference"]
    assert sum(how.days - 1 for how in reference) >= 300 * 30 and {how.kind for how in reference} == {"reference"}
    assert {task.source.kind for task in found} == {"reference", "machine", "server"}
    assert all(task.source.drift.channel > 0 for task in found if task.source.drift)
    assert 0 < sum(bool(task.baselines) for task in found) < 20
    assert fleet.tasks(0, 1) == []


def test_fleet_floors_count_alarms_and_drifts_found_in_time():
    healthy, drifting = fleet.tasks(1, 0)[0], next(task for task in fleet.tasks(1, 0) if task.source.drift)
    assert drifting.group == "drift 1 sigma a day, reference"
    quiet = dataclasses.replace(judged_with(np.zeros(24 * 60, bool)), task=healthy)
    alarm = np.zeros(24 * 35, bool)
    alarm[24 * 29 :] = True
    found = dataclasses.replace(judged_with(alarm), task=drifting)
    late = dataclasses.replace(judged_with(np.roll(alarm, 48) & (np.arange(24 * 35) > 100)), task=drifting)
    calm, share = fleet.floors([quiet, found, late])
    assert (calm.value, calm.met) == (0.0, True) and "2 asset-months" in calm.name
    assert (share.value, share.met) == (50.0, False)
    (table,) = [each for each in fleet.tables([found, late]) if each.title == "Detection delay"]
    (row,) = table.as_json()["rows"]
    assert (row["assets"], row["found"], row["in time %"], row["p90 days"]) == (2, 2, 50.0, 3.0)


def test_a_floor_is_met_on_its_side_and_never_without_a_figure():
    assert Floor("f1", 0.8, 0.72).met and not Floor("f1", 0.7, 0.72).met
    assert Floor("far", 5.0, 20.0, at_most=True).met and not Floor("far", 21.0, 20.0, at_most=True).met
    assert not Floor("none", None, 0.0).met and not Floor("nan", float("nan"), 0.0, at_most=True).met
    assert Floor("far", 5.0, 20.0, at_most=True).as_json()["bound"] == "at most" and shown(True) == "yes"


def test_first_alarms_in_time_are_a_share_of_the_runs_to_failure():
    def run(row):
        alarm = np.zeros(100, bool)
        alarm[row:] = True
        one = judged_with(alarm)
        return dataclasses.replace(one, task=dataclasses.replace(one.task, fails="bearing"))

    (floor,) = run_to_failure.floors([run(10), run(30), run(85), run(95)])
    assert floor.value == 50.0 and not floor.met
    assert run_to_failure.floors([judged_with(np.zeros(9, bool))]) == []


def test_corpora_that_are_not_there_have_no_tasks(tmp_path):
    assert nab_corpus.tasks(tmp_path) == skab.tasks(tmp_path) == run_to_failure.tasks(tmp_path) == []


def test_ims_bearings_are_told_apart(tmp_path):
    path = tmp_path / "ims" / "1st_test.csv"
    path.parent.mkdir()
    path.write_text(",Datetime,Bearing 2-A,Bearing 2-B,Bearing 3-A,Bearing 3-B\n")
    rig, healthy, failing = run_to_failure.tasks(tmp_path)
    assert "inner race" in rig.fails and failing.fails == "inner race" and failing.healthy_share == 0
    assert healthy.columns == ("Bearing 2-A", "Bearing 2-B") and healthy.healthy_share == 0.5 and not healthy.fails


def test_evaluate_small_corpora_to_files(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    anomaly = (np.arange(500) >= 400).astype(float)
    write_csv(data / "skab" / "valve1" / "0.csv", stepped(), labels=anomaly, delimiter=";")
    write_csv(data / "skab" / "anomaly-free" / "a.csv", stepped(at=500), delimiter=";")
    write_csv(data / "nab" / "data" / "g" / "s.csv", stepped(channels=1), step_s=300.0)
    window = [f"{START + timedelta(seconds=300 * row):%Y-%m-%d %H:%M:%S}.000000" for row in (390, 499)]
    (data / "nab" / "labels").mkdir()
    (data / "nab" / "labels" / "combined_windows.json").write_text(json.dumps({"g/s.csv": [window], "g/no.csv": []}))
    seen = []
    options = Options(data, ("nab", "skab"), jobs=1, baselines=False)
    report = evaluate(options, lambda *each: seen.append(each))
    tables = {table.title: table for table in report.tables}
    assert [each[:2] for each in seen] == [(1, 3), (2, 3), (3, 3)]
    rates = tables["SKAB, 1 files"].as_json()["rows"][0]
    assert rates["F1"] > 0.9 and tables["SKAB, delays"].as_json()["rows"][0]["start in 60 s"] == "1/1"
    assert tables["NAB, 1 series"].as_json()["rows"][0]["standard"] > 50
    assert [row["detector"] for row in tables["NAB, 1 series"].as_json()["rows"]] == [OURS, NOVELTY]
    assert [each.name for each in report.floors] == ["SKAB valve1, F1", "SKAB valve1, FAR %"]
    assert all(each.met for each in report.floors)
    assert tables["False alarms"].as_json()["rows"][0]["healthy rows"] == "SKAB anomaly-free"
    pytest.importorskip("matplotlib", reason="pictures need the extra evaluate")
    evaluate(dataclasses.replace(options, only=("skab",), out=out), lambda *each: None)
    assert {path.name for path in out.iterdir()} >= {"report.md", "report.json", "summary.png", "valve1_0.csv.png"}
    assert "| F1 |" in (out / "report.md").read_text() and "## Floors" in (out / "report.md").read_text()
    assert json.loads((out / "report.json").read_text())["floors"][0]["met"] is True


def test_windowed_gaussian_flags_a_step_and_holds_missing_values():
    values = stepped(channels=2)
    values[50, 0] = np.nan
    verdict = baselines.windowed_gaussian(values, 144)
    assert verdict.alarm[400:420].all() and verdict.alarm[100:400].mean() < 0.05
    assert ((verdict.score >= 0) & (verdict.score <= 1)).all()
    assert baselines.filled(np.array([[np.nan], [2.0], [np.nan]])).tolist() == [[0.0], [2.0], [2.0]]


@pytest.mark.parametrize(
    ("name", "package"), [("PCA T2+Q", "scipy"), ("isolation forest", "sklearn"), ("half-space trees", "river")]
)
def test_library_baselines_flag_a_step(name, package):
    pytest.importorskip(package, reason="the extra evaluate is not installed")
    verdict = baselines.BASELINES[name](stepped(), 144)
    assert verdict.alarm[400:420].any() and not verdict.alarm[:144].any()
    assert ((verdict.score >= 0) & (verdict.score <= 1)).all()
    # causal: what comes later changes nothing before it
    assert verdict.score[:300] == pytest.approx(baselines.BASELINES[name](stepped()[:300], 144).score)


def test_a_missing_package_is_named_with_its_mend():
    with pytest.raises(BadConfig, match=r"forestall\[evaluate\]"):
        baselines.optional("no_such_package_at_all")


def test_tables_hold_no_unprintable_figures():
    table = Table("t", ("a", "b"), [(float("inf"), np.float64(1.5)), (None, np.int64(3))], "note")
    assert table.as_json()["rows"] == [{"a": None, "b": 1.5}, {"a": None, "b": 3}]
    assert "| - | 1.5 |" in table.as_markdown() and shown("x|y") == "x|y"


@pytest.mark.parametrize(
    "arguments", [["--only", "nonsense"], ["--months", "-1"], ["--data", "/no/such/folder"], ["--only", "nab"]]
)
def test_wrong_options_are_one_line(arguments, monkeypatch):
    monkeypatch.delenv("FORESTALL_DATA", raising=False)
    result = CliRunner().invoke(app, ["evaluate", "--no-baselines", *arguments])
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_command_prints_one_json_document(tmp_path):
    labels = (np.arange(500) >= 400).astype(float)
    write_csv(tmp_path / "skab" / "valve1" / "0.csv", stepped(), labels=labels, delimiter=";")
    arguments = ["evaluate", "--data", str(tmp_path), "--only", "skab", "--no-baselines", "--jobs", "1", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["tables"][0]["title"] == "SKAB, 1 files" and document["floors"][0]["bound"] == "at least"
