"""The Sparkplug layer: payload codec, topics, session rules, births, commands."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.assets import AssetClass
from fleet_core.births import (
    DeviceBirth,
    HeldReport,
    NodeBirth,
    decode_device_birth,
    decode_held,
    decode_node_birth,
    encode_device_birth,
    encode_held,
    encode_node_birth,
    held_report,
)
from fleet_core.commands import decode_command, encode_rebirth, encode_refused, encode_resend, encode_stored
from fleet_core.errors import BadInput
from fleet_core.schema import Schema
from fleet_core.sparkplug.payload import (
    MAX_METRICS,
    MAX_PAYLOAD_BYTES,
    DataType,
    Metric,
    decode_payload,
    encode_payload,
)
from fleet_core.sparkplug.session import (
    coalesce,
    decode_death,
    decode_state,
    encode_death,
    encode_state,
    next_seq,
    pack_ranges,
    unpack_ranges,
)
from fleet_core.sparkplug.topics import MessageType, Topic, data_topic, parse_topic, state_topic, subscription
from fleet_core.telemetry import ComponentSpec, MetricSpec

OUTBOX = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
BOOT = "6fa459ea-ee8a-3ca4-894e-db77e160355e"
VALUES = {
    DataType.INT8: -128,
    DataType.INT32: -5,
    DataType.INT64: -(1 << 63),
    DataType.UINT8: 255,
    DataType.UINT32: (1 << 32) - 1,
    DataType.UINT64: (1 << 64) - 1,
    DataType.FLOAT: 0.5,
    DataType.DOUBLE: 1e300,
    DataType.BOOLEAN: True,
    DataType.STRING: "ü",
    DataType.DATETIME: 1_790_000_000_000,
    DataType.BYTES: b"\x00\xff",
    DataType.INT64_ARRAY: array("q", [-1, 1]),
    DataType.UINT16_ARRAY: array("H", [0, 65535]),
    DataType.FLOAT_ARRAY: array("f", [0.5]),
    DataType.DOUBLE_ARRAY: array("d", []),
}


@pytest.mark.parametrize("datatype", VALUES, ids=lambda datatype: datatype.name)
def test_every_data_type_comes_back_as_it_went(datatype: DataType) -> None:
    metric = Metric("a/b", datatype, VALUES[datatype], alias=7, timestamp_ms=5, is_historical=True)
    assert decode_payload(encode_payload([metric], 9, 255)).metrics == (metric,)


def test_null_and_properties_come_back() -> None:
    properties = {"engUnit": (DataType.STRING, "Cel"), "low": (DataType.DOUBLE, None), "n": (DataType.INT32, -1)}
    metric = Metric("t", DataType.DOUBLE, None, properties=properties)
    assert decode_payload(encode_payload([metric], None, None)).metrics == (metric,)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (DataType.INT8, 128),
        (DataType.UINT8, -1),
        (DataType.UINT64, True),
        (DataType.STRING, 5),
        (DataType.DOUBLE, "x"),
        (DataType.FLOAT_ARRAY, array("d", [1.0])),
        (DataType.TEMPLATE, b""),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_not_encoded(datatype: DataType, value: object) -> None:
    with pytest.raises(BadInput):
        encode_payload([Metric("m", datatype, value)], 0, 0)  # type: ignore[arg-type]  # wrong on purpose


def test_bounds_are_checked_before_metrics_are_built() -> None:
    with pytest.raises(BadInput, match="payload_metrics"):
        decode_payload(b"\x12\x00" * (MAX_METRICS + 1))
    with pytest.raises(BadInput, match="payload_size"):
        decode_payload(bytes(MAX_PAYLOAD_BYTES + 1))


def test_nested_messages_of_third_parties_are_passed_over() -> None:
    template = bytes.fromhex("12080a017420139201" + "00")  # a metric "t" of type Template with an empty template
    assert decode_payload(template).metrics[0].value is None


READERS = (
    decode_payload,
    decode_death,
    decode_node_birth,
    lambda payload: decode_device_birth(payload, "robot-17"),
    decode_held,
    decode_command,
    decode_state,
)


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_bad_input(noise: bytes) -> None:
    for read in READERS:
        try:
            read(noise)
        except BadInput as error:
            assert error.reason


@given(st.data())
def test_damaged_births_and_commands_raise_only_bad_input(data: st.DataObject) -> None:
    payload = bytearray(
        data.draw(
            st.sampled_from(
                [
                    encode_node_birth(NODE, 1),
                    encode_device_birth(DEVICE, 1, 1),
                    encode_stored(OUTBOX, [(1, 5)]),
                    encode_refused(OUTBOX, [(7, "no")]),
                ]
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    for read in READERS:
        try:
            read(bytes(payload))
        except BadInput as error:
            assert error.reason


def test_topics_round_trip_and_refuse() -> None:
    for topic in (data_topic("site", "agent"), data_topic("site", "agent", "robot-1")):
        assert parse_topic(str(topic)) == topic
    assert str(data_topic("s", "a", "d")) == "spBv1.0/s/DDATA/a/d"
    assert state_topic("forestall") == "spBv1.0/STATE/forestall"
    assert subscription(MessageType.DDATA) == "spBv1.0/+/DDATA/+/+"
    for bad in (
        "",
        "spBv1.0/a/NDATA",
        "spBv1.0/a/NDATA/b/c",
        "spBv1.0/a/DDATA/b",
        "spBv1.0/a/DDATA/b/",
        "spAv1.0/a/NDATA/b",
        "spBv1.0/a b/NDATA/b",
        "spBv1.0/a/XDATA/b",
        "x" * 300,
    ):
        with pytest.raises(BadInput):
            parse_topic(bad)
    with pytest.raises(BadInput):
        Topic("s", MessageType.NDATA, "a", "d")


def test_sequence_numbers_go_around() -> None:
    assert (next_seq(0), next_seq(255)) == (1, 0)


def test_death_and_state_round_trip() -> None:
    assert decode_death(encode_death(17, 5)) == 17
    assert decode_state(encode_state(True, 123)) == (True, 123)


@given(st.lists(st.integers(0, 200)))
def test_ranges_coalesce_and_travel(numbers: list[int]) -> None:
    ranges = coalesce(numbers)
    assert [n for first, last in ranges for n in range(first, last + 1)] == sorted(set(numbers))
    assert list(unpack_ranges(pack_ranges(ranges))) == ranges


NODE = NodeBirth(3, BOOT, HeldReport(OUTBOX, 12, ((4, 6), (9, 11)), 11), "0.1.0", "synchronised", {"gru": "ab" * 32})
SCHEMA = Schema((MetricSpec("a", "Cel", "motor", 1.5), MetricSpec("v", "[g]", "bearing", 0.0, "waveform")), 2049)
DEVICE = DeviceBirth(
    "robot-17",
    AssetClass.ROBOT,
    "AMR-200",
    "S1",
    "4.1.0",
    (ComponentSpec("motor", "motor", "M-1", "P"),),
    SCHEMA,
    (Schema((MetricSpec("old"),)),),
)


def test_births_round_trip() -> None:
    assert decode_node_birth(encode_node_birth(NODE, 1)) == NODE
    decoded = decode_device_birth(encode_device_birth(DEVICE, 1, 5), "robot-17")
    assert decoded == DEVICE
    assert decoded.schema.digest == SCHEMA.digest


def test_births_carry_no_samples_and_announce_the_batch_metrics() -> None:
    payload = decode_payload(encode_device_birth(DEVICE, 1, 5))
    vitals = {metric.name: metric for metric in payload.metrics if metric.alias is not None}
    assert {name: metric.alias for name, metric in vitals.items()} == {"a": 2049, "v": 2050}
    assert all(metric.value is None for metric in vitals.values())
    assert vitals["a"].properties["engUnit"] == (DataType.STRING, "Cel")
    assert {"Forestall/Batch", "Forestall/Finding"} <= {metric.name for metric in payload.metrics}


def test_a_forged_schema_digest_is_refused() -> None:
    payload = encode_device_birth(DEVICE, 1, 5)
    forged = payload.replace(SCHEMA.digest.encode(), b"0" * 64)
    with pytest.raises(BadInput, match="schema"):
        decode_device_birth(forged, "robot-17")


def test_held_reports_round_trip_and_say_how_far_they_go() -> None:
    report = held_report(OUTBOX, 100, [(1, 1), (3, 3), (5, 99)], limit=2)
    assert report == HeldReport(OUTBOX, 100, ((1, 1), (3, 3)), covers_to=3)
    assert decode_held(encode_held(report, 1, 2)) == report
    empty = held_report(OUTBOX, 1, [])
    assert decode_held(encode_held(empty, 1, 2)) == empty
    assert decode_held(encode_payload([], 1, 2)) is None


def test_commands_round_trip() -> None:
    assert decode_command(encode_stored(OUTBOX, [(1, 5), (9, 9)])).stored == ((1, 5), (9, 9))
    assert decode_command(encode_refused(OUTBOX, [(7, "bad time")])).refused == ((7, "bad time"),)
    assert decode_command(encode_resend(OUTBOX, [(2, 3)])).resend == ((2, 3),)
    assert decode_command(encode_rebirth()).rebirth
    assert decode_command(encode_payload([Metric("X", DataType.INT8, 1)], 1, None)).unknown == 1


def test_a_schema_is_its_content() -> None:
    metrics = (MetricSpec("b"), MetricSpec("a", "Cel"))
    schema = Schema(metrics)
    assert schema == Schema(metrics[::-1])
    assert schema.digest == Schema.from_json(schema.to_json()).digest != Schema(metrics, 5).digest
    assert (schema.alias("a"), schema.name(2)) == (1, "b")
    for wrong in (lambda: schema.alias("c"), lambda: schema.name(3), lambda: Schema((*metrics, metrics[0]))):
        with pytest.raises(BadInput):
            wrong()
