"""The detection pipeline as the agent sees it: learning, drift, restart, swaps, bad sensors, odd clocks."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection import snapshot
from edge_agent.detection.api import AssetDetection, Event, Outcome
from edge_agent.detection.findings.description import in_words
from edge_agent.detection.findings.signature import SIGNATURE
from edge_agent.detection.pipeline import build_detection
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig, BadInput
from fleet_core.telemetry import ComponentSpec, DetectionState, Finding, MetricSpec, Sample, StateChange, Waveform

START_US = 1_790_000_000_000_000
TICK_US = 600_000_000
METRICS = (
    MetricSpec("vibration_rms_g", "[g]", "drive_bearing", 600),
    MetricSpec("bearing_temperature_cel", "Cel", "drive_bearing", 600),
    MetricSpec("motor_temperature_cel", "Cel", "drive_motor", 600),
    MetricSpec("motor_current_a", "A", "drive_motor", 600),
    MetricSpec("speed_rpm", "/min", "", 600),
)
COMPONENTS = (ComponentSpec("drive_bearing", "bearing", "BRG-1"), ComponentSpec("drive_motor", "motor", "M-1"))
ALARMS = (DetectionState.DEGRADING, DetectionState.CRITICAL)


def asset(metrics: tuple[MetricSpec, ...] = METRICS) -> AssetDescription:
    return AssetDescription("robot-17", AssetClass.ROBOT, "AMR-200", "S-17", metrics, COMPONENTS)


def course(ticks: int, seed: int = 1) -> np.ndarray:
    """Healthy values (ticks, METRICS): everything follows the speed, plus its own noise."""
    rng = np.random.default_rng(seed)
    load = np.sin(np.arange(ticks) * 2 * math.pi / 48) + 0.3 * rng.normal(size=ticks)
    noise = rng.normal(size=(ticks, 4))
    return np.column_stack(
        (
            0.1 + 0.01 * load + 0.003 * noise[:, 0],
            40 + 2 * load + 0.4 * noise[:, 1],
            50 + 3 * load + 0.5 * noise[:, 2],
            5 + 0.5 * load + 0.1 * noise[:, 3],
            1500 + 100 * load,
        )
    )


def rows_of(values: np.ndarray, start_tick: int = 0) -> list[list[Sample]]:
    return [
        [
            Sample(metric.name, START_US + (start_tick + i) * TICK_US, float(value))
            for metric, value in zip(METRICS, row, strict=True)
        ]
        for i, row in enumerate(values)
    ]


def play(detection: AssetDetection, rows: Iterable[Sequence[Sample]]) -> list[Event]:
    return [event for row in rows for event in detection.on_samples(row).events]


def state_of(detection: AssetDetection, component: str) -> DetectionState:
    return next(view.state for view in detection.views() if view.component == component)


def learnt(values: np.ndarray | None = None) -> AssetDetection:
    detection = build_detection(asset())
    play(detection, rows_of(course(200) if values is None else values))
    return detection


def wearing(ticks: int = 200, seed: int = 2) -> np.ndarray:
    values = course(ticks, seed)
    values[:, 0] += 0.002 * np.arange(ticks)
    return values


def test_a_day_of_ten_minute_samples_is_enough_to_learn() -> None:
    detection = build_detection(asset())
    play(detection, rows_of(course(100)))
    assert {view.state for view in detection.views()} == {DetectionState.LEARNING}
    assert 0.6 < detection.views()[0].learned_fraction < 0.8
    events = play(detection, rows_of(course(44), 100))
    assert [(event.component, event.state) for event in events if isinstance(event, StateChange)] == [
        ("drive_bearing", DetectionState.HEALTHY),
        ("drive_motor", DetectionState.HEALTHY),
    ]


def test_learning_also_needs_its_span() -> None:
    detection = build_detection(asset(), {"learn_span_h": 40.0})
    play(detection, rows_of(course(200)))
    assert state_of(detection, "drive_bearing") is DetectionState.LEARNING
    play(detection, rows_of(course(60), 200))
    assert state_of(detection, "drive_bearing") is DetectionState.HEALTHY


def test_healthy_life_raises_no_finding() -> None:
    detection = build_detection(asset())
    events = play(detection, rows_of(course(1000)))
    assert not [event for event in events if isinstance(event, Finding)]


def test_wear_is_found_on_its_component_with_evidence() -> None:
    detection = learnt()
    events = play(detection, rows_of(wearing(), 200))
    findings = [event for event in events if isinstance(event, Finding)]
    assert {finding.component for finding in findings} == {"drive_bearing"}
    assert len({finding.finding_id for finding in findings}) == 1
    assert [finding.revision for finding in findings] == list(range(1, len(findings) + 1))
    assert len(findings) < 15
    first, last = findings[0], findings[-1]
    assert Finding.from_json(last.to_json()) == last
    assert first.channels[0].metric == "vibration_rms_g"
    assert first.indicator_metric == "vibration_rms_g"
    assert first.indicator_baseline == pytest.approx(0.1, rel=0.1)
    assert first.failure_mode == "bearing_seizure"
    assert START_US + 195 * TICK_US <= first.onset_us <= first.detected_us < START_US + 300 * TICK_US
    assert len(first.signature) == len(SIGNATURE)
    assert last.severity > first.severity


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (("vibration.kurtosis", "1", 4.966, 3.647, 0.2311), "vibration kurtosis 4.97, healthy 3.65 ± 0.23"),
        (("speed", "/min", 1612.3, 1500.2, 31.4), "speed 1612 rpm, healthy 1500 ± 31 rpm"),
        (("vibration_rms", "[g]", 0.1234, 0.1, 0.00123), "vibration rms 0.1234 g, healthy 0.1000 ± 0.0012 g"),
        (("door", "1", 1.0, 0.0, 0.0), "door 1.00, healthy 0.00 ± 0.00"),
    ],
)
def test_a_level_is_told_as_people_write_it(level: tuple[str, str, float, float, float], words: str) -> None:
    assert in_words(*level) == words


def test_the_reason_of_a_change_is_readable() -> None:
    changes = [event for event in play(learnt(), rows_of(wearing(), 200)) if isinstance(event, StateChange)]
    assert changes and all(" ± " in each.reason and " 1, " not in each.reason for each in changes)


def test_score_never_falls_while_a_drift_grows() -> None:
    detection = learnt()
    scores = []
    values = np.tile(course(200)[:1], (150, 1))
    values[:, 0] += 0.004 * np.arange(150)
    for row in rows_of(values, 200):
        detection.on_samples(row)
        scores.append(detection.views()[0].score)
    settled = np.array(scores[10:])
    assert (np.diff(settled) > -0.02).all() and settled[-1] > 0.95


def test_same_input_same_events() -> None:
    rows = rows_of(np.vstack((course(200), wearing())))
    assert play(build_detection(asset()), rows) == play(build_detection(asset()), rows)


@pytest.mark.parametrize("stop", [60, 150, 230, 290, 330])
def test_restored_pipeline_continues_exactly(stop: int) -> None:
    rows = rows_of(np.vstack((course(200), wearing())))
    whole = build_detection(asset())
    play(whole, rows[:stop])
    resumed = build_detection(asset())
    resumed.restore(whole.snapshot())
    assert resumed.views() == whole.views()
    assert play(resumed, rows[stop:]) == play(whole, rows[stop:])
    assert resumed.snapshot() == whole.snapshot()


def test_restore_refuses_what_is_not_its_own() -> None:
    snapshot = learnt().snapshot()
    for damaged in (b"", b"nonsense", snapshot[:-10], snapshot[:20] + b"\0" + snapshot[21:]):
        with pytest.raises(BadInput):
            build_detection(asset()).restore(damaged)
    with pytest.raises(BadInput, match="another"):
        build_detection(asset(), {"learn_ticks": 200}).restore(snapshot)


def test_replaced_component_learns_anew_and_the_other_goes_on() -> None:
    detection = learnt()
    play(detection, rows_of(wearing(), 200))
    outcome = detection.component_replaced("drive_bearing", "BRG-2", START_US + 400 * TICK_US)
    (change,) = outcome.events
    assert isinstance(change, StateChange) and change.state is DetectionState.LEARNING
    assert state_of(detection, "drive_bearing") is DetectionState.LEARNING
    assert state_of(detection, "drive_motor") is not DetectionState.LEARNING
    assert detection.component_replaced("drive_bearing", "BRG-2", START_US + 401 * TICK_US) == Outcome()
    events = play(detection, rows_of(course(200, 9), 402))
    assert state_of(detection, "drive_bearing") is DetectionState.HEALTHY
    assert not [event for event in events if isinstance(event, Finding)]


@pytest.mark.parametrize("fault", ["nan", "stuck", "gone"])
def test_a_bad_sensor_is_not_a_fault(fault: str) -> None:
    detection = learnt()
    values = course(200, 5)
    rows = rows_of(values, 200)
    for index, row in enumerate(rows):
        if fault == "gone":
            rows[index] = row[1:]
        else:
            row[0] = Sample(row[0].metric, row[0].time_us, math.nan if fault == "nan" else float(values[0, 0]))
    events = play(detection, rows)
    assert not [event for event in events if isinstance(event, Finding)]
    # the other channel still judges
    hot = course(100, 6)
    hot[:, 1] += 10
    later = rows_of(hot, 400)
    events = play(detection, [row[1:] for row in later] if fault == "gone" else later)
    assert state_of(detection, "drive_bearing") in ALARMS


def test_constant_channels_learn_and_stay_quiet() -> None:
    values = np.tile(course(1), (400, 1))
    detection = build_detection(asset())
    events = play(detection, rows_of(values))
    assert not [event for event in events if isinstance(event, Finding)]
    assert state_of(detection, "drive_motor") is DetectionState.HEALTHY


def test_a_gap_and_a_clock_jump_are_survived() -> None:
    detection = learnt()
    events = play(detection, rows_of(course(100, 3), 1200))  # a week of silence
    events += play(detection, rows_of(course(100, 4), -500))  # the clock set back
    assert not [event for event in events if isinstance(event, Finding)]
    play(detection, rows_of(wearing(), -390))
    assert state_of(detection, "drive_bearing") in ALARMS


def test_channels_may_arrive_apart_and_in_any_order() -> None:
    together, apart = build_detection(asset()), build_detection(asset())
    rows = rows_of(np.vstack((course(200), wearing())))
    play(together, rows)
    play(apart, [sorted(row, key=lambda each: each.metric) for row in rows])
    assert together.views() == apart.views()


def test_waveforms_become_derived_vitals_of_their_component() -> None:
    wave = MetricSpec("vibration", "[g]", "drive_bearing", 3600, "waveform")
    detection = build_detection(asset((*METRICS, wave)))
    names = {metric.name: metric for metric in detection.derived_metrics()}
    assert names["vibration.rms"].unit == "[g]" and names["vibration.rms"].component == "drive_bearing"
    rng = np.random.default_rng(1)
    signal = array("f", rng.normal(size=2560).astype("f4").tobytes())
    outcome = detection.on_waveform(Waveform("vibration", START_US, 25_600.0, signal))
    assert {sample.metric for sample in outcome.derived} == set(names)
    assert all(sample.time_us == START_US for sample in outcome.derived)
    assert detection.on_waveform(Waveform("unknown", START_US, 25_600.0, signal)) == Outcome()


def test_wrong_settings_are_named() -> None:
    with pytest.raises(BadConfig, match="learn_tics"):
        build_detection(asset(), {"learn_tics": 3})
    with pytest.raises(BadConfig, match="no plugin 'nosuch'"):
        build_detection(asset(), {"detectors": {"nosuch": {}}})
    with pytest.raises(BadConfig, match="learn_ticks"):
        build_detection(asset(), {"learn_ticks": 3})


@pytest.mark.parametrize("appears", [250, 300])
def test_a_channel_that_appears_late_is_no_fault(appears: int) -> None:
    values = course(900, seed=8)
    values[:appears, 1] = np.nan
    detection = build_detection(asset(), {"learn_span_h": 0.0})
    events: list[Event] = []
    for start in range(0, len(values), 64):
        times_us = START_US + (start + np.arange(len(values[start : start + 64]))) * TICK_US
        block = detection.on_block([metric.name for metric in METRICS], times_us, values[start : start + 64])
        events.extend(block.events)
    assert not [event for event in events if event.state in ALARMS]


@pytest.mark.parametrize(("step_s", "most"), [(60, 15), (119, 8), (600, 0)])
def test_close_live_ticks_are_judged_in_groups_and_rare_ones_at_once(step_s: int, most: int) -> None:
    detection = build_detection(asset(METRICS[:2]), {"learn_span_h": 0.0})
    waiting = []
    for index, row in enumerate(course(220, seed=3)):
        times_us = START_US + index * step_s * 1_000_000
        detection.on_samples([Sample(metric.name, times_us, float(row[i])) for i, metric in enumerate(METRICS[:2])])
        waiting.append(len(snapshot.load(detection.snapshot())["slots"]["drive_bearing"]["waiting"]))
    assert max(waiting[:140]) == 0  # learning
    assert max(waiting[150:]) == most
