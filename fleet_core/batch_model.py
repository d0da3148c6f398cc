"""The batch: its types, bounds and digest. The payload codec stands in ``batches.py``, which also offers these names.

This module knows the content only: no Sparkplug, no I/O. Failure: BadInput for content that breaks a bound.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from fleet_core.errors import BadInput
from fleet_core.sparkplug.payload import pack_array
from fleet_core.telemetry import (
    EARLIEST_US,
    LATEST_US,
    MAX_WAVEFORM_SAMPLES,
    BatchClass,
    Finding,
    StateChange,
    check_identity,
    check_name,
    check_time_us,
    parse_object,
)

MAX_BATCH_BYTES = 64 * 1024
MAX_SAMPLES = 2500
MAX_FRAGMENT_SAMPLES = 12_288  # of 4 bytes: 48 KiB, which leave room for the header in a batch's 64 KiB
MAX_EVENTS = 64
MAX_GAPS = 256
MAX_REASON = 128
FIRST_PREV = bytes(32)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class SampleColumn:
    """The samples of one metric: ``times_us`` (``array('q')``, device time) and ``values`` (``array('d')``), equally
    long.
    """

    metric: str
    times_us: array[int]
    values: array[float]


@dataclass(frozen=True, slots=True)
class WaveformFragment:
    """Part ``index`` of ``count`` of a waveform. ``time_us`` is the time of the whole waveform's first sample;
    ``values`` is an ``array('f')``.
    """

    metric: str
    time_us: int
    sample_rate_hz: float
    unit: str
    index: int
    count: int
    values: array[float]


@dataclass(frozen=True, slots=True)
class GapRecord:
    """A declared loss.

    Batch numbers are 0 when the loss happened before the outbox; then only the time range counts.
    """

    first_batch: int
    last_batch: int
    batch_class: BatchClass
    reason: str
    start_us: int
    end_us: int

    def to_json(self) -> str:
        record = {"first": self.first_batch, "last": self.last_batch, "class": self.batch_class.value}
        record |= {"reason": self.reason, "start_us": self.start_us, "end_us": self.end_us}
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> GapRecord:
        """Raises BadInput."""
        record = parse_object(text, 1024)
        first, last, reason = record.get("first"), record.get("last"), record.get("reason")
        start_us, end_us = check_time_us(record.get("start_us")), check_time_us(record.get("end_us"))
        if not (is_count(first) and is_count(last) and first <= last and (first > 0) == (last > 0)):
            raise BadInput("gap", "batch numbers out of range")
        if not isinstance(reason, str) or len(reason) > MAX_REASON or start_us > end_us:
            raise BadInput("gap", "reason or time range")
        return cls(first, last, parse_class(record.get("class")), reason, start_us, end_us)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. ``prev_digest`` is the 32-byte digest of the outbox's previous batch, ``schema_digest`` is
    hexadecimal; ids are lower-case UUID texts.
    """

    outbox_id: str
    number: int
    boot_id: str
    schema_digest: str
    prev_digest: bytes
    batch_class: BatchClass
    device_id: str
    created_us: int
    columns: tuple[SampleColumn, ...] = ()
    waveform: WaveformFragment | None = None
    findings: tuple[Finding, ...] = ()
    states: tuple[StateChange, ...] = ()
    gaps: tuple[GapRecord, ...] = ()
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """A batch's identity, which can be read without its schema. ``seq`` is Sparkplug's sequence number."""

    outbox_id: str
    number: int
    boot_id: str
    schema_digest: str
    prev_digest: bytes
    batch_class: BatchClass
    created_us: int
    seq: int | None


def batch_digest(batch: Batch) -> bytes:
    """SHA-256 over the content. Every part stands behind its length, so that no two contents give the same bytes."""
    digest = hashlib.sha256(b"forestall batch 1")
    for part in _parts(batch):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def check_uuid(value: Any) -> str:
    """A UUID as lower-case text. Raises BadInput."""
    if not isinstance(value, str) or not _UUID.match(value):
        raise BadInput("uuid", f"{str(value)[:40]!r} is not a UUID")
    return value


def _parts(batch: Batch) -> Iterator[bytes]:
    head = [batch.outbox_id, batch.number, batch.boot_id, batch.schema_digest, batch.prev_digest.hex()]
    yield _canonical([*head, batch.batch_class.value, batch.device_id, batch.created_us])
    for column in batch.columns:
        yield column.metric.encode()
        yield pack_array(column.times_us)
        yield pack_array(column.values)
    wave = batch.waveform
    if wave is not None:
        yield _canonical([wave.metric, wave.time_us, wave.sample_rate_hz, wave.unit, wave.index, wave.count])
        yield pack_array(wave.values)
    # Findings are read back once: an int in a float's place is written differently before and after the journey.
    yield from (Finding.from_json(finding.to_json()).to_json().encode() for finding in batch.findings)
    yield from (StateChange.from_json(state.to_json()).to_json().encode() for state in batch.states)
    yield from (gap.to_json().encode() for gap in batch.gaps)


def check_batch(batch: Batch) -> None:
    """Check the bounds that both encoder and decoder hold to. Raises BadInput."""
    check_uuid(batch.outbox_id)
    check_uuid(batch.boot_id)
    check_time_us(batch.created_us)
    if batch.device_id:
        check_identity(batch.device_id)
    if batch.number < 1 or len(batch.prev_digest) != 32:
        raise BadInput("batch_header", "number or digest of the batch before")
    filled = {
        BatchClass.ROUTINE: bool(batch.columns),
        BatchClass.WAVEFORM: batch.waveform is not None,
        BatchClass.FINDING: bool(batch.findings or batch.states),
        BatchClass.GAP: bool(batch.gaps),
    }
    if [kind for kind, full in filled.items() if full] != [batch.batch_class]:
        raise BadInput("batch_class", f"a {batch.batch_class} batch must hold that and nothing else")
    if sum(len(column.times_us) for column in batch.columns) > MAX_SAMPLES:
        raise BadInput("batch_content", f"more than {MAX_SAMPLES} samples")
    if len({column.metric for column in batch.columns}) != len(batch.columns):
        raise BadInput("batch_content", "a metric has two columns")
    for column in batch.columns:
        if not column.times_us or len(column.times_us) != len(column.values):
            raise BadInput("batch_content", f"{column.metric}: empty, or times and values differ in number")
        if min(column.times_us) < EARLIEST_US or max(column.times_us) > LATEST_US:
            raise BadInput("time", f"{column.metric}: a sample's time is not believable")
    if batch.waveform is not None:
        _check_waveform(batch.waveform)


def _check_waveform(wave: WaveformFragment) -> None:
    check_name(wave.metric)
    check_time_us(wave.time_us)
    if not (math.isfinite(wave.sample_rate_hz) and 0 < wave.sample_rate_hz <= 1e9) or len(wave.unit) > 32:
        raise BadInput("waveform", f"{wave.metric}: sample rate or unit out of range")
    most = -(-MAX_WAVEFORM_SAMPLES // 1024)
    if not (0 <= wave.index < wave.count <= most and 0 < len(wave.values) <= MAX_FRAGMENT_SAMPLES):
        raise BadInput("waveform", f"{wave.metric}: fragment {wave.index} of {wave.count} out of range")


def parse_class(value: Any) -> BatchClass:
    """A batch class. Raises BadInput."""
    try:
        return BatchClass(value)
    except ValueError:
        raise BadInput("batch_class", f"{str(value)[:40]!r} is not one of {', '.join(BatchClass)}") from None


def is_count(value: Any) -> TypeGuard[int]:
    """A whole number from 0 that fits PostgreSQL's bigint."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _canonical(record: list[Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()
