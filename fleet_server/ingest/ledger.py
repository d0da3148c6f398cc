"""The conservation ledger shows by counting that no batch was lost and none was stored twice.

For every outbox of every agent, each batch number below the next one is exactly one of stored, quarantined, gap or held
(in this order of precedence), or missing. A missing number is ``in_grace`` until ``grace_s`` (real seconds) after the
server could first know that the number exists; then it is ``unexplained``, which is a fault. Therefore always::

    batches = stored + quarantined + gaps + held + in_grace + unexplained

The server knows only from an agent's reports which batches the agent holds. An outbox that holds batches and was not
reported for ``held_report_age_s`` (real seconds) is ``silent``: its batches still count as held, because nothing better
is known, but a silent outbox is a fault.

An auditor may run it: it changes nothing. ``deep`` also compares the number of samples of each batch with the batch's
header, looks for rows that are stored twice, and checks the hash chain of every outbox.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.multirange import Multirange

from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_SQL = queries("ledger")
MAX_EXAMINED_RANGES = 200


@dataclass
class Counts:
    """Numbers of batches by their state in the ledger."""

    batches: int = 0
    stored: int = 0
    quarantined: int = 0
    gaps: int = 0
    held: int = 0
    in_grace: int = 0
    unexplained: int = 0

    def add(self, other: Counts) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Stream:
    """One outbox of one agent. ``unexplained_ranges`` are closed ranges of batch numbers, at most a few."""

    agent_id: str
    tenant_id: str | None
    outbox_id: str
    counts: Counts
    unexplained_ranges: list[tuple[int, int]] = field(default_factory=list)
    silent_since: datetime | None = None
    """Real time of the last report of a silent outbox; None when the outbox is not silent."""


@dataclass
class Ledger:
    totals: Counts
    streams: list[Stream]
    faults: list[str] = field(default_factory=list)
    """Silent outboxes and the findings of ``deep``, as lines for people; empty when there is no fault."""

    @property
    def balanced(self) -> bool:
        return self.totals.unexplained == 0 and not self.faults

    def document(self) -> dict[str, Any]:
        """The ledger as a JSON object: the totals, then ``agents`` and ``faults``."""
        agents = [
            {
                "agent": stream.agent_id,
                "outbox": stream.outbox_id,
                **asdict(stream.counts),
                "unexplained_ranges": [list(pair) for pair in stream.unexplained_ranges],
                "silent_since": stream.silent_since.isoformat() if stream.silent_since else None,
            }
            for stream in self.streams
        ]
        return {**asdict(self.totals), "agents": agents, "faults": self.faults}


async def read_ledger(
    conn: Connection,
    *,
    grace_s: float,
    held_report_age_s: float = 86_400.0,
    agent_id: str | None = None,
    deep: bool = False,
    oldest: datetime | None = None,
) -> Ledger:
    """Count all batches, or those of one agent. The connection's role must be owner or worker.

    The retention may have dropped samples older than ``oldest``, so ``deep`` does not report these as missing.
    """
    now_row = await (await conn.execute(_SQL.now)).fetchone()
    assert now_row is not None
    rows = await (await conn.execute(_SQL.streams, {"agent_id": agent_id})).fetchall()
    ledger = Ledger(Counts(), [])
    now: datetime = now_row["now"]
    for row in rows:
        stream = await _judge(conn, row, now - timedelta(seconds=grace_s))
        reported_at = row["report_recorded_at"]
        if stream.counts.held and reported_at < now - timedelta(seconds=held_report_age_s):
            stream.silent_since = reported_at
            ledger.faults.append(_silent(stream, reported_at))
        ledger.streams.append(stream)
        ledger.totals.add(stream.counts)
    if deep:
        ledger.faults += await _deep(conn, agent_id, oldest)
    return ledger


async def _judge(conn: Connection, row: dict[str, Any], too_old: datetime) -> Stream:
    counts = Counts(
        batches=row["next_batch"] - 1,
        stored=size(row["stored"]),
        quarantined=size(row["quarantined"]),
        gaps=size(row["gaps"]),
        held=size(row["held"]),
    )
    stream = Stream(row["agent_id"], row["tenant_id"], row["outbox_id"], counts)
    for position, (first, last) in enumerate(closed(row["missing"])):
        known_since = None
        if position < MAX_EXAMINED_RANGES:  # with more missing ranges than that, details add nothing
            known_since = await _known_since(conn, row, last)
        if known_since is None or known_since <= too_old:
            counts.unexplained += last - first + 1
            if len(stream.unexplained_ranges) < 20:
                stream.unexplained_ranges.append((first, last))
        else:
            counts.in_grace += last - first + 1
    return stream


async def _known_since(conn: Connection, row: dict[str, Any], last: int) -> datetime | None:
    """When the server could first know that the batch number ``last`` exists and is not held by the agent."""
    key = {"agent_id": row["agent_id"], "outbox_id": row["outbox_id"], "upper": last}
    later = await (await conn.execute(_SQL.evidence, key)).fetchone()
    moments = [later["recorded_at"]] if later is not None and later["recorded_at"] is not None else []
    if row["next_since"] is not None and row["reported_next"] > last:
        moments.append(row["next_since"])
    return min(moments, default=None)


async def _deep(conn: Connection, agent_id: str | None, oldest: datetime | None) -> list[str]:
    values = {"agent_id": agent_id, "oldest": oldest or datetime(1970, 1, 1, tzinfo=UTC)}
    faults = []
    for row in await (await conn.execute(_SQL.sample_mismatches, values)).fetchall():
        faults.append(f"{_name(row)}: {row['declared']} samples declared, {row['found']} stored")
    for row in await (await conn.execute(_SQL.range_mismatches, values)).fetchall():
        faults.append(f"{_names(row)}: {row['declared']} samples declared, {row['found']} stored")
    for row in await (await conn.execute(_SQL.doubled, values)).fetchall():
        faults.append(f"{_name(row)}: series {row['series_id']} stored {row['times']} times")
    for row in await (await conn.execute(_SQL.broken_chain, values)).fetchall():
        faults.append(f"{_name(row)}: does not continue the hash chain of the batch before")
    for row in await (await conn.execute(_SQL.broken_ranges, values)).fetchall():
        faults.append(f"{_names(row)}: {row['broken_links']} times the hash chain does not continue")
    return faults


def _silent(stream: Stream, reported_at: datetime) -> str:
    return (
        f"{stream.agent_id} (outbox {stream.outbox_id}) holds {stream.counts.held} batches by its last report"
        f" of {reported_at:%Y-%m-%d %H:%M} UTC and has said nothing since"
    )


def _name(row: dict[str, Any]) -> str:
    return f"batch {row['batch_no']} of {row['agent_id']} (outbox {row['outbox_id']})"


def _names(row: dict[str, Any]) -> str:
    return f"batches {row['first_batch']} to {row['last_batch']} of {row['agent_id']} (outbox {row['outbox_id']})"


def closed(numbers: Multirange[int]) -> Iterable[tuple[int, int]]:
    """The ranges of a multirange of whole numbers, as pairs of first and last number."""
    for part in numbers:
        if part.lower is not None and part.upper is not None:
            yield part.lower, part.upper - 1


def size(numbers: Multirange[int]) -> int:
    """The number of whole numbers in a multirange."""
    return sum(last - first + 1 for first, last in closed(numbers))
