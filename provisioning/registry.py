"""The authority's book: identities, certificates, claims and counters, in one SQLite file. No cryptography here.

Every change happens in one ``BEGIN IMMEDIATE`` transaction, so that two enrolment processes cannot both spend a
claim, and a certificate that was handed out is always on record. Times are UTC seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_core.errors import BadConfig, Retryable

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 10.0
_SCHEMA = """
CREATE TABLE identity (
    name TEXT PRIMARY KEY COLLATE NOCASE,   -- names that differ by case only would be mistaken for each other
    kind TEXT NOT NULL CHECK (kind IN ('node', 'service', 'server')),
    group_id TEXT NOT NULL DEFAULT '',
    role TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    revoked_at REAL
) STRICT;
CREATE TABLE certificate (
    serial TEXT PRIMARY KEY,
    name TEXT NOT NULL REFERENCES identity (name),
    fingerprint TEXT NOT NULL,
    not_before REAL NOT NULL,
    not_after REAL NOT NULL,
    revoked_at REAL,
    pem BLOB NOT NULL
) STRICT;
CREATE INDEX certificate_by_name ON certificate (name);
CREATE TABLE claim (
    digest TEXT PRIMARY KEY,
    node_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    used_at REAL,
    key_digest TEXT,
    serial TEXT REFERENCES certificate (serial)
) STRICT;
CREATE TABLE counter (name TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT;
"""


class Registry:
    """The book. It opens a connection for every transaction: cheap here, and safe from any thread or process."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise BadConfig(f"{path} does not exist: make an authority with 'fleet-provision init'")
        self._path = path
        with self.transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise BadConfig(f"{path} has schema version {version}; this program reads version {SCHEMA_VERSION}")

    @classmethod
    def create(cls, path: Path) -> Registry:
        """A new, empty book, readable by its owner only. Raises FileExistsError."""
        path.touch(mode=0o600, exist_ok=False)
        db = sqlite3.connect(path)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        finally:
            db.close()
        return cls(path)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction: the whole block takes effect, durably, or none of it.

        Raises Retryable when the book stays locked for 10 s.
        """
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise Retryable(f"the authority's book is busy: {error}") from error
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
        finally:
            db.close()

    def count(self, name: str) -> None:
        """Add one to a named counter."""
        with self.transaction() as db:
            add_to_counter(db, name)

    def counters(self) -> dict[str, int]:
        """Every counter ever touched."""
        with self.transaction() as db:
            return {row["name"]: row["count"] for row in db.execute("SELECT name, count FROM counter ORDER BY name")}


def add_to_counter(db: sqlite3.Connection, name: str) -> int:
    """Add one within a transaction; returns the new count."""
    (count,) = db.execute(
        "INSERT INTO counter VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1 RETURNING count", (name,)
    ).fetchone()
    return int(count)
