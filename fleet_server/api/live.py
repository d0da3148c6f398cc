"""Live hints for open pages: one poller of ``case_event`` and ``health``, many bounded listeners.

A hint says that something changed (and which case), never what: the page asks again and gets what it may see. So a
hint that is lost, or an event id that commits late, costs a page one refresh period, nothing more. A listener that
does not keep up loses its oldest hints. The poller runs only while somebody listens.

Hints fail alone: an error nobody foresaw is logged with its traceback and counted, the poller starts again with growing
pauses, and the API goes on answering. Pages refresh themselves meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Counter

from fleet_core.errors import Retryable
from fleet_core.service import Backoff, Outage, end_tasks, keep_running
from fleet_server.store.pool import AWAY, Pool, as_reader, transaction
from fleet_server.store.sql import queries

MAX_LISTENERS = 200
MAX_QUEUED = 100
POLL_S = 0.5  # real time
MOST_PAUSE_S = 5.0
FAILURES = Counter("forestall_web_live_failures_total", "Failures of the poller that tells open pages what changed")
_sql = queries("api_fleet")
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Listener:
    """One open page. ``tenant_id`` None hears of every tenant."""

    tenant_id: str | None
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED))

    def offer(self, tenant_id: str, hint: dict[str, Any]) -> None:
        if self.tenant_id not in (None, tenant_id):
            return
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(hint)


class LiveEvents:
    """Fans hints out to listeners."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._listeners: set[Listener] = set()
        self._poller: asyncio.Task[None] | None = None
        self._after: int | None = None
        self._outage = Outage(
            _log,
            "live events: open pages are not told what changes",
            "live events: open pages are told again",
            known=AWAY,
            begins_level=logging.WARNING,
            over_level=logging.INFO,
            on_failure=FAILURES.inc,
        )

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @asynccontextmanager
    async def listen(self, tenant_id: str | None) -> AsyncIterator[Listener]:
        """Hear of a tenant's changes while the block runs. Raises Retryable when too many listen."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise Retryable(f"{MAX_LISTENERS} pages listen already")
        listener = Listener(tenant_id)
        self._listeners.add(listener)
        if self._poller is None or self._poller.done():
            self._after = None
            polling = keep_running(
                self._poll, self._outage, Backoff(POLL_S, MOST_PAUSE_S, settled_after_s=MOST_PAUSE_S)
            )
            self._poller = asyncio.create_task(polling, name="live-events")
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """Stop polling."""
        if self._poller is not None:
            await end_tasks([self._poller])

    async def _poll(self) -> None:
        """Until nobody listens. Raises what a look met; the next try goes on after the last event seen."""
        while self._listeners:
            self._after = await self._look(self._after)
            self._outage.succeeded()
            await asyncio.sleep(POLL_S)

    async def _look(self, after: int | None) -> int:
        async with transaction(self._pool) as conn:
            await as_reader(conn, None)
            if after is None:
                row = await (await conn.execute(_sql.newest_event)).fetchone()
                return int(row["event_id"]) if row else 0
            rows = await (await conn.execute(_sql.events_after, {"after": after})).fetchall()
        for row in rows:
            hint = {"case_id": str(row["case_id"]), "kind": row["kind"], "at": row["at"].isoformat()}
            for listener in list(self._listeners):
                listener.offer(row["tenant_id"], hint)
        return int(rows[-1]["event_id"]) if rows else after
