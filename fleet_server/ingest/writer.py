"""Store a micro-batch of decoded batches in one transaction: exactly once, or not at all.

The keys of the batches are inserted first, with ``ON CONFLICT DO NOTHING``, and in sorted order so that two processes
wait for each other in one order. Content is written only for the keys that were new, in the same transaction. A key
that was stored with the same digest is a duplicate; a key stored with another digest is a clash (a cloned device or a
corruption). A number in a range of ``ledger_stored`` whose key was deleted (``ingest/compaction.py``) is a duplicate,
too. A series is identified by its unit as well, so that no value changes its unit.

Failure behaviour: a deadlock is retried here. Every other database error leaves nothing stored and is raised to the
caller (``ingest/pipeline.py`` halves a micro-batch that the database refuses, and waits for a database that is away).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from fleet_core.clock import Clock
from fleet_core.faults import fault_point
from fleet_core.telemetry import from_us
from fleet_server.health.device import note_states
from fleet_server.ingest.compaction import WRITERS_LOCK
from fleet_server.ingest.decoder import Data
from fleet_server.ingest.findings import insert_findings
from fleet_server.store.partitions import Partitions
from fleet_server.store.pool import Connection, Pool, transaction
from fleet_server.store.sql import queries

DEADLOCK_RETRIES = 5
_SQL = queries("ingest")
_SAMPLES = (
    "COPY samples (series_id, t0, t1, n, bad, v_min, v_max, v_sum, times_us, vals, agent_id, outbox_id, batch_no,"
    " received_at) FROM STDIN (FORMAT BINARY)"
)
_SAMPLE_TYPES = ["int4", "timestamptz", "timestamptz", "int4", "int4", "float8", "float8", "float8", "int8[]"]
_SAMPLE_TYPES += ["float8[]", "text", "uuid", "int8", "timestamptz"]
_WAVEFORMS = (
    "COPY waveform (series_id, t0, sample_rate_hz, fragment, fragments, vals, agent_id, outbox_id, batch_no,"
    " received_at) FROM STDIN (FORMAT BINARY)"
)
_WAVEFORM_TYPES = ["int4", "timestamptz", "float8", "int4", "int4", "float4[]", "text", "uuid", "int8", "timestamptz"]

SeriesKey = tuple[str, str, str]
"""(asset, metric, unit)"""


@dataclass
class Stored:
    """The outcome of a micro-batch: new batches, duplicates and clashes."""

    new: list[Data] = field(default_factory=list)
    duplicates: list[Data] = field(default_factory=list)
    clashes: list[Data] = field(default_factory=list)
    samples: int = 0


class Writer:
    """Writes micro-batches; its only state is a cache of series ids."""

    def __init__(self, pool: Pool, partitions: Partitions, clock: Clock) -> None:
        self._pool = pool
        self._partitions = partitions
        self._clock = clock
        self._series: dict[SeriesKey, int] = {}

    async def store(self, batches: Sequence[Data]) -> Stored:
        """Store a micro-batch in one transaction. Raises psycopg.Error; nothing is stored then."""
        await self._partitions.ensure(_days(batches))
        await self._ensure_series(batches)
        for attempt in range(DEADLOCK_RETRIES + 1):
            try:
                return await self._store(batches)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                if attempt == DEADLOCK_RETRIES:
                    raise
        raise AssertionError("unreachable")

    async def _store(self, batches: Sequence[Data]) -> Stored:
        result = Stored()
        firsts: dict[tuple[str, str, int], Data] = {}
        for data in sorted(batches, key=lambda item: item.key):
            first = firsts.setdefault(data.key, data)
            if first is not data:
                (result.duplicates if first.digest == data.digest else result.clashes).append(data)
        async with transaction(self._pool) as conn:
            await self._sort_out(conn, list(firsts.values()), result)
            if result.new:
                await self._write_content(conn, result)
            fault_point("ingest.before_commit")
        fault_point("ingest.after_commit")
        return result

    async def _sort_out(self, conn: Connection, batches: list[Data], result: Stored) -> None:
        await conn.execute(_SQL.share_keys, {"lock": WRITERS_LOCK})
        rows = await conn.execute(
            _SQL.insert_keys,
            {
                **_keys(batches),
                "digests": [data.digest for data in batches],
                "prevs": [data.batch.prev_digest for data in batches],
                "classes": [data.batch.batch_class.value for data in batches],
                "devices": [data.batch.device_id for data in batches],
                "samples": [sample_count(data) for data in batches],
                "firsts": [_first_at(data) for data in batches],
                "received": [data.message.received_at for data in batches],
            },
        )
        new = {_key(row) for row in await rows.fetchall()}
        result.new = [data for data in batches if data.key in new]
        old = [data for data in batches if data.key not in new]
        if old:
            known = await conn.execute(_SQL.known_digests, _keys(old))
            digests = {_key(row): row["digest"] for row in await known.fetchall()}
            for data in old:
                digest = digests.get(data.key, b"")
                same = digest is None or bytes(digest) == data.digest
                (result.duplicates if same else result.clashes).append(data)

    async def _write_content(self, conn: Connection, result: Stored) -> None:
        result.samples = await self._copy_samples(conn, result.new)
        await self._copy_waveforms(conn, result.new)
        await self._note_latest(conn, result.new)
        await insert_findings(conn, result.new)
        await note_states(conn, self._clock.now(), result.new)
        await _insert_gaps(conn, result.new)
        await _touch(conn, result.new)

    async def _copy_samples(self, conn: Connection, batches: list[Data]) -> int:
        with_samples = [data for data in batches if data.batch.columns]
        if not with_samples:
            return 0
        count = 0
        async with conn.cursor() as cursor, cursor.copy(_SAMPLES) as copy:
            copy.set_types(_SAMPLE_TYPES)
            for data in with_samples:
                tail = _origin(data)
                for column in data.batch.columns:
                    series_id = self._series[_series_key(data, column.metric)]
                    count += len(column.values)
                    await copy.write_row((series_id, *_summary(column.times_us, column.values), *tail))
        return count

    async def _copy_waveforms(self, conn: Connection, batches: list[Data]) -> None:
        with_waveform = [data for data in batches if data.batch.waveform is not None]
        if not with_waveform:
            return
        async with conn.cursor() as cursor, cursor.copy(_WAVEFORMS) as copy:
            copy.set_types(_WAVEFORM_TYPES)
            for data in with_waveform:
                wave = data.batch.waveform
                assert wave is not None
                series_id = self._series[_series_key(data, wave.metric)]
                head = (series_id, from_us(wave.time_us), wave.sample_rate_hz, wave.index, wave.count)
                tail = _origin(data)
                await copy.write_row((*head, wave.values.tolist(), *tail))

    async def _note_latest(self, conn: Connection, batches: list[Data]) -> None:
        latest: dict[int, tuple[int, float]] = {}
        for data in batches:
            for column in data.batch.columns:
                series_id = self._series[_series_key(data, column.metric)]
                newest = max(zip(column.times_us, column.values, strict=True), key=lambda point: point[0])
                if series_id not in latest or latest[series_id][0] < newest[0]:
                    latest[series_id] = newest
        if latest:
            ordered = sorted(latest.items())
            points = {
                "series": [series_id for series_id, _ in ordered],
                "times": [from_us(time_us) for _, (time_us, _) in ordered],
                "vals": [value for _, (_, value) in ordered],
            }
            await conn.execute(_SQL.upsert_latest, points)

    async def _ensure_series(self, batches: Sequence[Data]) -> None:
        """Load the ids of all series in ``batches`` and create missing ones.

        Series are created in a transaction of their own: a series without values does no harm.
        """
        wanted: dict[SeriesKey, tuple[str, str]] = {}
        for data in batches:
            batch = data.batch
            names = [column.metric for column in batch.columns] + ([batch.waveform.metric] if batch.waveform else [])
            for name in names:
                key = _series_key(data, name)
                if key not in self._series:
                    wanted[key] = (data.agent.tenant_id, data.spec(name).component)
        if not wanted:
            return
        ordered = sorted(wanted.items())
        columns = {
            "tenants": [tenant_id for _, (tenant_id, _) in ordered],
            "assets": [asset_id for (asset_id, _, _), _ in ordered],
            "metrics": [metric for (_, metric, _), _ in ordered],
            "units": [unit for (_, _, unit), _ in ordered],
            "slots": [slot for _, (_, slot) in ordered],
        }
        async with transaction(self._pool) as conn:
            await conn.execute(_SQL.insert_series, columns)
            rows = await conn.execute(_SQL.find_series, columns)
            found = {(row["asset_id"], row["metric"], row["unit"]): row["series_id"] for row in await rows.fetchall()}
        self._series.update(found)


def _series_key(data: Data, metric: str) -> SeriesKey:
    return data.batch.device_id, metric, data.spec(metric).unit


def sample_count(data: Data) -> int:
    """The number of samples in a batch: vitals only, so that they can be counted again in the table ``samples``."""
    return sum(len(column.values) for column in data.batch.columns)


def _first_at(data: Data) -> datetime | None:
    return min((from_us(min(column.times_us)) for column in data.batch.columns), default=None)


def _origin(data: Data) -> tuple[Any, ...]:
    return data.agent.agent_id, UUID(data.batch.outbox_id), data.batch.number, data.message.received_at


def _summary(times_us: Any, values: Any) -> tuple[Any, ...]:
    """t0, t1, n, bad, min, max, sum, times, values of a column; the statistics are of the finite values."""
    numbers = values.tolist()
    finite = [value for value in numbers if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (None, None)
    total = math.fsum(finite) if finite and math.isfinite(sum(finite)) else None
    span = (from_us(min(times_us)), from_us(max(times_us)))
    return (*span, len(numbers), len(numbers) - len(finite), low, high, total, times_us.tolist(), numbers)


def _days(batches: Sequence[Data]) -> set[Any]:
    days = set()
    for data in batches:
        days |= {from_us(min(column.times_us)).date() for column in data.batch.columns}
        if data.batch.waveform is not None:
            days.add(from_us(data.batch.waveform.time_us).date())
    return days


def _keys(batches: list[Data]) -> dict[str, list[Any]]:
    return {
        "agents": [data.agent.agent_id for data in batches],
        "outboxes": [data.batch.outbox_id for data in batches],
        "numbers": [data.batch.number for data in batches],
    }


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["agent_id"], row["outbox_id"], row["batch_no"]


async def _insert_gaps(conn: Connection, batches: list[Data]) -> None:
    rows = [
        {
            "agent_id": data.agent.agent_id,
            "outbox_id": data.batch.outbox_id,
            "first": gap.first_batch,
            "last": gap.last_batch,
            "batch_class": gap.batch_class.value,
            "reason": gap.reason,
            "device_id": data.batch.device_id,
            "t0": from_us(gap.start_us),
            "t1": from_us(gap.end_us),
            "received_at": data.message.received_at,
        }
        for data in batches
        for gap in data.batch.gaps
    ]
    if rows:
        async with conn.cursor() as cursor:
            await cursor.executemany(_SQL.insert_gap, rows)


async def _touch(conn: Connection, batches: list[Data]) -> None:
    """Update when agents and assets were last seen (domain time), in order of their ids to avoid deadlocks."""
    for statement, name, seen in (
        (_SQL.touch_agents, "agents", _newest((data.agent.agent_id, data.message.received_at) for data in batches)),
        (_SQL.touch_assets, "assets", _newest((data.batch.device_id, data.message.received_at) for data in batches)),
    ):
        ordered = sorted(seen.items())
        await conn.execute(statement, {name: [key for key, _ in ordered], "times": [at for _, at in ordered]})


def _newest(pairs: Any) -> dict[str, datetime]:
    newest: dict[str, datetime] = {}
    for key, at in pairs:
        if key and (key not in newest or newest[key] < at):
            newest[key] = at
    return newest
