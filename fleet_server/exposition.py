"""Serves the Prometheus metrics of a process on a port of its own.

A thread serves them in plain HTTP, so that a process that is stuck still shows its metrics; on loopback unless the
settings say otherwise. A port that is taken costs the metrics and not the work: the process tries the port again and
logs the failure once and the recovery once.
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
    """Serve ``/metrics`` until cancelled; with port 0 nothing is served, and the task only waits."""
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
