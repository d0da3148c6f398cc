"""Rules of a Sparkplug session: sequence numbers, birth-death pairing, host state. Pure.

A node numbers its birth and data messages 0..255 and begins again; NBIRTH has 0. The will (NDEATH) and the NBIRTH of
one connection carry the same ``bdSeq``, so that a late will of an older connection cannot kill a newer session.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from fleet_core.errors import BadInput
from fleet_core.sparkplug.payload import DataType, Metric, Payload, decode_payload, encode_payload
from fleet_core.telemetry import parse_object

BD_SEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"
MAX_RANGES = 2048

Ranges = Sequence[tuple[int, int]]
"""Closed ranges of numbers, ascending and disjoint: ``((1, 5), (9, 9))``."""


def next_seq(seq: int) -> int:
    """The sequence number after ``seq``."""
    return (seq + 1) % 256


def encode_death(bd_seq: int, timestamp_ms: int | None = None) -> bytes:
    """The NDEATH payload. The broker gets it as the will, before the connection's birth."""
    return encode_payload([Metric(BD_SEQ, DataType.UINT64, bd_seq)], timestamp_ms, None)


def bd_seq_of(payload: Payload) -> int:
    """``bdSeq`` of an NBIRTH or NDEATH. Raises BadInput."""
    for metric in payload.metrics:
        if metric.name == BD_SEQ and isinstance(metric.value, int) and 0 <= metric.value < 1 << 63:
            return metric.value
    raise BadInput("bd_seq", "no bdSeq")


def decode_death(payload: bytes) -> int:
    """``bdSeq`` of an NDEATH. Raises BadInput."""
    return bd_seq_of(decode_payload(payload, 4096))


def encode_state(online: bool, timestamp_ms: int) -> bytes:
    """A host's STATE payload (JSON, Sparkplug 3)."""
    return f'{{"online":{"true" if online else "false"},"timestamp":{timestamp_ms}}}'.encode()


def decode_state(payload: bytes) -> tuple[bool, int]:
    """(online, timestamp in ms) of a host. Raises BadInput."""
    try:
        text = payload[:1025].decode()
    except UnicodeDecodeError:
        raise BadInput("state", "not UTF-8") from None
    record = parse_object(text, 1024)
    online, timestamp = record.get("online"), record.get("timestamp")
    if not isinstance(online, bool) or isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise BadInput("state", "expected online and timestamp")
    return online, timestamp


def pack_ranges(ranges: Ranges) -> array:
    """Ranges as one flat UInt64 array: first, last, first, last, ... Raises BadInput above ``MAX_RANGES``."""
    if len(ranges) > MAX_RANGES:
        raise BadInput("ranges", f"{len(ranges)} ranges, at most {MAX_RANGES}")
    return array("Q", (number for pair in ranges for number in pair))


def unpack_ranges(values: object) -> tuple[tuple[int, int], ...]:
    """The reverse of :func:`pack_ranges`; ranges must ascend and not overlap. Raises BadInput."""
    if not isinstance(values, array) or values.typecode != "Q" or len(values) % 2 or len(values) > 2 * MAX_RANGES:
        raise BadInput("ranges", "not a bounded list of number pairs")
    ranges = tuple(zip(values[::2], values[1::2], strict=True))
    before = -1
    for first, last in ranges:
        if first > last or first <= before or last >= 1 << 63:
            raise BadInput("ranges", "ranges must ascend and not overlap")
        before = last
    return ranges


def coalesce(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """The fewest ranges that hold the numbers, which may be in any order and repeat."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
