"""Stores the detection states that devices report of their components, in the tables ``state_change`` and ``health``.

A state that arrives late is recorded in the history but never overwrites a later state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet_core.telemetry import from_us
from fleet_server.health.assess import level_of
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

if TYPE_CHECKING:
    from fleet_server.ingest.decoder import Data


async def note_states(conn: Connection, now: datetime, batches: Sequence[Data]) -> None:
    """Record the state changes and the findings' states of ``batches``, in the caller's transaction.

    Database errors are raised.
    """
    rows: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for data in batches:
        common = {"tenant_id": data.agent.tenant_id, "asset_id": data.batch.device_id, "now": now}
        for state in data.batch.states:
            row = {**common, "slot": state.component, "state": state.state.value, "at": from_us(state.time_us)}
            row |= {"score": state.score, "level": level_of(state.state)}
            rows.append(row)
            changes.append({**row, "previous": state.previous.value, "reason": state.reason})
        for finding in data.batch.findings:
            row = {**common, "slot": finding.component, "state": finding.state.value, "score": finding.score}
            rows.append({**row, "at": from_us(finding.detected_us), "level": level_of(finding.state)})
    if not rows:
        return
    # Every process updates rows in the same order, so that two never wait for each other; the newest state comes last.
    rows.sort(key=lambda row: (row["asset_id"], row["slot"], row["at"]))
    async with conn.cursor() as cursor:
        if changes:
            await cursor.executemany(queries("ingest").insert_state, changes)
        await cursor.executemany(queries("health").note_state, rows)
