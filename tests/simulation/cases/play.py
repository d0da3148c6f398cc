"""One play: a few cases at once in a world that misbehaves, from one seed; then all is healed and checked."""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from fleet_core import faults
from fleet_core.telemetry import Finding
from fleet_server.notifiers.api import Message
from fleet_server.resolution.timers import run_due
from tests.simulation.cases import checks
from tests.simulation.cases.house import SITES, SLOTS, House
from tests.simulation.cases.kinds import Kind, Mixture
from tests.simulation.cases.moment import Killed, Moment
from tests.simulation.cases.own import Mailbox
from tests.simulation.cases.people import People
from tests.simulation.cases.server import Server
from tests.simulation.cases.warehouse import Warehouse
from tests.support.resolution import finding_at, store_finding

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
TROUBLE_DAYS, PEACE_DAYS = 4.0, 21.0
STEP = timedelta(minutes=6)
"""Times are rounded up to this, so that many small waits make one step."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed: what was wrong, nothing where all held; and all that happened."""

    seed: int
    wrong: list[str]
    log: list[str]
    kinds: list[str]


class Play:
    """The parts of one play, and how time goes on in it."""

    def __init__(self, house: House, seed: int, allowed: Collection[Kind]) -> None:
        self.house = house
        self.moment = Moment(seed, START)
        self.mixture = Mixture(random.Random(f"mixture {seed}"), allowed)
        self.warehouses = {name: Warehouse(name, self.moment, self.mixture, self.between) for name in SITES}
        self.mail = Mailbox(self.moment, self.mixture, self.between, self._handed_over)
        self.server = Server(house, self.moment, self.mixture, self.between)
        self.people = People(house, self.server, self.moment, self.mixture)
        self._delivered: list[tuple[datetime, str, Finding]] = []
        self._deep = 0

    async def between(self) -> None:
        """A call to another system is under way: the server may end here, and others may act meanwhile."""
        self.moment.fuse.passed()
        if self._deep >= 2 or not self.mixture.strikes(Kind.MEANWHILE):
            return
        self._deep += 1
        try:
            what = self.moment.rng.randrange(3)
            soon = self.moment.next_at
            if what == 0:
                await self.server.one_case()
            elif what == 1:
                await run_due(self.server.rt, 1)
            elif soon is not None and soon - self.moment.clock.at < timedelta(hours=1):
                await self.moment.sooner()
        finally:
            self._deep -= 1

    async def played(self) -> None:
        """From the first finding to the end."""
        await self.house.fresh(START)
        self.server.start(self.warehouses, self.mail)
        self._plan_trouble()
        await self.people.events(TROUBLE_DAYS)
        await self._run_until(START + timedelta(days=TROUBLE_DAYS))
        await self._heal()
        until = self.moment.clock.at + timedelta(days=PEACE_DAYS)
        while self.moment.clock.at < until and await self._unfinished():
            await self._run_until(min(until, self.moment.clock.at + timedelta(hours=24)))
            await self.people.end_by_hand()
        await self._run_until(self.moment.clock.at + timedelta(hours=4))
        await checks.in_the_end(self.house, self.moment, self.mail, self.warehouses)

    def _plan_trouble(self) -> None:
        rng, moment = self.moment.rng, self.moment
        for asset, slot in rng.sample(SLOTS, rng.choice((2, 2, 3, 4))):
            at_h, left_h = rng.uniform(0, 12), rng.choice((20.0, 40.0, 60.0, 96.0))
            self.server.failing_after_h[asset, slot] = START + timedelta(hours=at_h + left_h)
            finding = replace(finding_at(moment.clock), component=slot)
            moment.plan(at_h, self._arrives(asset, finding))
            if self.mixture.strikes(Kind.DEADLINE_NEARER):
                nearer = self._nearer(asset, slot, rng.uniform(0.3, 0.8))
                moment.plan(at_h + rng.uniform(1, left_h / 2), nearer)
                moment.plan(at_h + left_h / 2, self._arrives(asset, replace(finding, revision=2)))
        for _ in range(4):
            if self.mixture.strikes(Kind.KILLED):
                moment.plan(rng.uniform(0, TROUBLE_DAYS * 24), self._light(rng.randint(1, 120)))
        if self.mixture.strikes(Kind.RESTORED):
            moment.plan(rng.uniform(0.5, TROUBLE_DAYS * 12), self._back_up)

    def _light(self, places: int) -> Callable[[], Awaitable[None]]:
        async def light() -> None:
            self.moment.fuse.light(places)

        return light

    def _nearer(self, asset: str, slot: str, share: float) -> Callable[[], Awaitable[None]]:
        async def move() -> None:
            now, fails_at = self.moment.clock.at, self.server.failing_after_h[asset, slot]
            self.server.failing_after_h[asset, slot] = now + max(timedelta(hours=6), (fails_at - now) * share)

        return move

    async def _back_up(self) -> None:
        backup, at = await self.house.backup(), self.moment.clock.at

        async def restore() -> None:
            await self.house.restore(backup)
            self.moment.tell("the database is put back by an hour")
            for arrived_at, asset, finding in self._delivered[:]:
                if arrived_at >= at:  # the device insists
                    newer = max(f.revision for _, _, f in self._delivered if f.finding_id == finding.finding_id) + 1
                    self.moment.plan(1.0, self._arrives(asset, replace(finding, revision=newer)))
            self.people.back_to_work()
            raise Killed

        self.moment.plan(1.0, restore)

    def _arrives(self, asset: str, finding: Finding) -> Callable[[], Awaitable[None]]:
        async def arrive() -> None:
            self._delivered.append((self.moment.clock.at, asset, finding))
            async with self.server.rt.pool.connection() as conn:
                await store_finding(conn, self.moment.clock, finding, asset)
            self.moment.tell(f"{asset} {finding.component}: finding, revision {finding.revision}")

        return arrive

    async def _handed_over(self, message: Message) -> None:
        await checks.told(self.house, self.moment, self.mail, self.warehouses, message)

    async def _run_until(self, until: datetime) -> None:
        while self.moment.clock.at < until:
            await self._guarded(self.moment.happen)
            await self._guarded(self.server.turn)
            await self.people.look()
            await checks.at_rest(self.house, self.moment)
            for warehouse in self.warehouses.values():
                for double in warehouse.doubles():
                    self.moment.blame(double)
            times = [at for at in (self.moment.next_at, await self.server.due_at()) if at is not None]
            waited = max(min([*times, until]) - self.moment.clock.at, timedelta(0))
            self.moment.clock.shift(max(1, -(-waited // STEP)) * STEP.total_seconds())

    async def _guarded(self, act: Callable[[], Awaitable[object]]) -> None:
        """The server does something; where it ends in the middle of it, it starts anew."""
        try:
            await act()
        except Killed:
            self.moment.tell("the server ends and starts anew")
            self._deep = 0
            await self.server.drain()
            self.server.start(self.warehouses, self.mail)

    async def _heal(self) -> None:
        self.moment.tell("everything is healed")
        self.mixture.healed = True
        self.moment.fuse.out()
        await self.house.rows("UPDATE person SET active = true WHERE person_id = 'jonas'")
        self.people.back_to_work()
        await self.people.end_by_hand()

    async def _unfinished(self) -> bool:
        return bool(await self.house.rows(
            "SELECT 1 FROM repair_case WHERE state NOT IN ('closed', 'cancelled', 'false_alarm')"
        ))  # fmt: skip


async def play(house: House, seed: int, allowed: Collection[Kind] = tuple(Kind)) -> Outcome:
    """Play a seed. What goes wrong is in the outcome; an error of the server that nobody foresaw is too."""
    with _everything_seeded(seed) as passes:
        of = Play(house, seed, allowed)
        passes.append(of.moment.fuse.passed)
        try:
            await of.played()
        except Exception as error:
            of.moment.blame(f"{type(error).__name__}: {error}")
    return Outcome(seed, of.moment.wrong, of.moment.log, sorted(of.mixture.rates))


class _Passed(dict[str, object]):
    """Stands for the armed faults: every fault point passes the fuse."""

    def __init__(self, passes: list[Callable[[], None]]) -> None:
        super().__init__()
        self._passes = passes

    def get(self, name: str, default: object = None) -> object:
        for passed in self._passes:
            passed()
        return None


@contextmanager
def _everything_seeded(seed: int) -> Iterator[list[Callable[[], None]]]:
    """Identities are drawn from the seed, and fault points are places where the server may end."""
    rng, passes = random.Random(f"identities {seed}"), list[Callable[[], None]]()
    made, armed = uuid.uuid4, faults._armed
    uuid.uuid4 = lambda: uuid.UUID(int=rng.getrandbits(128), version=4)
    faults._armed = _Passed(passes)  # asked by name only
    try:
        yield passes
    finally:
        uuid.uuid4, faults._armed = made, armed
