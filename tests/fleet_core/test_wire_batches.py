"""Batches over the wire: exact round trips, stable digests, golden vectors, hostile bytes."""

from __future__ import annotations

import json
import math
from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.batches import (
    EMPTY_SCHEMA,
    FIRST_PREV,
    MAX_BATCH_BYTES,
    MAX_SAMPLES,
    Batch,
    GapRecord,
    SampleColumn,
    Schema,
    WaveformFragment,
    batch_digest,
    batch_header,
    decode_batch,
    encode_batch,
    mark_historical,
    with_seq,
)
from fleet_core.errors import BadInput
from fleet_core.sparkplug.payload import DataType, Metric, Payload, decode_payload, encode_payload
from fleet_core.telemetry import (
    EARLIEST_US,
    LATEST_US,
    BatchClass,
    ChannelEvidence,
    DetectionState,
    Finding,
    MetricSpec,
    StateChange,
)

VECTORS = Path(__file__).parent / "vectors"
UUIDS = ("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "6fa459ea-ee8a-3ca4-894e-db77e160355e")
T0 = 1_790_000_000_123_456
SCHEMA = Schema(
    (
        MetricSpec("speed_rpm", "/min", "", 600.0),
        MetricSpec("motor_temperature_cel", "Cel", "drive_motor", 600.0),
        MetricSpec("vibration", "[g]", "drive_bearing", 3600.0, "waveform"),
    ),
    first_alias=1025,
)
FINDING = Finding(
    finding_id=UUIDS[0],
    revision=1,
    component="drive_bearing",
    state=DetectionState.DEGRADING,
    score=1,  # an int on purpose: it is written as a float after the journey
    severity=0.25,
    detected_us=T0,
    onset_us=T0 - 7_200_000_000,
    channels=(ChannelEvidence("vibration.rms", "[g]", 0.75, 0.1, 0.01, 0.4),),
    signature=(0.1, 0.9),
    detectors={"pca": 0.9},
    indicator_metric="vibration.rms",
    indicator_baseline=0.1,
    indicator_sigma=0.01,
    failure_mode="bearing_seizure",
    mode_confidence=0.5,
    waveform_us=(T0,),
    extra={"note": "é"},
)
STATE = StateChange("drive_bearing", DetectionState.DEGRADING, DetectionState.WATCH, T0, 0.9, "rms rose")


def make(kind: BatchClass, **content: object) -> Batch:
    fields: dict = dict(device_id="robot-17", created_us=T0, batch_class=kind, **content)
    return Batch(UUIDS[0], 7, UUIDS[1], SCHEMA.digest, bytes(range(32)), **fields)


EXAMPLES = {
    "routine": make(
        BatchClass.ROUTINE,
        columns=(
            SampleColumn("speed_rpm", array("q", [T0, T0 + 600_000_001]), array("d", [1500.5, -0.0])),
            SampleColumn("motor_temperature_cel", array("q", [T0 + 1]), array("d", [1e-300])),
        ),
    ),
    "waveform": make(
        BatchClass.WAVEFORM,
        waveform=WaveformFragment("vibration", T0, 25600.0, "[g]", 1, 3, array("f", [0.5, -0.25, 1e-9])),
    ),
    "finding": make(BatchClass.FINDING, findings=(FINDING,), states=(STATE,)),
    "gap": make(BatchClass.GAP, gaps=(GapRecord(3, 9, BatchClass.WAVEFORM, "quota", T0 - 1, T0),)),
    "historical": replace(
        make(BatchClass.ROUTINE, columns=(SampleColumn("speed_rpm", array("q", [T0]), array("d", [1.0])),)),
        historical=True,
        number=1,
        prev_digest=FIRST_PREV,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_vectors_keep_their_bytes_and_digests(name: str) -> None:
    golden = json.loads((VECTORS / f"v1_{name}.json").read_text())
    batch, payload = EXAMPLES[name], bytes.fromhex(golden["payload"])
    assert encode_batch(batch, SCHEMA, seq=200) == payload
    assert batch_digest(batch).hex() == golden["digest"]
    decoded = decode_batch(payload, Schema.from_json(golden["schema"]), "robot-17")
    assert decoded == batch
    assert batch_digest(decoded).hex() == golden["digest"]


@pytest.mark.parametrize("batch", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_header_is_read_without_the_schema(batch: Batch) -> None:
    header = batch_header(encode_batch(batch, SCHEMA, 3))
    assert (header.outbox_id, header.number, header.prev_digest) == (batch.outbox_id, batch.number, batch.prev_digest)
    assert (header.schema_digest, header.batch_class, header.seq) == (SCHEMA.digest, batch.batch_class, 3)


@pytest.mark.parametrize("batch", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_seq_and_history_do_not_change_the_content(batch: Batch) -> None:
    body = encode_batch(batch, SCHEMA, None)
    for seq in (0, 127, 128, 255):
        assert with_seq(body, seq) == encode_batch(batch, SCHEMA, seq)
    late = decode_batch(with_seq(mark_historical(body), 9), SCHEMA, "robot-17")
    assert late.historical
    assert batch_digest(late) == batch_digest(batch)


def test_every_part_of_the_content_changes_the_digest() -> None:
    batch = EXAMPLES["routine"]
    column = batch.columns[0]
    others = [
        replace(batch, number=8),
        replace(batch, prev_digest=FIRST_PREV),
        replace(batch, device_id="robot-18"),
        replace(batch, created_us=T0 + 1),
        replace(batch, columns=batch.columns[:1]),
        replace(batch, columns=(replace(column, values=array("d", [1500.5, 0.0])), batch.columns[1])),
        replace(batch, columns=(replace(column, times_us=array("q", [T0, T0])), batch.columns[1])),
    ]
    assert len({batch_digest(other) for other in [batch, *others]}) == len(others) + 1


def test_samples_are_ordinary_sparkplug_metrics() -> None:
    payload = decode_payload(encode_batch(EXAMPLES["routine"], SCHEMA, 3))
    vitals = [metric for metric in payload.metrics if metric.alias is not None]
    assert [metric.alias for metric in vitals] == [1026, 1026, 1025]
    assert vitals[0].timestamp_ms == T0 // 1000
    assert vitals[0].value == 1500.5


TIMES = st.integers(EARLIEST_US, LATEST_US)
ROWS = st.lists(st.tuples(TIMES, st.floats(allow_nan=True, allow_infinity=True)), min_size=1, max_size=20)


@given(st.dictionaries(st.sampled_from(["speed_rpm", "motor_temperature_cel"]), ROWS, min_size=1), st.booleans())
def test_routine_round_trip_is_exact(rows: dict, historical: bool) -> None:
    columns = tuple(
        SampleColumn(name, array("q", [t for t, _ in row]), array("d", [v for _, v in row]))
        for name, row in rows.items()
    )
    batch = replace(make(BatchClass.ROUTINE, columns=columns), historical=historical)
    decoded = decode_batch(encode_batch(batch, SCHEMA, 0), SCHEMA, "robot-17")
    assert [c.times_us for c in decoded.columns] == [c.times_us for c in columns]
    for ours, theirs in zip(columns, decoded.columns, strict=True):
        assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(ours.values, theirs.values, strict=True))
    assert batch_digest(decoded) == batch_digest(batch)
    assert decoded.historical is historical


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=64), TIMES)
def test_waveform_round_trip_is_exact(values: list, time_us: int) -> None:
    wave = WaveformFragment("vibration", time_us, 25600.0, "[g]", 0, 1, array("f", values))
    batch = make(BatchClass.WAVEFORM, waveform=wave)
    assert decode_batch(encode_batch(batch, SCHEMA, 0), SCHEMA, "robot-17") == batch


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_bad_input(noise: bytes) -> None:
    for read in (batch_header, lambda payload: decode_batch(payload, SCHEMA, "robot-17")):
        with pytest.raises(BadInput):
            read(noise)


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_damaged_batches_are_refused_or_differ_in_digest(name: str, data: st.DataObject) -> None:
    payload = bytearray(encode_batch(EXAMPLES[name], SCHEMA, 0))
    position = data.draw(st.integers(0, len(payload) - 1))
    payload[position] ^= data.draw(st.integers(1, 255))
    try:
        decode_batch(bytes(payload), SCHEMA, "robot-17")
    except BadInput as error:
        assert error.reason


@pytest.mark.parametrize(
    "wrong",
    [
        lambda b: replace(b, number=0),
        lambda b: replace(b, outbox_id="x"),
        lambda b: replace(b, created_us=0),
        lambda b: replace(b, batch_class=BatchClass.GAP),
        lambda b: replace(b, columns=()),
        lambda b: replace(b, columns=b.columns + b.columns),
        lambda b: replace(b, columns=(SampleColumn("nope", array("q", [T0]), array("d", [1.0])),)),
        lambda b: replace(b, columns=(SampleColumn("speed_rpm", array("q", [5]), array("d", [1.0])),)),
        lambda b: replace(b, columns=(SampleColumn("speed_rpm", array("q", [T0]), array("d")),)),
        lambda b: replace(b, schema_digest="0" * 64),
        lambda b: replace(
            b,
            columns=(
                SampleColumn("speed_rpm", array("q", [T0] * MAX_SAMPLES * 2), array("d", [0.0] * MAX_SAMPLES * 2)),
            ),
        ),
    ],
)
def test_what_breaks_a_bound_is_not_encoded(wrong) -> None:
    with pytest.raises(BadInput):
        encode_batch(wrong(EXAMPLES["routine"]), SCHEMA, 0)


def test_the_fullest_batches_stay_below_the_bound() -> None:
    times = array("q", [T0 + index for index in range(MAX_SAMPLES)])
    column = SampleColumn("speed_rpm", times, array("d", [0.1] * MAX_SAMPLES))
    batch = replace(make(BatchClass.ROUTINE, columns=(column,)), historical=True)
    assert len(encode_batch(batch, SCHEMA, 255)) <= MAX_BATCH_BYTES


def test_a_metric_that_is_no_part_of_a_batch_is_refused() -> None:
    extra = encode_payload([Metric("Foreign", DataType.DOUBLE, 1.0)], None, None)
    body = encode_batch(EXAMPLES["routine"], SCHEMA, 0) + extra  # protobuf: what is appended is merged
    with pytest.raises(BadInput, match="unknown_metric"):
        decode_batch(body, SCHEMA, "robot-17")


def read(name: str) -> Payload:
    """An example as a payload, its metrics open to change."""
    return decode_payload(encode_batch(EXAMPLES[name], SCHEMA, 3))


def changed(payload: Payload, name: str, **parts: object) -> Payload:
    """With other parts of the metric of a name, or without it where there are none."""
    metrics = [
        metric._replace(**parts) if metric.name == name else metric  # parts of a metric
        for metric in payload.metrics
        if parts or metric.name != name
    ]
    return replace(payload, metrics=tuple(metrics))


def more(payload: Payload, *metrics: Metric, first: bool = False) -> Payload:
    return replace(payload, metrics=(*metrics, *payload.metrics) if first else (*payload.metrics, *metrics))


def refusal(payload: Payload | bytes, schema: Schema = SCHEMA) -> str:
    """Why a payload is no batch."""
    with pytest.raises(BadInput) as caught:
        decode_batch(payload, schema, "robot-17")
    return caught.value.reason


HEADER = ("Batch", "Outbox", "Boot", "Schema", "Prev", "Class", "Created")


@pytest.mark.parametrize("name", HEADER)
def test_every_part_of_a_header_is_needed_and_stands_once(name: str) -> None:
    payload = read("routine")
    (metric,) = [metric for metric in payload.metrics if metric.name == f"Forestall/{name}"]
    for wrong in (changed(payload, metric.name), changed(payload, metric.name, value=None), more(payload, metric)):
        with pytest.raises(BadInput):
            batch_header(wrong)
    with pytest.raises(BadInput, match=f"batch_header: Forestall/{name} twice"):
        batch_header(more(payload, metric))


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("Batch", (0, -1, True, 1.0, "1", 1 << 63), "batch_header"),
        ("Prev", (b"", bytes(31), bytes(33), "0" * 32), "batch_header"),
        ("Schema", ("", "0" * 63, "0" * 65, "G" * 64, "A" * 64, 5, b"0" * 64), "batch_header"),
        ("Outbox", ("", UUIDS[0].upper(), UUIDS[0] + "0", 5), "uuid"),
        ("Boot", ("", UUIDS[0].upper(), UUIDS[0] + "0", 5), "uuid"),
        ("Class", ("", "Routine", 5), "batch_class"),
        ("Created", (0, EARLIEST_US - 1, LATEST_US + 1, "now", 1.5), "time"),
    ],
)
def test_a_header_out_of_bounds_is_refused_for_its_reason(name: str, values: tuple, reason: str) -> None:
    for value in values:
        with pytest.raises(BadInput, match=f"^{reason}"):
            batch_header(changed(read("routine"), f"Forestall/{name}", value=value))


def test_a_header_says_all_of_a_batch_that_needs_no_schema() -> None:
    for payload in (read("routine"), encode_batch(EXAMPLES["routine"], SCHEMA, 3)):
        header = batch_header(payload)
        assert (header.outbox_id, header.boot_id, header.number, header.seq) == (*UUIDS, 7, 3)
        assert (header.schema_digest, header.prev_digest) == (SCHEMA.digest, bytes(range(32)))
        assert (header.batch_class, header.created_us) == (BatchClass.ROUTINE, T0)
    assert batch_header(encode_batch(EXAMPLES["routine"], SCHEMA, None)).seq is None


def test_a_batch_is_read_with_its_own_schema_and_without_samples_with_any() -> None:
    other = Schema((MetricSpec("torque"),))
    assert refusal(read("routine"), other) == "schema"
    gap = replace(EXAMPLES["gap"], schema_digest=EMPTY_SCHEMA.digest)
    payload = encode_batch(gap, EMPTY_SCHEMA, 0)
    assert decode_batch(payload, other, "robot-17") == decode_batch(payload, SCHEMA, "robot-17") == gap
    with pytest.raises(BadInput, match="schema: "):
        encode_batch(gap, SCHEMA, 0)
    routine = replace(EXAMPLES["routine"], schema_digest=EMPTY_SCHEMA.digest)
    with pytest.raises(BadInput, match="unknown_metric: "):
        encode_batch(routine, EMPTY_SCHEMA, 0)


def test_a_batch_has_the_device_of_its_topic() -> None:
    for device in ("", "robot-18"):
        assert decode_batch(read("routine"), SCHEMA, device).device_id == device
    with pytest.raises(BadInput):
        decode_batch(read("routine"), SCHEMA, "no such name!")


def test_a_batch_is_bounded_in_bytes_on_both_sides() -> None:
    batch = EXAMPLES["finding"]
    size = len(encode_batch(batch, SCHEMA, 0))
    assert encode_batch(batch, SCHEMA, 0, size) and decode_batch(encode_batch(batch, SCHEMA, 0), SCHEMA, "", size)
    with pytest.raises(BadInput, match="payload_size: "):
        encode_batch(batch, SCHEMA, 0, size - 1)
    with pytest.raises(BadInput, match="payload_size: "):
        decode_batch(encode_batch(batch, SCHEMA, 0), SCHEMA, "", size - 1)
    findings = (replace(FINDING, extra={"note": "x" * 900}),) * 64
    with pytest.raises(BadInput, match="payload_size: "):
        encode_batch(make(BatchClass.FINDING, findings=findings), SCHEMA, 0)
    assert MAX_BATCH_BYTES == 64 * 1024


def test_content_of_another_class_than_the_header_says_is_refused() -> None:
    assert refusal(changed(read("routine"), "Forestall/Class", value="gap")) == "batch_class"


def test_microseconds_are_sent_only_when_there_are_any() -> None:
    whole = SampleColumn("speed_rpm", array("q", [T0 // 1000 * 1000]), array("d", [1.0]))
    payload = decode_payload(encode_batch(make(BatchClass.ROUTINE, columns=(whole,)), SCHEMA, 0))
    assert "Forestall/SubMs" not in [metric.name for metric in payload.metrics]
    assert payload.timestamp_ms == T0 // 1000
    assert decode_batch(payload, SCHEMA, "robot-17").columns == (whole,)
    (remainders,) = [metric.value for metric in read("routine").metrics if metric.name == "Forestall/SubMs"]
    assert remainders == array("H", [456, 457, 457])


@pytest.mark.parametrize(
    "remainders",
    [array("H", [1, 2, 1000]), array("I", [1, 2, 3]), array("H", [1, 2]), array("H", [1, 2, 3, 4]), None, b"\x01\x00"],
)
def test_microseconds_that_do_not_fit_the_samples_are_refused(remainders: object) -> None:
    assert refusal(changed(read("routine"), "Forestall/SubMs", value=remainders)) == "batch_content"


def test_microseconds_up_to_999_precede_the_samples() -> None:
    payload = changed(read("routine"), "Forestall/SubMs", value=array("H", [999, 0, 5]))
    times_us = [time_us for column in decode_batch(payload, SCHEMA, "").columns for time_us in column.times_us]
    ms = [metric.timestamp_ms or 0 for metric in payload.metrics if metric.alias is not None]
    assert times_us == [ms[0] * 1000 + 999, ms[1] * 1000, ms[2] * 1000 + 5]
    late = Metric("Forestall/SubMs", DataType.UINT16_ARRAY, array("H", [1, 2, 3]))
    assert refusal(more(changed(payload, "Forestall/SubMs"), late)) == "batch_content"


def test_a_sample_needs_a_time_a_float_and_an_alias_of_the_schema() -> None:
    vital = Metric("", DataType.UNKNOWN, 1.0, 1026, T0 // 1000)
    payload = changed(read("routine"), "Forestall/SubMs")
    assert decode_batch(more(payload, vital), SCHEMA, "").columns[0].values[-1] == 1.0
    assert refusal(more(payload, vital._replace(timestamp_ms=None))) == "sample_time"
    for value in (1, None, True, "1", b"1"):
        assert refusal(more(payload, vital._replace(value=value))) == "sample_value"
        alone = changed(changed(payload, ""), "Forestall/SubMs")
        assert refusal(more(alone, vital._replace(value=value))) == "sample_value"
    assert refusal(more(payload, vital._replace(alias=9999))) == "unknown_alias"


def test_a_waveform_is_one_array_with_rate_unit_and_place() -> None:
    payload = read("waveform")
    (wave,) = [metric for metric in payload.metrics if metric.alias is not None]
    assert refusal(more(payload, wave)) in ("waveform", "batch_content")
    without = replace(payload, metrics=tuple(metric for metric in payload.metrics if metric.alias is None))
    assert decode_batch(more(without, wave), SCHEMA, "robot-17") == EXAMPLES["waveform"]
    assert refusal(more(changed(without, "Forestall/SubMs"), wave, wave)) == "waveform"
    for value in (1.0, None, "1"):
        assert refusal(more(without, wave._replace(value=value))) == "waveform"
    assert refusal(more(without, wave._replace(value=b"123"))) == "array_length"
    for key, bad in (("sampleRate", 5), ("engUnit", 5), ("fragment", "1"), ("fragment", True), ("fragments", 1.0)):
        missing = {name: value for name, value in wave.properties.items() if name != key}
        wrong = {**wave.properties, key: (DataType.UNKNOWN, bad)}
        for properties in (missing, wrong):
            assert refusal(more(without, wave._replace(properties=properties))) == "waveform"


@pytest.mark.parametrize("name", ["Forestall/Finding", "Forestall/State"])
def test_an_event_is_a_text(name: str) -> None:
    assert refusal(changed(read("finding"), name, value=5)) == "batch_content"
    assert refusal(changed(read("finding"), name, value=None)) == "batch_content"


def test_at_most_64_events_and_256_gaps_are_read() -> None:
    payload, gaps = read("finding"), read("gap")
    event = next(metric for metric in payload.metrics if metric.name == "Forestall/State")
    finding = next(metric for metric in payload.metrics if metric.name == "Forestall/Finding")
    gap = next(metric for metric in gaps.metrics if metric.name == "Forestall/Gap")
    assert len(decode_batch(more(payload, *[event] * 62), SCHEMA, "").states) == 63
    assert refusal(more(payload, *[event] * 63)) == "batch_content"
    assert refusal(more(payload, *[finding] * 63)) == "batch_content"
    assert len(decode_batch(more(gaps, *[gap] * 255), SCHEMA, "").gaps) == 256
    assert refusal(more(gaps, *[gap] * 256)) == "batch_content"
    assert refusal(changed(gaps, "Forestall/Gap", value=5)) == "batch_content"


def test_content_carries_its_own_time_and_whether_it_is_history() -> None:
    for name, times_ms in {
        "finding": {"Forestall/Finding": T0 // 1000, "Forestall/State": T0 // 1000},
        "gap": {"Forestall/Gap": T0 // 1000},
        "waveform": {"": T0 // 1000},
    }.items():
        for historical in (False, True):
            batch = replace(EXAMPLES[name], historical=historical)
            payload = decode_payload(encode_batch(batch, SCHEMA, 0))
            content = [metric for metric in payload.metrics if metric.timestamp_ms is not None]
            assert {metric.name: metric.timestamp_ms for metric in content} == times_ms
            assert {metric.is_historical for metric in content} == {historical}
            assert not any(metric.is_historical for metric in payload.metrics if metric not in content)
            assert decode_batch(payload, SCHEMA, "").historical is historical


def test_each_event_carries_its_moment() -> None:
    finding, state = replace(FINDING, detected_us=T0 + 5000), replace(STATE, time_us=T0 + 9000)
    gap = GapRecord(0, 0, BatchClass.ROUTINE, "disk_full", T0 - 9000, T0 + 2000)
    events = decode_payload(encode_batch(make(BatchClass.FINDING, findings=(finding,), states=(state,)), SCHEMA, 0))
    gaps = decode_payload(encode_batch(make(BatchClass.GAP, gaps=(gap,)), SCHEMA, 0))
    times_ms = {metric.name: metric.timestamp_ms for metric in (*events.metrics, *gaps.metrics) if metric.timestamp_ms}
    assert times_ms == {
        "Forestall/Finding": T0 // 1000 + 5, "Forestall/State": T0 // 1000 + 9, "Forestall/Gap": T0 // 1000 + 2,
    }  # fmt: skip


def test_one_late_metric_makes_a_batch_history_but_its_header_does_not() -> None:
    payload = read("finding")
    assert decode_batch(changed(payload, "Forestall/State", is_historical=True), SCHEMA, "").historical
    assert not decode_batch(changed(payload, "Forestall/Class", is_historical=True), SCHEMA, "").historical
    routine = read("routine")
    first = next(index for index, metric in enumerate(routine.metrics) if metric.alias is not None)
    metrics = list(routine.metrics)
    metrics[first] = metrics[first]._replace(is_historical=True)
    assert decode_batch(replace(routine, metrics=tuple(metrics)), SCHEMA, "").historical


def write_vectors() -> None:
    """Write the golden vectors of a new wire version (never of a released one)."""
    for name, batch in EXAMPLES.items():
        record = {
            "schema": SCHEMA.to_json(),
            "payload": encode_batch(batch, SCHEMA, 200).hex(),
            "digest": batch_digest(batch).hex(),
        }
        (VECTORS / f"v1_{name}.json").write_text(json.dumps(record, indent=1) + "\n")
