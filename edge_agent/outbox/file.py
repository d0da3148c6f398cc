"""The outbox's file: opening it, setting a damaged one aside, keeping a reserve for a full disk.

A file that SQLite cannot read, or that has an unknown format, is renamed ``*.damaged`` (one such file is kept), and a
new file is begun.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from fleet_core.errors import Retryable

log = logging.getLogger(__name__)

FORMAT = 1
RESERVE_FILE_BYTES = 512 * 1024
BUSY_TIMEOUT_S = 5.0
CACHE_KIB = 256
"""SQLite's own page cache is small: a batch is read back soon after it was written, when the kernel still caches it, or
hours later, when no cache would."""

_SCHEMA_SQL = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, outbox_id TEXT NOT NULL, number INTEGER NOT NULL, class INTEGER NOT NULL,
    device_id TEXT NOT NULL, schema TEXT NOT NULL, digest BLOB NOT NULL, status INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL, created_us INTEGER NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL,
    settled_us INTEGER, body BLOB NOT NULL, UNIQUE (outbox_id, number));
CREATE INDEX IF NOT EXISTS batches_by_status ON batches (status, class, id);
CREATE TABLE IF NOT EXISTS schemas (digest TEXT, device_id TEXT, body TEXT NOT NULL, PRIMARY KEY (digest, device_id));
CREATE TABLE IF NOT EXISTS gaps (
    id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, class INTEGER NOT NULL,
    reason TEXT NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL);
"""


class OutboxUnavailable(Retryable):
    """The disk is full or fails; nothing was written."""


def open_outbox(path: Path) -> sqlite3.Connection:
    """Open or create. Raises OutboxUnavailable when the folder or disk does not allow it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path)
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutboxUnavailable(f"cannot open {path}: {error}") from error
            _set_aside(path, error)
            return _connect(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise OutboxUnavailable(f"cannot open {path}: {error}") from error


def check_outbox(path: Path) -> str:
    """SQLite's own verdict on the file: "ok" or what is wrong. For the doctor; reads only."""
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        try:
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        return str(error)


def fill_reserve(path: Path) -> bool:
    """Create the reserve again: the file whose room is given up when the disk is full. False when it has no room."""
    if path.exists():
        return True
    try:
        with path.open("wb") as file:
            file.write(os.urandom(RESERVE_FILE_BYTES))  # random, so that no file system compresses the reserve away
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        log.debug("no room for the outbox's reserve yet: %s", error)
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise ValueError(verdict)
        db.executescript(_SCHEMA_SQL)
        found = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
        if found is None:
            db.execute("INSERT INTO meta VALUES ('format', ?)", (FORMAT,))
        elif found[0] != FORMAT:
            raise ValueError(f"format {found[0]}, this program reads {FORMAT}")
    except BaseException:
        db.close()
        raise
    return db


def _set_aside(path: Path, reason: Exception) -> None:
    log.error("outbox %s cannot be read (%s); it is set aside as *.damaged and a new one begun", path, reason)
    path.replace(path.with_name(path.name + ".damaged"))
    journal = path.with_name(path.name + "-wal")  # it may hold the newest batches: kept beside the file it belongs to
    if journal.exists():
        journal.replace(path.with_name(path.name + ".damaged-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
