"""Birth certificates and the held-range report: dataclasses <-> Sparkplug payloads.

NBIRTH says who the agent is and which batches it still holds. DBIRTH says what the asset is and which metrics it has
(alias, data type, UCUM unit, period, component). All values of births are null, because samples in a birth would escape
the conservation ledger. A DBIRTH also carries the former schemas of batches still held, so that backfill from before a
change of configuration can be read. The held report is repeated every minute in an NDATA that is not a batch.

Failure: decoding raises only BadInput, whatever the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_core import WIRE_VERSION
from fleet_core.assets import AssetClass
from fleet_core.batch_model import check_uuid, is_count
from fleet_core.batches import BATCH_METRICS
from fleet_core.errors import BadInput
from fleet_core.schema import Schema, checked_spec
from fleet_core.sparkplug.payload import DataType, Metric, Payload, Property, decode_payload, encode_payload
from fleet_core.sparkplug.session import BD_SEQ, REBIRTH, bd_seq_of, pack_ranges, unpack_ranges
from fleet_core.telemetry import ComponentSpec, check_identity, check_name, parse_object

MAX_COMPONENTS = 64
MAX_FORMER_SCHEMAS = 16
MAX_MODELS = 64
TIME_QUALITIES = ("synchronised", "unsynchronised", "unknown")

AGENT_VERSION, WIRE, BOOT = "Forestall/AgentVersion", "Forestall/WireVersion", "Forestall/Boot"
TIME_QUALITY, MODELS = "Forestall/TimeQuality", "Forestall/Models"
OUTBOX, NEXT, HELD, COVERS = "Forestall/Outbox", "Forestall/Next", "Forestall/Held", "Forestall/HeldCovers"
SCHEMA, ALIASES, FORMER = "Forestall/Schema", "Forestall/FirstAlias", "Forestall/FormerSchema"
ASSET_TEXTS = ("Properties/Class", "Properties/Model", "Properties/Serial", "Properties/Firmware")
COMPONENTS = "Properties/Components"


@dataclass(frozen=True, slots=True)
class HeldReport:
    """The batches that the outbox holds: committed, and neither stored nor refused nor dropped. ``ranges`` ascend.

    ``next_number`` is the number the next batch will get. The ranges are complete up to ``covers_to`` (inclusive),
    which is below ``next_number - 1`` only when there were too many ranges for one report.
    """

    outbox_id: str
    next_number: int
    ranges: tuple[tuple[int, int], ...]
    covers_to: int


@dataclass(frozen=True, slots=True)
class NodeBirth:
    """An agent's birth. ``models`` maps a model's name to its digest."""

    bd_seq: int
    boot_id: str
    held: HeldReport
    agent_version: str
    time_quality: str = "unknown"
    models: Mapping[str, str] = field(default_factory=dict)
    wire_version: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class DeviceBirth:
    """An asset's birth; ``device_id`` travels in the topic."""

    device_id: str
    asset_class: AssetClass
    model: str
    serial: str
    firmware: str
    components: tuple[ComponentSpec, ...]
    schema: Schema
    former_schemas: tuple[Schema, ...] = ()


def encode_node_birth(birth: NodeBirth, timestamp_ms: int) -> bytes:
    """The NBIRTH payload, with sequence number 0. Raises BadInput."""
    metrics = [
        Metric(BD_SEQ, DataType.UINT64, birth.bd_seq),
        Metric(REBIRTH, DataType.BOOLEAN, False),
        Metric(AGENT_VERSION, DataType.STRING, birth.agent_version),
        Metric(WIRE, DataType.UINT32, birth.wire_version),
        Metric(BOOT, DataType.UUID, birth.boot_id),
        Metric(TIME_QUALITY, DataType.STRING, birth.time_quality),
        Metric(MODELS, DataType.STRING, json.dumps(dict(birth.models), sort_keys=True, separators=(",", ":"))),
        *_held_metrics(birth.held),
    ]
    known = {metric.name for metric in metrics}
    metrics += [Metric(name, kind, None) for name, kind in BATCH_METRICS.items() if name not in known]
    return encode_payload(metrics, timestamp_ms, 0)


def decode_node_birth(payload: bytes | Payload) -> NodeBirth:
    """Raises BadInput, also for a third party's NBIRTH, which has no ``Forestall/WireVersion``."""
    payload = _decoded(payload)
    values = _values(payload)
    wire_version = values.get(WIRE)
    if not is_count(wire_version) or wire_version < 1:
        raise BadInput("birth", "no wire version: not one of our agents")
    models = parse_object(_text(values, MODELS, 16_384), 16_384)
    if len(models) > MAX_MODELS or not all(isinstance(digest, str) for digest in models.values()):
        raise BadInput("birth", "models")
    quality = _text(values, TIME_QUALITY, 32)
    return NodeBirth(
        bd_seq=bd_seq_of(payload),
        boot_id=check_uuid(values.get(BOOT)),
        held=_held(values),
        agent_version=_text(values, AGENT_VERSION, 64),
        time_quality=quality if quality in TIME_QUALITIES else "unknown",
        models={check_name(name): digest[:128] for name, digest in models.items()},
        wire_version=wire_version,
    )


def encode_device_birth(birth: DeviceBirth, timestamp_ms: int, seq: int) -> bytes:
    """The DBIRTH payload. Raises BadInput."""
    components = [[c.slot, c.type, c.serial, c.part_no] for c in birth.components]
    texts = (birth.asset_class.value, birth.model, birth.serial, birth.firmware)
    metrics = [Metric(name, DataType.STRING, text) for name, text in zip(ASSET_TEXTS, texts, strict=True)]
    metrics += [
        Metric(COMPONENTS, DataType.STRING, json.dumps(components, separators=(",", ":"))),
        Metric(SCHEMA, DataType.STRING, birth.schema.digest),
        Metric(ALIASES, DataType.UINT32, birth.schema.first_alias),
    ]
    known = {metric.name for metric in metrics}
    metrics += [Metric(name, kind, None) for name, kind in BATCH_METRICS.items() if name not in known]
    metrics += [Metric(FORMER, DataType.TEXT, schema.to_json()) for schema in birth.former_schemas]
    for spec in birth.schema.metrics:
        kind = DataType.FLOAT_ARRAY if spec.kind == "waveform" else DataType.DOUBLE
        properties: dict[str, Property] = {
            "engUnit": (DataType.STRING, spec.unit),
            "component": (DataType.STRING, spec.component),
            "periodS": (DataType.DOUBLE, spec.period_s),
        }
        metrics.append(Metric(spec.name, kind, None, alias=birth.schema.alias(spec.name), properties=properties))
    return encode_payload(metrics, timestamp_ms, seq)


def decode_device_birth(payload: bytes | Payload, device_id: str) -> DeviceBirth:
    """Raises BadInput, also when the schema's digest is not that of the metrics."""
    payload = _decoded(payload)
    values = _values(payload)
    first_alias = values.get(ALIASES)
    if not is_count(first_alias):
        raise BadInput("birth", f"no {ALIASES}: not one of our agents")
    vitals = [metric for metric in payload.metrics if metric.alias is not None]
    schema = Schema(tuple(_vital(metric) for metric in vitals), first_alias)
    if schema.digest != values.get(SCHEMA) or any(schema.alias(metric.name) != metric.alias for metric in vitals):
        raise BadInput("schema", "the digest is not that of the metrics and aliases")
    asset_class, model, serial, firmware = (_text(values, name, 128) for name in ASSET_TEXTS)
    former = [metric.value for metric in payload.metrics if metric.name == FORMER and metric.alias is None]
    if len(former) > MAX_FORMER_SCHEMAS:
        raise BadInput("birth", f"{len(former)} former schemas, at most {MAX_FORMER_SCHEMAS}")
    return DeviceBirth(
        device_id=check_identity(device_id),
        asset_class=_asset_class(asset_class),
        model=model,
        serial=serial,
        firmware=firmware,
        components=_components(_text(values, COMPONENTS, 32_768)),
        schema=schema,
        former_schemas=tuple(Schema.from_json(text) for text in former if isinstance(text, str)),
    )


def encode_held(report: HeldReport, timestamp_ms: int, seq: int) -> bytes:
    """The NDATA that repeats which batches are held. Raises BadInput."""
    return encode_payload(_held_metrics(report), timestamp_ms, seq)


def decode_held(payload: bytes | Payload) -> HeldReport | None:
    """The held report in an NDATA, or None when the NDATA has none. Raises BadInput."""
    values = _values(_decoded(payload))
    return _held(values) if HELD in values else None


def held_report(outbox_id: str, next_number: int, ranges: list[tuple[int, int]], limit: int = 2048) -> HeldReport:
    """A report of at most ``limit`` ranges, from the oldest on."""
    covers_to = next_number - 1 if len(ranges) <= limit else ranges[limit - 1][1]
    return HeldReport(outbox_id, next_number, tuple(ranges[:limit]), covers_to)


def _held_metrics(report: HeldReport) -> list[Metric]:
    return [
        Metric(OUTBOX, DataType.UUID, report.outbox_id),
        Metric(NEXT, DataType.UINT64, report.next_number),
        Metric(COVERS, DataType.UINT64, report.covers_to),
        Metric(HELD, DataType.UINT64_ARRAY, pack_ranges(report.ranges)),
    ]


def _held(values: Mapping[str, Any]) -> HeldReport:
    next_number, covers_to = values.get(NEXT), values.get(COVERS)
    ranges = unpack_ranges(values.get(HELD))
    if not is_count(next_number) or not is_count(covers_to) or not covers_to < next_number:
        raise BadInput("held", "next number or extent out of range")
    if ranges and (ranges[0][0] < 1 or ranges[-1][1] > covers_to):
        raise BadInput("held", "ranges go beyond the next number")
    return HeldReport(check_uuid(values.get(OUTBOX)), next_number, ranges, covers_to)


def _decoded(payload: bytes | Payload) -> Payload:
    return payload if isinstance(payload, Payload) else decode_payload(payload)


def _values(payload: Payload) -> dict[str, Any]:
    return {metric.name: metric.value for metric in payload.metrics if metric.alias is None}


def _text(values: Mapping[str, Any], name: str, limit: int) -> str:
    value = values.get(name)
    if not isinstance(value, str) or len(value) > limit:
        raise BadInput("birth", f"{name} is not a text of at most {limit} characters")
    return value


def _vital(metric: Metric) -> Any:
    unit, component, period_s = (
        metric.properties.get(key, (DataType.UNKNOWN, None))[1] for key in ("engUnit", "component", "periodS")
    )
    kind = "waveform" if metric.datatype is DataType.FLOAT_ARRAY else "float"
    return checked_spec(metric.name, unit, component, period_s, kind)


def _asset_class(text: str) -> AssetClass:
    try:
        return AssetClass(text)
    except ValueError:
        raise BadInput("asset_class", f"{text[:40]!r} is not one of {', '.join(AssetClass)}") from None


def _components(text: str) -> tuple[ComponentSpec, ...]:
    rows = parse_object(f'{{"rows":{text}}}', 32_800).get("rows")
    if not isinstance(rows, list) or len(rows) > MAX_COMPONENTS:
        raise BadInput("components", f"not a list of at most {MAX_COMPONENTS}")
    for row in rows:
        if not isinstance(row, list) or len(row) != 4 or not all(isinstance(t, str) and len(t) <= 128 for t in row):
            raise BadInput("components", "expected slot, type, serial, part number")
        check_name(row[0])
    return tuple(ComponentSpec(*row) for row in rows)
