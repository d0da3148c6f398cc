"""History files: round trip, hostile content, the recorded sets."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fleet_core.errors import BadInput
from fleet_server.prognosis.history import healthy_level, read_history, write_history
from fleet_server.prognosis.history.cli import history_app
from fleet_server.prognosis.library import Trajectory

HEADER = "unit,hours,ratio,failed,failure_mode,component_type\n"
BATTERY = "cell,cycle,capacity_ah\n"


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    units = [
        Trajectory(
            f"history:SIM-{n}", "bearing", f"SIM-{n}", "simulated", "bearing_seizure", n % 2 == 0, np.arange(20.0),
            np.linspace(1, 2 + n, 20),
        )
        for n in range(3)
    ]  # fmt: skip
    path = tmp_path / "history.csv.gz"
    write_history(path, units)
    first = path.read_bytes()
    write_history(path, units)
    assert path.read_bytes() == first
    history = read_history(path)
    assert not history.refused
    for unit, read in zip(units, history.trajectories, strict=True):
        assert (read.trajectory_id, read.failed, read.source) == (unit.trajectory_id, unit.failed, unit.source)
        assert np.allclose(read.ratio, unit.ratio, rtol=1e-3)


def test_bad_rows_and_units_are_left_out_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    good = "".join(f"A,{hour},{1 + hour / 10},1,bearing_seizure,bearing\n" for hour in range(10))
    path.write_text(
        HEADER
        + good
        + "A,nan,1,1,bearing_seizure,bearing\nA,x,1,1,bearing_seizure,bearing\n,1,1,1,,bearing\nA\n"
        + "B,1,1,1,bearing_seizure,bearing\nB,1,2,1,bearing_seizure,bearing\n"
        + "C,1,1,1,x,warp_core\nC,2,2,1,x,warp_core\n"
        + "D,1,1,maybe,x,bearing\nD,2,2,maybe,x,bearing\n"
        + "E,1,1,0,no such mode,bearing\nE,2,2,0,no such mode,bearing\n"
    )
    history = read_history(path)
    assert [unit.unit_serial for unit in history.trajectories] == ["A", "E"]
    assert history.trajectories[1].failure_mode == "unknown"
    assert set(history.refused) == {"B", "C", "D"}
    assert history.rows_skipped == 4


def test_absolute_values_are_put_over_the_healthy_level(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    rows = "".join(f"A,{hour},{0.05 if hour < 80 else 0.2},1,,bearing\n" for hour in range(100))
    path.write_text(HEADER.replace("ratio", "value") + rows)
    unit = read_history(path).trajectories[0]
    assert unit.ratio[10] == pytest.approx(1.0)
    assert unit.ratio[-1] == pytest.approx(4.0)
    assert healthy_level(np.array([5.0])) == 5.0


def test_absolute_values_of_a_falling_indicator_are_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    level = {hour: 8.0 if hour < 80 else 2.0 for hour in range(100)} | {100: 0.0}
    rows = "".join(f"A,{hour},{value},1,filter_clogging,filter\n" for hour, value in level.items())
    path.write_text(HEADER.replace("ratio", "value") + rows)
    (unit,) = read_history(path).trajectories
    assert unit.ratio[10] == pytest.approx(1.0)
    assert unit.ratio[-1] == pytest.approx(4.0)
    assert unit.hours[-1] == 99


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_no_bytes_raise_anything_but_bad_input(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    for name, data in (
        ("a.csv", content),
        ("b.csv", HEADER.encode() + content),
        ("c.csv.gz", content),
        ("d.csv.gz", gzip.compress(content)),
        ("e.csv", b",Datetime,Bearing 1,Bearing 2\n" + content),
        ("f.csv", b"snapshot,h_rms\n" + content),
        ("g.csv", BATTERY.encode() + content),
    ):
        path = folder / name
        path.write_bytes(data)
        try:
            read_history(path)
        except BadInput:
            continue


def test_an_endless_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.csv.gz"
    path.write_bytes(gzip.compress(HEADER.encode() + b"A" * 1_000_000))
    with pytest.raises(BadInput, match="too long"):
        read_history(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.csv"):
        read_history(tmp_path / "none.csv")


@pytest.mark.data
def test_ims_ends_are_known_and_hours_are_operating_hours(recorded_data: Path) -> None:
    first = {unit.unit_serial: unit for unit in read_history(recorded_data / "ims" / "1st_test.csv").trajectories}
    assert {name: unit.failed for name, unit in first.items()} == {
        "IMS1-B1": False,
        "IMS1-B2": False,
        "IMS1-B3": True,
        "IMS1-B4": True,
    }
    assert first["IMS1-B3"].hours[-1] < 400  # the rig stood still for more than half of 828 h
    second = {unit.unit_serial: unit for unit in read_history(recorded_data / "ims" / "2nd_test.csv").trajectories}
    assert [name for name, unit in second.items() if unit.failed] == ["IMS2-B1"]
    played = second["IMS2-B1"]
    assert played.ratio[-1] > 5  # ends at the peak, before the rig was stopped
    assert played.hours[-1] == pytest.approx(163.3, abs=0.5)


@pytest.mark.data
def test_femto_keeps_its_real_hours(recorded_data: Path) -> None:
    files = sorted((recorded_data / "femto" / "features").glob("*.csv"))
    units = [unit for path in files for unit in read_history(path).trajectories]
    assert len({unit.unit_serial for unit in units}) == len(files)
    assert all(unit.failed and unit.hours[-1] < 8 for unit in units)


def test_a_cell_lives_until_it_first_falls_to_the_end_of_life(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    worn = "".join(f"A,{n},{2.0 - 0.02 * n}\n" for n in range(1, 60))  # 1.4 Ah at cycle 30
    young = "".join(f"B,{n},{2.0 - 0.001 * n}\n" for n in range(1, 60))
    old = "".join(f"C,{n},1.3\n" for n in range(1, 60))
    path.write_text(BATTERY + worn + young + old + "D,1,2\nA,x,1\nA,1,2\nA,99,-1\n,5,2\nA\n")
    history = read_history(path, cycle_h=2.0)
    a, b = history.trajectories
    assert (a.unit_serial, a.failed, a.component_type, a.failure_mode) == ("NASA-A", True, "battery", "battery_fade")
    assert a.hours[-1] == 29 * 2.0
    assert a.ratio[-1] == pytest.approx(1.94 / 1.4) and a.ratio[0] == pytest.approx(1.94 / 1.98)
    assert (b.failed, b.hours.size) == (False, 59)
    assert set(history.refused) == {"C", "D"}
    assert (history.rows_skipped, history.rows) == (5, 183)


def test_what_has_no_indicator_is_refused_with_the_way_to_go(tmp_path: Path) -> None:
    engines, drives = tmp_path / "train_FD001.txt", tmp_path / "drives.csv"
    engines.write_text(" ".join(["1"] * 26) + "  \n" + " ".join(["1"] * 26) + "\n")
    drives.write_text("serial_number,tstart,tstop,fails,smart_5\nZ,0,9,0,0\n")
    for path in (engines, drives):
        with pytest.raises(BadInput, match="fleet-models rul fit"):
            read_history(path)


def test_progress_is_told_and_too_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_server.prognosis.history.files.REPORT_ROWS", 10)
    path = tmp_path / "long.csv"
    path.write_text(HEADER + "".join(f"A,{hour},1.5,1,,bearing\n" for hour in range(35)))
    told: list[int] = []
    assert read_history(path, progress=told.append).rows == 35
    assert told == [10, 20, 30]
    monkeypatch.setattr("fleet_server.prognosis.history.files.MAX_ROWS", 20)
    with pytest.raises(BadInput, match="more than 20 rows"):
        read_history(path)


def test_a_dry_run_needs_no_server_and_a_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(HEADER + "".join(f"{unit},{hour},1.5,1,,bearing\n" for unit in "AB" for hour in range(9)))
    bad.write_text("what,ever\n1,2\n")
    run = CliRunner().invoke(history_app, ["import", "--dry-run", "--json", "--exclude", "B", str(bad), str(good)])
    assert run.exit_code == 2
    told = json.loads(run.stdout)
    assert told["dry_run"] is True
    assert "unknown layout" in told["files"][str(bad)]["error"]
    counts = told["files"][str(good)]
    assert (counts["units"], counts["failed"], counts["new"], counts["rows"]) == (1, 1, 0, 18)
    plain = CliRunner().invoke(history_app, ["import", "--dry-run", str(good)])
    assert plain.exit_code == 0 and "none stored (dry run)" in plain.stdout
    assert CliRunner().invoke(history_app, ["import", "--format", "xml", str(good)]).exit_code == 2


@pytest.mark.data
def test_nasa_cells_end_at_their_published_limit(recorded_data: Path) -> None:
    cells = {
        unit.unit_serial: unit for unit in read_history(recorded_data / "battery" / "nasa_capacity.csv").trajectories
    }
    assert {name: unit.failed for name, unit in cells.items()} == {
        "NASA-B0005": True, "NASA-B0006": True, "NASA-B0007": False, "NASA-B0018": True,
    }  # fmt: skip
    assert all(1.3 < unit.ratio[-1] < 1.6 for unit in cells.values() if unit.failed)
