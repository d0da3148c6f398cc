"""Failure modes from pictures of evidence: which families stand out, in which direction, on what component."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.detection.findings.failure_mode import family, likely_mode
from edge_agent.detection.findings.signature import FAMILIES
from fleet_core.assets import COMPONENT_TYPES, FAILURE_MODES
from fleet_core.telemetry import MetricSpec

VIBRATION = MetricSpec("vibration_rms_g", "[g]")
KURTOSIS = MetricSpec("vibration.kurtosis")
TEMPERATURE = MetricSpec("motor_temperature", "Cel")
CURRENT = MetricSpec("motor_current", "A")
SPEED = MetricSpec("fan_speed", "/min")
FLOW = MetricSpec("Volume_Flow_RateRMS")
PRESSURE = MetricSpec("Pressure")
CAPACITY = MetricSpec("capacity", "A.h")
PERMEABILITY = MetricSpec("permeability", "L/min/bar")
PRESSURE_HELD = MetricSpec("pressure_held", "%")
TURBINE_SPEED = MetricSpec("turbine_speed", "/min")
BPFO, BPFI = MetricSpec("vibration.bpfo"), MetricSpec("vibration.bpfi")


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("vibration", "[g]", "vibration_level"),
        ("Accelerometer1RMS", "1", "vibration_level"),
        ("Bearing_1-A", "1", "vibration_level"),
        ("bearing_temperature", "1", "temperature"),
        ("vibration.rms", "[g]", "vibration_level"),
        ("vibration.peak", "[g]", "vibration_shape"),
        ("vibration.kurtosis", "1", "vibration_shape"),
        ("vibration.band_3", "[g]", "vibration_spectrum"),
        ("vibration.envelope_peak", "1", "vibration_spectrum"),
        ("vibration.bpfo", "1", "vibration_spectrum"),
        ("current_peak", "A", "current"),
        ("smart_current_pending_sectors", "1", "other"),
        ("power_on_hours", "h", "other"),
        ("discharge_pressure", "1", "pressure"),
        ("Volume_Flow_RateRMS", "1", "flow"),
        ("x", "L/min", "flow"),
        ("x", "{rpm}", "speed"),
        ("x", "kPa", "pressure"),
        ("x", "mA.h", "capacity"),
        ("x", "Hz", "other"),
        ("x", "%", "other"),
        ("requests", "1", "other"),
    ],
)
def test_family_of_a_vital(name: str, unit: str, expected: str) -> None:
    assert family(MetricSpec(name, unit)) == expected


@pytest.mark.parametrize(
    ("kind", "evidence", "expected", "least"),
    [
        ("bearing", {VIBRATION: 2.0}, "bearing_seizure", 0.5),
        ("bearing", {VIBRATION: 2.0, KURTOSIS: 1.0, TEMPERATURE: 1.0}, "bearing_seizure", 0.8),
        ("bearing", {BPFO: 1.5, BPFI: 0.7}, "bearing_spalling", 0.7),
        ("motor", {BPFI: 1.5, VIBRATION: 1.0}, "bearing_spalling", 0.8),
        ("motor", {TEMPERATURE: 1.2}, "motor_overheating", 0.7),
        ("motor", {TEMPERATURE: 1.2, CURRENT: 1.0}, "motor_overheating", 0.8),
        ("motor", {VIBRATION: 1.2}, "unknown", 0.0),
        ("motor", {TEMPERATURE: -2.0}, "unknown", 0.0),
        ("host", {MetricSpec("cpu_temperature", "Cel"): 2.0}, "host_overheating", 0.7),
        ("fan", {SPEED: -1.0}, "fan_degradation", 0.7),
        ("fan", {FLOW: 9.0}, "unknown", 0.0),
        ("disk", {MetricSpec("reallocated_sectors"): 3.0}, "disk_failure", 0.6),
        ("disk", {TEMPERATURE: 3.0}, "unknown", 0.0),
        ("battery", {CAPACITY: -1.0}, "battery_fade", 0.75),
        ("battery", {CAPACITY: 1.0}, "unknown", 0.0),
        ("pump", {FLOW: -1.0, CURRENT: 1.0}, "pump_blockage", 0.7),
        ("pump", {FLOW: -1.0, VIBRATION: 1.0}, "pump_cavitation", 0.7),
        ("pump", {PRESSURE: -1.0, FLOW: -0.6}, "pump_leakage", 0.6),
        ("pump", {VIBRATION: 1.0}, "pump_cavitation", 0.4),
        ("filter", {PERMEABILITY: -1.0, PRESSURE: 1.0}, "filter_clogging", 0.8),
        ("filter", {PERMEABILITY: -1.0}, "filter_clogging", 0.6),
        ("filter", {PERMEABILITY: 1.0}, "unknown", 0.0),
        ("hose", {PRESSURE_HELD: -1.0, FLOW: 1.0}, "hose_leakage", 0.85),
        ("hose", {PRESSURE_HELD: 1.0}, "unknown", 0.0),
        ("turbine", {TURBINE_SPEED: 1.0, CURRENT: 1.0}, "turbine_wear", 0.8),
        ("turbine", {TURBINE_SPEED: -1.0}, "unknown", 0.0),
        ("", {PERMEABILITY: -1.0}, "pump_blockage", 0.2),
        ("", {VIBRATION: 1.0}, "bearing_seizure", 0.3),
        ("", {FLOW: -3.0, CURRENT: 2.0}, "pump_blockage", 0.5),
        ("", {MetricSpec("requests"): 5.0}, "unknown", 0.0),
        ("no such type", {TEMPERATURE: 5.0}, "unknown", 0.0),
    ],
)
def test_the_evidence_names_the_mode(kind: str, evidence: dict, expected: str, least: float) -> None:
    found = likely_mode(kind, list(evidence), list(evidence.values()))
    assert found.mode == expected
    assert found.confidence >= least
    assert found.reasons or expected == "unknown"


def test_reasons_are_readable_and_unknown_says_what_stands_out() -> None:
    assert likely_mode("bearing", [BPFO], [1.84]).reasons == ("outer race defect line 1.8 times its limit",)
    assert likely_mode("motor", [FLOW], [-2.0]) == ("unknown", 0.0, ("flow low (2.0 times its limit)",))


def test_small_or_missing_deviations_are_no_evidence() -> None:
    assert likely_mode("bearing", [VIBRATION, KURTOSIS], [0.19, math.nan]) == ("unknown", 0.0, ())


def test_faint_evidence_counts_for_less_when_there_is_no_other() -> None:
    found = likely_mode("bearing", [VIBRATION, KURTOSIS, TEMPERATURE], [0.4, 0.3, 0.1])
    assert found.mode == "bearing_seizure" and 0.3 < found.confidence < 0.5
    assert [reason.split()[0] for reason in found.reasons] == ["vibration", "impulsiveness"]


def test_the_strongest_line_is_named() -> None:
    assert "inner race" in likely_mode("bearing", [BPFO, BPFI], [1.0, 3.0]).reasons[0]


ALL = (VIBRATION, KURTOSIS, TEMPERATURE, CURRENT, SPEED, FLOW, PRESSURE, CAPACITY, BPFO, BPFI, MetricSpec("x"))


@given(
    st.sampled_from([*COMPONENT_TYPES, ""]),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=len(ALL), max_size=len(ALL)),
)
def test_never_raises_and_stays_in_the_vocabulary(kind: str, deviations: list[float]) -> None:
    found = likely_mode(kind, ALL, np.array(deviations))
    assert found.mode in FAILURE_MODES and 0 <= found.confidence <= 0.95 and len(found.reasons) <= 4
    possible = COMPONENT_TYPES[kind].failure_modes if kind else tuple(FAILURE_MODES)
    assert found.mode in (*possible, "bearing_spalling", "unknown")
    assert all(family(channel) in FAMILIES for channel in ALL)
