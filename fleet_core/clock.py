"""Domain time, injected. Nothing in the domain reads the system's or the database's clock itself.

Four clocks, one protocol:

* ``SystemClock``     production: domain time is UTC now.
* ``ScaledClock``     tests of a few processes: domain ("story") time runs ``scale`` times faster than real time from
                      a common epoch, so that separate processes agree on it without talking to each other.
* ``PacedClock``      the demo and fault campaigns: as the scaled clock, but one process writes the story time into a
                      file, and lets it stand while the others cannot follow. How fast the machine is then
                      decides how long a story takes, not how it ends.
* ``SimulatedClock``  tests: time stands still until it is advanced.

A clock is named by a text so that it can be handed to another process (``FORESTALL_CLOCK``)::

    system
    scaled:SCALE:REAL_EPOCH_S:STORY_EPOCH_S     e.g. scaled:3600:1790000000.0:1790000000.0
    paced:FILE                                  FILE holds the story time and its pace, see PacedClock

Domain durations (deadlines, windows, sampling periods) go through the clock. Transport time-outs and
latencies are real time and must not.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import mmap
import os
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from fleet_core.errors import BadConfig

CLOCK_VARIABLE = "FORESTALL_CLOCK"
_STORY = struct.Struct("=dd")


class Clock(Protocol):
    """Domain time in UTC, and waiting in it."""

    @property
    def scale(self) -> float:
        """Domain seconds per real second; 1.0 in production."""

    def now(self) -> datetime:
        """Domain time, timezone-aware, UTC."""

    def monotonic_s(self) -> float:
        """Domain seconds from an arbitrary origin that never go backwards."""

    async def sleep(self, duration_s: float) -> None:
        """Wait ``duration_s`` domain seconds."""

    def spec(self) -> str:
        """The text another process can build the same clock from."""


class SystemClock:
    """Production: domain time is real time."""

    scale = 1.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(max(0.0, duration_s))

    def spec(self) -> str:
        return "system"


class ScaledClock:
    """Story time: ``scale`` domain seconds pass in one real second, counted from a shared epoch."""

    def __init__(self, scale: float, real_epoch_s: float, story_epoch_s: float) -> None:
        if not scale > 0:
            raise BadConfig(f"clock scale must be positive, not {scale!r}")
        self.scale = float(scale)
        self._real_epoch_s = float(real_epoch_s)
        self._story_epoch_s = float(story_epoch_s)
        self._monotonic_origin_s = time.monotonic()

    @classmethod
    def starting_now(cls, scale: float, story_start: datetime | None = None) -> ScaledClock:
        real_s = time.time()
        return cls(scale, real_s, story_start.timestamp() if story_start else real_s)

    def now(self) -> datetime:
        story_s = self._story_epoch_s + (time.time() - self._real_epoch_s) * self.scale
        return datetime.fromtimestamp(story_s, UTC)

    def monotonic_s(self) -> float:
        return (time.monotonic() - self._monotonic_origin_s) * self.scale

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(max(0.0, duration_s) / self.scale)

    def spec(self) -> str:
        return f"scaled:{self.scale!r}:{self._real_epoch_s!r}:{self._story_epoch_s!r}"


class PacedClock:
    """Story time that another process writes: sixteen bytes in ``file``, two doubles.

    The first is the story time in seconds since 1970 (UTC), the second its pace: domain seconds per real second while
    nothing holds it up. Eight aligned bytes of a mapped file are read and written at once, so a reader never sees half
    a time. Raises BadConfig for a file that holds none.
    """

    LOOK_AGAIN_S = 0.02
    """Real seconds at least between two looks of a sleeper: the time it waits for may be standing still."""
    LOOK_S = 1.0
    """Real seconds at most: the pace may change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            with file.open("rb") as opened:
                self._shared = mmap.mmap(opened.fileno(), _STORY.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadConfig(f"no story time in {file}: {error}") from None
        if not self.scale > 0:
            raise BadConfig(f"the clock's pace in {file} must be positive, not {self.scale!r}")

    @property
    def scale(self) -> float:
        return float(_STORY.unpack_from(self._shared)[1])

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.monotonic_s(), UTC)

    def monotonic_s(self) -> float:
        return float(_STORY.unpack_from(self._shared)[0])

    async def sleep(self, duration_s: float) -> None:
        until_s = self.monotonic_s() + duration_s
        while (left_s := until_s - self.monotonic_s()) > 0:  # noqa: ASYNC110 - no event comes from another process
            await asyncio.sleep(min(max(left_s / self.scale, self.LOOK_AGAIN_S), self.LOOK_S))

    def spec(self) -> str:
        return f"paced:{self._file}"


class SimulatedClock:
    """Tests: time moves only through :meth:`advance`, which wakes sleepers in order."""

    def __init__(self, start: datetime | None = None) -> None:
        self.scale = 1.0
        self._now = start or datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._elapsed_s

    async def sleep(self, duration_s: float) -> None:
        if duration_s <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + duration_s, next(self._order), wake))
        await wake

    async def advance(self, duration_s: float) -> None:
        """Move time forward, waking every sleeper that falls due, in order of its due time."""
        until_s = self._elapsed_s + duration_s
        while self._sleepers and self._sleepers[0][0] <= until_s:
            due_s, _, wake = heapq.heappop(self._sleepers)
            self._move_to(due_s)
            if not wake.done():
                wake.set_result(None)
            for _ in range(3):  # let the woken task run to its next await before the next one is woken
                await asyncio.sleep(0)
        self._move_to(until_s)

    def shift(self, duration_s: float) -> None:
        """Move time without waking anybody (synchronous tests)."""
        self._move_to(self._elapsed_s + duration_s)

    def spec(self) -> str:
        raise BadConfig("a simulated clock cannot be shared with another process")

    def _move_to(self, elapsed_s: float) -> None:
        self._now += timedelta(seconds=elapsed_s - self._elapsed_s)
        self._elapsed_s = elapsed_s


def clock_from_spec(spec: str) -> Clock:
    """Build the clock a text names; see the module's docstring. Raises BadConfig."""
    kind, _, rest = spec.partition(":")
    if kind == "system" and not rest:
        return SystemClock()
    if kind == "scaled":
        try:
            scale, real_epoch_s, story_epoch_s = (float(part) for part in rest.split(":"))
        except ValueError:
            raise BadConfig(f"clock {spec!r}: expected scaled:SCALE:REAL_EPOCH_S:STORY_EPOCH_S") from None
        return ScaledClock(scale, real_epoch_s, story_epoch_s)
    if kind == "paced" and rest:
        return PacedClock(Path(rest))
    raise BadConfig(f"unknown clock {spec!r}: use 'system', 'scaled:SCALE:REAL_EPOCH_S:STORY_EPOCH_S' or 'paced:FILE'")


def clock_from_environment() -> Clock:
    """The clock ``FORESTALL_CLOCK`` names, or the system's."""
    return clock_from_spec(os.environ.get(CLOCK_VARIABLE, "system"))
