"""The audit log on a real PostgreSQL: sequenced, signed, and every way of tampering found."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from support.database import drop_database, new_database, settings_for

from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadInput
from fleet_core.service import end_tasks
from fleet_server.audit.checkpoint import Checkpoint, load_key, new_key, read_lines
from fleet_server.audit.log import record
from fleet_server.audit.sequencer import Sequencer, Tampered, run_sequencer
from fleet_server.audit.tree import verify_inclusion
from fleet_server.audit.verify import AuditReport, prove, verify
from fleet_server.settings import Audit
from fleet_server.store.pool import Pool, open_pool, transaction

pytestmark = pytest.mark.integration


@dataclass
class Log:
    """A log with its key and file, and a superuser's hand to tamper with it."""

    dsn: str
    pool: Pool
    key_file: Path
    file: Path
    clock: SimulatedClock

    async def write(self, count: int) -> None:
        async with transaction(self.pool) as conn:
            for number in range(count):
                body = {"n": number, "share": 1e300, "odd": float("nan"), "nul": "a\x00b", "list": [1, {"x": 0.1}]}
                await record(
                    conn, self.clock, tenant_id="acme" if number % 2 else None, actor="system:test",
                    action="test.acted", subject=f"case:{number}", body=body,
                )  # fmt: skip

    async def sequence(self) -> int:
        sequencer = Sequencer(self.clock, load_key(self.key_file), self.file)
        async with transaction(self.pool) as conn:
            await sequencer.load(conn)
        return await sequencer.round(self.pool)

    async def verify(self) -> AuditReport:
        async with transaction(self.pool) as conn:
            return await verify(conn, load_key(self.key_file).public_key(), self.file)

    def tamper(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, options="-c search_path=fleet,public") as conn:
            conn.execute("ALTER TABLE audit_entry DISABLE TRIGGER audit_append_only")
            for statement in statements:
                conn.execute(statement)  # type: ignore[arg-type] # the test's own text
            conn.execute("ALTER TABLE audit_entry ENABLE TRIGGER audit_append_only")


@pytest.fixture
async def log(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[Log]:
    dsn = new_database(postgres_dsn)
    pool = await open_pool(settings_for(dsn), "worker", size=2)
    new_key(tmp_path / "audit.key")
    yield Log(dsn, pool, tmp_path / "audit.key", tmp_path / "kept" / "checkpoints.jsonl", SimulatedClock())
    await pool.close()
    drop_database(postgres_dsn, dsn)


async def test_an_honest_log_verifies(log: Log) -> None:
    await log.write(5)
    before = await log.verify()
    assert (before.entries, before.pending, before.verified) == (5, 5, True)
    assert await log.sequence() == 5
    await log.write(3)
    assert await log.sequence() == 3
    await log.write(1)
    verdict = await log.verify()
    assert verdict.verified, verdict.faults
    assert (verdict.entries, verdict.pending, verdict.checkpoints) == (9, 1, 4)


async def test_a_log_that_grows_while_it_is_verified_is_honest(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequencer, another process in life, signs more at the moment the checkpoint file is read."""
    await log.write(3)
    await log.sequence()

    def signed_meanwhile() -> None:
        async def one_more() -> None:
            pool = await open_pool(settings_for(log.dsn), "worker", size=2)
            elsewhere = replace(log, pool=pool)
            await elsewhere.write(2)
            await elsewhere.sequence()
            await pool.close()

        asyncio.run(one_more())

    def read(path: Path) -> Iterable[Checkpoint]:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(signed_meanwhile).result()
        return read_lines(path)

    monkeypatch.setattr("fleet_server.audit.verify.read_lines", read)
    verdict = await log.verify()
    assert verdict.verified, verdict.faults
    assert verdict.entries == 5


async def test_nobody_rewrites_history_through_the_front_door(log: Log) -> None:
    await log.write(1)
    await log.sequence()
    for statement in ("UPDATE audit_entry SET actor = 'nobody'", "DELETE FROM audit_entry"):
        with pytest.raises((psycopg.errors.RaiseException, psycopg.errors.InsufficientPrivilege)):
            async with transaction(log.pool) as conn:
                await conn.execute(statement)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE audit_entry SET actor = 'nobody' WHERE seq = 2", "its actor was edited"),
        ("UPDATE audit_entry SET body = '{}' WHERE seq = 2", "its body was edited"),
        ("UPDATE audit_entry SET at = at + interval '1 hour' WHERE seq = 2", "its at was edited"),
        ("UPDATE audit_entry SET canonical = replace(canonical, 'case:2', 'case:9') WHERE seq = 2", "was hashed"),
        ("DELETE FROM audit_entry WHERE seq = 2", "entry 2 is missing"),
        ("DELETE FROM audit_entry WHERE seq = 5", "it was cut"),
        ("DELETE FROM audit_entry WHERE seq >= 3", "it was cut"),
    ],
)
async def test_tampering_is_found(log: Log, statement: str, found: str) -> None:
    await log.write(6)
    await log.sequence()
    log.tamper(statement)
    verdict = await log.verify()
    assert not verdict.verified
    assert any(found in fault for fault in verdict.faults), verdict.faults


async def test_a_cut_with_its_checkpoints_is_found_by_the_file(log: Log) -> None:
    await log.write(3)
    await log.sequence()
    await log.write(3)
    await log.sequence()
    log.tamper("DELETE FROM audit_entry WHERE seq >= 3", "DELETE FROM audit_checkpoint WHERE tree_size > 3")
    verdict = await log.verify()
    assert any("checkpoint file" in fault and "cut" in fault for fault in verdict.faults), verdict.faults
    with pytest.raises(Tampered):
        await log.sequence()  # and nothing more is signed over it


async def test_a_forged_checkpoint_is_found(log: Log, tmp_path: Path) -> None:
    await log.write(2)
    await log.sequence()
    new_key(tmp_path / "other.key")
    log.tamper("UPDATE audit_checkpoint SET signature = decode(repeat('00', 64), 'hex')")
    verdict = await log.verify()
    assert any("not signed by us" in fault for fault in verdict.faults)


async def test_a_proof_holds_by_itself(log: Log) -> None:
    await log.write(7)
    await log.sequence()
    async with transaction(log.pool) as conn:
        row = await (await conn.execute("SELECT entry_id FROM audit_entry WHERE seq = 4")).fetchone()
        assert row is not None
        proof = await prove(conn, row["entry_id"])
        with pytest.raises(BadInput):
            await prove(conn, type(row["entry_id"])(int=0))
    path = [bytes.fromhex(step) for step in proof.path]
    leaf, root = bytes.fromhex(proof.leaf_hash), bytes.fromhex(proof.root_hash)
    assert verify_inclusion(leaf, proof.seq, proof.tree_size, path, root)


def _sequencer(log: Log, config: Path, **env: str) -> subprocess.Popen[bytes]:
    config.write_text(
        f'[database]\ndsn = "{log.dsn}"\n[audit]\nsigning_key_file = "{log.key_file}"\n'
        f'checkpoint_file = "{log.file}"\ninterval_ms = 50\n'
    )
    argv = [sys.executable, "-m", "fleet_server.cli", "sequencer", "--config", str(config)]
    return subprocess.Popen(argv, env={**os.environ, **env})


async def test_killed_between_signing_and_the_file(log: Log, tmp_path: Path) -> None:
    await log.write(4)
    process = _sequencer(log, tmp_path / "server.toml", FORESTALL_FAULTS="sequencer.after_sign=kill")
    assert process.wait(20) == -signal.SIGKILL
    assert list(read_lines(log.file)) == []
    process = _sequencer(log, tmp_path / "server.toml")
    try:
        await log.write(2)
        until_s = time.monotonic() + 20
        while (await log.verify()).pending:
            assert time.monotonic() < until_s
            await asyncio.sleep(0.1)
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert [checkpoint.tree_size for checkpoint in read_lines(log.file)] == [4, 6]
    verdict = await log.verify()
    assert verdict.verified, verdict.faults


async def test_a_right_that_is_missing_for_a_while_is_an_outage(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """As a database that is read-only for now: entries wait, and the process goes on."""
    with psycopg.connect(log.dsn, autocommit=True, options="-c search_path=fleet,public") as conn:
        conn.execute("REVOKE INSERT ON audit_checkpoint FROM forestall_worker")
        await log.write(2)
        audit = Audit(signing_key_file=log.key_file, checkpoint_file=log.file, interval_ms=50)
        running = asyncio.create_task(run_sequencer(settings_for(log.dsn, audit=audit), log.clock))
        await _until(lambda: "is not sequenced for now" in caplog.text)
        assert (await log.verify()).pending == 2
        conn.execute("GRANT INSERT ON audit_checkpoint TO forestall_worker")
    await _until(lambda: "is sequenced again" in caplog.text)
    await end_tasks([running])
    verdict = await log.verify()
    assert verdict.verified and not verdict.pending
    assert caplog.text.count("is not sequenced for now") == 1


async def _until(check: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not check():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.05)
