"""Session state of ingest towards the agents: acknowledgements, parked messages, rate limits, resend requests. Pure.

Every structure is bounded. An overflow drops only messages that their agents send again:

* ``AckBook``       batch numbers to acknowledge, collected until ``drain``, which alone clears them.
* ``ParkingLot``    messages that cannot be read yet. When it is full, the oldest message is dropped unanswered, so its
                    agent sends it again.
* ``RateLimit``     at most a given number of events for a key in a period, over a bounded number of keys.

Times are real seconds from any origin and are passed in by the caller.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from fleet_core.commands import MAX_REFUSED, encode_refused, encode_resend, encode_stored
from fleet_core.sparkplug.session import MAX_RANGES, Ranges, coalesce
from fleet_core.sparkplug.topics import MessageType, Topic

Node = tuple[str, str]
"""(group, node)"""


@dataclass
class AckBook:
    """The final answers (stored or refused) that are not sent yet, by node and outbox."""

    _stored: dict[tuple[Node, str], set[int]] = field(default_factory=lambda: defaultdict(set))
    _refused: dict[tuple[Node, str], dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    def stored(self, node: Node, outbox_id: str, number: int) -> None:
        self._stored[node, outbox_id].add(number)

    def refused(self, node: Node, outbox_id: str, number: int, reason: str) -> None:
        self._refused[node, outbox_id][number] = reason

    def drain(self) -> list[tuple[str, bytes]]:
        """Take out all answers as pairs of topic and payload, in as few commands as the bounds allow."""
        commands: list[tuple[str, bytes]] = []
        for (node, outbox_id), numbers in self._stored.items():
            ranges = coalesce(list(numbers))
            for start in range(0, len(ranges), MAX_RANGES):
                commands.append((command_topic(node), encode_stored(outbox_id, ranges[start : start + MAX_RANGES])))
        for (node, outbox_id), reasons in self._refused.items():
            rows = sorted(reasons.items())
            for start in range(0, len(rows), MAX_REFUSED):
                commands.append((command_topic(node), encode_refused(outbox_id, rows[start : start + MAX_REFUSED])))
        self._stored.clear()
        self._refused.clear()
        return commands


def command_topic(node: Node) -> str:
    """The topic on which an agent receives commands."""
    return str(Topic(node[0], MessageType.NCMD, node[1]))


def resend_requests(missing: Mapping[tuple[Node, str], Ranges]) -> list[tuple[str, bytes]]:
    """Commands, as pairs of topic and payload, that ask agents to send missing batches again, by (node, outbox).

    An agent sends those batches that its outbox still keeps.
    """
    return [
        (command_topic(node), encode_resend(outbox_id, ranges[:MAX_RANGES]))
        for (node, outbox_id), ranges in missing.items()
    ]


@dataclass
class _Parked:
    message: object
    size: int
    since_s: float


class ParkingLot:
    """Messages that wait until their schema or identity is known, by key, oldest first."""

    def __init__(self, max_messages: int = 2000, max_bytes: int = 32 << 20) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self._waiting: OrderedDict[int, tuple[Hashable, _Parked]] = OrderedDict()
        self._bytes = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def park(self, key: Hashable, message: object, size: int, now_s: float) -> int:
        """Park a message and return the number of older messages that were dropped to make room."""
        self._waiting[self._next] = (key, _Parked(message, size, now_s))
        self._next += 1
        self._bytes += size
        dropped = 0
        while len(self._waiting) > self.max_messages or self._bytes > self.max_bytes:
            _, (_, oldest) = self._waiting.popitem(last=False)
            self._bytes -= oldest.size
            dropped += 1
        return dropped

    def waiting_for(self) -> set[Hashable]:
        return {key for key, _ in self._waiting.values()}

    def release(self, key: Hashable) -> list[object]:
        """Take out all messages that wait for ``key``."""
        return [message for message, _ in self._take(lambda k, _: k == key)]

    def expire(self, before_s: float) -> int:
        """Drop the messages that were parked before ``before_s`` and return their number."""
        return len(self._take(lambda _, parked: parked.since_s < before_s))

    def _take(self, wanted: Callable[[Hashable, _Parked], bool]) -> list[tuple[object, float]]:
        numbers = [number for number, (key, parked) in self._waiting.items() if wanted(key, parked)]
        taken = []
        for number in numbers:
            _, parked = self._waiting.pop(number)
            self._bytes -= parked.size
            taken.append((parked.message, parked.since_s))
        return taken


class RateLimit:
    """Bounds events: ``allows(key, now_s)`` is true at most ``events`` times within ``period_s`` for a key."""

    def __init__(self, period_s: float, events: int = 1, max_keys: int = 10_000) -> None:
        self.period_s = period_s
        self.events = events
        self._max_keys = max_keys
        self._windows: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def allows(self, key: Hashable, now_s: float) -> bool:
        since_s, count = self._windows.get(key, (now_s, 0))
        if now_s - since_s >= self.period_s:
            since_s, count = now_s, 0
        self._windows[key] = (since_s, count + 1)
        self._windows.move_to_end(key)
        if len(self._windows) > self._max_keys:
            self._windows.popitem(last=False)
        return count < self.events
