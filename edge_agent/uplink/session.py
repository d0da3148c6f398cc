"""The uplink's rules of what is sent when. Pure. Times are real seconds from any origin.

QoS 0 has no back-pressure, so the server's acknowledgements pace the flow: a window of unanswered batches grows by
one for every window answered and halves when an answer is late (additive increase, multiplicative decrease). Batches
wait in three lanes: findings and gaps go first, then live batches (appended since this connection), then backfill, the
oldest first. A lane remembers how far it has read. A batch in flight is sent again after an exponentially growing,
jittered pause.

A broker may cut the link again and again at a message it refuses, usually because the message is too large. After some
short connections in a row, batches go one at a time. A batch that was alone in flight when the link broke is a suspect:
the outbox keeps it, the others pass, and it is tried alone after growing pauses.

A batch that stays unanswered after ``MAX_DELIVERIES`` while batches sent after it were answered is undeliverable: the
fault is in the batch, not in the link.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from fleet_core.telemetry import BatchClass

Key = tuple[str, int]

MIN_WINDOW, FIRST_WINDOW, MAX_WINDOW = 1.0, 16.0, 256.0
"""The window of unanswered batches: its least size, its most after a connect, and its most at all."""
ANSWER_TIMEOUT_S, MAX_ANSWER_TIMEOUT_S = 3.0, 60.0
"""An answer is late after the first; the pause doubles with every delivery of the batch up to the second."""
MAX_DELIVERIES = 8
PROBE_WINDOW = 2
"""The window while the server's STATE is offline: STATE is only a hint, so a few batches are sent all the same."""
URGENT_ROOM = 16
"""By so many batches findings and gaps may exceed the window, so that they do not wait for vitals."""
BACKOFF_FIRST_S, BACKOFF_MOST_S, SETTLED_AFTER_S = 1.0, 30.0, 30.0
REBIRTH_PAUSE_S = 5.0
SHORT_CONNECTION_S = 5.0
"""A connection that broke sooner counts as short."""
SHORT_LOSSES_BEFORE_DOUBT = 2
"""After so many short connections in a row, batches go one at a time."""
SUSPECT_PAUSE_S, MAX_SUSPECT_PAUSE_S, MAX_SUSPECTS = 30.0, 3600.0, 1024
"""The first pause before a suspect is tried again, the longest (every further loss makes it four times as long), and
how many suspects are remembered."""


class Lane(IntEnum):
    """The lanes, in order of precedence."""

    URGENT = 0
    LIVE = 1
    BACKFILL = 2


LANE_CLASSES = {
    Lane.URGENT: (BatchClass.FINDING, BatchClass.GAP),
    Lane.LIVE: (BatchClass.ROUTINE, BatchClass.WAVEFORM),
    Lane.BACKFILL: (BatchClass.ROUTINE, BatchClass.WAVEFORM),
}
END_OF_TIME = 1 << 62


@dataclass(slots=True)
class _InFlight:
    id: int
    first_sent_s: float
    due_s: float
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class _Suspect:
    losses: int
    due_s: float


class SendWindow:
    """The state of one uplink over all its connections."""

    def __init__(self, rng: random.Random) -> None:
        self.window = FIRST_WINDOW
        self.host_online = True
        self.resends = 0
        self.live_from = 0
        self._rng = rng
        self._in_flight: dict[Key, _InFlight] = {}
        self._cursors = dict.fromkeys(Lane, 0)
        self._last_decrease_s = float("-inf")
        self._answered_sent_s = float("-inf")
        self._short_losses = 0
        self._suspects: dict[Key, _Suspect] = {}

    @property
    def one_at_a_time(self) -> bool:
        """Whether the link broke so often so soon that the batch which breaks it is sought."""
        return self._short_losses >= SHORT_LOSSES_BEFORE_DOUBT

    @property
    def suspects(self) -> int:
        """How many batches are suspects: the link broke while they were alone in flight."""
        return len(self._suspects)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def connected(self, next_id: int) -> None:
        """Start a new connection: nothing is in flight, held batches go again, batches from ``next_id`` on are live."""
        self._in_flight.clear()
        self.window = MIN_WINDOW if self.one_at_a_time else min(self.window, FIRST_WINDOW)
        self.rewind(next_id)

    def lost(self, now_s: float, lasted_s: float) -> Key | None:
        """Note that the connection broke. Returns the batch that became a suspect by it, or None."""
        if lasted_s >= SHORT_CONNECTION_S or not self._in_flight:
            self._short_losses = 0
            return None
        alone = next(iter(self._in_flight)) if self.one_at_a_time and len(self._in_flight) == 1 else None
        self._short_losses += 1
        if alone is not None and (alone in self._suspects or len(self._suspects) < MAX_SUSPECTS):
            losses = self._suspects[alone].losses + 1 if alone in self._suspects else 1
            pause_s = min(MAX_SUSPECT_PAUSE_S, SUSPECT_PAUSE_S * 4.0 ** (losses - 1))
            self._suspects[alone] = _Suspect(losses, now_s + pause_s)
        return alone

    def is_suspect(self, key: Key) -> bool:
        """Whether the batch is a suspect, which the lanes pass over."""
        return key in self._suspects

    def suspect_due(self, now_s: float) -> Key | None:
        """A suspect that is due to be tried alone now, or None."""
        if self._in_flight:
            return None
        return next((key for key, suspect in self._suspects.items() if suspect.due_s <= now_s), None)

    def rewind(self, next_id: int) -> None:
        """Read all lanes from the start again, because the server asked for batches it had already acknowledged."""
        self.live_from = next_id
        self._cursors = dict.fromkeys(Lane, 0)

    def is_late(self, batch_id: int) -> bool:
        """Whether a batch was made before this connection, and so is history to a Sparkplug host."""
        return batch_id < self.live_from

    def room(self, lane: Lane) -> int:
        """How many batches of a lane may be sent now. Findings may exceed the window a little."""
        window = int(self.window) if self.host_online else min(PROBE_WINDOW, int(self.window))
        if self.one_at_a_time:
            return 0 if self._in_flight else 1
        return max(0, window - len(self._in_flight) + (URGENT_ROOM if lane is Lane.URGENT else 0))

    def bounds(self, lane: Lane) -> tuple[int, int]:
        """Exclusive bounds of the ids a lane may read next."""
        after = self._cursors[lane]
        if lane is Lane.LIVE:
            return max(after, self.live_from - 1), END_OF_TIME
        return after, self.live_from if lane is Lane.BACKFILL else END_OF_TIME

    def read(self, lane: Lane, batch_id: int) -> None:
        """Note that a lane has read up to this id."""
        self._cursors[lane] = max(self._cursors[lane], batch_id)

    def sent(self, key: Key, batch_id: int, now_s: float) -> None:
        """Note that a batch was published, for the first time on this connection or again."""
        flight = self._in_flight.get(key)
        if flight is None:
            self._in_flight[key] = _InFlight(batch_id, now_s, now_s + self._pause_s(1))
            return
        flight.deliveries += 1
        flight.due_s = now_s + self._pause_s(flight.deliveries)
        self.resends += 1

    def is_in_flight(self, key: Key) -> bool:
        return key in self._in_flight

    def settled(self, outbox_id: str, ranges: Iterable[tuple[int, int]]) -> int:
        """Note that the server stored or refused these batches. Returns how many of them were in flight."""
        bounds = list(ranges)
        keys = [
            key
            for key in self._in_flight
            if key[0] == outbox_id and any(first <= key[1] <= last for first, last in bounds)
        ]
        for key in keys:
            self._answered_sent_s = max(self._answered_sent_s, self._in_flight.pop(key).first_sent_s)
            self.window = min(MAX_WINDOW, self.window + 1.0 / self.window)
            self._suspects.pop(key, None)
            self._short_losses = 0
        return len(keys)

    def forget(self, key: Key) -> None:
        """Note that the batch is no longer in the outbox."""
        self._in_flight.pop(key, None)
        self._suspects.pop(key, None)

    def due(self, now_s: float) -> tuple[list[Key], list[Key]]:
        """The batches to send again, and the undeliverable ones. A late answer narrows the window, at most once in one
        answer time.
        """
        late = [(key, flight) for key, flight in self._in_flight.items() if flight.due_s <= now_s]
        if late and now_s - self._last_decrease_s >= ANSWER_TIMEOUT_S:
            self.window = max(MIN_WINDOW, self.window / 2)
            self._last_decrease_s = now_s
        hopeless = [key for key, flight in late if self._is_hopeless(flight)]
        again = [key for key, flight in late if not self._is_hopeless(flight)]
        return again[: max(1, int(self.window))], hopeless

    def next_due_s(self) -> float | None:
        """When the next resend falls due, None when nothing is in flight."""
        return min((flight.due_s for flight in self._in_flight.values()), default=None)

    def _is_hopeless(self, flight: _InFlight) -> bool:
        return flight.deliveries >= MAX_DELIVERIES and self._answered_sent_s > flight.first_sent_s

    def _pause_s(self, deliveries: int) -> float:
        pause_s = min(MAX_ANSWER_TIMEOUT_S, ANSWER_TIMEOUT_S * 2.0 ** (deliveries - 1))
        return pause_s * self._rng.uniform(1.0, 1.25)


class RebirthLimit:
    """Grants at most one commanded rebirth per ``REBIRTH_PAUSE_S``. Later requests wait; none is lost."""

    def __init__(self) -> None:
        self._asked = False
        self._last_s = float("-inf")

    def ask(self) -> None:
        self._asked = True

    def grant(self, now_s: float) -> bool:
        """Whether the births are to be published again now."""
        if not self._asked or now_s - self._last_s < REBIRTH_PAUSE_S:
            return False
        self._asked, self._last_s = False, now_s
        return True
