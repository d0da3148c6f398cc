"""The class's prior: what it says while an own baseline is not there yet, and once when it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.api import AssetDetection, Event
from edge_agent.detection.findings.signature import SIGNATURE
from edge_agent.detection.pipeline import build_detection
from edge_agent.detection.prior.class_prior import (
    ChannelPrior,
    ClassPrior,
    ComponentPrior,
    prior_from_json,
    prior_to_json,
)
from edge_agent.detection.prior.finding import UNLIKE
from edge_agent.detection.tuning import LEVEL_ROWS, PRIOR_RAISE_ROWS
from edge_agent.prior_file import with_prior
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig
from fleet_core.telemetry import ComponentSpec, DetectionState, Finding, MetricSpec, Sample, StateChange

START_US, TICK_US = 1_790_000_000_000_000, 600_000_000
METRICS = (
    MetricSpec("vibration_rms_g", "[g]", "bearing", 600),
    MetricSpec("temperature_cel", "Cel", "bearing", 600),
    MetricSpec("humidity", "%", "bearing", 600),
)
ASSET = AssetDescription("robot-17", AssetClass.ROBOT, "m", "s", METRICS, (ComponentSpec("bearing", "bearing", "B1"),))
PRIOR = ClassPrior(
    components={
        "bearing": ComponentPrior(
            assets=9,
            exceeds=0.1,
            channels={
                "vibration_rms_g": ChannelPrior(0.1, 0.01, 0.005, 0.07, 0.14, 0.05, 0.16, "[g]"),
                "temperature_cel": ChannelPrior(40.0, 2.0, 1.0, 30.0, 50.0, 25.0, 55.0, ""),
                "humidity": ChannelPrior(1.0, 0.1, 0.1, 0.0, 2.0, -1.0, 3.0, "kg"),  # another unit: not compared
            },
        )
    }
)
SETTINGS = {"prior": dataclasses.asdict(PRIOR), "learn_span_h": 0.0}
NAMES = [each.name for each in METRICS]


def rows(count: int, vibration: float = 0.1, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.array([vibration, 40.0, 50.0])
    return level + np.array([0.003, 0.5, 1.0]) * rng.normal(size=(count, 3))


def times(count: int, start: int = 0) -> np.ndarray:
    return START_US + (start + np.arange(count)) * TICK_US


def play(detection: AssetDetection, values: np.ndarray, start: int = 0, block: int = 1) -> list[Event]:
    moments, events = times(len(values), start), []
    for low in range(0, len(values), block):
        each = slice(low, low + block)
        events += detection.on_block(NAMES, moments[each], values[each]).events
    return events


def changes(events: list[Event]) -> list[tuple[str, str]]:
    return [(each.previous.value, each.state.value) for each in events if isinstance(each, StateChange)]


def test_a_sick_asset_is_found_within_minutes_and_says_on_what_grounds() -> None:
    detection = build_detection(ASSET, SETTINGS)
    events = play(detection, rows(20, vibration=0.3))
    assert changes(events) == [("learning", "degrading")]
    (finding,) = (each for each in events if isinstance(each, Finding))
    assert (finding.detected_us - START_US) / TICK_US < LEVEL_ROWS + PRIOR_RAISE_ROWS
    assert finding.channels[0].metric == finding.indicator_metric == "vibration_rms_g"
    assert finding.channels[0].baseline_mean == 0.1 and finding.channels[0].observed == pytest.approx(0.3, rel=0.1)
    assert "humidity" not in {each.metric for each in finding.channels}
    assert len(finding.signature) == len(SIGNATURE) and Finding.from_json(finding.to_json()) == finding
    assert finding.failure_mode == "bearing_seizure"
    assert finding.extra["judged_by"].startswith("judged by the class's prior (own baseline")
    assert "judged by the class's prior" in events[0].reason if isinstance(events[0], StateChange) else False
    view = detection.views()[0]
    assert (view.state, view.top_channel) == (DetectionState.DEGRADING, "vibration_rms_g")
    assert view.score > 0.5 and view.detectors["class_prior"] > 1


def test_a_healthy_asset_is_left_alone_and_the_prior_falls_silent() -> None:
    detection = build_detection(ASSET, SETTINGS)
    assert changes(play(detection, rows(144))) == [("learning", "healthy")]
    assert "class_prior" not in detection.views()[0].detectors
    assert [each for each in play(detection, rows(100, seed=2), 144) if isinstance(each, Finding)] == []


def test_a_single_wild_reading_or_a_short_push_is_no_alarm() -> None:
    values = rows(60)
    values[20, 0], values[40:42, 0] = 5.0, 0.3
    assert play(build_detection(ASSET, SETTINGS), values) == []


def test_an_alarm_of_the_learning_period_subsides() -> None:
    values = np.concatenate((rows(10), rows(12, 0.3), rows(60)))
    assert changes(play(build_detection(ASSET, SETTINGS), values)) == [
        ("learning", "degrading"),
        ("degrading", "learning"),
    ]


def test_a_baseline_learnt_on_a_sick_asset_is_said_to_be_unlike_its_class() -> None:
    """Beyond every healthy asset, but not clearly enough to alarm while learning."""
    detection = build_detection(ASSET, SETTINGS)
    events = play(detection, rows(200, vibration=0.15))
    assert changes(events)[-1][1] == "degrading"
    findings = [each for each in events if isinstance(each, Finding)]
    assert len(findings) == 1 and UNLIKE in findings[0].extra["judged_by"]
    assert detection.views()[0].state is DetectionState.DEGRADING
    swapped = detection.component_replaced("bearing", "B2", START_US + 300 * TICK_US)
    assert changes(list(swapped.events)) == [("degrading", "learning")]
    assert changes(play(detection, rows(144), 300)) == [("learning", "healthy")]


def test_an_alarm_that_stands_when_learning_ends_is_kept() -> None:
    detection = build_detection(ASSET, SETTINGS)
    events = play(detection, rows(160, vibration=0.3))
    findings = [each for each in events if isinstance(each, Finding)]
    assert len({each.finding_id for each in findings}) == 1
    assert [each.revision for each in findings] == list(range(1, len(findings) + 1))
    assert UNLIKE in findings[-1].extra["judged_by"]
    assert detection.views()[0].state is DetectionState.DEGRADING


@pytest.mark.parametrize("vibration", [0.1, 0.15, 0.3])
def test_blocks_equal_rows_and_a_restart_changes_nothing(vibration: float) -> None:
    values = np.concatenate((rows(100, vibration), rows(100, vibration + 0.02, 3)))
    one, whole, restarted = (build_detection(ASSET, SETTINGS) for _ in range(3))
    alone = play(one, values)
    assert play(whole, values, block=37) == alone
    first = play(restarted, values[:90])
    again = build_detection(ASSET, SETTINGS)
    again.restore(restarted.snapshot())
    assert first + play(again, values[90:], 90) == alone
    for other in (again, whole):
        (view,), (expected,) = other.views(), one.views()
        assert (view.state, view.top_channel) == (expected.state, expected.top_channel)
        assert view.score == pytest.approx(expected.score)
    scores = [build_detection(ASSET, SETTINGS).on_block(NAMES, times(200), values).verdicts["bearing"]]
    by_row = build_detection(ASSET, SETTINGS)
    each = [by_row.on_block(NAMES, times(200)[i : i + 1], values[i : i + 1]).verdicts["bearing"] for i in range(200)]
    assert np.concatenate([one.score for one in each]) == pytest.approx(scores[0].score)
    assert [one.states[0] for one in each] == scores[0].states
    assert [one.top_channels[0] for one in each] == scores[0].top_channels


def test_another_prior_does_not_cost_what_was_learnt() -> None:
    detection = build_detection(ASSET, SETTINGS)
    play(detection, rows(150))
    other = build_detection(ASSET, {"learn_span_h": 0.0})
    other.restore(detection.snapshot())
    assert other.views()[0].state is DetectionState.HEALTHY
    detection.restore(other.snapshot())
    assert detection.views()[0].state is DetectionState.HEALTHY


def test_live_samples_are_judged_by_it_too() -> None:
    detection = build_detection(ASSET, SETTINGS)
    events: list[Event] = []
    for moment, row in zip(times(20).tolist(), rows(20, 0.3), strict=True):
        readings = [Sample(name, moment, float(value)) for name, value in zip(NAMES, row, strict=True)]
        events += detection.on_samples(readings).events
    assert changes(events) == [("learning", "degrading")]


def test_a_prior_of_another_type_says_nothing() -> None:
    asset = dataclasses.replace(ASSET, components=(ComponentSpec("bearing", "motor", "M1"),))
    assert play(build_detection(asset, SETTINGS), rows(30, 0.3)) == []


def test_the_file_is_read_in_place_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(prior_to_json(PRIOR))
    assert prior_from_json(prior_to_json(PRIOR)) == PRIOR
    table = with_prior({"prior": "p.json", "watch": 0.5}, tmp_path)
    assert table["watch"] == 0.5 and table["prior"]["components"]["bearing"]["assets"] == 9
    build_detection(ASSET, table)
    assert with_prior({"watch": 0.5}, tmp_path) == {"watch": 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "table"),
        ('{"format": "x"}', "format must be"),
        ('{"components": {"bearing": {"assets": 1}}}', "is missing"),
        (json.dumps({"extra": 1}), "unknown setting"),
        (prior_to_json(PRIOR).replace("0.16", "NaN"), "finite"),
        (prior_to_json(PRIOR).replace("0.16", "0.01"), "must hold"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_prior_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "p.json").write_text(text)
    with pytest.raises(BadConfig, match=said):
        with_prior({"prior": "p.json"}, tmp_path)
