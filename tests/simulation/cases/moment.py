"""What everything in a play shares: its clock, its log, its fuse, and what is to happen when."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from fleet_core.clock import SimulatedClock


class Killed(BaseException):
    """The server's process ends here: no error of ours, so nothing in the server may catch it."""


class Fuse:
    """Ends the server at the n-th of the places it passes: readings of the clock, fault points, calls to others."""

    def __init__(self) -> None:
        self._left: int | None = None

    def light(self, places: int) -> None:
        self._left = places

    def out(self) -> None:
        self._left = None

    def passed(self) -> None:
        """Raises Killed when it has burnt down."""
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            self._left = None
            raise Killed


class PlayClock(SimulatedClock):
    """The server's clock; whoever reads it passes the fuse."""

    def __init__(self, start: datetime, fuse: Fuse) -> None:
        super().__init__(start)
        self._fuse = fuse

    def now(self) -> datetime:
        self._fuse.passed()
        return self._now

    @property
    def at(self) -> datetime:
        """The same for what is not the server."""
        return self._now


Action = Callable[[], Awaitable[None]]


class Moment:
    """The clock, the log and the agenda of a play."""

    def __init__(self, seed: int, start: datetime) -> None:
        self.rng = random.Random(seed)
        self.fuse = Fuse()
        self.clock = PlayClock(start, self.fuse)
        self.start = start
        self.log: list[str] = []
        self.wrong: list[str] = []
        self._agenda: list[tuple[datetime, int, Action]] = []
        self._number = itertools.count()

    def tell(self, text: str) -> None:
        """One line of the log, with the hours since the play began."""
        hours = (self.clock.at - self.start) / timedelta(hours=1)
        self.log.append(f"{hours:8.2f} h  {text}")

    def blame(self, text: str) -> None:
        """Something that must not be; told once."""
        if text not in self.wrong:
            self.wrong.append(text)
            self.tell(f"WRONG: {text}")

    def plan(self, after_h: float, action: Action) -> None:
        """Have something happen later."""
        self.plan_at(self.clock.at + timedelta(hours=after_h), action)

    def plan_at(self, at: datetime, action: Action) -> None:
        heapq.heappush(self._agenda, (at, next(self._number), action))

    @property
    def next_at(self) -> datetime | None:
        return self._agenda[0][0] if self._agenda else None

    async def sooner(self) -> None:
        """Do the next thing that is planned, before its time."""
        if self._agenda:
            _, _, action = heapq.heappop(self._agenda)
            await action()

    async def happen(self, most: int = 1000) -> int:
        """Do what is planned until now, at most so many things."""
        done = 0
        while done < most and self._agenda and self._agenda[0][0] <= self.clock.at:
            _, _, action = heapq.heappop(self._agenda)
            await action()
            done += 1
        return done
