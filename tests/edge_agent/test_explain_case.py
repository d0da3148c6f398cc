"""What is told of a finding: the healthy band read off the trace, the choice among findings, the words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_agent.detection.settings import DetectionSettings
from edge_agent.detection.trace.memory import Trace
from edge_agent.detection.trace.records import LearntFrom, MarkerKind, ToldFinding
from edge_agent.explain import words
from edge_agent.explain.case import Case, Channel, Subject, band, joined, put_together
from edge_agent.explain.choice import Choice, choose
from fleet_core.errors import BadInput
from fleet_core.telemetry import ChannelEvidence, DetectionState, Finding

START_US = 1_772_000_000_000_000
MINUTE_US = 60_000_000
CHANNELS = (Channel("drive_vibration_rms", "[g]"), Channel("temperature", "Cel"))
SUBJECT = Subject("drive-2, drive bearing", CHANNELS)


def finding(number: int, detected: int, onset: int, mode: str = "bearing_seizure") -> Finding:
    return Finding(
        finding_id=f"{number:08x}-0000-0000-0000-000000000000",
        revision=1,
        component="drive_bearing",
        state=DetectionState.CRITICAL,
        score=0.9,
        severity=0.7,
        detected_us=START_US + detected * MINUTE_US,
        onset_us=START_US + onset * MINUTE_US,
        channels=(
            ChannelEvidence("drive_vibration_rms", "[g]", 0.9, 1.0, 0.1, 2.0),
            ChannelEvidence("temperature", "Cel", 0.1, 40.0, 1.0, 40.5),
        ),
        signature=(0.5,),
        detectors={"cusum": 3.0, "level": 2.0},
        indicator_metric="drive_vibration_rms",
        indicator_baseline=1.0,
        indicator_sigma=0.1,
        failure_mode=mode,
        mode_confidence=0.7 if mode != "unknown" else 0.0,
    )


def drifting(count: int = 600, onset: int = 400, logged: bool = False) -> Trace:
    """A trace whose first channel rises by 0.05 sigma a tick from ``onset`` on; its sigma is 0.1 around 1."""
    rng = np.random.default_rng(3)
    trace = Trace(2, recent=128, whole=1024)
    deviation = rng.normal(size=(count, 2))
    deviation[onset:, 0] += 0.05 * np.arange(count - onset)
    expected = np.column_stack((np.full(count, 1.0), 40 + np.sin(np.arange(count) / 50)))
    values = expected + deviation * (0.1, 1.0)
    if logged:
        values[:, 0] = np.exp(0.1 * deviation[:, 0])
    evidence = np.maximum(0.1, 0.02 * (np.arange(count) - onset))
    states = np.where(evidence < 0.6, 1, np.where(evidence < 1, 2, 3))
    limits = np.array([5.0, 4.0], dtype=np.float32)
    trace.note_learnt(
        START_US, MarkerKind.LEARNT, LearntFrom(144, START_US, START_US + 144 * MINUTE_US, "ab" * 32, limits), ("pca",)
    )
    times = START_US + MINUTE_US * np.arange(count)
    trace.add(times, values, expected, deviation, evidence, states, np.ones((count, 1)))
    return trace


def case(
    told: ToldFinding | None = None, subject: Subject = SUBJECT, trace: Trace | None = None, which: str = ""
) -> Case:
    return put_together(subject, trace or drifting(), told, DetectionSettings(), which=which)


def told(number: int = 1, detected: int = 500, onset: int = 400, mode: str = "bearing_seizure") -> ToldFinding:
    each = finding(number, detected, onset, mode)
    return ToldFinding(each.detected_us, each)


def test_the_band_is_read_off_the_trace() -> None:
    edges = band(joined(drifting()), 0, 3.0)
    np.testing.assert_allclose(edges, np.tile([0.7, 1.3], (len(edges), 1)), rtol=0.02)


def test_the_band_of_a_channel_that_multiplies_is_not_even() -> None:
    edges = band(joined(drifting(logged=True)), 0, 3.0)
    np.testing.assert_allclose(edges[0], [np.exp(-0.3), np.exp(0.3)], rtol=0.02)


def test_the_band_is_unknown_when_the_trace_tells_too_little() -> None:
    trace = Trace(1, recent=128, whole=8)
    unknown = np.full((20, 1), np.nan)
    trace.add(START_US + np.arange(20), np.ones((20, 1)), unknown, unknown, np.zeros(20), np.zeros(20, dtype=int))
    assert np.isnan(band(joined(trace), 0, 3.0)).all()
    alone = put_together(Subject("x", CHANNELS[:1]), trace, None, DetectionSettings())
    assert "no finding" in words.sentence(alone)


def test_the_sentence_names_the_vital_the_time_and_the_failure_mode() -> None:
    text = words.sentence(case(told()))
    assert text.startswith(
        "drive-2, drive bearing: drive vibration RMS rose above its healthy band on 25 Feb 2026 12:53;"
    )
    assert text.endswith("likely bearing seizure (ISO 14224 BRD, mechanism 2.4 wear)")
    assert 4 < float(re.search(r"\+([\d.]+) sigma", text)[1]) < 7  # type: ignore[index]  # 5 sigma and its noise
    assert words.sentence(case(told(mode="unknown"))).endswith("; failure mode not known")
    below = words.below(case(told(), which="finding 1 of 2"))
    assert below.startswith(
        "Finding 1 of 2, detected on 25 Feb 2026 14:33, 100.0 min after the onset. Most severe then:"
    )


def test_what_is_inside_its_own_band_is_not_said_to_have_left_it() -> None:
    calm = case(told(detected=395, onset=380))
    assert "changed its course within its healthy band" in words.sentence(calm)


def test_a_recording_without_dates_counts_from_its_start() -> None:
    text = words.sentence(case(told(), Subject("raw/a.npz", CHANNELS, START_US)))
    assert "6.67 h into the recording" in text and "2026" not in text
    assert "times count from the recording's start" in words.footer(case(told(), Subject("a", CHANNELS, START_US)))


def test_without_a_finding_the_highest_evidence_is_told() -> None:
    calm = case(None)
    assert calm.finding is None and calm.now_us == START_US + 599 * MINUTE_US
    assert "no finding" in words.sentence(calm) and calm.votes == (("pca", 1.0),)
    assert calm.contributions[0][0].name == "drive_vibration_rms"


def test_a_short_fault_in_a_long_life_is_drawn_closer_up() -> None:
    trace = drifting(3000, 2000)
    near = case(told(detected=2060, onset=2030), trace=trace)
    assert near.zoomed and near.onset_us is not None
    assert near.window_us[0] < near.onset_us < near.now_us < near.window_us[1]
    assert not case(told(detected=2900, onset=2000), trace=trace).zoomed


def test_nothing_judged_is_a_refusal() -> None:
    with pytest.raises(BadInput, match="nothing was judged"):
        put_together(SUBJECT, Trace(2), None, DetectionSettings())


def test_numbers_are_rounded_to_their_sigma() -> None:
    assert words.number(1.23456, 0.05) == "1.235"
    assert words.number(-12.3, 5) == "−12.3"
    assert words.number(123456.7) == "123,457"
    assert words.number(float("nan")) == "unknown"


def test_names_are_words_without_the_unit_the_axis_tells() -> None:
    assert words.named(Channel("vibration_rms_g", "[g]")) == "vibration RMS"
    assert words.named(Channel("motor_current_a", "A")) == "motor current"
    assert words.named(Channel("VolumeFlowRate")) == "Volume Flow Rate"
    assert words.named(Channel("g", "[g]")) == "g"


def test_the_json_form_is_plain() -> None:
    record = words.as_json(case(told()))
    assert record["finding_id"] == finding(1, 500, 400).finding_id and record["failure_mode"] == "bearing_seizure"
    assert record["channels"][0]["healthy"] == pytest.approx([0.7, 1.3], rel=0.02)
    assert record["learnt"]["rows"] == 144


def test_choice_by_number_by_id_or_the_first() -> None:
    trace = drifting()
    choices = [
        Choice("a", trace, told(0xBEEF, detected=500)),
        Choice("b", trace, told(0xBEE0, detected=450)),
        Choice("a", trace, None),
    ]
    assert choose(choices).slot == "b" and choose(choices).which == "finding 1 of 2"
    assert choose(choices, "2").slot == "a"
    assert choose(choices, "0000BEEF").slot == "a"
    for wrong in ("3", "0", "0000bee", "ffff"):
        with pytest.raises(BadInput, match="there are"):
            choose(choices, wrong)
    assert choose(choices[2:]).told is None
    with pytest.raises(BadInput, match="there is none"):
        choose(choices[2:], "1")
