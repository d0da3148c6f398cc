"""A customer's WMS in this process: it keeps its own truth, and misbehaves as the play's mixture says.

Its promises are those of ``fleet_server/connectors/wms/api.py``: a key is one booking, a booking that arrives after its
release is refused, and no equipment is booked twice at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta

from fleet_core.errors import OutcomeUnknown, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.wms.api import Booking, LoadForecast, WorkShift
from tests.simulation.cases.kinds import Kind, Mixture
from tests.simulation.cases.moment import Moment

HOUR = timedelta(hours=1)
_BY_HOUR = (12, 9, 7, 6, 8, 14, 32, 58, 74, 82, 88, 90, 78, 84, 92, 96, 88, 72, 60, 48, 38, 30, 22, 16)
SHIFTS = (
    WorkShift("early", time(6), time(14)),
    WorkShift("late", time(14), time(22)),
    WorkShift("night", time(22), time(6)),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One booking as the WMS has it."""

    key: str
    equipment: str
    start: datetime
    end: datetime
    held: bool


class Warehouse:
    """One site's WMS. ``between`` is what may happen while a call is under way."""

    def __init__(self, name: str, moment: Moment, mixture: Mixture, between: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.entries: dict[str, Entry] = {}
        self.released: set[str] = set()
        """Keys that were released before anything was booked under them, or after."""
        self._moment = moment
        self._mixture = mixture
        self._between = between
        self._short: dict[str, str] = {}

    async def load(self, equipment_ref: str, start: datetime, end: datetime) -> LoadForecast:
        if self._mixture.strikes(Kind.WMS_AWAY):
            raise Retryable("the WMS is away")
        hour = start.replace(minute=0, second=0, microsecond=0)
        orders: dict[datetime, float] = {}
        while hour < end:
            orders[hour] = float(_BY_HOUR[hour.hour])
            hour += HOUR
        taken = tuple(
            (one.start, one.end)
            for one in self.entries.values()
            if one.held and one.equipment == equipment_ref and one.start < end and start < one.end
        )
        return LoadForecast(orders, SHIFTS, taken, sum(orders.values()))

    async def book(self, equipment_ref: str, start: datetime, end: datetime, reason: str, *, key: str) -> Booking:
        await self._between()
        strikes = self._mixture.first(
            Kind.WMS_AWAY, Kind.WMS_TIMES_OUT, Kind.WMS_REFUSES, Kind.WMS_LATE, Kind.WMS_REJECTS, Kind.WMS_PENDING
        )
        if strikes is Kind.WMS_AWAY:
            raise Retryable("the WMS is away")
        if strikes is Kind.WMS_TIMES_OUT:
            raise OutcomeUnknown("the WMS does not answer")
        if strikes is Kind.WMS_REFUSES and key not in self.entries:
            raise Refused("not_wanted", "not then")
        if strikes in (Kind.WMS_LATE, Kind.WMS_PENDING) and key not in self.entries and key not in self.released:
            self._moment.plan(1.0 if strikes is Kind.WMS_LATE else 0.5, self._arrives(key, equipment_ref, start, end))
            if strikes is Kind.WMS_LATE:
                raise OutcomeUnknown("the WMS does not answer, and books later")
            return Booking(f"P-{key[-12:]}", start, end, False)
        if strikes is Kind.WMS_REJECTS and key not in self.entries:
            self._tell(f"rejects {self._called(key)}")
            return Booking(f"R-{key[-12:]}", start, end, False)
        if self._mixture.strikes(Kind.WMS_MOVES) and key not in self.entries:
            start, end = start + 3 * HOUR, end + 3 * HOUR
        entry = self._enter(key, equipment_ref, start, end)
        await self._between()
        if self._mixture.strikes(Kind.WMS_DOES_AND_TIMES_OUT):
            raise OutcomeUnknown("the WMS does not answer, having booked")
        return _shown(self.entries.get(key, entry))

    async def lookup(self, key: str) -> Booking | None:
        await self._between()
        if self._mixture.strikes(Kind.WMS_AWAY):
            raise Retryable("the WMS is away")
        entry = self.entries.get(key)
        return None if entry is None else _shown(entry)

    async def release(self, key: str) -> None:
        await self._between()
        if self._mixture.strikes(Kind.WMS_AWAY):
            raise Retryable("the WMS is away")
        self.released.add(key)
        entry = self.entries.get(key)
        if entry is not None and entry.held:
            self.entries[key] = replace(entry, held=False)
        self._tell(f"releases {self._called(key)}")
        await self._between()
        if self._mixture.strikes(Kind.WMS_RELEASES_LATE):
            raise OutcomeUnknown("the WMS does not answer, having released")

    async def close(self) -> None:
        return None

    def holds(self, equipment: str, start: datetime, end: datetime) -> bool:
        """Whether the equipment is out of use exactly then."""
        return any(e.held and (e.equipment, e.start, e.end) == (equipment, start, end) for e in self.entries.values())

    def doubles(self) -> list[str]:
        """Bookings that are held and overlap on one piece of equipment: never."""
        held = sorted((e for e in self.entries.values() if e.held), key=lambda e: (e.equipment, e.start))
        return [
            f"{a.equipment} is booked twice at {b.start:%d %H:%M}"
            for a, b in itertools.pairwise(held)
            if a.equipment == b.equipment and b.start < a.end
        ]

    def _enter(self, key: str, equipment: str, start: datetime, end: datetime) -> Entry:
        if key in self.released:
            raise Refused("key_released", "it was released")
        known = self.entries.get(key)
        if known is not None:
            if not known.held:
                raise Refused("key_cancelled", "it was cancelled")
            return known
        if any(e.held and e.equipment == equipment and e.start < end and start < e.end for e in self.entries.values()):
            raise Refused("equipment_taken", "it is out of use then")
        entry = self.entries[key] = Entry(key, equipment, start, end, True)
        self._tell(f"books {equipment} {start:%d %H:%M} for {self._called(key)}")
        self._later(key)
        return entry

    def _later(self, key: str) -> None:
        """What the WMS will do to a booking by and by."""
        changes = (
            (Kind.WMS_CANCELS, self._cancels),
            (Kind.WMS_MOVES_LATER, self._moves),
            (Kind.WMS_LOSES, self._loses),
        )
        for kind, change in changes:
            if self._mixture.strikes(kind):
                self._moment.plan(self._moment.rng.choice((0.5, 3.0, 9.0)), change(key))
                return

    def _cancels(self, key: str) -> Callable[[], Awaitable[None]]:
        async def change() -> None:
            entry = self.entries.get(key)
            if self._still_to_come(entry):
                self.entries[key] = replace(entry, held=False)
                self._tell(f"changes its mind and cancels {self._called(key)}")

        return change

    def _moves(self, key: str) -> Callable[[], Awaitable[None]]:
        async def change() -> None:
            entry = self.entries.get(key)
            if not self._still_to_come(entry):
                return
            moved = replace(entry, start=entry.start + 2 * HOUR, end=entry.end + 2 * HOUR)
            others = [e for e in self.entries.values() if e.held and e.equipment == entry.equipment and e.key != key]
            if not any(e.start < moved.end and moved.start < e.end for e in others):
                self.entries[key] = moved
                self._tell(f"changes its mind and moves {self._called(key)} to {moved.start:%d %H:%M}")

        return change

    def _loses(self, key: str) -> Callable[[], Awaitable[None]]:
        async def change() -> None:
            if self._still_to_come(self.entries.get(key)):
                del self.entries[key]
                self._tell(f"loses {self._called(key)}")

        return change

    def _still_to_come(self, entry: Entry | None) -> bool:
        return entry is not None and entry.held and entry.start > self._moment.clock.at and not self._mixture.healed

    def _arrives(self, key: str, equipment: str, start: datetime, end: datetime) -> Callable[[], Awaitable[None]]:
        async def arrive() -> None:
            try:
                self._enter(key, equipment, start, end)
            except Refused as error:
                self._tell(f"refuses the late {self._called(key)}: {error.reason}")

        return arrive

    def _called(self, key: str) -> str:
        """A key as people follow it: the case by a letter, kind and number."""
        case, _, rest = key.partition(":")
        return f"{self._short.setdefault(case, chr(65 + len(self._short)))}:{rest}"

    def _tell(self, text: str) -> None:
        self._moment.tell(f"WMS {self.name} {text}")


def _shown(entry: Entry) -> Booking:
    return Booking(f"B-{entry.key[:8]}-{entry.key[-1]}", entry.start, entry.end, entry.held)
