"""Stores findings together with the job that wakes triage, so that every stored finding is judged, whatever crashes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from psycopg.types.json import Jsonb

from fleet_core.telemetry import from_us
from fleet_server.ingest.decoder import Data
from fleet_server.resolution.jobs import defer_on
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

TRIAGE_TASK = "triage_finding"
_SQL = queries("ingest")


async def insert_findings(conn: Connection, batches: Sequence[Data]) -> int:
    """Insert the new findings of ``batches``, with a job for each, and return their number."""
    count = 0
    for data in batches:
        for finding in data.batch.findings:
            body = json.loads(finding.to_json())
            trace_id = finding.trace_id or uuid.uuid4().hex
            row = {
                "finding_id": finding.finding_id,
                "revision": finding.revision,
                "tenant_id": data.agent.tenant_id,
                "asset_id": data.batch.device_id,
                "slot": finding.component,
                "state": finding.state.value,
                "score": finding.score,
                "severity": finding.severity,
                "failure_mode": finding.failure_mode,
                "detected_at": from_us(finding.detected_us),
                "onset_at": from_us(finding.onset_us),
                "body": Jsonb(body),
                "trace_id": trace_id,
                "received_at": data.message.received_at,
            }
            inserted = await (await conn.execute(_SQL.insert_finding, row)).fetchone()
            if inserted is not None:
                key = f"finding:{finding.finding_id}:{finding.revision}"
                arguments = {"finding_id": finding.finding_id, "revision": finding.revision}
                await defer_on(conn, TRIAGE_TASK, arguments, key=key)
                count += 1
    return count
