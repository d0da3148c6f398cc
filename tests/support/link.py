"""A TCP link to PostgreSQL that a test cuts, silences or closes to newcomers, as networks and servers do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fleet_core.service import end_tasks

_STARTING_UP = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"


class Link:
    """``dsn`` leads to the database by way of it. ``lets_in``: how many connections more; the others are told that the
    server is starting up. ``silent``: whatever is sent is swallowed, as by a cable that was pulled: nobody is told."""

    def __init__(self, to_dsn: str) -> None:
        parts = conninfo_to_dict(to_dsn)
        self._to = (str(parts["host"]), int(str(parts["port"])))
        self._to_dsn = to_dsn
        self._server: asyncio.Server | None = None
        self._open: list[asyncio.Task[Any]] = []
        self.dsn = ""
        self.lets_in = 1_000_000
        self.silent = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        # its first message is then the start-up one, which a server that starts up answers
        self.dsn = make_conninfo(self._to_dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await end_tasks(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.append(task)
        self.lets_in -= 1
        if self.lets_in < 0:
            await reader.read(1024)
            writer.write(b"E" + (len(_STARTING_UP) + 4).to_bytes(4, "big") + _STARTING_UP)
            writer.close()
            return
        there, back = await asyncio.open_connection(*self._to)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(there, writer))
        finally:
            writer.close()
            back.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not self.silent:
                    writer.write(data)
            if not self.silent:
                writer.close()


@contextlib.asynccontextmanager
async def link_to(dsn: str) -> AsyncIterator[Link]:
    """A link for the time of a block."""
    link = Link(dsn)
    await link.start()
    try:
        yield link
    finally:
        await link.stop()
