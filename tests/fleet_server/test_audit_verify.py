"""What verifying the audit log finds, and that an honest log has no fault: on rows in memory, every fault alone.

``tests/integration/test_audit_sequencer.py`` does the same with a real PostgreSQL.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.errors import BadInput
from fleet_server.audit.checkpoint import Checkpoint, append_line, key_id, sign
from fleet_server.audit.log import canonical
from fleet_server.audit.tree import leaf_hash, root_of, verify_inclusion
from fleet_server.audit.verify import MAX_FAULTS, AuditReport, prove, verify
from fleet_server.store.sql import queries

SQL = queries("audit")
AT = datetime(2026, 11, 3, 8, 30, 0, 250, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY: dict[str, Any] = {"n": 1, "share": 0.25, "nested": {"list": [1, {"x": 0.1}], "flag": True}, "none": None}


def entry(seq: int, body: Any = None) -> dict[str, Any]:
    """A row of the log as it was written, at its place."""
    about = {
        "entry_id": uuid.UUID(int=seq + 1),
        "tenant_id": "acme",
        "at": AT + timedelta(minutes=seq),
        "actor": "user:ada",
        "action": "case.closed",
        "subject": f"case:{seq}",
        "body": BODY if body is None else body,
        "trace_id": f"trace-{seq}",
    }
    text = canonical(**about)
    return {"seq": seq, **about, "canonical": text, "leaf_hash": leaf_hash(text.encode())}


def checkpoint(rows: list[dict[str, Any]], size: int, key: Ed25519PrivateKey = KEY) -> Checkpoint:
    return sign(key, size, root_of([row["leaf_hash"] for row in rows[:size]]), AT)


class Cursor:
    """The answer to one statement."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    async def fetchone(self) -> dict[str, Any] | None:
        return self._rows[0] if self._rows else None

    async def fetchall(self) -> list[dict[str, Any]]:
        return self._rows


@dataclass
class Log:
    """Rows of a log, and a connection to them; ``said`` are the statements in order."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    pending: int = 0
    said: list[str] = field(default_factory=list)

    async def execute(self, statement: str, values: dict[str, Any] | None = None) -> Cursor:
        self.said.append(statement)
        signed = [
            {name: getattr(each, name) for name in ("tree_size", "root_hash", "signed_at", "key_id", "signature")}
            for each in sorted(self.checkpoints, key=lambda each: each.tree_size)
        ]
        answers = {
            SQL.count_pending: [{"pending": self.pending}],
            SQL.checkpoints: signed,
            SQL.last_checkpoint: signed[-1:],
            SQL.leaves: [row for row in self.rows if row["seq"] is not None],
            SQL.entry: [row for row in self.rows if values and row["entry_id"] == values["entry_id"]],
        }
        return Cursor(answers.get(statement, []))

    def cursor(self) -> Log:
        return self

    async def stream(self, statement: str) -> AsyncIterator[dict[str, Any]]:
        assert statement == SQL.entries
        self.said.append(statement)
        for row in self.rows:
            yield row

    async def verify(self, *, key: Ed25519PrivateKey | None = KEY, file: Path | None = None) -> AuditReport:
        return await verify(self, None if key is None else key.public_key(), file)

    async def faults(self, **more: Any) -> list[str]:
        return (await self.verify(**more)).faults


@pytest.fixture
def log() -> Log:
    rows = [entry(seq) for seq in range(5)]
    return Log(rows, [checkpoint(rows, 2), checkpoint(rows, 5)], pending=3)


async def test_an_honest_log_is_verified_counted_and_described(log: Log, tmp_path: Path) -> None:
    append_line(tmp_path / "kept", checkpoint(log.rows, 4))
    verdict = await log.verify(file=tmp_path / "kept")
    root = root_of([row["leaf_hash"] for row in log.rows]).hex()
    assert verdict.document() == {
        "entries": 8, "pending": 3, "verified": True, "checkpoints": 3, "root_hash": root, "faults": [],
    }  # fmt: skip


async def test_an_empty_log_is_honest() -> None:
    assert (await Log().verify()).document() == {
        "entries": 0, "pending": 0, "verified": True, "checkpoints": 0, "root_hash": root_of([]).hex(), "faults": [],
    }  # fmt: skip
    assert (await Log().verify(file=Path("/nowhere/at/all"))).verified
    assert AuditReport() == AuditReport(0, 0, 0, "", [])


async def test_everything_is_read_in_one_snapshot_without_a_time_limit(log: Log) -> None:
    await log.verify()
    assert log.said[:2] == ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET LOCAL statement_timeout = 0"]
    assert set(log.said[2:]) == {SQL.count_pending, SQL.checkpoints, SQL.entries}


COLUMNS = {
    "id": ("entry_id", uuid.UUID(int=99)),
    "tenant": ("tenant_id", "other"),
    "at": ("at", AT + timedelta(microseconds=1)),
    "actor": ("actor", "user:eve"),
    "action": ("action", "case.opened"),
    "subject": ("subject", "case:9"),
    "body": ("body", {}),
    "trace": ("trace_id", "trace-9"),
}


@pytest.mark.parametrize("name", COLUMNS)
async def test_an_edited_column_is_named(log: Log, name: str) -> None:
    column, value = COLUMNS[name]
    row = log.rows[1] = {**log.rows[1], column: value}
    row_id = row["entry_id"]
    assert await log.faults() == [f"entry 1 ({row_id}): its {name} was edited"]


async def test_a_moment_is_the_same_in_every_time_zone(log: Log) -> None:
    log.rows[1]["at"] = log.rows[1]["at"].astimezone(timezone(timedelta(hours=5)))
    assert await log.faults() == []


EDITS: list[tuple[Any, Any]] = [
    ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}),
    ({"a": [1, 2]}, {"a": [1, 2, 3]}),
    ({"a": [1, 2]}, {"a": [2, 1]}),
    ({"a": [1, 2, 3]}, {"a": [1, 2, 4]}),
    ({"a": [1, 2, 3]}, {"a": [4, 2, 3]}),
    ({"a": {"b": 1}}, {"a": {"b": 1, "c": 1}}),
    ({"a": {"b": 1, "c": 1}}, {"a": {"b": 1}}),
    ({"a": {"b": 1, "c": 1}}, {"a": {"b": 1, "d": 1}}),
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}),
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}),
    ({"a": True}, {"a": 1}),
    ({"a": 1}, {"a": True}),
    ({"a": 0}, {"a": False}),
    ({"a": True}, {"a": False}),
    ({"a": None}, {"a": 0}),
    ({"a": "1"}, {"a": 1}),
    ({"a": 1.5}, {"a": "1.5"}),
    ({"a": []}, {"a": {}}),
    ({"a": {}}, {"a": []}),
    ({"a": []}, {"a": 5}),
    ({"a": 5}, {"a": []}),
    ({"a": {}}, {"a": None}),
    ({"a": 5}, {"a": None}),
    ({"a": 1.0}, {"a": 1.0000001}),
    ({"a": 1}, {"a": 10**400}),
    ({"a": 10**400}, {"a": 10**400 + 1}),
]


@pytest.mark.parametrize(("written", "edited"), EDITS)
async def test_an_edit_deep_in_a_body_is_found(written: Any, edited: Any) -> None:
    row = entry(0, written)
    assert await Log([row]).faults() == []
    assert await Log([{**row, "body": edited}]).faults() == [f"entry 0 ({row['entry_id']}): its body was edited"]


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def as_postgres_gives_it(value: Any) -> Any:
    """jsonb keeps numbers as decimals: what was 1e300 or 2.0 may come back as a whole number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [as_postgres_gives_it(item) for item in value]
    if isinstance(value, dict):
        return {key: as_postgres_gives_it(item) for key, item in value.items()}
    return value


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
async def test_a_body_is_the_same_however_its_numbers_are_written(body: dict[str, Any]) -> None:
    row = entry(0, body)
    assert await Log([{**row, "body": as_postgres_gives_it(body)}]).faults() == []


@pytest.mark.parametrize("text", ["not JSON", "[]", '"text"', "7", "null", "[" * 100_000])
async def test_a_text_that_is_no_entry_is_a_fault_and_not_the_end(log: Log, text: str) -> None:
    log.rows[1].update(canonical=text, leaf_hash=leaf_hash(text.encode()))
    log.checkpoints.clear()
    assert await log.faults() == [f"entry 1 ({log.rows[1]['entry_id']}): its text is not a JSON object"]
    log.rows[1]["leaf_hash"] = bytes(32)
    assert len(await log.faults()) == 2  # both are said


async def test_a_text_that_was_not_the_one_hashed_is_found(log: Log) -> None:
    other = log.rows[3]["canonical"].replace("user:ada", "user:eve")
    log.rows[3].update(canonical=other, actor="user:eve")
    who = log.rows[3]["entry_id"]
    assert await log.faults() == [
        f"entry 3 ({who}): its text is not the one that was hashed",
        "the first 5 entries are not those signed in the database",
    ]


async def test_an_entry_whose_columns_text_and_hash_were_edited_is_found_by_the_signature(log: Log) -> None:
    log.rows[1] = {**entry(1, {"other": 1})}
    found = [f"the first {size} entries are not those signed in the database" for size in (2, 5)]
    assert await log.faults() == found


async def test_a_deleted_entry_is_missed_at_its_place(log: Log) -> None:
    del log.rows[2]
    faults = await log.faults()
    assert faults[:2] == [
        "entry 2 is missing, number 3 stands in its place",
        "entry 3 is missing, number 4 stands in its place",
    ]
    assert faults[2:] == ["the database signed 5 entries, the log has 4: it was cut"]


async def test_entries_that_changed_places_are_found(log: Log) -> None:
    log.rows[0], log.rows[1] = log.rows[1], log.rows[0]
    assert "entry 0 is missing, number 1 stands in its place" in await log.faults()


async def test_a_log_cut_with_its_checkpoints_is_found_by_the_file(log: Log, tmp_path: Path) -> None:
    for size in (2, 5):
        append_line(tmp_path / "kept", checkpoint(log.rows, size))
    del log.rows[3:], log.checkpoints[1]
    verdict = await log.verify(file=tmp_path / "kept")
    assert verdict.faults == ["the checkpoint file signed 5 entries, the log has 3: it was cut"]
    assert verdict.checkpoints == 2  # that of two entries, in the database and in the file


async def test_a_log_rewritten_with_its_checkpoints_is_found_by_the_file(log: Log, tmp_path: Path) -> None:
    append_line(tmp_path / "kept", checkpoint(log.rows, 2))
    log.rows[1] = entry(1, {"other": 1})
    log.checkpoints = [checkpoint(log.rows, 5)]
    assert await log.faults(file=tmp_path / "kept") == [
        "the first 2 entries are not those signed in the checkpoint file"
    ]


async def test_a_checkpoint_that_is_not_ours_is_named_with_its_place(log: Log, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    log.checkpoints[0] = checkpoint(log.rows, 2, other)
    log.checkpoints[1] = replace(log.checkpoints[1], signature=bytes(64))
    append_line(tmp_path / "kept", replace(checkpoint(log.rows, 4), key_id="0" * 16))
    assert await log.faults(file=tmp_path / "kept") == [
        "the checkpoint over 2 entries in the database is not signed by us",
        "the checkpoint over 5 entries in the database is not signed by us",
        "the checkpoint over 4 entries in the checkpoint file is not signed by us",
    ]
    assert (await log.verify(key=None, file=tmp_path / "kept")).verified  # without the key only the tree is checked


async def test_a_checkpoint_file_that_cannot_be_read_is_a_fault(log: Log, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("{}\n")
    (fault,) = await log.faults(file=tmp_path / "kept")
    assert fault.startswith("checkpoint: a line of the checkpoint file cannot be read")


async def test_at_most_fifty_faults_are_told(log: Log) -> None:
    rows = [{**entry(seq), "actor": "user:eve"} for seq in range(60)]
    faults = await Log(rows).faults()
    assert (len(faults), MAX_FAULTS) == (50, 50)


async def test_a_proof_shows_an_entry_to_whoever_holds_the_root(log: Log) -> None:
    log.rows.append({**entry(5), "leaf_hash": leaf_hash(b"later")})  # sequenced, not signed yet
    signed = log.checkpoints[1]
    for row in log.rows[:5]:
        proof = await prove(log, row["entry_id"])
        assert (proof.entry_id, proof.seq, proof.tree_size) == (str(row["entry_id"]), row["seq"], 5)
        assert (proof.leaf_hash, proof.root_hash) == (row["leaf_hash"].hex(), signed.root_hash.hex())
        assert (proof.signed_at, proof.key_id) == (AT, key_id(KEY.public_key()))
        assert proof.signature == signed.signature.hex()
        path = [bytes.fromhex(step) for step in proof.path]
        assert verify_inclusion(row["leaf_hash"], row["seq"], 5, path, signed.root_hash)


async def test_what_cannot_be_proven_is_refused_with_the_reason(log: Log) -> None:
    with pytest.raises(BadInput, match=f"audit_entry: there is no entry {uuid.UUID(int=77)}"):
        await prove(log, uuid.UUID(int=77))
    waiting = entry(5)
    log.rows += [waiting, {**entry(6), "seq": None}]
    for row in log.rows[5:]:
        with pytest.raises(BadInput, match=f"audit_entry: entry {row['entry_id']} is pending"):
            await prove(log, row["entry_id"])
    with pytest.raises(BadInput, match="pending"):
        await prove(Log([entry(0)]), uuid.UUID(int=1))
    log.rows[2]["leaf_hash"] = bytes(32)
    with pytest.raises(BadInput, match=r"audit_entry: entry .* is not in the signed tree"):
        await prove(log, log.rows[0]["entry_id"])


def test_the_text_that_is_hashed_is_json() -> None:
    assert json.loads(entry(0)["canonical"])["body"] == BODY
