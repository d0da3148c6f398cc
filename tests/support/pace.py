"""Who writes a PacedClock's story time: it runs while the processes it is told for keep up, and waits for them if not.

Story time is written in small steps. Every step needs this process to have its turn, so a busy machine slows it down
by itself; and it never gets more than ``ahead_h`` story hours ahead of the last moment at which everything was at
work. An outage therefore costs at most that much of the story, however long the machine takes to end it.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType

from fleet_core.clock import PacedClock

STEP_S = 0.005
MOST_S = 0.05
"""Of one step, in real seconds: after a longer pause of this process the time does not jump."""
LOOK_S = 0.1
STUCK_S = 120.0
"""Real seconds the story stands still at most. Then it goes on, and what does not work shows in how the story ends."""


class Pace:
    """Story time from ``start`` at ``scale``, in ``file``. A context: leaving it stops the time.

    ``at_work`` is asked from a thread of its own; before :meth:`follow` names one, nothing holds the time up.
    """

    def __init__(self, file: Path, start: datetime, scale: float, ahead_h: float) -> None:
        self._time = struct.Struct("=d")
        file.write_bytes(self._time.pack(start.timestamp()))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), self._time.size)
        self.clock = PacedClock(scale, file)
        self.held_s = 0.0
        """Real seconds the story has stood still."""
        self._ahead = timedelta(hours=ahead_h)
        self._at_work: Callable[[datetime], bool] | None = None
        self.caught_up_at = start
        """The story time up to which everything has been followed."""
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="pace"), threading.Thread(target=self._look)]

    def follow(self, at_work: Callable[[datetime], bool] | None) -> None:
        """From now on ``at_work(story time)`` says whether everything has followed the story up to about that time;
        with None nothing holds it up any more."""
        self.caught_up_at, self._at_work = self.clock.now(), at_work

    def __enter__(self) -> Pace:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        story_s, before_s, still_s = self.clock.monotonic_s(), time.monotonic(), 0.0
        while not self._over.wait(STEP_S):
            passed_s, before_s = time.monotonic() - before_s, time.monotonic()
            held = self._at_work is not None and self.clock.now() > self.caught_up_at + self._ahead
            still_s = still_s + passed_s if held else 0.0
            if held and still_s < STUCK_S:
                self.held_s += passed_s
                continue
            story_s += min(passed_s, MOST_S) * self.clock.scale
            self._time.pack_into(self._shared, 0, story_s)

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            asked_at = self.clock.now()
            if (at_work := self._at_work) and at_work(asked_at):
                self.caught_up_at = asked_at
