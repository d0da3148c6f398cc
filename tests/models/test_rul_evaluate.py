"""The evaluation: cuts are what they say, tables and floors, the command's errors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from fleet_core.errors import BadInput
from fleet_server.prognosis.rul.histories import Histories, Unit
from models.rul.evaluation import command, few, motors, turbofans
from models.rul.evaluation.cuts import Cuts, coverage_by_phase, cut_rows, joined, judge_last, judge_lives, known_within
from models.rul.evaluation.tasks import Outcome, Task


@dataclass(frozen=True)
class Said:
    """A forecast as the engine gives it."""

    p10: float
    p50: float
    p90: float
    mean: float
    p_fail: dict[float, float]
    abstained: str = ""


class Fortune:
    """Stands for a model: knows that all lives last 100, errs by a tenth, keeps silent in the first ten."""

    def predict_at(self, unit: Unit, rows: np.ndarray) -> list[Said]:
        return [self._say(float(unit.times[row])) for row in rows]

    def predict_many(self, units: tuple[Unit, ...]) -> list[Said]:
        return [self._say(float(unit.times[-1])) for unit in units]

    def _say(self, time: float) -> Said:
        left = 100.0 - time
        if time < 10:
            return Said(math.nan, math.nan, math.nan, math.nan, {}, "too little history")
        return Said(0.8 * left, 1.1 * left, 1.3 * left, 1.1 * left, {72.0: 0.9 if left <= 72 else 0.1})


def _life(name: str, until: int = 100, failed: bool = True) -> Unit:
    return Unit(name, np.arange(until + 1.0), np.zeros((until + 1, 1)), failed)


def _drives() -> dict[str, object]:
    """Figures as evaluate_drives gives them."""
    each = {"skill": 0.08, "base_rate": 0.002, "observed_expected": 1.0, "observed_expected_top1": 0.97}
    each |= {"lift_top1": 34.70311, "caught_top1": 0.32}
    table = [{"forecasts": 5, "said": 0.1, "happened": 0.2}]
    intervals = {"lift_top1": [28.8354, 40.4237]}
    split = {**each, "n": 9, "failed": 1, "interval_90": intervals, "cuts": [each], "reliability": table}
    return {"drives": 9, "cut_days": [16362.7], "time_split": split, "other_drives": split}


@pytest.fixture(scope="module")
def cuts() -> Cuts:
    lives = Histories((*(_life(str(n)) for n in range(6)), _life("stopped", 60, failed=False)), ("x",))
    return judge_lives(Fortune(), lives, horizon=72.0)


def test_cuts_know_what_remained(cuts: Cuts) -> None:
    ended = cuts.pick(cuts.failed)
    np.testing.assert_allclose(ended.remaining, 100 - ended.time)
    np.testing.assert_allclose(ended.share, ended.time / 100)
    assert cuts.withheld == 6 * 3 + 5 and len(cuts.said.unit) == len(cuts.unit) - cuts.withheld
    assert 99 not in cut_rows(_life("x"), 10) and len(cut_rows(_life("x"), 10)) == 10
    assert len(cut_rows(_life("short", 1))) == 1 and len(cut_rows(_life("single", 0))) == 0


def test_coverage_counts_ended_lives_and_p_fail_known_fates(cuts: Cuts) -> None:
    assert coverage_by_phase(cuts)["all"].value == 1.0
    said, came, unit = known_within(cuts, 72.0)
    assert set(unit) == set(range(6))  # the stopped one: less than 72 remained, its fate is not known
    np.testing.assert_array_equal(said > 0.5, came > 0)


def test_last_rows_are_judged_by_the_truth_given() -> None:
    lives = Histories((_life("a", 40, False), _life("b", 90, False)), ("x",))
    found = judge_last(Fortune(), lives, np.array([60.0, 10.0]))
    np.testing.assert_allclose(found.share, (0.4, 0.9))
    np.testing.assert_allclose(found.mean, (66.0, 11.0))


def test_turbofan_tables_and_floors(cuts: Cuts) -> None:
    test = judge_last(
        Fortune(), Histories((_life("a", 40, False), _life("b", 90, False)), ("x",)), np.array([60.0, 10.0])
    )
    outcomes = [
        *(Outcome(Task("cmapss", "FD001", "test", seed), test, fit_s=1.0) for seed in range(2)),
        Outcome(Task("cmapss", "FD001", "cross-validation", part=0), cuts),
    ]
    tables = {table.title: table for table in turbofans.tables(outcomes)}
    row = tables["Turbofans, last cycle of the test engines"].as_json()["rows"][0]
    assert row["seeds"] == 2 and row["RMSE"] == pytest.approx(math.sqrt((36 + 1) / 2), abs=0.01)
    lines = tables["FD001: prognostic metrics"].rows
    assert lines[0][1] == 1.0 and lines[-1][1] == pytest.approx(0.9)
    floors = {floor.name: floor.met for floor in turbofans.floors(outcomes)}
    assert floors["FD001 RMSE"] and not floors["FD001 80 % interval, all: 95 % CI holds 0.8"]  # all covered: not 80 %


def test_pictures_and_report_are_written(cuts: Cuts, tmp_path: Path) -> None:
    outcomes = [
        Outcome(Task("cmapss", "FD001", "test"), cuts),
        Outcome(Task("cmapss", "FD001", "cross-validation"), cuts),
        Outcome(Task("motors", motors.SETS[0], "other physics"), cuts),
        Outcome(Task("drives", "drives", "time split"), figures=_drives()),
        Outcome(Task("few", "battery", "leave-one-out"), refused="two lives"),
    ]
    report = command.tabulate(outcomes, [("cmapss", "absent")])
    command._write(tmp_path, report, outcomes)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"report.md", "report.json", "FD001_test.png", "FD001_lives.png", "reliability.png", "coverage.png"}
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "two lives" in text and "other drives, later" in text and "34.7 [28.8, 40.4]" in text
    bounds = {floor.name.rsplit(") ", 1)[1]: floor.met for floor in report.floors if floor.name.startswith("drives")}
    assert bounds["Brier skill"] and bounds["the same"] and not bounds["lift in the top 1 % (aim)"]
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_a_cell_ends_at_its_capacity(tmp_path: Path) -> None:
    (tmp_path / "battery").mkdir()
    rows = ["cell,cycle,capacity_ah", "A,1,1.9", "A,2,1.4", "A,3,1.5", "B,1,1.8", "B,2,1.7"]
    (tmp_path / "battery" / "nasa_capacity.csv").write_text("\n".join(rows), encoding="utf-8")
    lives = few.read_lives("battery", tmp_path)
    assert [(len(life), life.failed) for life in lives] == [(2, True), (2, False)]
    assert [task.part for task in few.tasks(tmp_path, ("battery",))] == [0]
    with pytest.raises(BadInput):
        few.read_lives("femto", tmp_path)


def test_tested_motors_follow_other_physics() -> None:
    from models.simulation import Ranges

    assert Ranges() != motors.OTHER_RANGES
    assert motors.LIBRARY_SEED + 100 < motors.TEST_SEED
    assert {task.seed for task in motors.tasks(None, 2)} == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "weather"], "cmapss, femto"),
        (["--engine", "quantum"], "serial, processes"),
        (["--seeds", "0"], "1..100"),
        (["--data", "/nowhere/at/all"], "no such folder"),
        (["--only", "cmapss"], "FORESTALL_DATA"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORESTALL_DATA", raising=False)
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    found = CliRunner().invoke(app, ["evaluate", *arguments])
    assert found.exit_code == 2 and message in found.output.replace("\n", "") and "Traceback" not in found.output


def test_absent_sets_are_named(tmp_path: Path) -> None:
    tasks, absent = command.plan(command.Options(tmp_path, ("cmapss", "motors"), seeds=1))
    assert [task.corpus for task in tasks] == ["motors"] and absent[0][0] == "cmapss"


def test_joined_keeps_units_apart(cuts: Cuts) -> None:
    both = joined([cuts, cuts])
    assert len(both.unit) == 2 * len(cuts.unit)
