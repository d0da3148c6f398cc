"""Judgements: honest intervals, abstention with a reason, failure modes, contradictions, the same answer twice."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fleet_core.assets import COMPONENT_TYPES
from fleet_core.errors import BadInput
from fleet_core.failure_rules import Direction
from fleet_core.quantities import FAMILY_OF_UNIT, quantity
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding
from fleet_server.prognosis.calibration import Calibration, calibrate
from fleet_server.prognosis.judgement import Evidence, Prognosis, failure_mode_of, judge
from fleet_server.prognosis.library import Library, Neighbours, Trajectory
from fleet_server.prognosis.signatures import (
    DirectionBy,
    canonical_course,
    found_direction,
    indicator_ratio,
)


def grown(serial: str, life_h: float, rng: np.random.Generator, failed: bool = True) -> Trajectory:
    hours = np.arange(0.0, 40.0 + life_h, 1.0)
    damage = np.exp(np.log(0.01) * (1 - np.clip((hours - 40) / life_h, 0, 1)))
    ratio = (1 + 5 * (damage - 0.01)) * np.exp(0.01 * rng.standard_normal(hours.size))
    end = hours.size if failed else int(hours.size * 0.8)
    return Trajectory(
        f"t:{serial}", "bearing", serial, "simulated", "bearing_seizure", failed, hours[:end], ratio[:end]
    )


@cache
def library(units: int = 60) -> Library:
    rng = np.random.default_rng(5)
    return Library(grown(f"L{n}", float(rng.uniform(40, 160)), rng, failed=n % 5 > 0) for n in range(units))


@cache
def calibration(units: int = 60) -> Calibration:
    return calibrate(library(units))


def evidence(life_h: float = 90.0, at_h: float = 100.0, seed: int = 1, **more: object) -> Evidence:
    rng = np.random.default_rng(seed)
    hours = np.arange(0.0, at_h, 1 / 6)
    damage = np.exp(np.log(0.01) * (1 - np.clip((hours - 40) / life_h, 0, 1)))
    ratio = (1 + 5 * (damage - 0.01)) * np.exp(0.01 * rng.standard_normal(hours.size))
    hours_before, ratio = canonical_course(at_h - hours, ratio)
    return Evidence("bearing", "Q", hours_before, ratio, 0.01, **more)  # type: ignore[arg-type]


def answer(given: Evidence) -> Prognosis:
    return judge(given, library(), calibration())


def test_intervals_hold_on_units_never_seen() -> None:
    rng = np.random.default_rng(77)
    held = []
    for seed in range(60):
        life_h = float(rng.uniform(40, 160))
        at_h = 40 + life_h * float(rng.uniform(0.4, 0.9))
        made = answer(evidence(life_h, at_h, seed))
        if not made.abstained:
            held.append(made.rul_p10_h <= 40 + life_h - at_h <= made.rul_p90_h)
    assert len(held) >= 50
    assert 0.65 <= np.mean(held) <= 1.0


def test_all_of_an_answer_is_of_one_piece() -> None:
    made = answer(evidence(device_mode="bearing_seizure", device_confidence=0.8))
    assert not made.abstained
    assert 0 < made.rul_p10_h < made.rul_p50_h < made.rul_p90_h
    assert made.failure_mode == "bearing_seizure"
    assert made.p_fail["24"] <= made.p_fail["72"] <= made.p_fail["168"] <= made.p_fail["720"]
    assert (made.p_fail["24"] > 0.1) == (made.rul_p10_h < 24)
    assert made.survival[0] == (0.0, 1.0)
    assert sum(item["weight"] for item in made.neighbours) <= 1.0 + 1e-6
    assert [item["distance"] for item in made.neighbours] == sorted(item["distance"] for item in made.neighbours)


def test_the_same_inputs_give_the_same_answer_bit_for_bit() -> None:
    assert answer(evidence()) == judge(evidence(), Library(reversed(library().units)), calibrate(library()))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (replace(evidence(), hours_before=np.empty(0), ratio=np.empty(0)), "no course"),
        (replace(evidence(), hours_before=evidence().hours_before + 50), "50 h old"),
        (evidence(at_h=38.0), "healthy level"),
        (replace(evidence(), ratio=evidence().ratio * np.linspace(60, 1, evidence().ratio.size)), "unlike"),
    ],
)
def test_it_abstains_with_a_reason(given: Evidence, words: str) -> None:
    made = answer(given)
    assert made.abstained
    assert words in made.reason
    assert made.rul_p10_h is None
    assert made.failure_mode == "unknown"


def test_few_units_are_not_enough() -> None:
    few = Library(library().units[:5])
    made = judge(evidence(), few, calibrate(few))
    assert made.abstained
    assert "at least 8" in made.reason
    empty = Library([])
    assert judge(evidence(), empty, calibrate(empty)).abstained


def test_the_unit_itself_in_the_library_changes_nothing() -> None:
    played = Trajectory("t:Q", "bearing", "Q", "case", "unknown", True, np.arange(130.0), np.linspace(1, 6, 130))
    with_it = Library([*library().units, played])
    made = judge(evidence(), with_it, calibration())
    assert made.rul_p50_h == answer(evidence()).rul_p50_h
    assert "Q" not in {item["unit_serial"] for item in made.neighbours}


def test_few_units_widen_and_never_narrow() -> None:
    few, many = calibrate(Library(library().units[:12])), calibration()
    assert all(factor >= 1.0 for factor in (*few.early, *few.late, *many.early, *many.late))
    assert max(few.early + few.late) > max(many.early + many.late)


def test_a_stored_calibration_reads_back_and_a_hostile_one_is_refused() -> None:
    assert Calibration.from_json(calibration().to_json()) == calibration()
    for text in ("", "[]", "{}", '{"early": [1], "late": [1], "distance_limit": 1, "units": 1, "library_digest": ""}'):
        with pytest.raises(BadInput):
            Calibration.from_json(text)


def voters(**shares: float) -> Neighbours:
    units = []
    for n, mode in enumerate(shares):
        units.append(Trajectory(f"v{n}", "bearing", f"V{n}", "case", mode, True, np.arange(3.0), np.ones(3)))
    flags = np.ones(len(units), dtype=bool)
    return Neighbours(units, np.zeros(len(units)), np.array(list(shares.values())), np.ones(len(units)), flags)


def test_failure_modes_by_vote_and_hint() -> None:
    assert failure_mode_of(voters(bearing_spalling=0.9, bearing_seizure=0.1), "unknown", 0.0)[0] == "bearing_spalling"
    assert failure_mode_of(voters(bearing_spalling=0.5, bearing_seizure=0.5), "unknown", 0.0)[0] == "unknown"
    even = failure_mode_of(voters(bearing_spalling=0.55, bearing_seizure=0.45), "bearing_seizure", 0.7)
    assert (even[0], even[2]) == ("bearing_seizure", False)
    assert failure_mode_of(voters(unknown=1.0), "unknown", 0.0) == ("unknown", {"unknown": 1.0}, False)


def test_a_contradiction_is_flagged() -> None:
    mode, share, conflicting = failure_mode_of(voters(bearing_spalling=1.0), "motor_overheating", 0.9)
    assert conflicting
    assert mode == "bearing_spalling"
    assert share == {"bearing_spalling": 1.0}


def test_ratios_rise_with_degradation() -> None:
    values = np.array([2.0, 4.0, 0.0, np.nan])
    assert indicator_ratio(values, 2.0, falls=False)[:3].tolist() == [1.0, 2.0, 0.0]
    falling = indicator_ratio(values, 2.0, falls=True)
    assert falling[:2].tolist() == [1.0, 0.5]
    assert np.isnan(falling[2:]).all()
    assert np.isnan(indicator_ratio(values, 0.0, falls=False)).all()


def found(unit: str, observed: float, metric: str = "vital") -> Finding:
    channel = ChannelEvidence(metric, unit, 1.0, 5.0, 0.1, observed)
    return Finding("f", 1, "part", DetectionState.DEGRADING, 0.5, 0.5, 0, 0, (channel,), (), {}, "vital", 5.0, 0.1)


@pytest.mark.parametrize(
    ("kind", "seen", "falls"),
    [
        ("bearing", found("[g]", 9.0), False),
        ("fan", found("/min", 2.0), True),
        ("filter", found("L/min/bar", 2.0), True),
        ("filter", found("L/min/bar", 7.0), True),  # its own indicator, whichever way it stands just now
        ("filter", found("bar", 9.0), False),  # another vital stands in its place
        ("filter", found("L/min", 2.0), True),
        ("bearing", found("[g]", 2.0), False),
        ("bearing", found("L/min", 2.0), True),
        ("filter", found("bar", 9.0, "another"), True),
        ("", found("bar", 2.0), False),
        ("unheard of", found("bar", 2.0), False),
    ],
)
def test_the_direction_is_the_types_for_its_own_indicator_and_the_findings_for_another(
    kind: str, seen: Finding, falls: bool
) -> None:
    assert found_direction(kind, seen).falls is falls


def seen_at(metric: str, unit: str, observed: float, baseline: float, sigma: float) -> Finding:
    channel = ChannelEvidence(metric, unit, 0.2, baseline, sigma, observed)
    by_another = ChannelEvidence("vibration_rms", "[g]", 0.8, 0.1, 0.01, 0.4)
    return replace(found("", 0.0), channels=(by_another, channel), indicator_metric=metric)


@pytest.mark.parametrize(
    ("kind", "metric", "unit", "observed", "baseline", "sigma", "falls"),
    [
        ("fan", "fan_speed", "/min", 3010.0, 3000.0, 10.0, True),
        ("fan", "fan_speed", "{rpm}", 3010.0, 3000.0, 10.0, True),
        ("fan", "fan_speed", "{rpm}", 3900.0, 3000.0, 10.0, True),
        ("fan", "fan_1", "{rpm}", 3900.0, 3000.0, 10.0, True),
        ("fan", "fan_1", "r/min", 3010.0, 3000.0, 1.0, True),
        ("fan", "fan_1", "1/min", 3010.0, 3000.0, 1.0, True),
        ("fan", "fan_1", "{rev}/min", 3010.0, 3000.0, 1.0, True),
        ("fan", "fan_1", "rad/s", 315.0, 314.0, 0.1, True),
        ("fan", "fan_1", "Hz", 51.0, 50.0, 0.1, True),
        ("fan", "fan_speed_percent", "%", 61.0, 60.0, 0.1, True),
        ("fan", "fan_noise", "dB", 42.0, 40.0, 0.1, False),
        ("fan", "fan_noise", "dB", 40.1, 40.0, 0.1, False),
        ("fan", "temperature", "Cel", 39.9, 40.0, 0.1, False),
        ("battery", "capacity_percent", "%", 100.0, 100.0, 0.5, True),
        ("battery", "capacity_percent", "%", 104.0, 100.0, 0.5, True),
        ("battery", "state_of_health", "%", 100.5, 100.0, 0.5, True),
        ("battery", "capacity", "mA.h", 2000.5, 2000.0, 1.0, True),
        ("battery", "full", "mA.h", 2030.0, 2000.0, 1.0, True),
        ("battery", "full", "mA.h", 1900.0, 2000.0, 1.0, True),
        ("battery", "temperature", "Cel", 39.0, 30.0, 1.0, False),
        ("bearing", "velocity_rms", "mm/s", 1.9, 2.0, 0.01, False),
        ("bearing", "velocity_rms", "mm/s", 1.0, 2.0, 0.01, False),
        ("bearing", "vibration_kurtosis", "1", 2.0, 3.0, 0.01, False),
        ("bearing", "temperature", "Cel", 39.7, 40.0, 0.1, False),
        ("filter", "inlet", "kPa", 180.0, 200.0, 0.0, False),
        ("filter", "dp", "kPa", 260.0, 200.0, 1.0, False),
        ("hose", "line", "bar", 100.5, 100.0, 0.1, True),
        ("turbine", "blower", "{rpm}", 2900.0, 3000.0, 10.0, False),
        ("turbine", "air", "L/min", 30.0, 40.0, 1.0, True),
        ("disk", "uncorrectable", "1", 3.0, 9.0, 1.0, False),
    ],
)
def test_a_vital_of_the_indicators_quantity_goes_the_types_way_however_it_stands(
    kind: str, metric: str, unit: str, observed: float, baseline: float, sigma: float, falls: bool
) -> None:
    assert found_direction(kind, seen_at(metric, unit, observed, baseline, sigma)).falls is falls


@pytest.mark.parametrize("code", sorted(COMPONENT_TYPES))
@pytest.mark.parametrize("strayed", [-50.0, -1.0, 0.0, 1.0, 50.0])
def test_no_reading_turns_a_types_own_indicator_over(code: str, strayed: float) -> None:
    kind = COMPONENT_TYPES[code]
    units = [unit for unit in FAMILY_OF_UNIT if quantity("", unit) is quantity(kind.indicator, kind.indicator_unit)]
    for unit in (kind.indicator_unit, *units):
        seen = seen_at(kind.indicator, unit, 100.0 + strayed, 100.0, 1.0)
        assert found_direction(code, seen) == (kind.degrades is Direction.FALLS, DirectionBy.TYPE)
