"""Writes audit entries in the caller's transaction, so that a decision is recorded if and only if it was carried out.

A new entry has no place in the tree yet; the sequencer gives it one (see ``audit/tree.py``). ``canonical`` is the exact
text that is hashed: JSON with sorted keys and without spaces, of all columns that identify the decision.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_server.store.sql import queries

_SQL = queries("audit")
MAX_CANONICAL = 256 * 1024


async def record(
    conn: AsyncConnection[Any],
    clock: Clock,
    *,
    tenant_id: str | None,
    actor: str,
    action: str,
    subject: str,
    body: Mapping[str, Any],
    trace_id: str = "",
) -> uuid.UUID:
    """Insert one entry and return its id.

    ``actor`` is ``system:worker``, ``user:LOGIN`` or ``agent:ID``; ``subject`` ``case:ID``, ``asset:ID`` and so on;
    ``body`` holds the inputs and the result of the decision, as JSON values, and no secrets. Datetimes, UUIDs and enums
    are written as text. Raises BadInput when the entry is larger than 256 KiB.
    """
    entry_id = uuid.uuid4()
    at = clock.now()
    plain = _plain(body)
    text = canonical(entry_id, tenant_id, at, actor, action, subject, plain, trace_id)
    if len(text) > MAX_CANONICAL:
        raise BadInput("audit_size", f"{len(text)} characters, at most {MAX_CANONICAL}")
    await conn.execute(
        _SQL.insert_entry,
        {
            "entry_id": entry_id,
            "tenant_id": tenant_id,
            "at": at,
            "actor": actor,
            "action": action,
            "subject": subject,
            "body": Jsonb(plain),
            "trace_id": trace_id,
            "canonical": text,
        },
    )
    return entry_id


def canonical(
    entry_id: uuid.UUID,
    tenant_id: str | None,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    body: Any,
    trace_id: str,
) -> str:
    """The text of an entry that its leaf hash covers. The same columns always give the same text."""
    return json.dumps(
        {
            "id": str(entry_id),
            "tenant": tenant_id,
            "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
            "actor": actor,
            "action": action,
            "subject": subject,
            "body": body,
            "trace": trace_id,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def _plain(value: Any) -> Any:
    """A value as JSON that PostgreSQL can store: without NaN and U+0000, and with other types as text."""
    if isinstance(value, str):
        return str(value).replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return _plain(str(value))
