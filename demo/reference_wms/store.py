"""Bookings of the reference WMS in an SQLite file, so that they survive its restart.

A key is used once: booked, cancelled, or cancelled before it was ever booked (then a late booking is refused).
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS booking (
    idempotency_key TEXT PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    warehouse       TEXT NOT NULL,
    equipment       TEXT NOT NULL,
    start_us        INTEGER NOT NULL,
    end_us          INTEGER NOT NULL,
    reason          TEXT NOT NULL,
    state           TEXT NOT NULL, -- booked, cancelled; by a fault: rejected, pending
    made_at         TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS booking_of_equipment ON booking (warehouse, equipment, start_us);
"""


class Taken(Exception):
    """The equipment is booked in that span, or the key was cancelled; ``args[0]`` is the reason's code."""


class BookingStore:
    """Thread-safe; every method is one transaction."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self._lock = threading.Lock()

    def book(
        self,
        key: str,
        warehouse: str,
        equipment: str,
        start: datetime,
        end: datetime,
        reason: str,
        now: datetime,
        state: str = "booked",
    ) -> tuple[dict[str, Any], bool]:
        """The booking of a key and whether this call made it, in that state. Raises Taken."""
        start_us, end_us = _us(start), _us(end)
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            known = self._row("SELECT * FROM booking WHERE idempotency_key = ?", key)
            if known is not None:
                if known["state"] == "cancelled":
                    raise Taken("key_cancelled")
                return known, False
            clash = self._row(
                "SELECT * FROM booking WHERE warehouse = ? AND equipment = ? AND state IN ('booked', 'pending')"
                " AND start_us < ? AND end_us > ?",
                warehouse, equipment, end_us, start_us,
            )  # fmt: skip
            if clash is not None:
                raise Taken("equipment_taken")
            values = (key, str(uuid.uuid4()), warehouse, equipment, start_us, end_us, reason, state, now.isoformat())
            self._db.execute("INSERT INTO booking VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            made = self._row("SELECT * FROM booking WHERE idempotency_key = ?", key)
            assert made is not None
            return made, True

    def by_key(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            return self._row("SELECT * FROM booking WHERE idempotency_key = ? AND equipment <> ''", key)

    def cancel(self, key: str, warehouse: str, now: datetime) -> None:
        """Cancel the warehouse's booking of a key, or the key itself when it was never booked."""
        with self._lock, self._db:
            values = (key, str(uuid.uuid4()), warehouse, "", 0, 0, "cancelled before it was booked", now.isoformat())
            self._db.execute(
                "INSERT INTO booking VALUES (?, ?, ?, ?, ?, ?, ?, 'cancelled', ?)"
                " ON CONFLICT (idempotency_key) DO UPDATE SET state = 'cancelled'"
                " WHERE booking.warehouse = excluded.warehouse",
                values,
            )

    def of_equipment(self, warehouse: str, equipment: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM booking WHERE warehouse = ? AND equipment = ? AND state IN ('booked', 'pending')"
                " AND start_us < ? AND end_us > ? ORDER BY start_us LIMIT 5000",
                (warehouse, equipment, _us(end), _us(start)),
            ).fetchall()
        return [dict(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Bookings by state; keys that were cancelled unbooked are not counted."""
        with self._lock:
            rows = self._db.execute("SELECT state, count(*) AS n FROM booking WHERE equipment <> '' GROUP BY state")
            return {row["state"]: row["n"] for row in rows}

    def close(self) -> None:
        self._db.close()

    def _row(self, statement: str, *values: Any) -> dict[str, Any] | None:
        row = self._db.execute(statement, values).fetchone()
        return dict(row) if row else None


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
