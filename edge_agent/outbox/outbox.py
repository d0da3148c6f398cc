"""The outbox itself: batches are appended, sent, settled, and declared lost. The package's front door says the rules.

Not thread-safe: use from one thread. SQL stands beside the methods here, not in named files: the tables are private to
this package, and a device installs no query loader.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_agent.drafts import Draft
from edge_agent.outbox.file import OutboxUnavailable, fill_reserve, open_outbox
from edge_agent.outbox.room import CLASSES, HELD, ROW_OVERHEAD_BYTES, STORED, WORTH, Room
from fleet_core.batches import (
    EMPTY_SCHEMA,
    FIRST_PREV,
    MAX_GAPS,
    Batch,
    GapRecord,
    Schema,
    batch_digest,
    encode_batch,
)
from fleet_core.births import HeldReport, held_report
from fleet_core.clock import Clock
from fleet_core.errors import BadInput
from fleet_core.faults import fault_point
from fleet_core.sparkplug.session import Ranges
from fleet_core.telemetry import BatchClass, to_us

log = logging.getLogger(__name__)

MIN_QUOTA_BYTES = 1024 * 1024
FORGET_INTERVAL_US = 600_000_000
FORGET_ROWS = 512

_ONE_HELD = "outbox_id = ? AND number = ? AND status = 0"
_DISK_ERRORS = frozenset(
    (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY)
)

Key = tuple[str, int]
"""(outbox id, batch number)."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome of appending a draft: the batch's ``number``, or 0 when the draft was refused for ``reason``."""

    number: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Leased:
    """A batch to publish. ``body`` lacks only ``seq``."""

    id: int
    key: Key
    device_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """The outbox's present content; bytes include bookkeeping."""

    held: int
    stored: int
    undeclared_gaps: int
    used_bytes: int
    quota_bytes: int
    next_number: int
    evicted: int


class Outbox:
    """See the package. ``boot_id`` is stamped on every batch; ``keep_stored_s`` is domain time."""

    def __init__(
        self, path: Path, quota_bytes: int, clock: Clock, boot_id: str, *, keep_stored_s: float = 86_400.0
    ) -> None:
        self.quota_bytes = max(quota_bytes, MIN_QUOTA_BYTES)
        self.path = path
        self._clock = clock
        self._boot_id = boot_id
        self._keep_stored_us = int(keep_stored_s * 1e6)
        self._forgot_us = 0
        self._reserve_path = path.with_suffix(".reserve")
        self._db = open_outbox(path)
        self.outbox_id = ""
        self._next_number, self._last_digest = 1, FIRST_PREV
        try:
            self._adopt()
        except (sqlite3.OperationalError, OSError) as error:
            self._db.close()
            raise OutboxUnavailable(f"cannot use {path}: {error}") from error
        self._room = Room(self._db, self.quota_bytes, self.outbox_id)
        self._load()
        fill_reserve(self._reserve_path)

    def close(self) -> None:
        self._db.close()

    # -- appending

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Number, chain and commit the drafts, in order. A draft that cannot be a batch, or finds no room, is refused
        alone. Raises OutboxUnavailable."""
        fault_point("outbox.before_append")
        with self._transaction():
            results = [self._append_one(draft) for draft in drafts]
            fault_point("outbox.before_commit")
        fault_point("outbox.after_commit")
        return results

    def recover_room(self) -> bool:
        """After ``OutboxUnavailable`` and then a success: take the reserve back. False while the disk is too full."""
        return fill_reserve(self._reserve_path)

    def _append_one(self, draft: Draft) -> Appended:
        schema = draft.schema if draft.columns or draft.waveform else EMPTY_SCHEMA
        batch = Batch(
            outbox_id=self.outbox_id,
            number=self._next_number,
            boot_id=self._boot_id,
            schema_digest=schema.digest,
            prev_digest=self._last_digest,
            batch_class=draft.batch_class,
            device_id=draft.device_id,
            created_us=to_us(self._clock.now()),
            columns=draft.columns,
            waveform=draft.waveform,
            findings=draft.findings,
            states=draft.states,
            gaps=draft.gaps,
            historical=draft.historical,
        )
        try:
            body = encode_batch(batch, schema, None)
            digest = batch_digest(batch)
        except BadInput as error:
            return Appended(0, error.reason)
        size = len(body) + ROW_OVERHEAD_BYTES
        worth = WORTH[draft.batch_class]
        if not self._room.make(size, worth):
            return Appended(0, "no_room")
        start_us, end_us = draft.time_range_us
        known = (schema.digest, draft.device_id, schema.to_json())
        self._db.execute("INSERT OR IGNORE INTO schemas VALUES (?, ?, ?)", known)
        self._db.execute(
            "INSERT INTO batches"
            " (outbox_id, number, class, device_id, schema, digest, size, created_us, start_us, end_us, body) VALUES"
            " (:outbox_id, :number, :class, :device_id, :schema, :digest, :size, :created_us, :start_us, :end_us,"
            " :body)",
            {
                "outbox_id": self.outbox_id,
                "number": batch.number,
                "class": worth,
                "device_id": draft.device_id,
                "schema": schema.digest,
                "digest": digest,
                "size": size,
                "created_us": batch.created_us,
                "start_us": start_us,
                "end_us": end_us,
                "body": body,
            },
        )
        self._room.used_bytes += size
        self._next_number, self._last_digest = batch.number + 1, digest
        self._put_meta(next_number=self._next_number, last_digest=digest)
        return Appended(batch.number)

    def declare_gaps(self) -> int:
        """Turn undeclared gap rows into one gap batch; its number, or 0 when there was nothing to declare.

        Called when the server answers, so that rows coalesce as long as nobody listens. Raises OutboxUnavailable.
        """
        with self._transaction():
            rows = self._db.execute(
                "SELECT id, first, last, class, reason, start_us, end_us FROM gaps ORDER BY id LIMIT ?", (MAX_GAPS,)
            ).fetchall()
            if not rows:
                return 0
            records = tuple(
                GapRecord(
                    first_batch=first,
                    last_batch=last,
                    batch_class=CLASSES[worth],
                    reason=reason,
                    start_us=start_us,
                    end_us=end_us,
                )
                for _, first, last, worth, reason, start_us, end_us in rows
            )
            appended = self._append_one(Draft(BatchClass.GAP, "", EMPTY_SCHEMA, gaps=records))
            if appended.number:
                self._db.execute("DELETE FROM gaps WHERE id <= ?", (rows[-1][0],))
        return appended.number

    # -- sending and settling

    def lease(self, after_id: int, before_id: int, classes: Sequence[BatchClass], limit: int) -> list[Leased]:
        """Held batches of these classes with ``after_id < id < before_id``, oldest first."""
        found: list[Leased] = []
        for kind in classes:  # one query for every class, so that it reads only as much of the index as it needs
            rows = self._db.execute(
                "SELECT id, outbox_id, number, device_id, body FROM batches"
                " WHERE status = 0 AND class = ? AND id > ? AND id < ? ORDER BY id LIMIT ?",
                (WORTH[kind], after_id, before_id, limit),
            )
            found += [Leased(row[0], (row[1], row[2]), row[3], row[4]) for row in rows]
        return sorted(found, key=lambda leased: leased.id)[:limit]

    def fetch(self, key: Key) -> Leased | None:
        """A held batch by its key, None when it is settled or evicted."""
        row = self._db.execute(
            "SELECT id, device_id, body FROM batches WHERE outbox_id = ? AND number = ? AND status = 0", key
        ).fetchone()
        return Leased(row[0], key, row[1], row[2]) if row else None

    def settle_stored(self, outbox_id: str, ranges: Ranges) -> int:
        """Settle batches the server has stored: they are kept a while and evicted first. Returns how many were held."""
        at_us = to_us(self._clock.now())
        with self._transaction():
            settled = sum(
                self._db.execute(
                    "UPDATE batches SET status = 1, settled_us = ? WHERE outbox_id = ? AND number BETWEEN ? AND ?"
                    " AND status = 0",
                    (at_us, outbox_id, first, last),
                ).rowcount
                for first, last in ranges
            )
            # Old batches are deleted at intervals: neighbours then leave together, and fewer pages are written.
            if abs(at_us - self._forgot_us) >= FORGET_INTERVAL_US:
                self._forget_stored(at_us)
        return settled

    def settle_refused(self, outbox_id: str, numbers: Sequence[int]) -> int:
        """Delete batches that the server refused. Returns how many were held.

        The server's quarantine keeps number and reason of each; the content only up to ``ingest.quarantine_bytes``, for
        the retention period, and none beyond 1,000 messages of a sender in an hour.
        """
        with self._transaction():
            return sum(
                self._room.drop("outbox_id = ? AND number = ? AND status = 0", (outbox_id, n), "") for n in numbers
            )

    def give_up(self, keys: Sequence[Key], reason: str = "undeliverable") -> int:
        """Drop held batches that cannot be delivered; every one becomes a gap. Returns how many were dropped."""
        with self._transaction():
            return sum(self._room.drop(_ONE_HELD, key, reason) for key in keys)

    def resend(self, outbox_id: str, ranges: Ranges) -> int:
        """Hold stored batches again that are still here, because the server lost them. Returns how many."""
        with self._transaction():
            return sum(
                self._db.execute(
                    "UPDATE batches SET status = 0 WHERE outbox_id = ? AND number BETWEEN ? AND ? AND status = 1",
                    (outbox_id, first, last),
                ).rowcount
                for first, last in ranges
            )

    # -- looking

    def next_id(self) -> int:
        """The id the next batch will get at least: all present ids are below."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
        return (row[0] if row else 0) + 1

    def held(self) -> HeldReport:
        rows = self._db.execute(
            "SELECT MIN(number), MAX(number) FROM (SELECT number, number - ROW_NUMBER() OVER (ORDER BY number) AS run"
            " FROM batches WHERE status = 0 AND outbox_id = ?) GROUP BY run ORDER BY 1",
            (self.outbox_id,),
        ).fetchall()
        return held_report(self.outbox_id, self._next_number, rows)

    def former_schemas(self, device_id: str, present_digest: str) -> list[Schema]:
        """Schemas of held batches of a device other than its present one."""
        rows = self._db.execute(
            "SELECT body FROM schemas WHERE device_id = ? AND digest NOT IN (?, ?) AND digest IN"
            " (SELECT schema FROM batches WHERE status = 0 AND device_id = ?)",
            (device_id, present_digest, EMPTY_SCHEMA.digest, device_id),
        )
        return [Schema.from_json(body) for (body,) in rows]

    def stats(self) -> OutboxStats:
        counts = dict(self._db.execute("SELECT status, COUNT(*) FROM batches GROUP BY status").fetchall())
        (gaps,) = self._db.execute("SELECT COUNT(*) FROM gaps").fetchone()
        return OutboxStats(
            held=counts.get(HELD, 0),
            stored=counts.get(STORED, 0),
            undeclared_gaps=gaps,
            used_bytes=self._room.used_bytes,
            quota_bytes=self.quota_bytes,
            next_number=self._next_number,
            evicted=self._room.evicted,
        )

    def _forget_stored(self, at_us: int) -> None:
        chosen = "SELECT id FROM batches WHERE status = 1 AND settled_us < ? LIMIT ?"
        dropped = self._room.drop(f"id IN ({chosen})", (at_us - self._keep_stored_us, FORGET_ROWS), "")
        if dropped < FORGET_ROWS:
            self._forgot_us = at_us

    # -- the file

    def _adopt(self) -> None:
        """Take the file's identity, or a new one when the file is new or a copy (its inode tells)."""
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        file = self.path.stat()
        inode = f"{file.st_dev}:{file.st_ino}"
        if "outbox_id" in meta and meta.get("inode") == inode:
            self.outbox_id = str(meta["outbox_id"])
            return
        if "outbox_id" in meta:
            log.warning("outbox %s was copied or restored: it continues under a new id", self.path)
        self.outbox_id = str(uuid.uuid4())
        # The inode is written last: until it stands in the file, the next start takes a new identity.
        self._put_meta(outbox_id=self.outbox_id, next_number=1, last_digest=FIRST_PREV, inode=inode)

    def _load(self) -> None:
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        self._next_number = int(meta.get("next_number", 1))
        self._last_digest = bytes(meta.get("last_digest", FIRST_PREV))
        self._room.load()

    def _put_meta(self, **values: object) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; after a failure what is in memory is read again from the disk. A disk that cannot even be
        read ends the agent with sqlite3's error: going on with stale numbers would leave holes."""
        evicted = self._room.evicted
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._room.evicted = evicted
            self._load()
            if not _is_of_the_disk(error):
                raise
            self._reserve_path.unlink(missing_ok=True)
            raise OutboxUnavailable(f"outbox: {error}") from error


def _is_of_the_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode & 0xFF in _DISK_ERRORS
    return isinstance(error, OSError)
