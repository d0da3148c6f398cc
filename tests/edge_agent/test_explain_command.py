"""``edge-agent explain`` on recordings and on the state of a live agent, and the pictures it draws."""

from __future__ import annotations

import argparse
import builtins
import json
import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection import snapshot
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.trace.memory import Trace
from edge_agent.detection.trace.records import LearntFrom, MarkerKind
from edge_agent.explain import cli
from fleet_core.assets import AssetClass
from fleet_core.telemetry import (
    ChannelEvidence,
    ComponentSpec,
    DetectionState,
    Finding,
    MetricSpec,
    Sample,
    Waveform,
)

START_US = 1_772_000_000_000_000
FINDING = Finding(
    finding_id="12345678-0000-0000-0000-000000000000",
    revision=1,
    component="drive_bearing",
    state=DetectionState.DEGRADING,
    score=0.6,
    severity=0.3,
    detected_us=START_US + 300 * 60_000_000,
    onset_us=START_US + 250 * 60_000_000,
    channels=(ChannelEvidence("temperature", "Cel", 0.8, 40, 1, 44), ChannelEvidence("gone", "1", 0.2, 0, 1, 2)),
    signature=(0.5,),
    detectors={"cusum": 3.0, "level": 0.5},
    indicator_metric="temperature",
    indicator_baseline=40.0,
    indicator_sigma=1.0,
)
PNG, SVG = b"\x89PNG\r\n", b"<?xml"


def explain(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.main_explain(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def drifting(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(420, 3)) + 20
    values[250:, 1] += 0.2 * np.arange(170)
    lines = ["datetime,flow,motor_current,pressure"]
    for i, row in enumerate(values):
        lines.append(f"2026-01-05 06:{i // 60:02}:{i % 60:02}," + ",".join(f"{value:.5f}" for value in row))
    path = tmp_path / "pump.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    path = tmp_path / "calm.csv"
    path.write_text("time,a\n" + "\n".join(f"{i},{value:.5f}" for i, value in enumerate(rng.normal(size=300))) + "\n")
    return path


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A live agent's state as its detection leaves it."""
    rng = np.random.default_rng(3)
    deviation = rng.normal(size=(400, 2))
    trace = Trace(2)
    limits = np.array([4.0, 4.0], dtype=np.float32)
    trace.note_learnt(
        START_US, MarkerKind.LEARNT, LearntFrom(144, START_US, START_US + 144, "cd" * 32, limits), ("cusum", "level")
    )
    times = START_US + 60_000_000 * np.arange(400)
    expected = np.full((400, 2), 40.0)
    table = (times, expected + deviation, expected, deviation, np.linspace(0, 0.4, 400), np.ones(400, dtype=int))
    trace.add(*table, rng.random((400, 2)))
    trace.note_finding(FINDING)
    trace.note_waveform(Waveform("vibration", START_US, 25_600.0, array("f", rng.normal(size=1024))), learning=True)
    trace.note_waveform(Waveform("vibration", START_US + 1, 25_600.0, array("f", rng.normal(size=512))), learning=False)
    calm = Trace(2)
    calm.add(*table)

    def slot(ticks: Trace) -> dict[str, Any]:
        course = {"lagged": np.zeros(0)}
        channels = [{"name": "vibration_rms", "unit": "[g]"}, {"name": "temperature", "unit": "Cel"}]
        courses = {"ticks": {"trace": ticks.state(), **course}, "means": {"trace": Trace(2).state(), **course}}
        return {"trace": {"channels": channels, **courses}}

    folder = tmp_path / "state" / "detection"
    folder.mkdir(parents=True)
    tree = {
        "version": snapshot.VERSION,
        "slots": {"drive_bearing": slot(trace), "motor": slot(calm)},
        "settings": {"alarm": 1.5},
    }
    (folder / "robot-17.snapshot").write_bytes(snapshot.dump(tree))
    return tmp_path / "state"


def test_a_recording_is_explained_in_words(drifting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(drifting) == 0
    said = capsys.readouterr().out
    assert "/pump.csv: motor current rose above its healthy band on 5 Jan 2026 0" in said
    assert "votes (1 = calibrated limit): " in said and "Baseline learnt from" in said


def test_json_holds_what_the_picture_shows(drifting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(drifting, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["channels"][0]["name"] == "motor_current" and record["channels"][0]["unit"] is None
    assert record["onset_us"] < record["detected_us"] <= record["explained_us"]
    assert max(record["contributions"], key=record["contributions"].get) == "motor_current"
    assert record["picture"] is None and record["evidence"] > 1


def test_a_recording_that_ends_while_learning_says_so(calm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(calm, "--learn-ticks", "400") == 0
    said = capsys.readouterr().out
    assert "calm.csv: no finding, what is healthy is still being learnt" in said and "not learnt yet" in said


@pytest.mark.filterwarnings("error")
def test_a_single_row_is_drawn_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("time,a,b\n2026-01-05,1,2\n")
    assert explain(tmp_path / "one.csv", "--out", tmp_path / "one.svg") == 0


def test_a_calm_recording_says_so(calm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(calm) == 0
    assert "calm.csv: no finding. The evidence was highest" in capsys.readouterr().out
    assert explain(calm, "--finding", "1") == 2
    assert "there is none" in capsys.readouterr().err


@pytest.mark.parametrize(("ending", "magic"), [("png", PNG), ("svg", SVG)])
def test_the_same_recording_gives_the_same_picture(drifting: Path, tmp_path: Path, ending: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'explain'")
    one, two = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
    assert explain(drifting, "--out", one) == 0 and explain(drifting, "--out", two) == 0
    content = one.read_bytes()
    assert content.startswith(magic) and content == two.read_bytes()
    assert ending == "png" or b"<dc:date>" not in content


def test_waveforms_stand_beside_healthy_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'explain'")
    rng = np.random.default_rng(4)
    bursts = rng.normal(size=(260, 1024, 1)) * 0.5
    bursts[190:] *= (1 + 0.05 * np.arange(70))[:, None, None]
    path, picture = tmp_path / "bearing.npz", tmp_path / "bearing.png"
    seconds = 10.0 * np.arange(260)
    np.savez(path, acceleration_g=bursts, time_of_day_s=seconds, sample_rate_hz=25_600.0)
    assert explain(path, "--out", picture) == 0
    assert "into the recording" in capsys.readouterr().out
    assert picture.read_bytes().startswith(PNG)


def test_a_live_agents_state_is_explained(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("--state-dir", state_dir, "--component", "drive_bearing", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["subject"] == "robot-17, drive bearing" and record["channels"][0]["unit"] in ("[g]", "Cel")
    assert record["finding_id"] == FINDING.finding_id and "alarm from 1.5" in record["detail"]
    assert explain("--state-dir", state_dir, "--component", "motor") == 0
    assert "robot-17, motor: no finding" in capsys.readouterr().out
    pytest.importorskip("matplotlib", reason="pictures need the extra 'explain'")
    assert explain("--state-dir", state_dir, "--out", tmp_path / "live.svg") == 0
    assert (tmp_path / "live.svg").read_bytes().startswith(SVG)


@pytest.fixture
def creeping(tmp_path: Path) -> Path:
    """Ten-minute rows of a life in which a temperature creeps by 0.1 sigma a day, from the twentieth day on."""
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(34 * 144, 2)) + np.array((30.0, 40.0))
    rows[20 * 144 :, 1] += 0.1 / 144 * np.arange(14 * 144)
    path = tmp_path / "creeping.csv"
    lines = [f"{1_770_000_000 + 600 * i},{a:.5f},{b:.5f}" for i, (a, b) in enumerate(rows)]
    path.write_text("time,motor_current,temperature\n" + "\n".join(lines) + "\n")
    return path


def test_what_creeps_is_shown_as_the_slow_plane_saw_it(
    creeping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(creeping, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert "Seen in means of 16 ticks" in record["detail"] and record["means_of_ticks"] == 16
    (worst, *_) = record["channels"]
    low, high = worst["healthy"]
    assert worst["name"] == "temperature" and worst["sigmas"] > 4 and high - low < 4  # a tick's band is 6 wide
    assert "cusum" not in record["votes"] and record["learnt"]["rows"] == 144
    pytest.importorskip("matplotlib", reason="pictures need the extra 'explain'")
    assert explain(creeping, "--out", tmp_path / "creeping.png") == 0


def test_what_a_detection_keeps_is_what_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From samples and bursts through the snapshot to the picture."""
    metrics = (
        MetricSpec("temperature", "Cel", "drive_bearing"),
        MetricSpec("vibration", "[g]", "drive_bearing", 60.0, "waveform"),
    )
    parts = (ComponentSpec("drive_bearing", "bearing", "B-1"),)
    asset = AssetDescription("robot-17", AssetClass.ROBOT, "AMR", "S", metrics, parts)
    detection = build_detection(asset, {"learn_ticks": 48, "learn_span_h": 0.0, "alarm": 1.2})
    rng = np.random.default_rng(7)
    found = []
    for tick in range(160):
        time_us, louder = START_US + tick * 600_000_000, 1 + 0.05 * max(0, tick - 100)
        burst = Waveform("vibration", time_us, 25_600.0, array("f", louder * rng.normal(size=1024)))
        outcomes = (
            detection.on_samples([Sample("temperature", time_us, float(rng.normal(40)))]),
            detection.on_waveform(burst),
        )
        found += [event for each in outcomes for event in each.events if isinstance(event, Finding)]
    assert found and found[-1].failure_mode == "bearing_seizure"
    assert found[-1].extra["mode_reasons"][0].startswith("vibration high")
    assert Finding.from_json(found[-1].to_json()).extra == found[-1].extra
    folder = tmp_path / "state" / "detection"
    folder.mkdir(parents=True)
    (folder / "robot-17.snapshot").write_bytes(detection.snapshot())
    assert explain("--state-dir", tmp_path / "state", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["subject"] == "robot-17, drive bearing" and record["finding_id"] == found[0].finding_id
    assert "likely bearing seizure" in record["sentence"] and "vibration high" in record["detail"]
    assert "alarm from 1.2" in record["detail"]
    pytest.importorskip("matplotlib", reason="pictures need the extra 'explain'")
    assert explain("--state-dir", tmp_path / "state", "--out", tmp_path / "live.svg") == 0


def test_a_damaged_or_old_snapshot_is_passed_over(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = state_dir / "detection"
    (folder / "a.snapshot").write_bytes(b"damaged")
    (folder / "b.snapshot").write_bytes(snapshot.dump({"slots": {"motor": {"serial": ""}}}))
    assert explain("--state-dir", state_dir) == 0
    said = capsys.readouterr()
    assert "a.snapshot" in said.err and "keeps no trace" in said.err and said.out.startswith("robot-17, ")
    tree = snapshot.load((folder / "robot-17.snapshot").read_bytes())
    named = {"name": "a", "unit": "1"}
    for wrong in ({"channels": [named]}, {"channels": [named, 7]}, {"ticks": {"trace": {"shape": {"whole": 2}}}}):
        slot = {"trace": {**tree["slots"]["motor"]["trace"], **wrong}}
        (folder / "c.snapshot").write_bytes(snapshot.dump({**tree, "slots": {"motor": slot}}))
        assert explain("--state-dir", state_dir) == 0
        assert "c.snapshot: " in capsys.readouterr().err
    (folder / "robot-17.snapshot").unlink()
    assert explain("--state-dir", state_dir) == 2


@pytest.mark.parametrize(
    ("arguments", "mend"),
    [
        ([], "name one thing to explain"),
        (["x.csv", "--state-dir", "y"], "name one thing to explain"),
        (["missing.csv"], "missing.csv"),
        (["x.csv", "--component", "c"], "--component goes with"),
        (["x.csv", "--out", "picture.pdf"], "ends in .svg or .png"),
        (["--state-dir", "nowhere"], "no snapshot yet"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_a_mistake_is_one_line_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], mend: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert explain(*arguments) == 2
    said = capsys.readouterr()
    assert mend in said.err and said.err.startswith("edge-agent explain: ") and len(said.err.splitlines()) == 1


def test_an_unknown_component_is_named_with_those_there_are(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain("--state-dir", state_dir, "--component", "wheel") == 2
    assert "there are: robot-17/drive_bearing, robot-17/motor" in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(
    drifting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert explain(drifting, "--out", tmp_path / "picture.png") == 2
    assert "pip install 'forestall[explain]'" in capsys.readouterr().err
    assert explain(drifting) == 0


@pytest.mark.data
@pytest.mark.parametrize("part", ["skab/valve1/0.csv", "ims/2nd_test.csv"])
def test_recorded_data_give_a_picture(part: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra 'explain'")
    folder = os.environ.get("FORESTALL_DATA", "")
    if not folder or not (Path(folder) / part).exists():
        pytest.skip(f"FORESTALL_DATA holds no {part}")
    picture = tmp_path / "picture.png"
    assert explain(Path(folder) / part, "--out", picture) == 0
    assert picture.stat().st_size > 50_000
