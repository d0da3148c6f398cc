"""What is no reading: a number that no vital comes near is missing, and what was learnt beside it is kept."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection import snapshot
from edge_agent.detection.api import AssetDetection
from edge_agent.detection.input.readings import LARGEST_READING, only_readings
from edge_agent.detection.pipeline import build_detection
from fleet_core.assets import AssetClass
from fleet_core.telemetry import ComponentSpec, DetectionState, MetricSpec, Sample, Waveform

START_US, TICK_US = 1_790_000_000_000_000, 600_000_000
FLT_MAX, DBL_MAX = 3.4028234663852886e38, sys.float_info.max
METRICS = (
    MetricSpec("vibration_rms_g", "[g]", "drive_bearing"),
    MetricSpec("bearing_temperature_cel", "Cel", "drive_bearing"),
    MetricSpec("speed_rpm", "/min"),
)
NAMES = tuple(each.name for each in METRICS)
PARTS = (ComponentSpec("drive_bearing", "bearing", "B-1"),)
SETTINGS = {
    "learn_ticks": 48,
    "learn_span_h": 0.0,
    "slow_ticks": 4,
    "detectors": {"level": {}, "ewma": {}},
    "slow_detectors": {"level": {}},
}
LEARNT = 60


def build() -> AssetDetection:
    return build_detection(AssetDescription("robot-17", AssetClass.ROBOT, "P", "S-3", METRICS, PARTS), SETTINGS)


def healthy(ticks: int) -> np.ndarray:
    return np.array([0.1, 40.0, 1000.0]) + np.array([0.01, 1.0, 50.0]) * np.random.default_rng(1).normal(
        size=(ticks, 3)
    )


def play(detection: AssetDetection, values: np.ndarray, start: int = 0) -> None:
    """As the agent does: sample by sample, the vital of the whole asset first."""
    for tick, row in enumerate(values.tolist(), start):
        pairs = zip(reversed(NAMES), reversed(row), strict=True)
        detection.on_samples([Sample(name, START_US + tick * TICK_US, value) for name, value in pairs])


def play_block(detection: AssetDetection, values: np.ndarray, start: int = 0) -> None:
    detection.on_block(NAMES, START_US + (start + np.arange(len(values))) * TICK_US, values)


def restored(content: bytes) -> AssetDetection:
    detection = build()
    detection.restore(content)
    return detection


SIZES = st.one_of(
    st.sampled_from([DBL_MAX, -DBL_MAX, FLT_MAX, 1e160, 1e150, 1e100, 1.01e30, 1e30, -1e30, 1e20, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(max_examples=12, deadline=None)
@given(
    size=SIZES,
    other=SIZES,
    vital=st.integers(0, 2),
    tick=st.integers(0, 70),
    lasts=st.integers(1, 30),
    sampled=st.booleans(),
)
def test_readings_of_any_finite_size_leave_a_snapshot_that_is_read_again(
    size: float, other: float, vital: int, tick: int, lasts: int, sampled: bool
) -> None:
    values = healthy(75)
    values[tick : tick + lasts : 2, vital] = size
    values[tick + 1 : tick + lasts : 2, vital] = other
    detection, taken = build(), play if sampled else play_block
    for start in range(0, 75, 25):
        taken(detection, values[start : start + 25], start)
        detection = restored(detection.snapshot())
    assert detection.views()[0].state is not DetectionState.LEARNING


@pytest.mark.parametrize("sentinel", [DBL_MAX, -FLT_MAX, 1e160, math.inf])
@pytest.mark.parametrize("taken", [play, play_block])
def test_a_sentinel_is_a_missing_reading_and_sensor_health_says_so(taken: Callable[..., None], sentinel: float) -> None:
    """What firmware writes where it has nothing to say is judged, learnt and saved as nothing."""
    gone, written = healthy(LEARNT + 12), healthy(LEARNT + 12)
    for values, reading in ((gone, math.nan), (written, sentinel)):
        values[20, 2] = values[30:33, 0] = values[LEARNT + 5 :, 1] = reading
    one, other = build(), build()
    taken(one, gone)
    taken(other, written)
    assert other.snapshot() == one.snapshot()
    health = snapshot.load(other.snapshot())["slots"]["drive_bearing"]["judge"]["health"]
    assert health["missing"].tolist()[:2] == [0.0, 1.0]


def test_what_a_vital_may_reach_is_a_reading() -> None:
    kept = [0.0, 1e30, -1e30, 5e-324]
    assert only_readings(np.array(kept)).tolist() == kept and LARGEST_READING == 1e30
    assert np.isnan(only_readings(np.array([1.0000001e30, -FLT_MAX, math.inf, math.nan]))).all()


@pytest.mark.parametrize("speed", [DBL_MAX, 1e160, math.nan])
def test_the_speed_of_a_shaft_that_is_no_reading_is_not_known(speed: float) -> None:
    metrics = (*METRICS, MetricSpec("burst", "[g]", "drive_bearing", kind="waveform"))
    asset = AssetDescription("robot-17", AssetClass.ROBOT, "P", "S-3", metrics, PARTS)
    detection = build_detection(asset, {"waveforms": {"burst": {"speed": "speed_rpm", "speed_ratio": 3.0}}})
    detection.on_samples([Sample("speed_rpm", START_US, speed)])
    shown = detection.on_waveform(Waveform("burst", START_US + 1, 1000.0, array("f", [0.1, -0.1] * 512)))
    derived = {each.metric: each.value for each in shown.derived}
    assert [math.isnan(derived[f"burst.order_{order}"]) for order in (1, 2, 3)] == [True] * 3
    assert derived["burst.rms"] == pytest.approx(0.1)


def test_what_a_version_that_took_sentinels_for_readings_learnt_is_kept() -> None:
    """Such a snapshot holds an infinite spread of the regime: its model goes on, the next learns of readings only."""
    detection = build()
    play(detection, healthy(LEARNT))
    tree = snapshot.load(detection.snapshot())
    fast = tree["slots"]["drive_bearing"]["judge"]["fast"]["learner"]
    fast["model"]["baseline"]["regime_scale"][0] = math.inf
    fast["model"]["baseline"]["regime_high"][0] = math.inf
    fast["kept"]["regimes"][3, 0] = DBL_MAX
    tree["regime"][0] = DBL_MAX
    again = restored(snapshot.dump(tree))
    assert again.views()[0].state is DetectionState.HEALTHY
    play(again, healthy(400), LEARNT)
    learner = snapshot.load(restored(again.snapshot()).snapshot())["slots"]["drive_bearing"]["judge"]["fast"]["learner"]
    assert np.isfinite(learner["model"]["baseline"]["regime_scale"]).all()
