"""Batches: the unit of storage, acknowledgement and conservation; :class:`Batch` <-> Sparkplug data payload.

A batch is one NDATA (``device_id`` "") or DDATA payload. Its header metrics (``Forestall/...``) are sent by name, so
that its identity can be read before its schema is known; samples are ordinary Sparkplug metrics by alias with their
own timestamps, readable by any host. Sparkplug counts milliseconds: the microseconds below them travel in
``Forestall/SubMs``, in the order of the samples, only when there are any.

Invariants
* A batch holds one class of content and is never empty; its key is (agent, outbox, number).
* ``batch_digest`` covers content, neither ``seq`` nor ``historical``: a resend has the same digest. Each batch holds
  the digest of the one before it in its outbox (32 zero bytes in the first), a hash chain.
* A metric has at most one column; decoding gives back exactly what was encoded, to the microsecond and bit.

Failure: decoding raises only BadInput, whatever the bytes; encoding raises BadInput for content out of bounds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

from fleet_core.batch_model import (
    FIRST_PREV,
    MAX_BATCH_BYTES,
    MAX_EVENTS,
    MAX_FRAGMENT_SAMPLES,
    MAX_GAPS,
    MAX_SAMPLES,
    SHA256,
    Batch,
    GapRecord,
    Header,
    SampleColumn,
    WaveformFragment,
    batch_digest,
    check_batch,
    check_uuid,
    is_count,
    parse_class,
)
from fleet_core.errors import BadInput
from fleet_core.schema import EMPTY_SCHEMA, Schema
from fleet_core.sparkplug.payload import (
    MAX_PAYLOAD_BYTES,
    DataType,
    Metric,
    Payload,
    Property,
    decode_payload,
    encode_payload,
    mark_historical,
    unpack_array,
    with_seq,
)
from fleet_core.telemetry import Finding, StateChange, check_time_us

__all__ = [
    "BATCH_METRICS",
    "EMPTY_SCHEMA",
    "FIRST_PREV",
    "MAX_BATCH_BYTES",
    "MAX_FRAGMENT_SAMPLES",
    "MAX_GAPS",
    "MAX_SAMPLES",
    "Batch",
    "GapRecord",
    "Header",
    "SampleColumn",
    "Schema",
    "WaveformFragment",
    "batch_digest",
    "batch_header",
    "check_uuid",
    "decode_batch",
    "encode_batch",
    "mark_historical",
    "with_seq",
]

BATCH, OUTBOX, BOOT, SCHEMA = "Forestall/Batch", "Forestall/Outbox", "Forestall/Boot", "Forestall/Schema"
PREV, CLASS, CREATED, SUB_MS = "Forestall/Prev", "Forestall/Class", "Forestall/Created", "Forestall/SubMs"
FINDING, STATE, GAP = "Forestall/Finding", "Forestall/State", "Forestall/Gap"
HEADER_METRICS = {
    BATCH: DataType.UINT64,
    OUTBOX: DataType.UUID,
    BOOT: DataType.UUID,
    SCHEMA: DataType.STRING,
    PREV: DataType.BYTES,
    CLASS: DataType.STRING,
    CREATED: DataType.INT64,
    SUB_MS: DataType.UINT16_ARRAY,
}
"""The metrics sent by name before the content of every batch."""
BATCH_METRICS = {**HEADER_METRICS, FINDING: DataType.STRING, STATE: DataType.STRING, GAP: DataType.STRING}
"""All metrics that batches send by name; births announce them."""


def encode_batch(batch: Batch, schema: Schema, seq: int | None, max_bytes: int = MAX_BATCH_BYTES) -> bytes:
    """The payload of a batch. With ``seq`` None the sequence number is left out, for ``with_seq`` to add.

    Raises BadInput when the content breaks a bound or the payload is larger than ``max_bytes``.
    """
    check_batch(batch)
    if batch.schema_digest != schema.digest:
        raise BadInput("schema", "the batch names another schema")
    head = (batch.number, batch.outbox_id, batch.boot_id, batch.schema_digest, batch.prev_digest)
    values = dict(zip(HEADER_METRICS, (*head, batch.batch_class.value, batch.created_us), strict=False))
    metrics = [Metric(name, HEADER_METRICS[name], value) for name, value in values.items()]
    times_us = [time_us for column in batch.columns for time_us in column.times_us]
    if batch.waveform is not None:
        times_us.append(batch.waveform.time_us)
    sub_ms = array("H", [time_us % 1000 for time_us in times_us])
    if any(sub_ms):
        metrics.append(Metric(SUB_MS, DataType.UINT16_ARRAY, sub_ms))
    metrics.extend(_content(batch, schema))
    return encode_payload(metrics, batch.created_us // 1000, seq, max_bytes)


def batch_header(payload: bytes | Payload) -> Header:
    """A batch's identity. Raises BadInput, also when the payload is no batch of ours."""
    if not isinstance(payload, Payload):
        payload = decode_payload(payload)
    found: dict[str, Any] = {}
    for metric in payload.metrics:
        if metric.name in HEADER_METRICS:
            if metric.name in found:
                raise BadInput("batch_header", f"{metric.name} twice")
            found[metric.name] = metric.value
    number, prev, digest = found.get(BATCH), found.get(PREV), found.get(SCHEMA)
    if not is_count(number) or number == 0:
        raise BadInput("batch_header", "no batch number")
    if not isinstance(prev, bytes) or len(prev) != 32 or not isinstance(digest, str) or not SHA256.match(digest):
        raise BadInput("batch_header", "no digest of the batch before or of the schema")
    return Header(
        outbox_id=check_uuid(found.get(OUTBOX)),
        number=number,
        boot_id=check_uuid(found.get(BOOT)),
        schema_digest=digest,
        prev_digest=prev,
        batch_class=parse_class(found.get(CLASS)),
        created_us=check_time_us(found.get(CREATED)),
        seq=payload.seq,
    )


def decode_batch(payload: bytes | Payload, schema: Schema, device_id: str, max_bytes: int = MAX_PAYLOAD_BYTES) -> Batch:
    """The batch in a payload that came on the topic of ``device_id`` ("" for NDATA).

    Batches without samples name ``EMPTY_SCHEMA`` and can be read with any schema. Raises BadInput.
    """
    if not isinstance(payload, Payload):
        payload = decode_payload(payload, max_bytes)
    header = batch_header(payload)
    if header.schema_digest == EMPTY_SCHEMA.digest:
        schema = EMPTY_SCHEMA
    if header.schema_digest != schema.digest:
        raise BadInput("schema", "the batch names another schema")
    reader = _Reader(schema)
    for metric in payload.metrics:
        reader.take(metric)
    batch = Batch(
        outbox_id=header.outbox_id,
        number=header.number,
        boot_id=header.boot_id,
        schema_digest=header.schema_digest,
        prev_digest=header.prev_digest,
        batch_class=header.batch_class,
        device_id=device_id,
        created_us=header.created_us,
        columns=reader.columns(),
        waveform=reader.waveform,
        findings=tuple(reader.findings),
        states=tuple(reader.states),
        gaps=tuple(reader.gaps),
        historical=reader.historical,
    )
    check_batch(batch)
    return batch


def _content(batch: Batch, schema: Schema) -> Iterator[Metric]:
    late = batch.historical
    for column in batch.columns:
        alias = schema.alias(column.metric)
        for time_us, value in zip(column.times_us, column.values, strict=True):
            yield Metric("", DataType.DOUBLE, value, alias, time_us // 1000, late)
    wave = batch.waveform
    if wave is not None:
        properties: dict[str, Property] = {
            "sampleRate": (DataType.DOUBLE, wave.sample_rate_hz),
            "engUnit": (DataType.STRING, wave.unit),
            "fragment": (DataType.UINT32, wave.index),
            "fragments": (DataType.UINT32, wave.count),
        }
        alias = schema.alias(wave.metric)
        yield Metric("", DataType.FLOAT_ARRAY, wave.values, alias, wave.time_us // 1000, late, properties)
    for name, events in ((FINDING, batch.findings), (STATE, batch.states)):
        for event in events:
            text = type(event).from_json(event.to_json()).to_json()
            yield Metric(name, DataType.STRING, text, None, _event_us(event) // 1000, late)
    for gap in batch.gaps:
        yield Metric(GAP, DataType.STRING, gap.to_json(), None, gap.end_us // 1000, late)


class _Reader:
    """Collects a payload's metrics into a batch's content."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.waveform: WaveformFragment | None = None
        self.findings: list[Finding] = []
        self.states: list[StateChange] = []
        self.gaps: list[GapRecord] = []
        self.historical = False
        self._columns: dict[int, SampleColumn] = {}
        self._sub_ms: array[int] = array("H")
        self._timed = 0

    def take(self, metric: Metric) -> None:
        if metric.alias is not None:
            self.historical |= metric.is_historical
            self._take_vital(metric.alias, metric)
            return
        if metric.name in HEADER_METRICS:
            if metric.name == SUB_MS:
                self._take_sub_ms(metric.value)
            return
        self.historical |= metric.is_historical
        if metric.name == FINDING:
            self.findings.append(Finding.from_json(_text(metric)))
        elif metric.name == STATE:
            self.states.append(StateChange.from_json(_text(metric)))
        elif metric.name == GAP:
            self.gaps.append(GapRecord.from_json(_text(metric)))
        else:
            raise BadInput("unknown_metric", f"{metric.name[:60]!r} is not part of a batch")
        if len(self.findings) + len(self.states) > MAX_EVENTS or len(self.gaps) > MAX_GAPS:
            raise BadInput("batch_content", "too many findings, states or gaps")

    def columns(self) -> tuple[SampleColumn, ...]:
        if len(self._sub_ms) not in (0, self._timed):
            raise BadInput("batch_content", f"{len(self._sub_ms)} remainders for {self._timed} times")
        return tuple(self._columns.values())

    def _take_sub_ms(self, value: Any) -> None:
        if not isinstance(value, array) or value.typecode != "H" or self._timed or any(v > 999 for v in value):
            raise BadInput("batch_content", f"{SUB_MS} must precede the samples and stay below 1000")
        self._sub_ms = value

    def _take_vital(self, alias: int, metric: Metric) -> None:
        if metric.timestamp_ms is None:
            raise BadInput("sample_time", "a sample has no timestamp")
        remainder_us = self._sub_ms[self._timed] if self._timed < len(self._sub_ms) else 0
        time_us = metric.timestamp_ms * 1000 + remainder_us
        self._timed += 1
        column = self._columns.get(alias)
        if column is None:
            spec = self.schema.spec(alias)
            if spec.kind == "waveform":
                self._take_waveform(spec.name, time_us, metric)
                return
            column = self._columns[alias] = SampleColumn(spec.name, array("q"), array("d"))
        if not isinstance(metric.value, float):
            raise BadInput("sample_value", f"{column.metric}: not a floating-point number")
        column.times_us.append(time_us)
        column.values.append(metric.value)

    def _take_waveform(self, name: str, time_us: int, metric: Metric) -> None:
        # A waveform is sent by alias, so without a data type: the value is the bytes as they stand.
        if self.waveform is not None or not isinstance(metric.value, bytes):
            raise BadInput("waveform", f"{name}: more than one, or not an array")
        rate, unit, index, count = (
            metric.properties.get(key, (DataType.UNKNOWN, None))[1]
            for key in ("sampleRate", "engUnit", "fragment", "fragments")
        )
        if not isinstance(rate, float) or not isinstance(unit, str) or not is_count(index) or not is_count(count):
            raise BadInput("waveform", f"{name}: sample rate, unit or fragment is missing")
        values = unpack_array(metric.value, "f")
        self.waveform = WaveformFragment(name, time_us, rate, unit, index, count, values)


def _event_us(event: Finding | StateChange) -> int:
    return event.detected_us if isinstance(event, Finding) else event.time_us


def _text(metric: Metric) -> str:
    if not isinstance(metric.value, str):
        raise BadInput("batch_content", f"{metric.name} is not a text")
    return metric.value
