"""The outbox as asynchronous tasks use it: one thread owns it, and appends are committed in groups.

``append`` returns when its drafts are on disk or refused. All drafts handed over within ``commit_interval_s`` share one
commit. The queue is bounded: ``append`` waits when the disk cannot keep up, and that wait is the back-pressure on the
sources. While the disk is full or failing, drafts are refused with reason ``disk_full``; the disk
is tried again after a growing pause.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from edge_agent.drafts import Draft
from edge_agent.outbox import Appended, Outbox, OutboxUnavailable
from fleet_core.service import Backoff, Outage

log = logging.getLogger(__name__)

QUEUE_DRAFTS = 256
GROUP_DRAFTS = 128
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
DISK_FULL = Appended(0, "disk_full")

T = TypeVar("T")
P = ParamSpec("P")
_Waiting = tuple[Draft, "asyncio.Future[Appended]"]


class OutboxStore:
    """See the module. Run :meth:`run` as a task beside those that append."""

    def __init__(self, outbox: Outbox, commit_interval_s: float) -> None:
        self.outbox = outbox
        self.disk_failures = 0
        self.on_commit: Callable[[], None] = _nobody
        """Called after every commit, in the event loop."""
        self._interval_s = commit_interval_s
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(QUEUE_DRAFTS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._committing = asyncio.Lock()
        self._outage = Outage(
            log,
            "the disk does not take batches: samples are lost and declared as gaps until it does",
            "the disk takes batches again",
            errors=(OutboxUnavailable,),
        )
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._retry_at_s = 0.0
        self._reserve_at_s = 0.0

    @property
    def disk_full(self) -> bool:
        """Whether the disk takes no batches at present: a declared state of the agent."""
        return self._outage.active

    async def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Commit the drafts in order. Returns every draft's outcome; a failing disk is an outcome, not an error."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Appended]] = []
        for draft in drafts:
            future: asyncio.Future[Appended] = loop.create_future()
            futures.append(future)
            await self._queue.put((draft, future))
        return [await future for future in futures]

    async def call(self, act: Callable[Concatenate[Outbox, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the outbox in its thread: ``call(Outbox.fetch, key)``. Raises what it raises."""
        bound = functools.partial(act, self.outbox, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, bound)

    async def run(self) -> None:
        """Commit groups until cancelled."""
        while True:
            group = [await self._queue.get()]
            # The commit is shielded: a cancelled task must not leave appends waiting for an answer for ever.
            await asyncio.shield(self._commit(group + self._queued(GROUP_DRAFTS - 1)))
            # The disk rests: drafts that come meanwhile share the next commit.
            await asyncio.sleep(self._interval_s)

    async def close(self) -> None:
        """Commit what is queued, then close the file. ``run`` must have been cancelled."""
        while group := self._queued(GROUP_DRAFTS):
            await self._commit(group)
        async with self._committing:
            await self.call(Outbox.close)
        self._thread.shutdown()

    def _queued(self, limit: int) -> list[_Waiting]:
        return [self._queue.get_nowait() for _ in range(min(limit, self._queue.qsize()))]

    async def _commit(self, group: list[_Waiting]) -> None:
        async with self._committing:
            await self._commit_alone(group)

    async def _commit_alone(self, group: list[_Waiting]) -> None:
        results = [DISK_FULL] * len(group)
        try:
            if not self._outage.active or asyncio.get_running_loop().time() >= self._retry_at_s:
                drafts = [draft for draft, _ in group]
                results = await self.call(Outbox.append, drafts)
                await self._recovered()
        except OutboxUnavailable as error:
            self._failed(error)
        finally:
            for (_, future), result in zip(group, results, strict=True):
                if not future.done():
                    future.set_result(result)
        self.on_commit()

    def _failed(self, error: OutboxUnavailable) -> None:
        self.disk_failures += 1
        self._outage.failed(error)
        self._retry_at_s = asyncio.get_running_loop().time() + self._backoff.pause_s()

    async def _recovered(self) -> None:
        """Note that a commit succeeded. The disk counts as full until the outbox's reserve, which it may have given up,
        has its room again.
        """
        now_s = asyncio.get_running_loop().time()
        if not self._outage.active or now_s < self._reserve_at_s:
            return
        self._reserve_at_s = now_s + FIRST_PAUSE_S
        if await self.call(Outbox.recover_room):
            self._outage.succeeded()
            self._backoff.reset()


def _nobody() -> None:
    """The callback while nobody waits for commits."""
