"""Declared maintenance: the file, the command, and what the pipeline makes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import cli
from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection, Event
from edge_agent.detection.input.maintenance import MAX_WINDOWS, Declared, Relearn, Window, covered, from_text, to_text
from edge_agent.detection.pipeline import build_detection
from edge_agent.maintenance import FILE, DeclaredFile, main_maintenance
from fleet_core.assets import AssetClass
from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig, BadInput
from fleet_core.telemetry import ComponentSpec, DetectionState, Finding, MetricSpec, StateChange, to_us

START_US, TICK_US = 1_790_000_000_000_000, 600_000_000
METRICS = (MetricSpec("vibration", "[g]", "bearing", 600), MetricSpec("temperature", "Cel", "bearing", 600))
ASSET = AssetDescription("robot-17", AssetClass.ROBOT, "m", "s", METRICS, (ComponentSpec("bearing", "bearing", "B1"),))
SETTINGS = {"learn_ticks": 48, "learn_span_h": 0.0}
NAMES = [each.name for each in METRICS]
CONFIG = """\
[agent]
node_id = "n"
group_id = "g"
state_dir = "state"
[[asset]]
device_id = "robot-17"
class = "robot"
[[asset.component]]
slot = "bearing"
type = "bearing"
[asset.source]
type = "synthetic"
"""


def rows(count: int, vibration: float = 0.1, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([vibration, 40.0]) + np.array([0.003, 0.5]) * rng.normal(size=(count, 2))


def play(detection: AssetDetection, values: np.ndarray, start: int = 0, block: int = 16) -> list[Event]:
    moments = START_US + (start + np.arange(len(values))) * TICK_US
    events: list[Event] = []
    for low in range(0, len(values), block):
        each = slice(low, low + block)
        events += detection.on_block(NAMES, moments[each], values[each]).events
    return events


def told(events: list[Event]) -> list[tuple[object, ...]]:
    """Events without their scores, which blocks give to rounding only."""
    return [
        (each.component, each.state, each.time_us, each.reason.split(";")[0])
        if isinstance(each, StateChange)
        else (each.component, each.state, each.detected_us, each.finding_id, each.revision)
        for each in events
    ]


def window(first: int, last: int, component: str = "bearing") -> Declared:
    return Declared((Window(START_US + first * TICK_US, START_US + last * TICK_US, "", component, "belt change"),))


def learnt(declared: Declared | None = None) -> AssetDetection:
    detection = build_detection(ASSET, SETTINGS)
    play(detection, rows(200))
    if declared is not None:
        detection.declare(declared, START_US)
    return detection


def test_what_is_done_on_purpose_is_neither_judged_nor_learnt() -> None:
    """Forty wild rows, and the detection goes on as if there had been none."""
    wild = np.concatenate((rows(40, 2.0, 2), rows(80, seed=3)))
    kept = learnt(window(200, 240))
    events = play(kept, wild, 200)
    assert all(isinstance(each, StateChange) and each.state is each.previous for each in events)
    assert [each.reason.split(",")[0] for each in events if isinstance(each, StateChange)] == [
        "maintenance until 2026-09-23 06:13 UTC at most",
        "maintenance is over: judged again",
    ]
    assert "belt change" in events[0].reason if isinstance(events[0], StateChange) else False
    assert kept.counts["maintenance_rows"] == 40
    assert any(isinstance(each, Finding) for each in play(learnt(), wild, 200))


@pytest.mark.parametrize("declared", [Declared(), window(200, 240, "motor"), window(100, 120)])
def test_other_components_and_other_times_are_judged(declared: Declared) -> None:
    assert any(isinstance(each, Finding) for each in play(learnt(declared), rows(40, 2.0, 2), 200))


def test_blocks_equal_rows_and_a_restart_keeps_it() -> None:
    wild = np.concatenate((rows(10, seed=4), rows(40, 2.0, 2), rows(30, 2.0, 3)))
    declared = window(210, 250)
    together, apart, stopped = learnt(declared), learnt(declared), learnt(declared)
    alone = play(apart, wild, 200, block=1)
    assert told(play(together, wild, 200, block=64)) == told(alone)
    first = play(stopped, wild[:30], 200)
    again = build_detection(ASSET, SETTINGS)
    again.restore(stopped.snapshot())
    again.declare(declared, START_US)
    assert told(first + play(again, wild[30:], 230)) == told(alone)


def test_relearning_is_done_once_for_each_time_it_is_asked() -> None:
    detection = learnt()
    asked = Declared((), (Relearn(START_US + 200 * TICK_US, "", "bearing"),))
    (change,) = detection.declare(asked, START_US + 200 * TICK_US).events
    assert isinstance(change, StateChange) and change.state is DetectionState.LEARNING
    assert detection.declare(asked, START_US).events == ()
    play(detection, rows(150), 200)
    again = build_detection(ASSET, SETTINGS)
    again.restore(detection.snapshot())
    assert again.declare(asked, START_US).events == ()
    assert again.views()[0].state is DetectionState.HEALTHY
    assert build_detection(ASSET, {}).declare(asked, START_US).events == ()  # nothing learnt, nothing to forget


def test_windows_cover_from_their_start_to_before_their_end() -> None:
    windows = window(1, 3).windows
    times = START_US + np.arange(5) * TICK_US
    assert covered(windows, "bearing", times).tolist() == [False, True, True, False, False]
    assert not covered(windows, "motor", times).any()


NAME = st.sampled_from(["", "bearing", "robot-17"])
WHEN = st.integers(START_US, START_US + 10**12)


@given(st.lists(st.tuples(WHEN, st.integers(0, 10**11), NAME, NAME), max_size=5), st.lists(WHEN, max_size=5))
def test_the_file_says_again_what_was_written(windows: list[tuple[int, int, str, str]], relearns: list[int]) -> None:
    declared = Declared(
        tuple(Window(start, start + length, device, part, "why") for start, length, device, part in windows),
        tuple(Relearn(each, "robot-17", "bearing") for each in relearns),
    )
    assert from_text(to_text(declared)) == declared


@given(st.text() | st.builds(json.dumps, st.dictionaries(st.sampled_from(["version", "windows"]), st.integers(0, 2))))
def test_whatever_stands_in_the_file_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadInput):
        from_text(text)


@pytest.mark.parametrize("wrong", [{"end_us": START_US + 10**13}, {"reason": "\n"}, {"component": "a b"}])
def test_a_window_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    record = json.loads(to_text(window(0, 1)))
    record["windows"][0] |= wrong
    with pytest.raises(BadInput):
        from_text(json.dumps(record))


def test_the_agent_reads_the_file_when_it_changed_and_keeps_what_stood_when_it_is_damaged(tmp_path: Path) -> None:
    file = DeclaredFile(tmp_path)
    assert file.news() is None
    (tmp_path / FILE).write_text(to_text(window(0, 1)))
    assert file.news() == window(0, 1)
    assert file.news() is None
    (tmp_path / FILE).write_text("{")
    assert file.news() is None and file.news() is None and file.unreadable == 1
    (tmp_path / FILE).unlink()
    assert file.news() == Declared() and file.news() is None


class Command:
    """The command on a configuration and a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "agent.toml"
        self.config.write_text(CONFIG)
        self.clock = SimulatedClock(datetime(2026, 9, 1, 8, tzinfo=UTC))
        self.state_dir = folder / "state"

    def __call__(self, *words: str) -> int:
        args = cli._parser().parse_args(["maintenance", *words, "--config", str(self.config)])
        return main_maintenance(args, self.clock)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


async def test_start_status_stop(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    command("start", "--component", "bearing", "--minutes", "90", "--reason", "new belt")
    assert "until 2026-09-01T09:30:00+00:00 at most" in capsys.readouterr().out
    declared = DeclaredFile(command.state_dir).news()
    at_us = to_us(command.clock.now())
    assert declared == Declared((Window(at_us, at_us + 5_400_000_000, "", "bearing", "new belt"),))
    command("status", "--json")
    (shown,) = json.loads(capsys.readouterr().out)["open"]
    assert (shown["component"], shown["minutes_left"], shown["reason"]) == ("bearing", 90.0, "new belt")
    await command.clock.advance(600)
    command("stop", "--component", "bearing", "--relearn", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["open"] == [] and told["relearns"][0]["component"] == "bearing"
    command("status")
    assert capsys.readouterr().out == "no maintenance is declared\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", "--minutes", "0"], "--minutes must be"),
        (["start", "--minutes", "nan"], "--minutes must be"),
        (["start", "--minutes", "9", "--component", "baering"], "there are: bearing"),
        (["start", "--minutes", "9", "--asset", "robot-18"], "there are: robot-17"),
        (["start", "--minutes", "9", "--reason", "x" * 300], "--reason must be"),
        (["stop"], "no such maintenance"),
    ],
)
def test_what_would_protect_nothing_is_refused(command: Command, words: list[str], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        command(*words)


async def test_windows_are_few_and_old_ones_are_forgotten(command: Command) -> None:
    for _ in range(MAX_WINDOWS):
        command("start", "--minutes", "5")
    with pytest.raises(BadInput, match="declared already"):
        command("start", "--minutes", "5")
    await command.clock.advance(9 * 86_400)
    command("start", "--minutes", "5")
    declared = DeclaredFile(command.state_dir).news()
    assert declared is not None and len(declared.windows) == 1
