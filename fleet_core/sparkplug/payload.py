"""Sparkplug B payloads: bytes <-> :class:`Payload`.

The messages are those of payload.proto, which has the field numbers of the specification (Sparkplug 3.0, chapter 6);
``make proto`` generates payload_pb2 from it. Data sets, templates and nested property sets of third parties are
recognised and read as ``value=None``: they pass through without being understood.

Bounds: a payload is at most 1 MiB and 16,384 metrics, checked before the metrics are built; names and texts are
bounded too. Failure: whatever the bytes, :func:`decode_payload` raises only BadInput.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from fleet_core.errors import BadInput
from fleet_core.sparkplug import payload_pb2

MAX_PAYLOAD_BYTES = 1 << 20
MAX_METRICS = 16_384
MAX_NAME_CHARS = 512
MAX_TEXT_CHARS = 256 * 1024
MAX_PROPERTIES = 32
MAX_TIMESTAMP_MS = 1 << 53


class DataType(IntEnum):
    """Sparkplug data types (section 6.4.16)."""

    UNKNOWN = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


Scalar = bool | int | float | str
Value = Scalar | bytes | array | None
Property = tuple[DataType, Scalar | None]
NO_PROPERTIES: Mapping[str, Property] = MappingProxyType({})


class Metric(NamedTuple):
    """One metric. Array data types hold an ``array``; ``value`` is None when null or not understood.

    A named tuple, not a dataclass: thousands are made for every payload.
    """

    name: str
    datatype: DataType
    value: Value
    alias: int | None = None
    timestamp_ms: int | None = None
    is_historical: bool = False
    properties: Mapping[str, Property] = NO_PROPERTIES


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload. ``seq`` is None in NDEATH and NCMD payloads."""

    timestamp_ms: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


_D = DataType
_DATATYPES = {int(datatype): datatype for datatype in DataType}
_BITS = {_D.INT8: 8, _D.INT16: 16, _D.INT32: 32, _D.INT64: 64, _D.UINT8: 8, _D.UINT16: 16, _D.UINT32: 32}
_BITS |= {_D.UINT64: 64, _D.DATETIME: 64}
_SIGNED = frozenset((_D.INT8, _D.INT16, _D.INT32, _D.INT64))
_TEXTS = frozenset((_D.STRING, _D.TEXT, _D.UUID))
_BINARY = frozenset((_D.BYTES, _D.FILE))
_TYPECODES = {
    _D.INT8_ARRAY: "b",
    _D.INT16_ARRAY: "h",
    _D.INT32_ARRAY: "i",
    _D.INT64_ARRAY: "q",
    _D.UINT8_ARRAY: "B",
    _D.UINT16_ARRAY: "H",
    _D.UINT32_ARRAY: "I",
    _D.UINT64_ARRAY: "Q",
    _D.FLOAT_ARRAY: "f",
    _D.DOUBLE_ARRAY: "d",
    _D.DATETIME_ARRAY: "Q",
}


def encode_payload(
    metrics: Iterable[Metric], timestamp_ms: int | None, seq: int | None, max_bytes: int = MAX_PAYLOAD_BYTES
) -> bytes:
    """Encode; the same metrics give the same bytes. Raises BadInput when a value does not fit its type or a bound."""
    message = payload_pb2.Payload()
    try:
        if timestamp_ms is not None:
            message.timestamp = timestamp_ms
        if seq is not None:
            message.seq = seq
        for metric in metrics:
            _fill_metric(message.metrics.add(), metric)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput("payload_value", str(error)[:200]) from None
    if len(message.metrics) > MAX_METRICS:
        raise BadInput("payload_metrics", f"{len(message.metrics)} metrics, at most {MAX_METRICS}")
    encoded = message.SerializeToString(deterministic=True)
    if len(encoded) > max_bytes:
        raise BadInput("payload_size", f"{len(encoded)} bytes, at most {max_bytes}")
    return encoded


def decode_payload(payload: bytes, max_bytes: int = MAX_PAYLOAD_BYTES) -> Payload:
    """Decode hostile bytes. Raises BadInput, never anything else."""
    message = _parse(payload, max_bytes)
    return Payload(
        timestamp_ms=_timestamp(message),
        seq=message.seq if message.HasField("seq") else None,
        metrics=tuple(_read_metric(metric) for metric in message.metrics),
    )


def with_seq(payload: bytes, seq: int) -> bytes:
    """The payload, which was encoded without ``seq``, with it. The number is the last field, so it is appended."""
    return payload + (bytes((0x18, seq)) if seq < 0x80 else bytes((0x18, seq & 0x7F | 0x80, seq >> 7)))


def mark_historical(payload: bytes) -> bytes:
    """The same payload with every timed metric marked as history. Raises BadInput."""
    message = _parse(payload, MAX_PAYLOAD_BYTES)
    for metric in message.metrics:
        if metric.HasField("timestamp"):
            metric.is_historical = True
    return message.SerializeToString(deterministic=True)


def pack_array(values: array) -> bytes:
    """An array's items, little-endian."""
    if sys.byteorder == "big":
        values = array(values.typecode, values)
        values.byteswap()
    return values.tobytes()


def unpack_array(packed: bytes, typecode: str) -> array:
    """The reverse of :func:`pack_array`. Raises BadInput when the length is not a whole number of items."""
    values = array(typecode)
    if len(packed) % values.itemsize:
        raise BadInput("array_length", f"{len(packed)} bytes are not whole items of {values.itemsize}")
    values.frombytes(packed)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _parse(payload: bytes, max_bytes: int) -> payload_pb2.Payload:
    if len(payload) > max_bytes:
        raise BadInput("payload_size", f"{len(payload)} bytes, at most {max_bytes}")
    try:
        # A metric takes at least two bytes. Only a payload long enough for too many is counted unparsed first.
        if len(payload) > 2 * MAX_METRICS and len(payload_pb2.Envelope.FromString(payload).metrics) > MAX_METRICS:
            raise BadInput("payload_metrics", f"more than {MAX_METRICS} metrics")
        return payload_pb2.Payload.FromString(payload)
    except (DecodeError, UnicodeDecodeError):
        raise BadInput("payload_encoding", "not a Sparkplug B payload") from None


def _fill_metric(target: payload_pb2.Metric, metric: Metric) -> None:
    if metric.name:
        target.name = metric.name
    if metric.alias is not None:
        target.alias = metric.alias
    if metric.timestamp_ms is not None:
        target.timestamp = metric.timestamp_ms
    if metric.name:  # a metric sent by alias alone needs none: it has the data type of its birth
        target.datatype = int(metric.datatype)
    if metric.is_historical:
        target.is_historical = True
    for key, (datatype, value) in metric.properties.items():
        target.properties.keys.append(key)
        _fill_property(target.properties.values.add(), datatype, value)
    if metric.value is None:
        target.is_null = True
    else:
        field_name, raw = _raw_value(metric.datatype, metric.value)
        setattr(target, field_name, raw)


def _fill_property(target: payload_pb2.PropertyValue, datatype: DataType, value: Scalar | None) -> None:
    target.type = int(datatype)
    if value is None:
        target.is_null = True
    else:
        field_name, raw = _raw_value(datatype, value)
        setattr(target, field_name, raw)


def _raw_value(datatype: DataType, value: Any) -> tuple[str, Any]:
    bits = _BITS.get(datatype)
    if bits is not None:
        low = -(1 << (bits - 1)) if datatype in _SIGNED else 0
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < low + (1 << bits):
            raise ValueError(f"{value!r} does not fit {datatype.name}")
        if bits == 64:
            return "long_value", value & 0xFFFF_FFFF_FFFF_FFFF
        return "int_value", value & 0xFFFF_FFFF
    if datatype in _TYPECODES:
        if not isinstance(value, array) or value.typecode != _TYPECODES[datatype]:
            raise ValueError(f"{datatype.name} needs array({_TYPECODES[datatype]!r})")
        return "bytes_value", pack_array(value)
    if datatype in _TEXTS:
        return "string_value", value
    try:
        return {
            _D.FLOAT: "float_value",
            _D.DOUBLE: "double_value",
            _D.BOOLEAN: "boolean_value",
            _D.BYTES: "bytes_value",
            _D.FILE: "bytes_value",
        }[datatype], value
    except KeyError:
        raise ValueError(f"data type {datatype.name} is not written by this codec") from None


def _read_metric(message: payload_pb2.Metric) -> Metric:
    datatype = _DATATYPES.get(message.datatype)
    if datatype is None:
        raise BadInput("datatype", f"{message.datatype} is not a Sparkplug data type")
    name = message.name
    return Metric(
        _bounded(name, MAX_NAME_CHARS) if name else "",
        datatype,
        None if message.is_null else _read_value(message, datatype),
        message.alias if message.HasField("alias") else None,
        _timestamp(message),
        message.is_historical,
        _read_properties(message.properties) if message.HasField("properties") else NO_PROPERTIES,
    )


def _read_properties(message: payload_pb2.PropertySet) -> dict[str, Property]:
    if len(message.keys) != len(message.values) or len(message.keys) > MAX_PROPERTIES:
        raise BadInput("properties", f"{len(message.keys)} keys for {len(message.values)} values")
    read: dict[str, Property] = {}
    for key, value in zip(message.keys, message.values, strict=True):
        datatype = _DATATYPES.get(value.type)
        if datatype is None:
            raise BadInput("datatype", f"{value.type} is not a Sparkplug data type")
        found = None if value.is_null else _read_value(value, datatype)
        read[_bounded(key, MAX_NAME_CHARS)] = (datatype, found if isinstance(found, Scalar) else None)
    return read


def _read_value(message: payload_pb2.Metric | payload_pb2.PropertyValue, datatype: DataType) -> Value:
    which = message.WhichOneof("value")
    if which == "double_value" and datatype is _D.UNKNOWN:  # a sample by alias: nearly all metrics are
        return message.double_value
    if which is None:
        return None
    reader = _READERS.get(which)
    return reader(getattr(message, which), datatype) if reader else None


def _read_integer(raw: int, datatype: DataType) -> Value:
    bits = _BITS.get(datatype)
    if bits is None:  # data messages need not repeat the data type: the number as it stands
        return raw if datatype is _D.UNKNOWN else None
    raw &= (1 << bits) - 1
    return raw - (1 << bits) if datatype in _SIGNED and raw >> (bits - 1) else raw


def _read_bytes(raw: bytes, datatype: DataType) -> Value:
    typecode = _TYPECODES.get(datatype)
    if typecode is not None:
        return unpack_array(raw, typecode)
    return raw if datatype in _BINARY or datatype is _D.UNKNOWN else None


def _read_text(raw: str, datatype: DataType) -> Value:
    return _bounded(raw, MAX_TEXT_CHARS) if datatype in _TEXTS or datatype is _D.UNKNOWN else None


def _read_as(*types: DataType) -> Callable[[Any, DataType], Value]:
    return lambda raw, datatype: raw if datatype in types or datatype is _D.UNKNOWN else None


_READERS: dict[str, Callable[[Any, DataType], Value]] = {
    "int_value": _read_integer,
    "long_value": _read_integer,
    "float_value": _read_as(_D.FLOAT, _D.DOUBLE),
    "double_value": _read_as(_D.DOUBLE, _D.FLOAT),
    "boolean_value": _read_as(_D.BOOLEAN),
    "string_value": _read_text,
    "bytes_value": _read_bytes,
}


def _timestamp(message: payload_pb2.Payload | payload_pb2.Metric) -> int | None:
    timestamp_ms = message.timestamp
    if timestamp_ms > MAX_TIMESTAMP_MS:
        raise BadInput("time", f"timestamp {timestamp_ms} ms is out of range")
    return timestamp_ms if timestamp_ms or message.HasField("timestamp") else None


def _bounded(text: str | bytes, limit: int) -> str:
    if isinstance(text, bytes):  # the runtime returns bytes for a text that is not UTF-8
        raise BadInput("payload_text", "a text is not UTF-8")
    if len(text) > limit or "\x00" in text:
        raise BadInput("payload_text", f"a text of {len(text)} characters, at most {limit} and no U+0000")
    return text
