"""``fleet-models rul fit`` and ``predict`` on a small table, and their refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from models.cli import app


def write_lives(path: Path, seed: int, units: int, cut: float = 1.0) -> None:
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["engine", "cycle", "wear", "noise"])
        for unit in range(units):
            rows = int(rng.integers(40, 80))
            for row in range(max(1, int(rows * cut))):
                writer.writerow([unit, row, 5.0 * (row / rows) ** 2 + rng.normal(0, 0.2), rng.normal()])


def test_fit_then_predict(tmp_path: Path) -> None:
    write_lives(tmp_path / "train.csv", 0, 12)
    write_lives(tmp_path / "test.csv", 1, 4, 0.7)
    with (tmp_path / "test.csv").open("a") as lines:
        lines.write("short,1,0.1,0.1\nlost,never,1,1\n")
    run = CliRunner().invoke
    settings = ["--unit", "engine", "--time", "cycle", "--cap", "50", "--horizons", "5,20", "--json"]
    told = run(app, ["rul", "fit", str(tmp_path / "train.csv"), *settings, "--out", str(tmp_path / "bundle")])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["units"] == 12
    out = tmp_path / "out.csv"
    told = run(
        app, ["rul", "predict", str(tmp_path / "bundle"), str(tmp_path / "test.csv"), "--out", str(out), "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["abstained"] == {"too few rows": 1, "no row with a readable time": 1}
    with out.open() as lines:
        rows = list(csv.DictReader(lines))
    expected = ["unit", "p10", "p50", "p90", "mean", "p_fail_h5", "p_fail_h20", "neighbours", "abstained"]
    assert list(rows[0])[:9] == expected
    for row in rows[:4]:
        assert 0 <= float(row["p10"]) <= float(row["p50"]) <= float(row["p90"]) <= 50
        assert float(row["p_fail_h5"]) <= float(row["p_fail_h20"])
        assert ":" in row["neighbours"]
        assert row["abstained"] == ""
    assert rows[4]["mean"] == ""
    test = str(tmp_path / "test.csv")
    told = run(app, ["rul", "predict", str(tmp_path / "bundle"), test, "--out", test])
    assert told.exit_code == 2 and "name another file" in told.stderr


def test_refusals_are_one_line_with_the_mend(tmp_path: Path) -> None:
    write_lives(tmp_path / "train.csv", 0, 1)
    base = ["rul", "fit", str(tmp_path / "train.csv"), "--out", str(tmp_path / "b"), "--time", "cycle", "--unit"]
    cases = [
        ([*base, "motor"], "--unit"),
        ([*base, "engine"], "needs two"),
        ([*base, "engine"], "1 units were read, 1 of them failed"),
        ([*base, "engine", "--horizons", "soon"], "--horizons"),
        ([*base, "engine", "--cap", "-1"], "cap"),
        (["rul", "predict", str(tmp_path), str(tmp_path / "train.csv"), "--out", "x.csv"], "fit it anew"),
    ]
    for arguments, mend in cases:
        told = CliRunner().invoke(app, arguments)
        assert told.exit_code == 2, told.output
        assert mend in told.stderr
        assert len(told.stderr.splitlines()) == 1
