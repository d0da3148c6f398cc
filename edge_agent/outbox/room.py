"""Room in the outbox: what is evicted when it is full, and how every loss is written down.

Order of eviction: stored batches, then held waveforms, routine vitals, findings, gaps; the oldest first within each
class. A batch never evicts a worthier class. An evicted gap batch gives its records back to the table of gaps: what was
declared lost stays declared. Every method is called inside a transaction of the outbox.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from fleet_core.batches import EMPTY_SCHEMA, GapRecord, decode_batch
from fleet_core.telemetry import BatchClass

ROW_OVERHEAD_BYTES = 256
"""The bytes that a row takes besides its body: keys, digest, times, index entries, rounded up."""
GAP_ROOM_BYTES = 256 * 1024
"""Kept free of everything but gap batches, so that a full outbox can still declare what it evicts."""
MAX_GAP_ROWS = 1024
"""Rows of undeclared losses; beyond it the two with the lowest numbers become one."""
HELD, STORED = 0, 1
"""A batch's status: to be delivered, or stored by the server and kept for a while."""
WORTH = {BatchClass.WAVEFORM: 0, BatchClass.ROUTINE: 1, BatchClass.FINDING: 2, BatchClass.GAP: 3}
CLASSES = {worth: kind for kind, worth in WORTH.items()}


class Room:
    """Counts the bytes of one outbox and keeps them below its quota."""

    def __init__(self, db: sqlite3.Connection, quota_bytes: int, outbox_id: str) -> None:
        self.used_bytes = 0
        self.evicted = 0
        self._db = db
        self._quota_bytes = quota_bytes
        self._outbox_id = outbox_id

    def load(self) -> None:
        """Count what is in the file (again, after a rollback)."""
        (self.used_bytes,) = self._db.execute("SELECT COALESCE(SUM(size), 0) FROM batches").fetchone()

    def make(self, size: int, worth: int) -> bool:
        """Evict until ``size`` more bytes fit; False when only worthier batches are left."""
        limit = self._quota_bytes - (0 if worth == WORTH[BatchClass.GAP] else GAP_ROOM_BYTES)
        if self.used_bytes + size <= limit:
            return True
        queues = [("status = 1", ())] + [("status = 0 AND class = ?", (w,)) for w in range(worth + 1)]
        for where, parameters in queues:
            # Sixteen are evicted at a time, so that a batch that does not fit evicts few more than it needs.
            while self.used_bytes + size > limit:
                chosen = f"id IN (SELECT id FROM batches WHERE {where} ORDER BY id LIMIT 16)"
                if not self.drop(chosen, parameters, "quota"):
                    break
        return self.used_bytes + size <= limit

    def drop(self, where: str, parameters: Sequence[object], reason: str) -> int:
        """Delete the batches that ``where`` (SQL, with its parameters) chooses; returns how many.

        With a ``reason`` the held ones among them become gaps of that reason; with "" they leave without a trace,
        because the server has stored them, or refused them and keeps number and reason.
        """
        rows = self._db.execute(
            "SELECT id, outbox_id, number, class, status, start_us, end_us, size, device_id,"
            f" CASE class WHEN 3 THEN body END FROM batches WHERE {where} ORDER BY id",
            parameters,
        ).fetchall()
        for row_id, outbox_id, number, worth, status, start_us, end_us, size, device_id, body in rows:
            self._db.execute("DELETE FROM batches WHERE id = ?", (row_id,))
            self.used_bytes -= size
            if status == HELD and reason:
                self.evicted += 1
                own = number if outbox_id == self._outbox_id else 0  # another outbox's numbers mean nothing in this one
                self.add_gap(GapRecord(own, own, CLASSES[worth], reason, start_us, end_us))
                for record in decode_batch(body, EMPTY_SCHEMA, device_id).gaps if body else ():
                    self.add_gap(record)
        return len(rows)

    def add_gap(self, gap: GapRecord) -> None:
        """Note a loss that is to be declared. It extends the row before it where the two are one loss."""
        worth = WORTH[gap.batch_class]
        # A numbered loss extends the row that ends just before it; a loss without numbers (0) extends a row without
        # numbers. The loss of number 1 extends no row: -1 stands in none.
        ends_at = (gap.first_batch - 1 or -1) if gap.first_batch else 0
        before = self._db.execute(
            "SELECT id FROM gaps WHERE class = ? AND reason = ? AND last = ? ORDER BY id DESC LIMIT 1",
            (worth, gap.reason, ends_at),
        ).fetchone()
        if before:
            self._db.execute(
                "UPDATE gaps SET last = ?, start_us = MIN(start_us, ?), end_us = MAX(end_us, ?) WHERE id = ?",
                (gap.last_batch, gap.start_us, gap.end_us, before[0]),
            )
            return
        self._db.execute(
            "INSERT INTO gaps (first, last, class, reason, start_us, end_us) VALUES (?, ?, ?, ?, ?, ?)",
            (gap.first_batch, gap.last_batch, worth, gap.reason, gap.start_us, gap.end_us),
        )
        (count,) = self._db.execute("SELECT COUNT(*) FROM gaps").fetchone()
        if count > MAX_GAP_ROWS:
            self._merge_oldest_gaps()

    def _merge_oldest_gaps(self) -> None:
        # Numbers between two merged ranges are claimed lost too; those that arrive count as stored all the same.
        (kept_id, *kept), (merged_id, *merged) = self._db.execute(
            "SELECT id, first, last, start_us, end_us FROM gaps ORDER BY first = 0, first LIMIT 2"
        ).fetchall()
        first, last = min(kept[0], merged[0]), max(kept[1], merged[1])
        start_us, end_us = min(kept[2], merged[2]), max(kept[3], merged[3])
        self._db.execute(
            "UPDATE gaps SET first = ?, last = ?, reason = 'coalesced', start_us = ?, end_us = ? WHERE id = ?",
            (first, last, start_us, end_us, kept_id),
        )
        self._db.execute("DELETE FROM gaps WHERE id = ?", (merged_id,))
