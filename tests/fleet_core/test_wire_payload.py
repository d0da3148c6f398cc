"""Sparkplug B payloads, type by type and bound by bound, against the generated messages of the specification."""

from __future__ import annotations

import sys
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_core.sparkplug import payload_pb2
from fleet_core.sparkplug.payload import (
    NO_PROPERTIES,
    DataType,
    Metric,
    Payload,
    decode_payload,
    encode_payload,
    mark_historical,
    pack_array,
    unpack_array,
    with_seq,
)

# as the specification numbers them (section 6.4.16)
NUMBERS = (
    "UNKNOWN", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FLOAT", "DOUBLE", "BOOLEAN",
    "STRING", "DATETIME", "TEXT", "UUID", "DATASET", "BYTES", "FILE", "TEMPLATE", "PROPERTY_SET", "PROPERTY_SET_LIST",
    "INT8_ARRAY", "INT16_ARRAY", "INT32_ARRAY", "INT64_ARRAY", "UINT8_ARRAY", "UINT16_ARRAY", "UINT32_ARRAY",
    "UINT64_ARRAY", "FLOAT_ARRAY", "DOUBLE_ARRAY", "BOOLEAN_ARRAY", "STRING_ARRAY", "DATETIME_ARRAY",
)  # fmt: skip

# type, least value, greatest value, the field it travels in
INTEGERS = [
    ("INT8", -(2**7), 2**7 - 1, "int_value"),
    ("INT16", -(2**15), 2**15 - 1, "int_value"),
    ("INT32", -(2**31), 2**31 - 1, "int_value"),
    ("INT64", -(2**63), 2**63 - 1, "long_value"),
    ("UINT8", 0, 2**8 - 1, "int_value"),
    ("UINT16", 0, 2**16 - 1, "int_value"),
    ("UINT32", 0, 2**32 - 1, "int_value"),
    ("UINT64", 0, 2**64 - 1, "long_value"),
    ("DATETIME", 0, 2**64 - 1, "long_value"),
]
ARRAYS = {
    "INT8_ARRAY": "b",
    "INT16_ARRAY": "h",
    "INT32_ARRAY": "i",
    "INT64_ARRAY": "q",
    "UINT8_ARRAY": "B",
    "UINT16_ARRAY": "H",
    "UINT32_ARRAY": "I",
    "UINT64_ARRAY": "Q",
    "FLOAT_ARRAY": "f",
    "DOUBLE_ARRAY": "d",
    "DATETIME_ARRAY": "Q",
}
OTHERS: list[tuple[str, Any, str]] = [
    ("FLOAT", 0.5, "float_value"),
    ("DOUBLE", 1e300, "double_value"),
    ("BOOLEAN", False, "boolean_value"),
    ("STRING", "ü", "string_value"),
    ("TEXT", "", "string_value"),
    ("UUID", "1b4e28ba", "string_value"),
    ("BYTES", b"\x00\xff", "bytes_value"),
    ("FILE", b"", "bytes_value"),
]
NOT_WRITTEN = {"UNKNOWN", "DATASET", "TEMPLATE", "PROPERTY_SET", "PROPERTY_SET_LIST", "BOOLEAN_ARRAY", "STRING_ARRAY"}


def one(datatype: str, value: Any, **more: Any) -> Metric:
    return Metric("m", DataType[datatype], value, **more)


def raw(payload: bytes) -> payload_pb2.Metric:
    """The only metric of a payload, as the specification's messages have it."""
    (metric,) = payload_pb2.Payload.FromString(payload).metrics
    return metric


def foreign(datatype: str, **content: Any) -> Any:
    """What is read of a metric that somebody else wrote: its value."""
    message = payload_pb2.Payload()
    metric = message.metrics.add(name="m", datatype=DataType[datatype])
    for name, value in content.items():
        setattr(metric, name, value)
    return decode_payload(message.SerializeToString()).metrics[0].value


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(BadInput) as caught:
        call(*arguments)
    return caught.value.reason


def test_data_types_have_the_numbers_of_the_specification() -> None:
    assert [(datatype.name, int(datatype)) for datatype in DataType] == [(n, i) for i, n in enumerate(NUMBERS)]
    known = {name for name, *_ in (*INTEGERS, *OTHERS)} | set(ARRAYS) | NOT_WRITTEN
    assert known == set(NUMBERS)


@pytest.mark.parametrize(("datatype", "least", "greatest", "field"), INTEGERS)
def test_a_whole_number_travels_in_its_bounds(datatype: str, least: int, greatest: int, field: str) -> None:
    for value in (least, greatest, 0, 1):
        payload = encode_payload([one(datatype, value)], None, None)
        assert raw(payload).WhichOneof("value") == field
        assert decode_payload(payload).metrics[0].value == value
    for value in (least - 1, greatest + 1, True, 1.0, "1"):
        assert refusal(encode_payload, [one(datatype, value)], None, None) == "payload_value"


@pytest.mark.parametrize(("datatype", "typecode"), ARRAYS.items())
def test_an_array_travels_as_little_endian_items_of_its_width(datatype: str, typecode: str) -> None:
    values = array(typecode, [1, 2, 100])
    payload = encode_payload([one(datatype, values)], None, None)
    assert raw(payload).bytes_value == pack_array(values)
    assert decode_payload(payload).metrics[0].value == values
    assert decode_payload(payload).metrics[0].value.typecode == typecode  # it is an array
    other = "d" if typecode != "d" else "f"
    for value in (array(other, [1]), [1, 2], b"\x01"):
        assert refusal(encode_payload, [one(datatype, value)], None, None) == "payload_value"


@pytest.mark.parametrize(("datatype", "value", "field"), OTHERS)
def test_other_values_travel_in_their_own_fields(datatype: str, value: Any, field: str) -> None:
    payload = encode_payload([one(datatype, value)], None, None)
    assert raw(payload).WhichOneof("value") == field
    assert decode_payload(payload).metrics[0].value == value


@pytest.mark.parametrize("datatype", sorted(NOT_WRITTEN))
def test_what_the_codec_does_not_write_is_refused(datatype: str) -> None:
    assert refusal(encode_payload, [one(datatype, b"")], None, None) == "payload_value"


def test_why_a_value_was_refused_is_said_at_bounded_length() -> None:
    with pytest.raises(BadInput) as caught:
        encode_payload([one("INT8", 10**500)], None, None)
    assert len(str(caught.value)) <= len("payload_value: ") + 200


@pytest.mark.parametrize(
    ("datatype", "field", "sent", "read"),
    [
        ("INT8", "int_value", 0x80, -128),
        ("INT8", "int_value", 0x1FF, -1),
        ("INT8", "int_value", 0x7F, 127),
        ("INT16", "int_value", 0xFFFF_8000, -(1 << 15)),
        ("INT32", "int_value", 0xFFFF_FFFF, -1),
        ("INT64", "long_value", (1 << 64) - 1, -1),
        ("INT64", "int_value", 5, 5),
        ("UINT8", "int_value", 0x1FF, 255),
        ("UINT64", "long_value", (1 << 64) - 1, (1 << 64) - 1),
        ("DATETIME", "long_value", 7, 7),
        ("UNKNOWN", "int_value", 0xFFFF_FFFF, 0xFFFF_FFFF),
        ("UNKNOWN", "long_value", (1 << 64) - 1, (1 << 64) - 1),
        ("UNKNOWN", "double_value", 1e300, 1e300),
        ("UNKNOWN", "float_value", 0.5, 0.5),
        ("UNKNOWN", "boolean_value", True, True),
        ("UNKNOWN", "string_value", "s", "s"),
        ("UNKNOWN", "bytes_value", b"s", b"s"),
        ("FLOAT", "double_value", 0.5, 0.5),
        ("DOUBLE", "float_value", 0.5, 0.5),
        ("DOUBLE", "double_value", 0.1, 0.1),
        ("FLOAT", "int_value", 1, None),
        ("DOUBLE", "long_value", 1, None),
        ("INT8", "float_value", 1.0, None),
        ("INT8", "double_value", 1.0, None),
        ("INT8", "boolean_value", True, None),
        ("BOOLEAN", "int_value", 1, None),
        ("BOOLEAN", "double_value", 1.0, None),
        ("INT8", "string_value", "1", None),
        ("BYTES", "string_value", "1", None),
        ("STRING", "bytes_value", b"1", None),
        ("DOUBLE", "bytes_value", b"1", None),
        ("BOOLEAN_ARRAY", "bytes_value", b"1", None),
        ("STRING_ARRAY", "bytes_value", b"1", None),
        ("INT8_ARRAY", "int_value", 1, None),
        ("TEMPLATE", "string_value", "1", None),
    ],
)
def test_what_others_write_is_read_as_its_data_type_says(datatype: str, field: str, sent: Any, read: Any) -> None:
    value = foreign(datatype, **{field: sent})
    assert value == read and type(value) is type(read)


def test_nothing_is_read_where_nothing_or_null_was_sent() -> None:
    assert foreign("DOUBLE") is None
    assert foreign("UNKNOWN") is None
    assert foreign("DOUBLE", double_value=1.0, is_null=True) is None
    assert foreign("UNKNOWN", double_value=1.0, is_null=True) is None


def test_an_array_of_broken_items_is_refused() -> None:
    assert refusal(lambda: foreign("INT16_ARRAY", bytes_value=b"123")) == "array_length"
    assert unpack_array(b"", "d") == array("d") and unpack_array(b"\x01\x02", "B") == array("B", [1, 2])


def test_arrays_are_little_endian_on_a_machine_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = array("H", [1, 0x0203])
    assert pack_array(values) == b"\x01\x00\x03\x02" if sys.byteorder == "little" else True
    swapped = array("H", [0x0100, 0x0302])
    monkeypatch.setattr(sys, "byteorder", "little" if sys.byteorder == "big" else "big")
    assert unpack_array(pack_array(values), "H") == values
    assert pack_array(values) == swapped.tobytes()
    assert values == array("H", [1, 0x0203])  # packing changes nothing


def test_unknown_data_types_are_refused() -> None:
    message = payload_pb2.Payload()
    metric = message.metrics.add(name="m", datatype=35)
    assert refusal(decode_payload, message.SerializeToString()) == "datatype"
    metric.datatype = 34
    assert decode_payload(message.SerializeToString()).metrics[0].datatype is DataType.DATETIME_ARRAY
    metric.properties.keys.append("k")
    metric.properties.values.add(type=35)
    assert refusal(decode_payload, message.SerializeToString()) == "datatype"


def test_every_part_of_a_metric_comes_back_and_what_is_absent_stays_absent() -> None:
    full = Metric("a/b", DataType.DOUBLE, 1.5, 0, 0, True, {"low": (DataType.INT32, -1), "no": (DataType.TEXT, None)})
    bare = Metric("c", DataType.DOUBLE, None)
    by_alias = Metric("", DataType.DOUBLE, 2.5, 7, 8)
    decoded = decode_payload(encode_payload([full, bare, by_alias], 0, 0))
    assert decoded == Payload(0, 0, (full, bare, by_alias._replace(datatype=DataType.UNKNOWN)))
    assert (bare.alias, bare.timestamp_ms, bare.is_historical, bare.properties) == (None, None, False, NO_PROPERTIES)
    assert decode_payload(encode_payload([], None, None)) == Payload(None, None, ())


def test_only_what_is_there_is_written() -> None:
    assert encode_payload([], None, None) == b""
    sent = raw(encode_payload([Metric("", DataType.DOUBLE, 1.0, 3)], None, None))
    assert not any(sent.HasField(name) for name in ("name", "datatype", "timestamp", "is_historical", "is_null"))
    named = raw(encode_payload([Metric("m", DataType.DOUBLE, None)], None, None))
    assert named.is_null and named.datatype == 10 and not named.HasField("alias")
    prop = {"k": (DataType.DOUBLE, None), "n": (DataType.INT64, -1)}
    properties = raw(encode_payload([Metric("m", DataType.DOUBLE, 1.0, properties=prop)], None, None)).properties
    assert [value.type for value in properties.values] == [10, 4]
    assert [value.is_null for value in properties.values] == [True, False]
    assert properties.values[1].long_value == (1 << 64) - 1


def test_a_property_of_a_property_is_passed_over() -> None:
    message = payload_pb2.Payload()
    metric = message.metrics.add(name="m", datatype=10)
    assert decode_payload(message.SerializeToString()).metrics[0].properties is NO_PROPERTIES
    metric.properties.keys.append("k")
    metric.properties.values.add(type=int(DataType.STRING), string_value="v")
    metric.properties.keys.append("null")
    metric.properties.values.add(type=int(DataType.STRING), string_value="v", is_null=True)
    assert decode_payload(message.SerializeToString()).metrics[0].properties == {
        "k": (DataType.STRING, "v"),
        "null": (DataType.STRING, None),
    }


def with_properties(count: int, values: int) -> bytes:
    message = payload_pb2.Payload()
    metric = message.metrics.add(name="m", datatype=10)
    metric.properties.keys.extend(f"k{number}" for number in range(count))
    for _ in range(values):
        metric.properties.values.add(type=10, double_value=1.0)
    return message.SerializeToString()


def test_properties_are_bounded_and_have_a_value_each() -> None:
    assert len(decode_payload(with_properties(32, 32)).metrics[0].properties) == 32
    for count, values in ((33, 33), (2, 1), (1, 2)):
        assert refusal(decode_payload, with_properties(count, values)) == "properties"


def test_names_and_texts_are_bounded_and_hold_no_nul() -> None:
    name, text = "n" * 512, "t" * (256 * 1024)
    good = Metric(name, DataType.STRING, text, properties={name: (DataType.STRING, "p")})
    assert decode_payload(encode_payload([good], None, None)).metrics == (good,)
    for bad in (
        Metric(name + "n", DataType.STRING, ""),
        Metric("m", DataType.STRING, text + "t"),
        Metric("m\x00", DataType.STRING, ""),
        Metric("m", DataType.STRING, "\x00"),
        Metric("m", DataType.STRING, "", properties={name + "n": (DataType.STRING, "p")}),
    ):
        assert refusal(decode_payload, encode_payload([bad], None, None)) == "payload_text"


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    payload = bytes.fromhex("12050a01ff200a")  # the name is one byte, 0xff
    assert refusal(decode_payload, payload) in ("payload_text", "payload_encoding")


def test_times_are_bounded_in_payloads_and_metrics() -> None:
    latest = 1 << 53
    metric = one("DOUBLE", 1.0, timestamp_ms=latest)
    assert decode_payload(encode_payload([metric], latest, None)) == Payload(latest, None, (metric,))
    assert refusal(decode_payload, encode_payload([], latest + 1, None)) == "time"
    assert refusal(decode_payload, encode_payload([one("DOUBLE", 1.0, timestamp_ms=latest + 1)], 1, None)) == "time"


def test_metrics_are_counted_on_both_sides() -> None:
    metric = Metric("", DataType.DOUBLE, 1.0, 1)
    most = encode_payload([metric] * 16_384, None, None)
    assert len(decode_payload(most).metrics) == 16_384
    assert refusal(encode_payload, [metric] * 16_385, None, None) == "payload_metrics"
    assert len(decode_payload(b"\x12\x00" * 16_384).metrics) == 16_384
    assert refusal(decode_payload, b"\x12\x00" * 16_385) == "payload_metrics"


def test_bytes_are_counted_on_both_sides() -> None:
    metric = one("BYTES", bytes((1 << 20) - 100))
    size = len(encode_payload([metric], None, None))
    fitting = one("BYTES", bytes((1 << 20) - 100 + (1 << 20) - size))
    payload = encode_payload([fitting], None, None)
    assert len(payload) == 1 << 20
    assert decode_payload(payload).metrics == (fitting,)
    too_large = one("BYTES", bytes(len(fitting.value) + 1))  # it is bytes
    assert refusal(encode_payload, [too_large], None, None) == "payload_size"
    assert refusal(decode_payload, payload + b"\x18\x01") == "payload_size"
    small = encode_payload([one("BYTES", b"12")], None, None, len(encode_payload([one("BYTES", b"12")], None, None)))
    assert refusal(encode_payload, [one("BYTES", b"123")], None, None, len(small)) == "payload_size"
    assert decode_payload(small, len(small)).metrics
    assert refusal(decode_payload, small, len(small) - 1) == "payload_size"


def test_what_is_no_payload_says_so() -> None:
    assert refusal(decode_payload, b"\xff") == refusal(mark_historical, b"\xff") == "payload_encoding"
    assert refusal(mark_historical, bytes((1 << 20) + 1)) == "payload_size"


@given(st.integers(0, 255))
def test_a_sequence_number_added_later_is_the_one_encoded_at_once(seq: int) -> None:
    metrics = [one("DOUBLE", 1.0)]
    assert with_seq(encode_payload(metrics, 5, None), seq) == encode_payload(metrics, 5, seq)


def test_only_what_has_a_time_becomes_history() -> None:
    timed, header = one("DOUBLE", 1.0, timestamp_ms=5), one("DOUBLE", 2.0)
    late = decode_payload(mark_historical(encode_payload([timed, header], 5, None)))
    assert [metric.is_historical for metric in late.metrics] == [True, False]
    assert late.metrics[0] == timed._replace(is_historical=True)
