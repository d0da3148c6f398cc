"""Verifies the audit log: every entry and its place, and every checkpoint in the database and in the checkpoint file.

The verification finds an entry that was edited (its columns, its canonical text or its hash), deleted, inserted or
moved; a log that was cut at its end (the checkpoint file keeps its size); and a checkpoint that is not signed by our
key. An entry that is not sequenced yet is *pending*, which is no fault: the sequencer covers it within one interval.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleet_core.errors import BadInput
from fleet_server.audit.checkpoint import Checkpoint, is_signed_by, key_id, read_lines
from fleet_server.audit.tree import Frontier, inclusion_proof, leaf_hash, verify_inclusion
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_SQL = queries("audit")
MAX_FAULTS = 50


@dataclass
class AuditReport:
    """Result of a verification: ``faults`` are lines for people, ``checkpoints`` counts the compared checkpoints."""

    entries: int = 0
    pending: int = 0
    checkpoints: int = 0
    root_hash: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        return not self.faults

    def document(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "pending": self.pending,
            "verified": self.verified,
            "checkpoints": self.checkpoints,
            "root_hash": self.root_hash,
            "faults": self.faults,
        }

    def fault(self, text: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(text)


async def verify(conn: Connection, key: Ed25519PublicKey | None, checkpoint_file: Path | None) -> AuditReport:
    """Verify the whole log in one snapshot; without ``key`` only the tree is verified and no signature."""
    verdict = AuditReport()
    # The file is read before the snapshot begins, so that every checkpoint in it is in the snapshot, however fast the
    # log grows meanwhile.
    kept = _from_file(verdict, checkpoint_file)
    await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await conn.execute("SET LOCAL statement_timeout = 0")  # the statement reads the whole log and may take long
    pending = await (await conn.execute(_SQL.count_pending)).fetchone()
    verdict.pending = pending["pending"] if pending else 0
    rows = await (await conn.execute(_SQL.checkpoints)).fetchall()
    checkpoints = [
        Checkpoint(**{**row, "root_hash": bytes(row["root_hash"]), "signature": bytes(row["signature"])})
        for row in rows
    ]
    expected = _expectations(verdict, checkpoints, kept, key)
    frontier = Frontier()
    async for row in conn.cursor().stream(_SQL.entries):
        _check_entry(verdict, row, frontier.size)
        frontier.append(leaf_hash(row["canonical"].encode()))
        for checkpoint, source in expected.pop(frontier.size, ()):
            verdict.checkpoints += 1
            if checkpoint.root_hash != frontier.root():
                verdict.fault(f"the first {frontier.size} entries are not those signed in the {source}")
    for size, unmet in expected.items():
        for _, source in unmet:
            verdict.fault(f"the {source} signed {size} entries, the log has {frontier.size}: it was cut")
    verdict.entries = frontier.size + verdict.pending
    verdict.root_hash = frontier.root().hex()
    return verdict


def _from_file(verdict: AuditReport, path: Path | None) -> list[Checkpoint]:
    if path is None:
        return []
    try:
        return list(read_lines(path))
    except BadInput as error:
        verdict.fault(str(error))
        return []


def _expectations(
    verdict: AuditReport,
    stored: Iterable[Checkpoint],
    kept: Iterable[Checkpoint],
    key: Ed25519PublicKey | None,
) -> dict[int, list[tuple[Checkpoint, str]]]:
    expected: dict[int, list[tuple[Checkpoint, str]]] = {}
    for source, checkpoints in (("database", stored), ("checkpoint file", kept)):
        for checkpoint in checkpoints:
            if key is not None and (checkpoint.key_id != key_id(key) or not is_signed_by(key, checkpoint)):
                verdict.fault(f"the checkpoint over {checkpoint.tree_size} entries in the {source} is not signed by us")
            expected.setdefault(checkpoint.tree_size, []).append((checkpoint, source))
    return expected


def _check_entry(verdict: AuditReport, row: dict[str, Any], place: int) -> None:
    if row["seq"] != place:
        verdict.fault(f"entry {place} is missing, number {row['seq']} stands in its place")
    if bytes(row["leaf_hash"]) != leaf_hash(row["canonical"].encode()):
        verdict.fault(f"entry {row['seq']} ({row['entry_id']}): its text is not the one that was hashed")
    try:
        said = json.loads(row["canonical"])
    except (ValueError, RecursionError):  # an edited text may be nested deeper than the parser can read
        said = None
    if not isinstance(said, dict):
        verdict.fault(f"entry {row['seq']} ({row['entry_id']}): its text is not a JSON object")
        return
    columns = {
        "id": str(row["entry_id"]),
        "tenant": row["tenant_id"],
        "at": row["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "body": row["body"],
        "trace": row["trace_id"],
    }
    for name, value in columns.items():
        if not _same(said.get(name), value):
            verdict.fault(f"entry {row['seq']} ({row['entry_id']}): its {name} was edited")


def _same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; numbers are compared as floats, as PostgreSQL writes 1e300 as an integer."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        try:
            return left == right or float(left) == float(right)
        except OverflowError:  # an integer beyond every float cannot be a float that is written in another way
            return False
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


@dataclass(frozen=True)
class Proof:
    """Proof that an entry is in the tree of the newest checkpoint; ``path`` are hashes from the leaf upwards."""

    entry_id: str
    seq: int
    leaf_hash: str
    tree_size: int
    root_hash: str
    path: list[str]
    signed_at: datetime
    key_id: str
    signature: str


async def prove(conn: Connection, entry_id: UUID) -> Proof:
    """The inclusion proof of an entry under the newest checkpoint. Raises BadInput when there is none (yet)."""
    entry = await (await conn.execute(_SQL.entry, {"entry_id": entry_id})).fetchone()
    if entry is None:
        raise BadInput("audit_entry", f"there is no entry {entry_id}")
    checkpoint = await (await conn.execute(_SQL.last_checkpoint)).fetchone()
    if entry["seq"] is None or checkpoint is None or checkpoint["tree_size"] <= entry["seq"]:
        raise BadInput("audit_entry", f"entry {entry_id} is pending: not in a signed tree yet; try again shortly")
    rows = await (await conn.execute(_SQL.leaves)).fetchall()
    leaves = [bytes(row["leaf_hash"]) for row in rows[: checkpoint["tree_size"]]]
    path = inclusion_proof(leaves, entry["seq"])
    leaf, root = bytes(entry["leaf_hash"]), bytes(checkpoint["root_hash"])
    if not verify_inclusion(leaf, entry["seq"], checkpoint["tree_size"], path, root):
        raise BadInput("audit_entry", f"entry {entry_id} is not in the signed tree: run `fleet-server audit verify`")
    return Proof(
        entry_id=str(entry_id),
        seq=entry["seq"],
        leaf_hash=leaf.hex(),
        tree_size=checkpoint["tree_size"],
        root_hash=root.hex(),
        path=[step.hex() for step in path],
        signed_at=checkpoint["signed_at"],
        key_id=checkpoint["key_id"],
        signature=bytes(checkpoint["signature"]).hex(),
    )
