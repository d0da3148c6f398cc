"""What a request that is cut off by the end of the process gets: an honest answer, no traceback."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fleet_server.api.guard import Guard

SCOPE = {"type": "http", "method": "GET", "path": "/api/cases", "headers": []}
START = {"type": "http.response.start", "status": 200}


async def cut_off(*first: dict[str, Any]) -> list[dict[str, Any]]:
    """Let an application send ``first`` and hang, cancel it, and return what reached the client."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in first:
            await send(message)
        await asyncio.sleep(60)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    task = asyncio.create_task(Guard(app)(SCOPE, receive, send))
    await asyncio.sleep(0)
    task.cancel()
    await task
    return sent


async def test_who_waits_is_asked_to_come_again() -> None:
    start, body = await cut_off()
    assert start["status"] == 503 and (b"retry-after", b"2") in start["headers"]
    assert json.loads(body["body"])["title"] == "Not now"


async def test_an_event_stream_ends() -> None:
    sent = await cut_off({**START, "headers": []}, {"type": "http.response.body", "body": b"x", "more_body": True})
    assert sent[-1] == {"type": "http.response.body"}


async def test_half_an_answer_of_known_length_is_not_passed_off_as_whole() -> None:
    with pytest.raises(asyncio.CancelledError):
        await cut_off({**START, "headers": [(b"content-length", b"9")]})
