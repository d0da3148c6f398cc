"""Every component type is whole, from its indicator to its playbook; new ones are found by themselves.

A type's indicator is driven from health to failure: the device must find it and name one of the type's modes, the
forecast must grow more certain of the failure, and the work order must hold what the type asks for.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

from edge_agent.acquisition.api import AssetDescription
from edge_agent.detection.findings.failure_mode import likely_mode
from edge_agent.detection.findings.signature import FAMILIES
from edge_agent.detection.pipeline import build_detection
from fleet_core.assets import (
    COMPONENT_TYPES,
    DEFECT_LINE_MODE,
    FAILURE_MODES,
    UNITS,
    UNKNOWN_FAILURE_MODE,
    AssetClass,
    ComponentType,
)
from fleet_core.failure_rules import Direction
from fleet_core.telemetry import ComponentSpec, Finding, MetricSpec, Sample
from fleet_server.prognosis.calibration import Calibration, calibrate
from fleet_server.prognosis.judgement import Evidence, Prognosis, judge
from fleet_server.prognosis.library import Library, Trajectory
from fleet_server.prognosis.signatures import canonical_course, found_direction, indicator_ratio
from fleet_server.resolution.playbooks import playbook

CODES = list(COMPONENT_TYPES)
START_US = 1_790_000_000_000_000
TICK_US = 600_000_000
HEALTHY_TICKS = 240
HEALTHY_LEVEL = 80.0
LIFE_H = 90.0
WORN = 6.0
"""How many times the healthy level a ratio reaches at the end of a life."""


def wear(hours: np.ndarray, life_h: float) -> np.ndarray:
    """The ratio that rises with degradation, 1 before hour 0 and ``WORN`` at the end of the life."""
    damage = np.exp(np.log(0.01) * (1 - np.clip(hours / life_h, 0, 1)))
    return 1 + (WORN - 1) * (damage - 0.01) / 0.99


def vital(kind: ComponentType) -> MetricSpec:
    return MetricSpec(kind.indicator, kind.indicator_unit, "part", 600)


@cache
def course(kind: ComponentType) -> np.ndarray:
    """The indicator's values (ticks,), ten minutes apart: healthy, then worn to its end."""
    hours = (np.arange(HEALTHY_TICKS + round(LIFE_H * 6)) - HEALTHY_TICKS) / 6
    noise = np.exp(0.01 * np.random.default_rng(4).normal(size=hours.size))
    worn = wear(hours, LIFE_H) * noise
    return HEALTHY_LEVEL / worn if kind.degrades is Direction.FALLS else HEALTHY_LEVEL * worn


@cache
def findings(kind: ComponentType) -> list[Finding]:
    """What the device says of it."""
    part = (ComponentSpec("part", kind.code, "P-1"),)
    detection = build_detection(AssetDescription("asset-1", AssetClass.ROBOT, "M", "S", (vital(kind),), part))
    events = []
    for tick, value in enumerate(course(kind)):
        events += detection.on_samples([Sample(kind.indicator, START_US + tick * TICK_US, float(value))]).events
    return [event for event in events if isinstance(event, Finding)]


@cache
def past() -> tuple[Library, Calibration]:
    rng = np.random.default_rng(5)
    lives = []
    for number in range(40):
        life_h = float(rng.uniform(50, 150))
        hours = np.arange(-40.0, life_h)
        ratio = wear(hours, life_h) * np.exp(0.01 * rng.normal(size=hours.size))
        serial = f"L{number}"
        lives.append(Trajectory(f"t:{serial}", "any", serial, "simulated", "unknown", True, hours + 40, ratio))
    library = Library(lives)
    return library, calibrate(library)


def forecast(kind: ComponentType, share: float) -> Prognosis:
    """The server's forecast when a share of the life is lived, from what the device found and measured."""
    found = findings(kind)[-1]
    values = course(kind)[: HEALTHY_TICKS + round(share * LIFE_H * 6)]
    ratio = indicator_ratio(values, found.indicator_baseline, falls=found_direction(kind.code, found).falls)
    hours_before, ratio = canonical_course(np.arange(values.size)[::-1] / 6, ratio)
    noise = found.indicator_sigma / found.indicator_baseline
    evidence = Evidence(kind.code, "Q", hours_before, ratio, noise, found.failure_mode, found.mode_confidence)
    return judge(evidence, *past())


@pytest.mark.parametrize("code", CODES)
def test_it_is_described_whole(code: str) -> None:
    kind = COMPONENT_TYPES[code]
    assert kind.code == code and re.fullmatch(r"[a-z][a-z0-9_]{0,31}", code)
    assert kind.label and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind.skill)
    assert kind.failure_modes and set(kind.failure_modes) <= set(FAILURE_MODES) - {UNKNOWN_FAILURE_MODE}
    assert set(kind.failure_modes) - {rule.mode for rule in kind.rules} <= {DEFECT_LINE_MODE}, "a mode without a rule"
    assert kind.indicator_unit in UNITS
    assert all(step[0].isupper() and step.endswith(".") for step in kind.playbook)


@pytest.mark.parametrize("code", CODES)
def test_its_rules_are_sure_within_bounds(code: str) -> None:
    for rule in COMPONENT_TYPES[code].rules:
        most = rule.confidence + rule.corroborated + sum(each.worth for each in rule.confirmed_by)
        assert 0 < rule.confidence <= most <= 0.95
        assert rule.when and all(rule.when) and set(rule.reasons) <= set(FAMILIES)


@pytest.mark.parametrize("code", CODES)
def test_its_indicator_alone_names_a_mode(code: str) -> None:
    kind = COMPONENT_TYPES[code]
    away = -1.5 if kind.degrades is Direction.FALLS else 1.5
    found = likely_mode(code, [vital(kind)], [away])
    assert found.mode in kind.failure_modes
    assert found.confidence >= 0.3 and found.reasons


@pytest.mark.parametrize("code", CODES)
def test_the_device_finds_it_and_names_a_mode(code: str) -> None:
    kind = COMPONENT_TYPES[code]
    assert findings(kind), "its wear was not found"
    last = findings(kind)[-1]
    assert last.failure_mode in kind.failure_modes
    assert last.indicator_metric == kind.indicator
    assert last.indicator_baseline == pytest.approx(HEALTHY_LEVEL, rel=0.05)
    assert last.detected_us >= START_US + HEALTHY_TICKS * TICK_US, "found before it wore"


@pytest.mark.parametrize("code", CODES)
def test_the_forecast_grows_more_certain_of_the_failure(code: str) -> None:
    kind = COMPONENT_TYPES[code]
    young, worn, dying = (forecast(kind, share) for share in (0.0, 0.7, 0.92))
    assert young.abstain_code == "healthy_level"
    assert not worn.abstained, worn.reason
    assert not dying.abstained, dying.reason
    assert worn.p_fail["24"] < dying.p_fail["24"]
    assert dying.rul_p50_h < worn.rul_p50_h


@pytest.mark.parametrize("code", CODES)
def test_the_work_order_holds_its_playbook(code: str) -> None:
    steps = playbook(code)
    assert [step for step in steps if step in COMPONENT_TYPES[code].playbook] == list(COMPONENT_TYPES[code].playbook)
    assert len(steps) > len(COMPONENT_TYPES[code].playbook)
