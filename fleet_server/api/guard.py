"""The outermost layer: bounds every request body, sets the security headers, counts and times requests.

The content security policy allows only our own files; style *attributes* are allowed for the charts' tooltips and bar
widths, style elements and inline scripts are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_server.api.problems import problem

MAX_BODY_BYTES = 64 * 1024
_CSP = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; style-src-attr 'unsafe-inline'; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_requests = Counter("forestall_web_requests_total", "Requests answered", ["method", "route", "status"])
_seconds = Histogram(
    "forestall_web_request_seconds",
    "Time to answer, real seconds",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)


class _TooLarge(Exception):
    """The body exceeded its bound while it was read."""


class Guard:
    """Pure ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status, read_bytes, too_large = time.perf_counter(), 500, 0, False
        answered = endless = False

        async def bounded() -> Message:
            nonlocal read_bytes, too_large
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > MAX_BODY_BYTES:
                too_large = True
                raise _TooLarge
            return message

        async def sending(message: Message) -> None:
            nonlocal status, answered, endless
            if too_large and message.get("status") != 413 and status != 413:
                return  # FastAPI answers the interrupted reading by itself; that answer is dropped, and ours follows
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                names = {name for name, _ in message["headers"]}
                endless = b"content-length" not in names
                message["headers"] = [*message["headers"], *_HEADERS]
                if b"cache-control" not in names:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            with contextlib.suppress(_TooLarge):
                await self._app(scope, bounded, sending)
            if too_large:
                await problem(413, "Too large", f"at most {MAX_BODY_BYTES} bytes")(scope, receive, sending)
        except asyncio.CancelledError:
            # The process is being stopped and this request took too long. Its sender may try again; an event stream
            # ends here.
            if not answered:
                await problem(503, "Not now", "the server is being restarted")(scope, receive, sending)
            elif endless:
                await send({"type": "http.response.body"})
            else:
                raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            _requests.labels(scope["method"], route, status).inc()
            if route != "/api/events":
                _seconds.labels(route).observe(time.perf_counter() - started_s)
