"""``edge-agent detect`` on files as people have them."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent.recorded import offline


def run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    offline.add_arguments(parser)
    return offline.main_detect(parser.parse_args([str(word) for word in words]))


def scores(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def drifting(rows: int = 400, onset: int = 250) -> np.ndarray:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(rows, 3)) + 20
    values[onset:, 1] += 0.2 * np.arange(rows - onset)
    return values


def write(path: Path, delimiter: str = ",", **columns: object) -> Path:
    values = drifting()
    lines = [delimiter.join(("datetime", "a", "b", "Vital c [g]", "note", "anomaly"))]
    for i, row in enumerate(values):
        time = f"2026-01-05 {i // 60 % 24:02}:{i % 60:02}:00"
        cells = ["" if i % 37 == 5 and j == 0 else f"{value:.6f}" for j, value in enumerate(row)]
        lines.append(delimiter.join((time, *cells, "fine", "0")))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_scores_every_row_and_finds_the_drift(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], delimiter: str
) -> None:
    out = tmp_path / "scores.csv"
    assert run(write(tmp_path / "in.csv", delimiter), "--out", out, "--json") == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    rows = scores(out)
    assert len(rows) == summary["rows"] == 400
    assert rows[0]["time"] == "2026-01-05 00:00:00" and rows[0]["state"] == "learning"
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    alarms = [index for index, row in enumerate(rows) if row["alarm"] == "1"]
    # the drift starts within probation: the alarm waits until the deviation is seen to grow
    assert 250 < alarms[0] < 330 and alarms[-1] == 399
    assert rows[-1]["top_channel"] == "b"
    assert summary["vitals"] == ["a", "b", "Vital_c_g"]
    assert "'note' (text)" in said.err and "'anomaly' (a label" in said.err


def test_is_causal(tmp_path: Path) -> None:
    whole, part = write(tmp_path / "in.csv"), tmp_path / "part.csv"
    part.write_text("\n".join(whole.read_text().splitlines()[:301]) + "\n")
    run(whole, "--out", tmp_path / "a.csv")
    run(part, "--out", tmp_path / "b.csv")
    assert scores(tmp_path / "a.csv")[:300] == scores(tmp_path / "b.csv")


def test_broken_rows_are_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.csv")
    lines = path.read_text().splitlines()
    lines[50] = "not a time,1,2,3,fine,0"
    lines[60] += ',"unbalanced,1,2'
    lines[70] = lines[70].replace(",", ",\x00", 1)
    path.write_text("\n".join(lines) + "\n")
    assert run(path, "--out", tmp_path / "out.csv", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["rows_skipped"] == 2
    assert "skipped 2" in said.err


def test_waveforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    waves = rng.normal(size=(360, 512, 2)).astype(np.float32)
    waves[320:, ::64, 0] += 15
    path = tmp_path / "waves.npz"
    np.savez(
        path, acceleration_g=waves, time_of_day_s=86_000.0 + 10 * np.arange(360) % 86_400, sample_rate_hz=[25_600.0]
    )
    assert run(path, "--out", tmp_path / "out.csv", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    rows = scores(tmp_path / "out.csv")
    assert len(rows) == 360 and summary["vitals"] == ["vibration_0", "vibration_1"]
    assert not any(row["alarm"] == "1" for row in rows[:320])
    assert rows[-1]["alarm"] == "1" and rows[-1]["top_channel"].startswith("vibration_0.")


@pytest.mark.parametrize(
    ("content", "words", "complaint"),
    [
        (None, (), "No such file"),
        ("", (), "header"),
        ("time,a\n", (), "no rows"),
        ("1.5,2.5\n1,2\n", (), "columns' names"),
        ("time,a\n2026-01-01,1\n", ("--step-s", "0"), "--step-s"),
        ("time,a\n2026-01-01,x\n", (), "numeric columns"),
        ("time,a\n2026-01-01,1\n", ("--columns", "z"), "no column 'z'"),
        ("time,a\n2026-01-01,1\n", ("--learn-ticks", "3"), "learn_ticks"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: tuple[str, ...], complaint: str
) -> None:
    path = tmp_path / "in.csv"
    if content is not None:
        path.write_text(content)
    assert run(path, "--out", tmp_path / "out.csv", *words) == 2
    said = capsys.readouterr()
    assert said.out == "" and complaint in said.err and said.err.count("\n") == 1


def test_not_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "waves.npz"
    path.write_bytes(b"not a zip")
    assert run(path, "--out", tmp_path / "out.csv") == 2
    assert "npz" in capsys.readouterr().err


def test_the_recording_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.csv")
    before, link = path.read_bytes(), tmp_path / "link.csv"
    link.symlink_to(path)
    for out in (path, link):
        assert run(path, "--out", out) == 2
        assert "name another one" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_scores_take_their_place_only_when_all_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, path = tmp_path / "scores.csv", tmp_path / "in.csv"
    out.write_text("of yesterday")
    path.write_text("time,a,b\n" + "5th of May,1,2\n" * 5)
    assert run(path, "--out", out) == 2
    said = capsys.readouterr().err
    assert "no usable row; the first is line 2, '5th of May,1,2'" in said and "dd.mm.yyyy" in said
    assert out.read_text() == "of yesterday" and sorted(each.name for each in tmp_path.iterdir()) == [
        "in.csv",
        "scores.csv",
    ]


def test_decimal_commas_between_commas_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.csv"
    path.write_text("time,a\n" + "2026-01-05,1,5\n" * 5)
    assert run(path, "--out", tmp_path / "out.csv") == 2
    said = capsys.readouterr().err
    assert "line 2, '2026-01-05,1,5': " in said and "3 cells, expected 2" in said and "decimal commas need ;" in said


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_day_first_and_decimal_commas(tmp_path: Path, capsys: pytest.CaptureFixture[str], delimiter: str) -> None:
    lines = [delimiter.join(("Zeit", "Druck"))]
    lines += [delimiter.join((f"05.01.2026 {i // 60:02}:{i % 60:02}:07,5", f"1,{i % 7}")) for i in range(200)]
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines) + "\n")
    assert run(path, "--out", tmp_path / "out.csv", "--json") == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert (summary["rows"], summary["rows_skipped"], summary["vitals"]) == (200, 0, ["Druck"])
    assert scores(tmp_path / "out.csv")[61]["time"] == "05.01.2026 01:01:07,5" and "counted" not in said.err


def test_without_times_rows_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text("a\n" + "".join(f"{i % 7}\n" for i in range(200)))
    assert run(path, "--out", out) == 0
    assert "rows are counted, 1 s apart" in capsys.readouterr().err
    assert [row["time"] for row in scores(out)[:3]] == ["0", "1", "2"]
    assert run(path, "--out", out, "--step-s", "0.5") == 0
    assert "counted" not in capsys.readouterr().err
    assert [row["time"] for row in scores(out)[:3]] == ["0", "0.5", "1"]


def test_a_step_stands_in_for_times_nobody_can_read(tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text("time,a\n" + "".join(f"5th of May,{i % 7}\n" for i in range(200)))
    assert run(path, "--out", out, "--step-s", "600") == 0
    assert len(scores(out)) == 200 and scores(out)[0]["time"] == "5th of May"


PRIOR = {
    "format": "forestall-prior-1",
    "components": {
        "bearing": {
            "assets": 9,
            "exceeds": 0.1,
            "channels": {
                "b": {"centre": 20, "between": 1, "within": 1, "low": 15, "high": 25, "low_limit": 10, "high_limit": 30}
            },
        }
    },
}


def test_the_class_prior_judges_while_a_recording_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, prior = tmp_path / "in.csv", tmp_path / "prior.json"
    prior.write_text(json.dumps(PRIOR))
    values = drifting(60, 60)
    values[20:, 1] += 25
    lines = [f"{1_790_000_000 + 600 * i},{a:.4f},{b:.4f}" for i, (a, b, _) in enumerate(values)]
    path.write_text("time,a,b\n" + "\n".join(lines) + "\n")
    assert run(path, "--out", tmp_path / "without.csv") == 0
    assert run(path, "--out", tmp_path / "with.csv", "--prior", prior) == 0
    assert not any(row["alarm"] == "1" for row in scores(tmp_path / "without.csv"))
    judged = scores(tmp_path / "with.csv")
    first = next(index for index, row in enumerate(judged) if row["alarm"] == "1")
    assert 20 <= first < 30 and judged[first]["top_channel"] == "b"
    settings = tmp_path / "sub" / "settings.toml"  # a settings file names it from where it stands
    settings.parent.mkdir()
    settings.write_text('prior = "../prior.json"\n')
    assert run(path, "--out", tmp_path / "named.csv", "--settings", settings) == 0
    assert scores(tmp_path / "named.csv") == judged
    capsys.readouterr()


def snapshots(path: Path) -> Path:
    """A bearing of nine balls on a 30 Hz shaft, whose outer race is struck from the 140th snapshot on."""
    rng, rate_hz, count = np.random.default_rng(1), 12_800.0, 2048
    waves = rng.normal(size=(180, count, 1)).astype(np.float32)
    struck = np.zeros(count)
    struck[:: round(rate_hz / 107.4)] = 1.0
    ring = np.exp(-np.arange(60) / 12) * np.sin(2 * np.pi * 3000 * np.arange(60) / rate_hz)
    waves[140:, :, 0] += 6 * np.convolve(struck, ring)[:count]
    np.savez(path, acceleration_g=waves, time_of_day_s=10.0 * np.arange(180), sample_rate_hz=[rate_hz])
    return path


GEOMETRY = "9,7.94,39.04"


def test_a_bearing_s_geometry_adds_the_lines_of_its_own_defects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, settings = snapshots(tmp_path / "waves.npz"), tmp_path / "settings.toml"
    assert run(path, "--out", tmp_path / "a.csv", "--bearing", GEOMETRY, "--shaft-hz", "30", "--learn-ticks", "60") == 0
    judged = scores(tmp_path / "a.csv")
    assert judged[-1]["alarm"] == "1" and not any(row["alarm"] == "1" for row in judged[:140])
    settings.write_text(
        "learn_ticks = 60\n[waveforms.vibration]\nshaft_hz = 30\n"
        "[waveforms.vibration.bearing]\nballs = 9\nball_diameter_mm = 7.94\npitch_diameter_mm = 39.04\n"
    )
    assert run(path, "--out", tmp_path / "b.csv", "--settings", settings) == 0
    assert scores(tmp_path / "b.csv") == judged
    assert run(path, "--out", tmp_path / "c.csv", "--learn-ticks", "60") == 0
    assert scores(tmp_path / "c.csv") != judged
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--prior", "nowhere.json"), "no such file"),
        (("--bearing", "9,7.94"), "balls,ball mm,pitch mm"),
        (("--bearing", "nine,7.94,39.04", "--shaft-hz", "30"), "balls,ball mm,pitch mm"),
        (("--bearing", GEOMETRY), "shaft_hz"),
        (("--bearing", GEOMETRY, "--shaft-hz", "-1"), "shaft_hz"),
    ],
)
def test_what_a_recording_is_judged_with_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    path = snapshots(tmp_path / "waves.npz")
    assert run(path, "--out", tmp_path / "out.csv", *words) == 2
    said = capsys.readouterr()
    assert complaint in said.err and said.err.count("\n") == 1 and said.out == ""


def test_a_table_has_no_bearing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in.csv")
    assert run(path, "--out", tmp_path / "out.csv", "--bearing", GEOMETRY, "--shaft-hz", "30") == 2
    said = capsys.readouterr().err
    assert "--bearing" in said and said.count("\n") == 1
