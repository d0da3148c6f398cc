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
from fleet_core.sparkplug.payload import DataType, Metric, decode_payload, encode_payload
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


def write_vectors() -> None:
    """Write the golden vectors of a new wire version (never of a released one)."""
    for name, batch in EXAMPLES.items():
        record = {
            "schema": SCHEMA.to_json(),
            "payload": encode_batch(batch, SCHEMA, 200).hex(),
            "digest": batch_digest(batch).hex(),
        }
        (VECTORS / f"v1_{name}.json").write_text(json.dumps(record, indent=1) + "\n")
