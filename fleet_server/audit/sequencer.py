"""The sequencer: gives audit entries their place in the tree and signs checkpoints, a few times a second.

One sequencer of the fleet is elected (``fleet_server/store/leader.py``), the others wait. Each round is one
transaction: pending entries in order of arrival get ``seq`` 0, 1, 2, ... and their leaf hash, and the checkpoint over
the new size is inserted with them. Then the checkpoint is appended to the checkpoint file, which is kept elsewhere. A
crash between the transaction and the file (fault point ``sequencer.after_sign``) leaves a file that is behind the
database, never ahead of it; the next start appends the last checkpoint.

A sequencer that was elected computes the roots of the stored log before it signs, and compares them with the
checkpoints of database and file: a log that was tampered with is never signed.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleet_core.clock import Clock
from fleet_core.errors import Permanent
from fleet_core.faults import fault_point
from fleet_core.service import Outage, finish, run_until_stopped, stop_on_signals
from fleet_server.audit.checkpoint import Checkpoint, append_line, load_key, read_lines, sign
from fleet_server.audit.tree import Frontier, leaf_hash
from fleet_server.settings import Settings
from fleet_server.store.leader import Elected, Office, when_elected
from fleet_server.store.pool import AWAY, MERELY_AWAY, Connection, Pool, open_pool, require_dsn
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_SQL = queries("audit")

MAX_PER_ROUND = 2000
"""Bounds the transaction of one round; a full round is followed by the next one without a pause."""


class Tampered(Permanent):
    """The stored log is not the one that was signed: nothing more is signed until a person has looked into it."""


class Sequencer:
    """The tree and the last checkpoint of the sequencer that is elected. ``load`` comes first."""

    def __init__(self, clock: Clock, key: Ed25519PrivateKey, checkpoint_file: Path) -> None:
        self._clock = clock
        self._key = key
        self._file = checkpoint_file
        self._frontier: Frontier | None = None
        self._last: Checkpoint | None = None

    async def load(self, conn: Connection) -> None:
        """Rebuild the tree from the stored leaf hashes. Raises Tampered when a checkpoint does not fit them."""
        await conn.execute("SET LOCAL statement_timeout = 0")  # reads the whole log, once
        frontier = Frontier()
        last = await self._last_checkpoint(conn)
        remembered = {checkpoint.tree_size: checkpoint.root_hash for checkpoint in read_lines(self._file)}
        if last is not None:
            remembered[last.tree_size] = last.root_hash
        async for row in conn.cursor().stream(_SQL.leaves):
            if row["seq"] != frontier.size:
                raise Tampered(f"audit entry {frontier.size} is missing from the log")
            frontier.append(bytes(row["leaf_hash"]))
            expected = remembered.get(frontier.size)
            if expected is not None and expected != frontier.root():
                raise Tampered(f"the first {frontier.size} audit entries are not those that were signed")
        if remembered and max(remembered) > frontier.size:
            raise Tampered(f"the log has {frontier.size} entries, a checkpoint says {max(remembered)}: it was cut")
        self._frontier, self._last = frontier, last
        if last is not None and last.tree_size not in {c.tree_size for c in read_lines(self._file)}:
            append_line(self._file, last)

    async def round(self, pool: Pool) -> int:
        """Sequence at most ``MAX_PER_ROUND`` pending entries and return their number.

        Raises psycopg.Error, with nothing changed, and OSError when the checkpoint file cannot be written.
        """
        assert self._frontier is not None
        async with pool.connection() as conn:
            rows = await (await conn.execute(_SQL.pending, {"limit": MAX_PER_ROUND})).fetchall()
            if not rows:
                return 0
            start = self._frontier.size
            leaves = [leaf_hash(row["canonical"].encode()) for row in rows]
            frontier = self._frontier.copy()
            for leaf in leaves:
                frontier.append(leaf)
            await conn.execute(
                _SQL.sequence,
                {
                    "ids": [row["entry_id"] for row in rows],
                    "seqs": list(range(start, start + len(rows))),
                    "leaves": leaves,
                },
            )
            checkpoint = sign(self._key, frontier.size, frontier.root(), self._clock.now())
            await conn.execute(
                _SQL.insert_checkpoint,
                {
                    "tree_size": checkpoint.tree_size,
                    "root_hash": checkpoint.root_hash,
                    "signed_at": checkpoint.signed_at,
                    "key_id": checkpoint.key_id,
                    "signature": checkpoint.signature,
                },
            )
        self._frontier, self._last = frontier, checkpoint
        fault_point("sequencer.after_sign")
        append_line(self._file, checkpoint)
        return len(rows)

    async def _last_checkpoint(self, conn: Connection) -> Checkpoint | None:
        row = await (await conn.execute(_SQL.last_checkpoint)).fetchone()
        if row is None:
            return None
        return Checkpoint(**{**row, "root_hash": bytes(row["root_hash"]), "signature": bytes(row["signature"])})


async def run_sequencer(settings: Settings, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises BadConfig or Retryable when the process cannot start, Tampered, and any other error of a round but the
    database's: those are waited for, and the entries with them.
    """
    key = load_key(settings.audit.signing_key_file)
    pool = await open_pool(settings, "worker", size=1)
    outage = Outage(
        log,
        "the audit log is not sequenced for now, entries wait in the database",
        "the audit log is sequenced again",
        errors=AWAY,
        known=MERELY_AWAY,
    )

    async def serve(elected: Elected) -> None:
        sequencer = Sequencer(clock, key, settings.audit.checkpoint_file)
        async with pool.connection() as conn:
            await sequencer.load(conn)
        while True:
            await elected.confirm()
            count = await finish(sequencer.round(pool))  # a stop leaves no checkpoint that is not in its file
            outage.succeeded()
            if count < MAX_PER_ROUND:
                await asyncio.sleep(settings.audit.interval_ms / 1000)

    try:
        standing = when_elected(require_dsn(settings), Office.SEQUENCER, serve, outage)
        await run_until_stopped(stop_on_signals(), {"sequencer": standing})
    finally:
        await pool.close()
