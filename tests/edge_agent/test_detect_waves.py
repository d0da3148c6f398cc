"""Waveforms with a known bearing: a defect's own line rises, is found, and names the failure."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.pipeline import build_detection
from edge_agent.features.bearing import BearingGeometry
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig
from fleet_core.telemetry import ComponentSpec, Finding, MetricSpec, Sample, Waveform

RATE_HZ, SAMPLES, SHAFT_HZ = 12_800.0, 8192, 25.0
START_US, TICK_US = 1_790_000_000_000_000, 600_000_000
BEARING = {"balls": 9, "ball_diameter_mm": 7.94, "pitch_diameter_mm": 38.5}
METRICS = (
    MetricSpec("vibration", "[g]", "bearing", 600, "waveform"),
    MetricSpec("speed_rpm", "/min", "", 600),
)
COMPONENTS = (ComponentSpec("bearing", "bearing", "B1"),)
ASSET = AssetDescription("robot-17", AssetClass.ROBOT, "m", "s", METRICS, COMPONENTS)


def burst(rng: np.random.Generator, knocks_hz: float = 0.0, size: float = 0.0) -> array[float]:
    signal = 0.1 * rng.normal(size=SAMPLES)
    if knocks_hz:
        times_s = np.arange(SAMPLES) / RATE_HZ
        since_s = np.mod(times_s + rng.random() / knocks_hz, 1 / knocks_hz)
        signal += size * np.exp(-since_s * 900) * np.sin(2 * np.pi * 4000 * since_s)
    return array("f", signal.astype(np.float32))


def settings(**own: Any) -> dict[str, Any]:
    table = {"bearing": BEARING, "shaft_hz": SHAFT_HZ} | own
    return {"learn_ticks": 48, "learn_span_h": 0.0, "waveforms": {"vibration": table}}


@pytest.mark.parametrize("line", ["bpfo", "bpfi"])
def test_a_defect_raises_its_own_line_most(line: str) -> None:
    detection, rng = build_detection(ASSET, settings()), np.random.default_rng(1)
    knocks_hz = BearingGeometry(**BEARING).orders()[line] * SHAFT_HZ
    outcome = detection.on_waveform(Waveform("vibration", START_US, RATE_HZ, burst(rng, knocks_hz, 0.3), "[g]"))
    found = {each.metric.removeprefix("vibration."): each.value for each in outcome.derived}
    assert max(("bpfo", "bpfi", "bsf", "ftf"), key=lambda name: found[name]) == line
    assert found[line] > 8


def test_the_finding_names_the_race() -> None:
    detection, rng = build_detection(ASSET, settings()), np.random.default_rng(2)
    knocks_hz = BearingGeometry(**BEARING).orders()["bpfo"] * SHAFT_HZ
    findings: list[Finding] = []
    for index in range(240):
        size = max(0, index - 160) * 0.004
        wave = Waveform("vibration", START_US + index * TICK_US, RATE_HZ, burst(rng, knocks_hz, size), "[g]")
        findings += [each for each in detection.on_waveform(wave).events if isinstance(each, Finding)]
    assert findings[-1].failure_mode == "bearing_spalling"
    assert any("outer race defect line" in reason for reason in findings[-1].extra["mode_reasons"])


def test_the_speed_may_be_a_vital_and_an_old_one_is_not_believed() -> None:
    detection = build_detection(ASSET, settings(shaft_hz=0.0, speed="speed_rpm"))
    rng = np.random.default_rng(3)

    def line(at_us: int) -> float:
        outcome = detection.on_waveform(Waveform("vibration", at_us, RATE_HZ, burst(rng, 90.0, 0.3), "[g]"))
        return next(each.value for each in outcome.derived if each.metric == "vibration.bpfo")

    assert np.isnan(line(START_US))
    detection.on_samples([Sample("speed_rpm", START_US + 1, 60 * SHAFT_HZ)])
    assert np.isfinite(line(START_US + 2))
    again = build_detection(ASSET, settings(shaft_hz=0.0, speed="speed_rpm"))
    again.restore(detection.snapshot())
    detection = again
    assert np.isfinite(line(START_US + TICK_US))
    assert np.isnan(line(START_US + 10 * TICK_US))


def test_what_is_told_of_a_waveform_are_vitals_in_the_birth() -> None:
    names = {each.name: each.unit for each in build_detection(ASSET, settings(velocity=True)).derived_metrics()}
    assert names["vibration.bpfo"] == "1" and names["vibration.order_1"] == "[g]"
    assert names["vibration.velocity_rms"] == "mm/s"
    plain = [each.name for each in build_detection(ASSET, {}).derived_metrics()]
    assert not {"vibration.bpfo", "vibration.order_1", "vibration.velocity_rms"} & set(plain)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"vibration": {"bearing": BEARING}}, "needs shaft_hz"),
        ({"vibration": {"bearing": BEARING | {"balls": 1}, "shaft_hz": 1.0}}, "balls must be"),
        ({"vibration": {"speed": "rpm"}}, "not a vital"),
        ({"noise": {"velocity": True}}, "there is no such waveform"),
        ({"vibration": {"shaft_hz": 1.0, "speed": "speed_rpm"}}, "not both"),
    ],
)
def test_what_does_not_fit_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        build_detection(ASSET, {"waveforms": table})
