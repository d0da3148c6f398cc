"""Who writes a PacedClock's story time: it runs while the processes it is told for keep up, and waits for them if not.

Story time is written in small steps. Every step needs this process to have its turn, so a busy machine slows it down
by itself; and it never gets more than ``ahead_h`` story hours ahead of the last moment at which everything was at
work. An outage, or a slow machine, therefore costs at most that much of the story, however long it lasts.
"""

from __future__ import annotations

import bisect
import mmap
import struct
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

import psycopg

from demo.processes import http_ready
from demo.stack import Stack
from fleet_core.clock import PacedClock
from fleet_core.errors import BadConfig
from fleet_server.store.embedded import running_dsn

STEP_S = 0.005
MOST_S = 0.05
"""Of one step, in real seconds: after a longer pause of this process the time does not jump."""
NOTED_S, NOTES = 0.05, 20_000
"""Real seconds between two notes of which real time a story time was."""
LOOK_S = 0.2
CREEP = 1 / 60
"""Of its pace the story keeps while it waits: a process may be waiting for a moment of the story itself."""
STUCK_S = 120.0
"""Real seconds the story waits at most. Then it goes on, and what does not work shows in how the story ends."""


class Pace:
    """Story time from ``start`` at ``scale``, in ``file``. A context: leaving it stops the time.

    ``at_work`` is asked from a thread of its own; before :meth:`follow` names one, nothing holds the time up. What it
    raises is raised when the context is left, and the time is not held up any more.
    """

    def __init__(self, file: Path, start: datetime, scale: float, ahead_h: float) -> None:
        if not scale > 0:
            raise BadConfig(f"the story's pace must be positive, not {scale!r}")
        self._double = struct.Struct("=d")
        file.write_bytes(self._double.pack(start.timestamp()) + self._double.pack(scale))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), 2 * self._double.size)
        self.clock = PacedClock(file)
        self.held_s = 0.0
        """Real seconds the story has waited."""
        self._ahead = timedelta(hours=ahead_h)
        self._at_work: Callable[[datetime], bool] | None = None
        self.caught_up_at = start
        """The story time up to which everything has been followed."""
        self._notes: list[tuple[float, float]] = []
        """(story time, real time) in seconds since 1970, ascending, every ``NOTED_S``."""
        self._fault: Exception | None = None
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="pace"), threading.Thread(target=self._look)]

    def follow(self, at_work: Callable[[datetime], bool] | None) -> None:
        """From now on ``at_work(story time)`` says whether everything has followed the story up to about that time;
        with None nothing holds it up any more."""
        self.caught_up_at, self._at_work = self.clock.now(), at_work

    def go_at(self, scale: float) -> None:
        """From now on ``scale`` domain seconds pass in a real one."""
        self._double.pack_into(self._shared, self._double.size, scale)

    def real_at(self, story_at: datetime) -> datetime:
        """When it was that the story first reached ``story_at``, to a fraction of ``NOTED_S``; UTC."""
        story_s = story_at.timestamp()
        at = max(0, bisect.bisect_left(self._notes, (story_s, 0.0)) - 1)
        (story0_s, real0_s), *after = self._notes[at : at + 2]
        story1_s, real1_s = after[0] if after else (self.clock.monotonic_s(), time.time())
        share = (story_s - story0_s) / (story1_s - story0_s) if story1_s > story0_s else 0.0
        return datetime.fromtimestamp(real0_s + min(max(share, 0.0), 1.0) * (real1_s - real0_s), UTC)

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
        if self._fault is not None and error is None:
            raise self._fault

    def _run(self) -> None:
        story_s, before_s, still_s = self.clock.monotonic_s(), time.monotonic(), 0.0
        noted_s = before_s
        self._notes.append((story_s, time.time()))
        while not self._over.wait(STEP_S):
            passed_s, before_s = time.monotonic() - before_s, time.monotonic()
            if before_s > noted_s + NOTED_S and self._at_work is not None:  # the stories are on
                noted_s = before_s
                self._notes.append((story_s, time.time()))
                del self._notes[:-NOTES]
            held = self._at_work is not None and self.clock.now() > self.caught_up_at + self._ahead
            still_s = still_s + passed_s if held else 0.0
            waits = held and still_s < STUCK_S
            if waits:
                self.held_s += passed_s
            story_s += min(passed_s, MOST_S) * self.clock.scale * (CREEP if waits else 1.0)
            self._double.pack_into(self._shared, 0, story_s)

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            asked_at = self.clock.now()
            try:
                if (at_work := self._at_work) and at_work(asked_at):
                    self.caught_up_at = asked_at
            except Exception as fault:  # noqa: BLE001 - whatever it is, nobody looks any more: leaving raises it
                self._fault = fault
                self.follow(None)
                return


class Followed:
    """Whether the processes keep up with the story: the server answers, each asset's vitals arrive, and no finding or
    due case waits for more than ``behind_h`` story hours. A context: leaving it gives the connection back.

    A finding may wait long: the job of a killed worker is taken up by the next one only when its heartbeat is old.
    """

    QUERY = """SELECT (SELECT count(*) FROM unnest(%(assets)s::text[]) AS played (asset_id)
                        WHERE NOT EXISTS (SELECT FROM fleet.series JOIN fleet.latest USING (series_id)
                                           WHERE series.asset_id = played.asset_id AND latest.t >= %(oldest)s))
                    + (SELECT count(*) FROM fleet.repair_case WHERE next_at < %(oldest)s)
                    + (SELECT count(*) FROM public.procrastinate_jobs
                        WHERE task_name = 'triage_finding' AND status IN ('todo', 'doing'))"""

    def __init__(self, stack: Stack, assets: Sequence[str], behind_h: float) -> None:
        self._stack, self._assets = stack, list(assets)
        self._behind = timedelta(hours=behind_h)
        self._ready = http_ready(f"{stack.url}/ready")
        self._conn: psycopg.Connection | None = None

    def at_work(self, now: datetime) -> bool:
        """Whether everything done up to about ``now`` has been followed; False while anything is down."""
        if self._stack.keeper.crashed() or not self._ready():
            return False
        asked = {"assets": self._assets, "oldest": now - self._behind}
        try:
            if self._conn is None or self._conn.closed:
                dsn = running_dsn(self._stack.server_config.parent / "postgres")
                if dsn is None:
                    return False
                self._conn = psycopg.connect(dsn, autocommit=True)
            (waiting,) = self._conn.execute(self.QUERY, asked).fetchone() or (1,)
        except psycopg.OperationalError:  # it is away; what else it says is this module's fault, and ends the demo
            return False
        return not waiting

    def __enter__(self) -> Followed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._conn is not None:
            self._conn.close()
