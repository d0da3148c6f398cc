"""The demo is the product's promise: its stories, played by the real processes, are the end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
ESCALATED = {"no-part-in-time", "no-window-in-time", "connector-down"}


def demo_command(directory, *arguments):
    return [sys.executable, "-m", "demo.run", "--dir", str(directory), *arguments]


def play(directory, *arguments):
    done = subprocess.run(
        demo_command(directory, "--once", "--json", *arguments), cwd=ROOT, capture_output=True, text=True
    )
    print(done.stderr)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def assert_promises_kept(document):
    stories = {story["name"]: story for story in document["stories"]}
    assert set(stories) == {"robot-drive", *ESCALATED}
    assert all(story["ok"] for story in stories.values())
    repaired = stories["robot-drive"]
    assert repaired["notifications"] == 1 and repaired["closed"] and repaired["verified"]
    assert repaired["window"]["before_deadline"] and repaired["window"]["load_rank"] == 1
    rul = repaired["rul_h"]
    assert 0 <= rul["p10"] <= rul["p50"] <= rul["p90"]
    assert repaired["neighbours"] >= 5 and 0 <= repaired["p_fail_72h"] <= 1
    for name in ESCALATED:
        assert stories[name]["notifications"] == 0
        assert stories[name]["escalated_to"] and stories[name]["due_at"]
    assert document["ledger"]["unexplained"] == 0
    assert document["ledger"]["batches"] == document["ledger"]["stored"] > 100
    assert document["audit"]["verified"] and document["audit"]["entries"] > 10


def test_simulated_drive_and_the_three_hand_overs(tmp_path):
    document = play(tmp_path / "demo")
    assert_promises_kept(document)


def test_a_recorded_bearing(tmp_path, recorded_data):
    document = play(tmp_path / "demo", "--data", str(recorded_data))
    assert_promises_kept(document)
    assert not document["stories"][0]["judged_against_itself"]


def test_without_mosquitto_the_demo_says_that_nothing_is_checked_and_killing_it_leaves_nothing(tmp_path):
    directory = tmp_path / "demo"
    with (tmp_path / "said").open("w+") as said:
        demo = subprocess.Popen(
            demo_command(directory, "--broker", "iotcore"), cwd=ROOT, stdout=said, stderr=said, env=os.environ
        )
        try:
            wait_for(lambda: "Everything is up" in Path(said.name).read_text(), 120, "the demo to be up")
            time.sleep(6)  # devices and agents are started as well
        finally:
            descendants = psutil.Process(demo.pid).children(recursive=True)
            demo.send_signal(signal.SIGKILL)
            demo.wait()
    assert "checks no certificates" in " ".join(Path(said.name).read_text().split())
    assert len(descendants) > 12
    _, alive = psutil.wait_procs(descendants, timeout=20)
    for process in alive:
        process.kill()
    assert not alive, [process.name() for process in alive]
    assert not [link for link in (directory / "devices").glob("*.tty") if link.exists()]


def wait_for(condition, limit_s, what):
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, f"waited {limit_s} s for {what}"
        time.sleep(0.2)
