"""A process's figures for Prometheus, on a port of its own.

Served in plain HTTP from a thread, so a process that is stuck still shows its figures; on loopback unless the settings
say otherwise. A port that is taken costs the figures, not the work: it is tried again, said once, its recovery once.
"""

from __future__ import annotations

import asyncio
import logging
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from fleet_core.service import Outage

log = logging.getLogger(__name__)

RETRY_S = 5.0


async def serve_metrics(host: str, port: int) -> None:
    """Serve ``/metrics`` until cancelled; port 0 serves nothing, and waits all the same."""
    if not port:
        await asyncio.Event().wait()
    server = await _listen(host, port)
    try:
        await asyncio.Event().wait()
    finally:
        server.shutdown()
        server.server_close()


async def _listen(host: str, port: int) -> WSGIServer:
    taken = Outage(
        log,
        f"no metrics on {host}:{port}, trying again",
        f"metrics are served on {host}:{port}",
        errors=(OSError,),
        over_level=logging.INFO,
    )
    while True:
        try:
            server, _ = start_http_server(port, addr=host)
        except taken.errors as error:
            taken.failed(error)
            await asyncio.sleep(RETRY_S)
        else:
            taken.succeeded()
            return server
