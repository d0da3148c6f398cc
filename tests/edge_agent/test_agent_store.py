"""The store's declared state of a full disk: it begins once and ends once, when there is room for the reserve again."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from edge_agent.drafts import gap_draft
from edge_agent.outbox import Outbox, OutboxUnavailable
from edge_agent.uplink import store as store_module
from edge_agent.uplink.store import OutboxStore
from fleet_core.clock import SystemClock
from fleet_core.schema import Schema
from fleet_core.telemetry import BatchClass

T0 = 1_767_600_000_000_000
LOSS = gap_draft("robot-1", Schema(()), BatchClass.ROUTINE, "test", T0, T0 + 5)


async def test_a_disk_with_room_for_a_batch_but_not_for_the_reserve_counts_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_module, "FIRST_PAUSE_S", 0.0)
    outbox = Outbox(tmp_path / "outbox.sqlite", 1 << 20, SystemClock(), str(uuid.uuid4()))
    append, takes, reserve = outbox.append, iter([False, True, False, True, True]), iter([False, True])

    def flaky(drafts):
        if not next(takes):
            raise OutboxUnavailable("disk is full")
        return append(drafts)

    monkeypatch.setattr(Outbox, "append", lambda self, drafts: flaky(drafts))
    monkeypatch.setattr(Outbox, "recover_room", lambda self: next(reserve))
    store = OutboxStore(outbox, 0.001)
    running = asyncio.create_task(store.run())
    outcomes = []
    for _ in range(5):
        (appended,) = await store.append([LOSS])
        outcomes.append((appended.number > 0, store.disk_full))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()
    assert outcomes == [(False, True), (True, True), (False, True), (True, False), (True, False)]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
