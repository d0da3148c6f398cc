"""Live hints for open pages: one poller reads ``case_event``, many bounded listeners hear of it.

A hint says which case changed, and never how: the page asks the API again and gets what its user may see. A hint that
is lost, or an event id that is committed late, therefore costs a page one refresh period and nothing more. A listener
that does not keep up loses its oldest hints. The poller runs only while a page listens.

Whatever fails here, the API goes on answering: an error of the poller is logged (one that nobody foresaw with its
traceback) and counted, and the poller starts again with growing pauses. The pages refresh themselves meanwhile.
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
"""Bounds the open pages of one web process."""
MAX_QUEUED = 100
"""Bounds the hints that wait for one page; ``Listener.offer`` drops the oldest."""
POLL_S = 0.5
"""Seconds of real time between two looks: bounds how late a page hears of a change."""
MOST_PAUSE_S = 5.0
"""Bounds how late the pages hear again after a fault has gone."""
FAILURES = Counter("forestall_web_live_failures_total", "Failures of the poller that tells open pages what changed")
_sql = queries("api_fleet")
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Listener:
    """The hints that wait for one open page: those of one tenant, or of every tenant when ``tenant_id`` is None."""

    tenant_id: str | None
    queue: asyncio.Queue[dict[str, Any]] = field(default_factory=lambda: asyncio.Queue(MAX_QUEUED))

    def offer(self, tenant_id: str, hint: dict[str, Any]) -> None:
        """Queue a hint of this tenant if the page hears of it; the oldest hint makes room for it."""
        if self.tenant_id not in (None, tenant_id):
            return
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(hint)


class LiveEvents:
    """Gives every listener the hints of its tenant, from one poller for all of them."""

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
        """Hear of a tenant's changes while the block runs. Raises Retryable above ``MAX_LISTENERS``."""
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
        """End the poller."""
        if self._poller is not None:
            await end_tasks([self._poller])

    async def _poll(self) -> None:
        """Look for new events until no page listens. Raises the error of a look; the next try misses no event."""
        while self._listeners:
            self._after = await self._look(self._after)
            self._outage.succeeded()
            await asyncio.sleep(POLL_S)

    async def _look(self, after: int | None) -> int:
        """Hand out the events after this id and return the id of the newest; None only asks for the newest."""
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
