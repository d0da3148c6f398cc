"""Messages <-> payloads. A payload is a CBOR map with integer keys; key 0 holds the message's kind. Pure.

``encode`` turns a message into a payload. ``decode`` turns a payload into a message or raises BadInput, never anything
else: every text, number and list is bounded before it is used. Unknown keys are ignored, because a newer device may
send more fields; an unknown kind is BadInput("message_kind").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firmware_bridge import cbor
from firmware_bridge.frames import MAX_PAYLOAD
from firmware_bridge.messages import (
    MAX_COMPONENTS,
    MAX_METRICS,
    MAX_ROWS,
    MAX_TEXT,
    MAX_TICKS,
    MAX_U32,
    PROTOCOL_VERSION,
    STREAM_COUNT,
    Ack,
    AckStatus,
    Command,
    CommandKind,
    Describe,
    Hello,
    Kind,
    Lost,
    Message,
    MetricInfo,
    Samples,
    TimeReply,
    TimeRequest,
    WaveformFragment,
)
from fleet_core.errors import BadInput
from fleet_core.telemetry import MAX_WAVEFORM_SAMPLES, ComponentSpec, check_name


def encode(message: Message) -> bytes:
    """The payload of one frame. Raises BadInput when the message does not fit one: the sender's programming error."""
    match message:
        case Hello():
            parts = [[part.slot, part.type, part.serial, part.part_no] for part in message.components]
            fields: list[Any] = [message.version, message.model, message.serial, message.firmware, message.boot, parts]
            fields.append(message.tick_hz)
            kind = Kind.HELLO
        case Describe():
            kind = Kind.DESCRIBE
            rows = [[m.id, m.name, m.unit, m.slot, m.period_ms, m.sample_rate_hz] for m in message.metrics]
            fields = [rows]
        case Samples():
            base = message.rows[0][0] if message.rows else 0
            kind = Kind.SAMPLES
            fields = [list(message.ids), base, [[ticks - base, *values] for ticks, values in message.rows]]
            fields.append(message.historical)
        case WaveformFragment():
            m, kind = message, Kind.WAVEFORM
            fields = [m.id, m.number, m.ticks, m.offset, m.total, m.sample_rate_hz, m.scale, m.data, m.historical]
        case Lost():
            kind, fields = Kind.LOST, [message.count, message.from_ticks, message.to_ticks]
        case Command():
            kind, fields = Kind.COMMAND, [message.id, int(message.kind), message.argument]
        case Ack():
            kind, fields = (
                Kind.ACK,
                [message.command_id, int(message.status), list(message.next_sequences), message.since_ticks],
            )
        case TimeRequest():
            kind, fields = Kind.TIME_REQUEST, [message.id, list(message.confirmed)]
        case TimeReply():
            kind, fields = Kind.TIME_REPLY, [message.id, message.ticks, list(message.next_sequences)]
    payload = cbor.dumps({0: int(kind)} | dict(enumerate(fields, 1)))
    if len(payload) > MAX_PAYLOAD:
        raise BadInput("message_size", f"{kind.name.lower()} takes {len(payload)} bytes, at most {MAX_PAYLOAD}")
    return payload


def decode(payload: bytes) -> Message:
    """The message in a payload. Raises BadInput, never anything else."""
    record = cbor.loads(payload)
    if not isinstance(record, dict):
        raise BadInput("message_shape", "not a map")
    kind = record.get(0)
    reader = _READERS.get(kind) if isinstance(kind, int) else None
    if reader is None:
        raise BadInput("message_kind", f"unknown kind {str(kind)[:20]}")
    return reader(record)


def _hello(record: Mapping[int, Any]) -> Hello:
    version = _integer(record.get(1), 0, 255)
    if version != PROTOCOL_VERSION:
        raise BadInput("protocol_version", f"device speaks version {version}, this bridge {PROTOCOL_VERSION}")
    components = tuple(_component(item) for item in _items(record.get(6), MAX_COMPONENTS))
    if len({part.slot for part in components}) != len(components):
        raise BadInput("message_hello", "two components in one slot")
    return Hello(
        model=_text(record.get(2)),
        serial=_text(record.get(3)),
        firmware=_text(record.get(4)),
        boot=_integer(record.get(5), 0, MAX_U32),
        components=components,
        tick_hz=_integer(record.get(7), 1, 1_000_000_000),
        version=version,
    )


def _describe(record: Mapping[int, Any]) -> Describe:
    metrics = tuple(_metric(item) for item in _items(record.get(1), MAX_METRICS))
    if len({m.id for m in metrics}) != len(metrics) or len({m.name for m in metrics}) != len(metrics):
        raise BadInput("message_describe", "a metric id or name appears twice")
    return Describe(metrics)


def _component(item: Any) -> ComponentSpec:
    slot, kind, serial, part_no = _items(item, 4, exactly=True)
    return ComponentSpec(check_name(slot), check_name(kind), _text(serial), _text(part_no))


def _metric(item: Any) -> MetricInfo:
    number, name, unit, slot, period_ms, rate_hz = _items(item, 6, exactly=True)
    if not isinstance(unit, str) or len(unit) > 32:
        raise BadInput("message_text", "unit is not a text of at most 32 characters")
    if slot != "":
        check_name(slot)
    period_ms = _integer(period_ms, 0, MAX_U32)
    return MetricInfo(_integer(number, 0, MAX_U32), check_name(name), unit, slot, period_ms, _number(rate_hz, 0.0, 1e7))


def _samples(record: Mapping[int, Any]) -> Samples:
    ids = tuple(_integer(item, 0, MAX_U32) for item in _items(record.get(1), MAX_METRICS))
    base = _ticks(record.get(2))
    rows = []
    for row in _items(record.get(3), MAX_ROWS):
        values = _items(row, len(ids) + 1, exactly=True)
        rows.append((_ticks(_ticks(values[0]) + base), tuple(_value(value) for value in values[1:])))
    if not ids or not rows or len(set(ids)) != len(ids):
        raise BadInput("message_samples", "no ids, no rows, or an id twice")
    return Samples(ids, tuple(rows), _flag(record.get(4)))


def _waveform(record: Mapping[int, Any]) -> WaveformFragment:
    data = record.get(8)
    total = _integer(record.get(5), 1, MAX_WAVEFORM_SAMPLES)
    offset = _integer(record.get(4), 0, total - 1)
    if not isinstance(data, bytes) or len(data) % 2 or not 2 <= len(data) <= 2 * (total - offset):
        raise BadInput("message_waveform", "the fragment's data do not fit its offset and total")
    return WaveformFragment(
        id=_integer(record.get(1), 0, MAX_U32),
        number=_integer(record.get(2), 0, MAX_U32),
        ticks=_ticks(record.get(3)),
        offset=offset,
        total=total,
        sample_rate_hz=_number(record.get(6), 1e-3, 1e7),
        scale=_number(record.get(7), 1e-12, 1e12),
        data=data,
        historical=_flag(record.get(9)),
    )


def _lost(record: Mapping[int, Any]) -> Lost:
    lost = Lost(_integer(record.get(1), 1, MAX_U32), _ticks(record.get(2)), _ticks(record.get(3)))
    if lost.from_ticks > lost.to_ticks:
        raise BadInput("message_lost", "ends before it starts")
    return lost


def _command(record: Mapping[int, Any]) -> Command:
    kind = _integer(record.get(2), min(CommandKind), max(CommandKind))
    return Command(_integer(record.get(1), 0, MAX_U32), CommandKind(kind), _integer(record.get(3), 0, MAX_U32))


def _ack(record: Mapping[int, Any]) -> Ack:
    status = AckStatus(_integer(record.get(2), min(AckStatus), max(AckStatus)))
    return Ack(_integer(record.get(1), 0, MAX_U32), status, _sequences(record.get(3)), _ticks(record.get(4)))


def _time_request(record: Mapping[int, Any]) -> TimeRequest:
    return TimeRequest(_integer(record.get(1), 0, MAX_U32), _sequences(record.get(2)))


def _time_reply(record: Mapping[int, Any]) -> TimeReply:
    return TimeReply(_integer(record.get(1), 0, MAX_U32), _ticks(record.get(2)), _sequences(record.get(3)))


_READERS: dict[int, Callable[[Mapping[int, Any]], Message]] = {
    Kind.HELLO: _hello,
    Kind.DESCRIBE: _describe,
    Kind.SAMPLES: _samples,
    Kind.WAVEFORM: _waveform,
    Kind.LOST: _lost,
    Kind.COMMAND: _command,
    Kind.ACK: _ack,
    Kind.TIME_REQUEST: _time_request,
    Kind.TIME_REPLY: _time_reply,
}


def _sequences(value: Any) -> tuple[int, ...]:
    return tuple(_integer(item, 0, MAX_U32) for item in _items(value, STREAM_COUNT, exactly=True))


def _ticks(value: Any) -> int:
    return _integer(value, -MAX_TICKS, MAX_TICKS)


def _integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput("message_number", f"{str(value)[:40]} is not an integer in {low}..{high}")
    return value


def _number(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadInput("message_number", f"{str(value)[:40]} is not a number in {low}..{high}")
    return float(value)


def _value(value: Any) -> float:
    """A measured value: any float, NaN included; integers are allowed when a float holds them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput("message_number", f"{str(value)[:40]} is not a value")
    return float(value) if math.isfinite(value) else math.nan


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadInput("message_flag", "not a boolean")
    return value


def _text(value: Any) -> str:
    """A printable text. Other characters are refused because device texts end up in logs, topics and pages."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise BadInput("message_text", f"not a printable text of at most {MAX_TEXT} characters")
    return value


def _items(value: Any, limit: int, *, exactly: bool = False) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > limit or (exactly and len(value) != limit):
        raise BadInput("message_list", f"not a list of {'' if exactly else 'at most '}{limit} items")
    return value
