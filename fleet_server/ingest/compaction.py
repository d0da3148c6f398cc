"""Compaction of the ledger: keys of stored batches become ranges of batch numbers.

The cost of the ledger then grows with the number of outboxes and holes and not with the number of batches ever stored.
Two incremental steps run in the background of one process at a time (advisory lock):

* *fold*: keys that no range covers yet are joined to the ranges of their outbox. The keys stay.
* *forget*: keys that a range covers and that are older than ``keep_from`` are deleted. Until then a batch with the same
  number and another digest is recognised as a clash; afterwards it counts as a duplicate.

Invariants: at every moment and for every writer, a number is stored if and only if a key or a range says so. To hold
this, a key is deleted only when the range that covers it was committed earlier, and only while no writer is between
reading the ranges and its commit (writers share a lock). A range joins at most ``MOST_IN_RANGE`` numbers, so that
``ledger --deep`` can name a bad one.

Failure behaviour: every chunk is a transaction of its own, so a crash leaves every chunk done or untouched. When
writers do not release their lock within ``LOCK_WAIT``, the round ends, and the next round goes on. An outbox that
cannot be compacted is put off, and the others are compacted all the same.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg

from fleet_core.put_off import PutOff
from fleet_server.store.alone import do_alone
from fleet_server.store.pool import Connection, Pool, transaction
from fleet_server.store.sql import queries

_SQL = queries("compaction")
COMPACTOR_LOCK = 0x434F4D50  # "COMP"
WRITERS_LOCK = 0x4B455953  # "KEYS"
LOCK_WAIT = "1s"
MOST_IN_RANGE = 10_000
CHUNK = 5_000
PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Piece:
    """Contiguous stored batches of one outbox, ``first`` to ``last``: a single key, or a range of them."""

    first: int
    last: int
    samples: int
    first_at: datetime | None
    recorded_at: datetime
    first_prev: bytes
    last_digest: bytes
    broken_links: int = 0

    @property
    def size(self) -> int:
        return self.last - self.first + 1


@dataclass
class Compacted:
    """Result of a round: the number of keys that joined a range, and the number of keys that were deleted."""

    folded: int = 0
    forgotten: int = 0


def join(pieces: Iterable[Piece], most: int = MOST_IN_RANGE) -> list[Piece]:
    """The same numbers in the fewest pieces, in order. Pure.

    Neighbouring pieces are joined from the left, up to ``most`` numbers in a piece; a larger piece stays as it is. The
    pieces must not overlap.
    """
    joined: list[Piece] = []
    for piece in sorted(pieces, key=lambda one: one.first):
        before = joined[-1] if joined else None
        if before is not None and before.last + 1 == piece.first and before.size + piece.size <= most:
            joined[-1] = _joined(before, piece)
        else:
            joined.append(piece)
    return joined


def _joined(left: Piece, right: Piece) -> Piece:
    return Piece(
        first=left.first,
        last=right.last,
        samples=left.samples + right.samples,
        first_at=min((at for at in (left.first_at, right.first_at) if at is not None), default=None),
        recorded_at=min(left.recorded_at, right.recorded_at),
        first_prev=left.first_prev,
        last_digest=right.last_digest,
        broken_links=left.broken_links + right.broken_links + (right.first_prev != left.last_digest),
    )


async def compact(owner: Pool, keep_from: datetime, streams: PutOff, chunk: int = CHUNK) -> Compacted:
    """One round: fold all keys that no range covers, and delete covered keys older than ``keep_from`` (domain time).

    ``streams`` holds the outboxes that could not be compacted. When another process compacts, it returns early with the
    counts so far. Raises psycopg.Error.
    """
    done = Compacted()
    while (seen := await _chunk(owner, partial(_fold, streams=streams, most=chunk, done=done))) is not None:
        if seen < chunk:
            break
    else:
        return done
    async with transaction(owner) as conn:
        due = await (await conn.execute(_SQL.due, {"keep_from": keep_from})).fetchall()
    for stream in due:
        values = {**stream, "keep_from": keep_from, "most": chunk}
        forgotten: int | None = chunk
        while forgotten == chunk and not streams.waits(_name(**stream)):
            try:
                forgotten = await _chunk(owner, partial(_forget, streams=streams, values=values))
            except psycopg.errors.LockNotAvailable:
                return done
            done.forgotten += forgotten or 0
    return done


async def _chunk(owner: Pool, act: Callable[[Connection], Awaitable[int]]) -> int | None:
    """Run one chunk in a transaction; None when another process compacts."""
    async with transaction(owner) as conn:
        row = await (await conn.execute(_SQL.alone, {"lock": COMPACTOR_LOCK})).fetchone()
        if row is None or not row["alone"]:
            return None
        count = await act(conn)
    await asyncio.sleep(PAUSE_S)
    return count


async def _fold(conn: Connection, *, streams: PutOff, most: int, done: Compacted) -> int:
    """Fold up to ``most`` keys, each outbox alone. Returns how many keys were looked at, with those of a failure."""
    put_off = [str(stream) for stream in streams.waiting()]
    rows = await (await conn.execute(_SQL.unfolded, {"most": most, "put_off": put_off})).fetchall()
    keys_of: dict[tuple[str, str], list[Piece]] = defaultdict(list)
    for row in rows:
        number, times = row["batch_no"], (row["first_at"], row["recorded_at"])
        digests = bytes(row["prev_digest"]), bytes(row["digest"])
        keys_of[row["agent_id"], row["outbox_id"]].append(Piece(number, number, row["samples"], *times, *digests))
    for (agent_id, outbox_id), keys in keys_of.items():
        stream = {"agent_id": agent_id, "outbox_id": outbox_id}
        if await do_alone(conn, streams, _name(**stream), partial(_put, conn, stream, keys)) is None:
            done.folded += len(keys)
    return len(rows)


def _name(agent_id: str, outbox_id: str) -> str:
    """An outbox as the log names it, and ``unfolded`` in ``compaction.sql``."""
    return f"{outbox_id} of {agent_id}"


async def _put(conn: Connection, stream: dict[str, str], keys: list[Piece]) -> None:
    bounds = {"lowest": min(key.first for key in keys), "highest": max(key.last for key in keys)}
    old = {_piece(row) for row in await (await conn.execute(_SQL.touching, {**stream, **bounds})).fetchall()}
    new = set(join([*old, *keys]))
    firsts = [piece.first for piece in old - new]
    if firsts:
        await conn.execute(_SQL.remove_ranges, {**stream, "firsts": firsts})
    async with conn.cursor() as cursor:
        await cursor.executemany(_SQL.put_range, [{**stream, **asdict(piece)} for piece in new - old])


def _piece(row: dict[str, Any]) -> Piece:
    return Piece(
        row["first_batch"],
        row["last_batch"],
        row["samples"],
        row["first_at"],
        row["recorded_at"],
        bytes(row["first_prev"]),
        bytes(row["last_digest"]),
        row["broken_links"],
    )


async def _forget(conn: Connection, *, streams: PutOff, values: dict[str, Any]) -> int:
    """Delete what is due of one outbox. Returns how many keys; 0 when it failed and is put off."""
    await conn.execute(_SQL.limit_waiting, {"wait": LOCK_WAIT})
    await conn.execute(_SQL.keep_writers_out, {"lock": WRITERS_LOCK})
    forgotten = 0

    async def forget() -> None:
        nonlocal forgotten
        forgotten = (await conn.execute(_SQL.forget_keys, values)).rowcount

    await do_alone(conn, streams, _name(values["agent_id"], values["outbox_id"]), forget)
    return forgotten
