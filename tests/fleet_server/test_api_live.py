"""Live hints fail alone: what a look meets is logged once and counted, and the poller looks again."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from fleet_server.api import live


@pytest.mark.parametrize(
    ("error", "traced"),
    [(psycopg.OperationalError("the server is shutting down"), False), (AttributeError("row"), True)],
)
async def test_a_look_that_fails_is_said_once_counted_and_followed_by_another(
    error: Exception, traced: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(live, "POLL_S", 0.01)
    looks: list[int | None] = []
    enough = asyncio.Event()

    async def look(_self: live.LiveEvents, after: int | None) -> int:
        looks.append(after)
        if len(looks) == 6:
            enough.set()
        if len(looks) in (2, 3):
            raise error
        return len(looks)

    monkeypatch.setattr(live.LiveEvents, "_look", look)
    events, before = live.LiveEvents(None), live.FAILURES._value.get()  # no look reaches it
    async with events.listen("acme"):
        await asyncio.wait_for(enough.wait(), 10)
    await events.close()
    assert looks[:5] == [None, 1, 1, 1, 4]  # no event is left out
    assert live.FAILURES._value.get() - before == 2
    assert len(caplog.records) == 2 and ("Traceback" in caplog.text) is traced
    assert "open pages are told again" in caplog.records[1].getMessage()
