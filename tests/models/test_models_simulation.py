"""Simulated histories: reproducible, within their ranges, shipped as promised; the evaluation of forecasts."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fleet_core.errors import BadInput
from fleet_server.prognosis.history import read_history
from fleet_server.prognosis.library import Library
from models.cli import app
from models.prognosis_evaluation import Forecast, evaluate_library, evaluate_recorded, figures, reliability
from models.simulation import ARTIFACT, ARTIFACT_SEED, ARTIFACT_UNITS, Ranges, simulate_bearings


def test_the_same_seed_gives_the_same_units_and_more_units_keep_the_first() -> None:
    few, many = simulate_bearings(5, 9), simulate_bearings(8, 9)
    assert [unit.digest for unit in few] == [unit.digest for unit in many[:5]]
    assert {unit.digest for unit in few}.isdisjoint(unit.digest for unit in simulate_bearings(5, 10))


def test_units_cover_the_lives_and_levels_that_are_promised() -> None:
    units = simulate_bearings(300, 4)
    ended = [unit for unit in units if unit.failed]
    assert 0.6 < len(ended) / len(units) < 0.9
    lives_h = np.array([unit.hours[-1] for unit in ended])
    ends = np.array([unit.ratio[-1] for unit in ended])
    assert np.quantile(lives_h, 0.05) < 90
    assert np.quantile(lives_h, 0.95) > 180
    assert np.quantile(ends, 0.05) < 3.5
    assert np.quantile(ends, 0.95) > 12
    assert all(abs(np.median(unit.ratio[: max(4, unit.hours.size // 12)]) - 1) < 0.15 for unit in units)


@pytest.mark.parametrize("units", [0, -1, 10_000_000])
def test_a_number_out_of_range_is_refused(units: int) -> None:
    with pytest.raises(BadInput):
        simulate_bearings(units, 1)


def test_the_shipped_library_is_what_the_command_makes() -> None:
    assert ARTIFACT.stat().st_size <= 300 * 1024
    shipped = read_history(ARTIFACT)
    assert not shipped.refused
    assert not shipped.rows_skipped
    made = simulate_bearings(ARTIFACT_UNITS, ARTIFACT_SEED)
    assert len(shipped.trajectories) == len(made) == ARTIFACT_UNITS
    for file_unit, unit in zip(shipped.trajectories, made, strict=True):
        assert (file_unit.unit_serial, file_unit.failed, file_unit.failure_mode) == (
            unit.unit_serial,
            unit.failed,
            unit.failure_mode,
        )
        assert np.allclose(file_unit.hours, unit.hours, rtol=1e-4)
        assert np.allclose(file_unit.ratio, unit.ratio, rtol=2e-3)


def test_the_shipped_library_keeps_its_promise() -> None:
    found = evaluate_library(Library(read_history(ARTIFACT).trajectories))
    assert 0.75 <= found["all"]["coverage_80"] <= 0.92
    assert found["all"]["brier_72h"] < found["all"]["brier_72h_constant"]
    for row in found["reliability"]:
        if row["forecasts"] >= 100:
            assert abs(row["said"] - row["happened"]) < 0.1


@pytest.mark.data
def test_a_recorded_bearing_lies_within_most_of_its_intervals(recorded_data) -> None:
    found = evaluate_recorded(read_history(ARTIFACT).trajectories, recorded_data)
    assert found["made"] == len(found["cuts"])
    assert found["held"] >= 0.6 * found["made"]


def test_figures_by_hand() -> None:
    hit = Forecast(0.5, 5.0, 10.0, 20.0, 0.9, 10.0, True)
    early = Forecast(0.5, 50.0, 100.0, 200.0, 0.1, 10.0, True)
    lived = Forecast(0.5, 50.0, 100.0, 200.0, 0.2, 90.0, False)
    unknown = Forecast(0.5, 5.0, 10.0, 20.0, 0.9, 10.0, False)
    found = figures([hit, early, lived, unknown])
    assert found["coverage_80"] == 0.5
    assert found["ended_before_p10"] == 0.5
    assert found["brier_72h"] == pytest.approx((0.01 + 0.81 + 0.04) / 3, abs=1e-4)
    assert sum(row["forecasts"] for row in reliability([hit, early, lived, unknown])) == 3
    assert figures([unknown]) == {"forecasts": 1}


def test_commands(tmp_path) -> None:
    out = tmp_path / "made.csv.gz"
    runner = CliRunner()
    made = runner.invoke(app, ["simulate-history", "--out", str(out), "--units", "40", "--seed", "3"])
    assert made.exit_code == 0, made.output
    assert len(read_history(out).trajectories) == 40
    found = runner.invoke(app, ["evaluate-prognosis", "--library", str(out), "--json"], env={"FORESTALL_DATA": ""})
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["library"]["units"] <= 40
    shown = runner.invoke(app, ["evaluate-prognosis", "--library", str(out)], env={"FORESTALL_DATA": ""})
    assert "each judged by the others" in shown.output
    for arguments in (["simulate-history", "--component", "warp"], ["evaluate-prognosis", "--library", "nowhere.csv"]):
        failed = runner.invoke(app, arguments)
        assert failed.exit_code == 2
        assert "Traceback" not in failed.output


def test_ranges_can_be_narrowed() -> None:
    units = simulate_bearings(20, 1, Ranges(replaced_share=0.0, life_range_h=(50.0, 50.0)))
    assert all(unit.failed for unit in units)
