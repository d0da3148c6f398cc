"""A process's figures: served where asked, given up with the process, and no reason to stop working."""

from __future__ import annotations

import asyncio
import logging
import socket

import httpx
import pytest

from demo.processes import free_port
from fleet_core.service import end_tasks
from fleet_server import exposition


async def figures(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(100):
            try:
                return (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
    raise AssertionError("no figures were served")


async def until_said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in caplog.text:  # noqa: ASYNC110 - a log gives no event
            await asyncio.sleep(0.02)


async def test_a_taken_port_is_said_once_and_taken_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "RETRY_S", 0.05)
    caplog.set_level(logging.INFO)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        task = asyncio.create_task(exposition.serve_metrics("127.0.0.1", port))
        await until_said(caplog, f"no metrics on 127.0.0.1:{port}")
        await asyncio.sleep(4 * exposition.RETRY_S)  # tries that must not be told again
        assert not task.done()
    assert "python_info" in await figures(port)
    said = [record.getMessage() for record in caplog.records if record.name == exposition.__name__]
    assert [text.split(" ")[0] for text in said] == ["no", "metrics"]
    await end_tasks([task])
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody holds it any more


async def test_an_impossible_host_costs_the_figures_only(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(exposition.serve_metrics("no.such.host.invalid", free_port()))
    await until_said(caplog, "no metrics on no.such.host.invalid")
    assert not task.done()
    await end_tasks([task])


async def test_port_0_serves_nothing() -> None:
    task = asyncio.create_task(exposition.serve_metrics("127.0.0.1", 0))
    for _ in range(10):  # turns of the loop
        await asyncio.sleep(0)
    assert not task.done()
    await end_tasks([task])
