import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_core.telemetry import (
    EARLIEST_US,
    LATEST_US,
    ChannelEvidence,
    DetectionState,
    Finding,
    MetricSpec,
    Quality,
    Sample,
    StateChange,
    check_identity,
    check_time_us,
    from_us,
    to_us,
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,20}", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
unit_interval = st.floats(0, 1)
times_us = st.integers(EARLIEST_US, LATEST_US)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)

channels = st.builds(ChannelEvidence, names, st.just("[g]"), unit_interval, finite, finite, finite)
findings = st.builds(
    Finding,
    finding_id=st.uuids().map(str),
    revision=st.integers(1, 1000),
    component=names,
    state=st.sampled_from(DetectionState),
    score=unit_interval,
    severity=unit_interval,
    detected_us=times_us,
    onset_us=times_us,
    channels=st.lists(channels, max_size=4).map(tuple),
    signature=st.lists(finite, max_size=12).map(tuple),
    detectors=st.dictionaries(names, finite, max_size=4),
    indicator_metric=names,
    indicator_baseline=finite,
    indicator_sigma=st.floats(0, 1e300),
    failure_mode=texts,
    mode_confidence=unit_interval,
    waveform_us=st.lists(times_us, max_size=3).map(tuple),
)


@given(findings)
def test_a_finding_survives_its_json(finding):
    assert Finding.from_json(finding.to_json()) == finding


@given(st.builds(StateChange, names, st.sampled_from(DetectionState), st.sampled_from(DetectionState), times_us,
                 unit_interval, texts))  # fmt: skip
def test_a_state_change_survives_its_json(change):
    assert StateChange.from_json(change.to_json()) == change


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(max_size=200) | json_values.map(json.dumps))
def test_any_text_in_raises_nothing_but_bad_input(text):
    for parse in (Finding.from_json, StateChange.from_json):
        with pytest.raises(BadInput):
            parse(text)


@given(findings, st.data())
def test_one_hostile_field_is_bad_input_or_a_valid_finding(finding, data):
    record = json.loads(finding.to_json())
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(json_values)
    try:
        assert isinstance(Finding.from_json(json.dumps(record)), Finding)
    except BadInput as refused:
        assert refused.reason


def test_a_finding_too_large_is_refused_on_both_sides():
    with pytest.raises(BadInput, match="size"):
        Finding.from_json("{" + " " * 20_000 + "}")


@pytest.mark.parametrize("value", [0, -1, 4_100_000_000_000_000, 1.5, True, "2026", None])
def test_1970_and_2099_are_not_believed(value):
    with pytest.raises(BadInput, match="time"):
        check_time_us(value)


@given(times_us)
def test_times_keep_their_microseconds(time_us):
    assert to_us(from_us(time_us)) == time_us


def test_times_are_utc():
    assert from_us(to_us(datetime(2026, 3, 1, 6, 0, 0, 123456, UTC))).isoformat() == "2026-03-01T06:00:00.123456+00:00"


def test_nan_and_infinity_are_legal_values_of_bad_quality():
    assert [Sample("m", 0, v).quality for v in (1.0, math.nan, math.inf)] == [Quality.GOOD, Quality.BAD, Quality.BAD]


@pytest.mark.parametrize("value", ["", "a b", "../x", "a/b", "#", "+", "x" * 65, None, 7])
def test_identities_cannot_carry_topic_or_path_syntax(value):
    with pytest.raises(BadInput):
        check_identity(value)


def test_a_metric_spec_checks_itself():
    with pytest.raises(BadInput):
        MetricSpec("vibration rms")
    with pytest.raises(BadInput):
        MetricSpec("vibration", kind="video")
