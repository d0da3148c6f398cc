"""The pieces that time our detection run and give figures; how large those are is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.edge import river_peer, stack
from benchmarks.edge.choice import WITHOUT_RUNTIME, detectors
from benchmarks.edge.memory import NotMeasured
from edge_agent.detection.settings import DetectionSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = DetectionSettings(detectors=detectors(WITHOUT_RUNTIME))


def test_healthy_rows_are_as_many_as_asked_for_and_the_same_each_time() -> None:
    table = stack.healthy(50, seed=1)
    assert table.shape == (50, stack.CHANNELS)
    assert (table == stack.healthy(50, seed=1)).all()
    assert (table != stack.healthy(50, seed=2)).any()


def test_samples_follow_one_another_in_time() -> None:
    rows = stack.handed_over(stack.healthy(3, seed=1), first_row=10, step_us=1_000_000)
    assert [row[0].time_us - stack.START_US for row in rows] == [10_000_000, 11_000_000, 12_000_000]
    assert [sample.metric for sample in rows[0]] == stack.NAMES


def test_too_few_rows_to_learn_from_are_told() -> None:
    with pytest.raises(NotMeasured, match="learning was not over"):
        stack.learnt(SETTINGS, rows=30)


def test_each_piece_gives_a_figure() -> None:
    assert stack.sample_us(SETTINGS, rounds=2, samples=5) > 0
    assert stack.sample_1hz_us(SETTINGS, minutes=1) > 0
    assert stack.block_row_us(SETTINGS, rounds=2) > 0
    assert stack.waveform_ms(SETTINGS, rounds=2) > 0
    assert stack.memory_after_learning(SETTINGS).pss_mb > 1


def test_the_network_gives_a_figure() -> None:
    assert stack.int8_window_us(rounds=2) > 0


def test_without_its_runtime_the_network_gives_a_reason() -> None:
    """In a process of its own: a runtime that was found once is kept."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('ai_edge_litert', 'tflite_runtime')))\n"
        "from benchmarks.edge import stack\n"
        "try: stack.int8_window_us(rounds=2)\n"
        "except stack.NotMeasured as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ai-edge-litert" in done.stdout


def test_the_peers_rows_have_our_channels() -> None:
    rows = river_peer.healthy(river_peer.random.Random(1))
    assert list(next(rows)) == stack.NAMES
    assert json.dumps(next(rows))


def test_the_peers_programs_need_nothing_of_ours() -> None:
    """They run in environments of their own: only the standard library and the peer itself are there."""
    folder = Path(stack.__file__).parent
    for name in ("river_peer.py", "gateway_peer.py", "memory.py"):
        text = (folder / name).read_text()
        ours = [line for line in text.splitlines() if line.startswith(("from ", "import ")) and "benchmarks" in line]
        assert all("benchmarks.edge.memory" in line for line in ours)
        assert not any(package in text for package in ("edge_agent", "fleet_core", "numpy", "psutil")), name
    assert (folder / "__init__.py").stat().st_size == 0
