"""Server-sent events: hints that something changed (see ``api/live.py``)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import StreamingResponse

from fleet_core.errors import Retryable
from fleet_server.api.access import App, require
from fleet_server.api.live import MAX_LISTENERS, LiveEvents
from fleet_server.sovereignty.roles import Permission
from fleet_server.sovereignty.users import User

router = APIRouter(prefix="/api", tags=["live"])
KEEP_ALIVE_S = 15.0
LONGEST_S = 600.0  # then the browser reconnects, and with it the session is checked again


@router.get("/events", response_class=StreamingResponse)
async def events(
    request: Request, user: Annotated[User, Depends(require(Permission.VIEW_CASES))], app: App
) -> StreamingResponse:
    """A stream of ``change`` events: ``{"case_id", "kind", "at"}``. Ends after ten minutes; reconnect."""
    if app.live.listeners >= MAX_LISTENERS:
        raise Retryable("too many pages listen; poll instead")
    return StreamingResponse(
        _stream(app.live, user.tenant_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(live: LiveEvents, tenant_id: str | None) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + LONGEST_S
    async with live.listen(tenant_id) as listener:
        yield "retry: 2000\n\n"
        while loop.time() < ends_s:
            try:
                hint = await asyncio.wait_for(listener.queue.get(), KEEP_ALIVE_S)
            except TimeoutError:
                yield ": still here\n\n"
                continue
            yield f"event: change\ndata: {json.dumps(hint)}\n\n"
