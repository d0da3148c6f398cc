"""The server's commands to an agent (NCMD): stored, refused, resend, rebirth; <-> Sparkplug payloads.

``Forestall/Stored`` and ``Forestall/Refused`` are terminal for a batch. They may come in any order, more than once, or
from any worker. Metrics that this version does not know are counted in ``unknown`` and otherwise ignored.

Failure: decoding raises only BadInput, whatever the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fleet_core.batch_model import MAX_REASON, check_uuid, is_count
from fleet_core.errors import BadInput
from fleet_core.sparkplug.payload import DataType, Metric, decode_payload, encode_payload
from fleet_core.sparkplug.session import REBIRTH, Ranges, pack_ranges, unpack_ranges
from fleet_core.telemetry import parse_object

OUTBOX, STORED, RESEND = "Forestall/Outbox", "Forestall/Stored", "Forestall/Resend"
REFUSED = "Forestall/Refused"
MAX_REFUSED = 256


@dataclass(frozen=True, slots=True)
class Command:
    """A decoded NCMD. ``outbox_id`` is "" when the command concerns no batches."""

    outbox_id: str = ""
    stored: tuple[tuple[int, int], ...] = ()
    refused: tuple[tuple[int, str], ...] = ()
    resend: tuple[tuple[int, int], ...] = ()
    rebirth: bool = False
    unknown: int = 0


def encode_stored(outbox_id: str, ranges: Ranges, timestamp_ms: int | None = None) -> bytes:
    """The NCMD that says: these batches are committed in the server's database. Raises BadInput."""
    metrics = [Metric(OUTBOX, DataType.UUID, outbox_id), Metric(STORED, DataType.UINT64_ARRAY, pack_ranges(ranges))]
    return encode_payload(metrics, timestamp_ms, None)


def encode_refused(outbox_id: str, refused: Sequence[tuple[int, str]], timestamp_ms: int | None = None) -> bytes:
    """The NCMD that says: these batches (number, reason) are refused and quarantined. Raises BadInput."""
    if len(refused) > MAX_REFUSED:
        raise BadInput("refused", f"{len(refused)} batches, at most {MAX_REFUSED} in one command")
    text = json.dumps({"batches": [[number, reason[:MAX_REASON]] for number, reason in refused]}, separators=(",", ":"))
    metrics = [Metric(OUTBOX, DataType.UUID, outbox_id), Metric(REFUSED, DataType.STRING, text)]
    return encode_payload(metrics, timestamp_ms, None)


def encode_resend(outbox_id: str, ranges: Ranges, timestamp_ms: int | None = None) -> bytes:
    """The NCMD that asks for these batches again, as far as the outbox still keeps them. Raises BadInput.

    A server that was restored from a backup sends it.
    """
    metrics = [Metric(OUTBOX, DataType.UUID, outbox_id), Metric(RESEND, DataType.UINT64_ARRAY, pack_ranges(ranges))]
    return encode_payload(metrics, timestamp_ms, None)


def encode_rebirth(timestamp_ms: int | None = None) -> bytes:
    """Sparkplug's own NCMD that asks for NBIRTH and all DBIRTHs."""
    return encode_payload([Metric(REBIRTH, DataType.BOOLEAN, True)], timestamp_ms, None)


def decode_command(payload: bytes) -> Command:
    """Decode an NCMD. Raises BadInput."""
    outbox_id, rebirth, unknown = "", False, 0
    stored: tuple[tuple[int, int], ...] = ()
    resend: tuple[tuple[int, int], ...] = ()
    refused: tuple[tuple[int, str], ...] = ()
    for metric in decode_payload(payload).metrics:
        if metric.name == OUTBOX:
            outbox_id = check_uuid(metric.value)
        elif metric.name == STORED:
            stored = unpack_ranges(metric.value)
        elif metric.name == RESEND:
            resend = unpack_ranges(metric.value)
        elif metric.name == REFUSED:
            refused = _refused(metric.value)
        elif metric.name == REBIRTH and isinstance(metric.value, bool):
            rebirth |= metric.value
        else:
            unknown += 1
    if (stored or refused or resend) and not outbox_id:
        raise BadInput("command", f"no {OUTBOX}")
    return Command(outbox_id, stored, refused, resend, rebirth, unknown)


def _refused(value: object) -> tuple[tuple[int, str], ...]:
    if not isinstance(value, str):
        raise BadInput("refused", "not a text")
    rows = parse_object(value, 64 * 1024).get("batches")
    if not isinstance(rows, list) or len(rows) > MAX_REFUSED:
        raise BadInput("refused", f"not a list of at most {MAX_REFUSED}")
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not is_count(row[0]) or not isinstance(row[1], str):
            raise BadInput("refused", "expected number and reason")
    return tuple((row[0], row[1][:MAX_REASON]) for row in rows)
