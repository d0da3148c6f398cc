"""The invariant of a case at rest (``at_rest.py``), checked in production and repaired where it is broken.

Every round looks for open cases of which somebody has left; now and then it goes on through all open cases, a bounded
number at a time. What is broken is counted by kind and written to the case's timeline; it is mended by setting the time
that is missing, by a new owner, by another engineer, or by asking along the lines. One case is one transaction; one
that cannot be checked is put off, the others are not held up by it.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from fleet_server.resolution import messages
from fleet_server.resolution.at_rest import BY_HAND, Broken, Contact, Kind, broken
from fleet_server.resolution.case import Case
from fleet_server.resolution.chain import reachable
from fleet_server.resolution.commands import OVERDUE
from fleet_server.resolution.escalations import ask_another, escalate, intend_message, person
from fleet_server.resolution.metrics import BROKEN
from fleet_server.resolution.records import CaseFile, change_case, load_case, lock_case, note, set_timer, wake
from fleet_server.resolution.requests import planned_engineer
from fleet_server.resolution.rows import CaseRef, Colleague, Person, Region
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import CaseEvent, CaseState, Control, Move, MoveEvent
from fleet_server.resolution.verification import VERIFY
from fleet_server.store.alone import do_alone
from fleet_server.store.fetch import fetch_all, fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

log = logging.getLogger(__name__)
_sql = queries("resolution")
CHECK_EVERY_S = 10.0
"""Real seconds between two portions of the check of all open cases."""
LOOK_AGAIN = "look_again"
_TIME = (Kind.NO_TIME, Kind.MESSAGE_WITHOUT_TIME, Kind.QUESTION_WITHOUT_CAUSE)


class RestSweep:
    """The check, and how far it has come through the open cases."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._after = uuid.UUID(int=0)
        self._checked_s = float("-inf")

    async def once(self) -> None:
        """Look for those who left; go on with the check of all when it is time. Raises psycopg.Error."""
        async with self._rt.pool.connection() as conn:
            left = await fetch_all(conn, CaseRef, _sql.cases_left, {})
        await self._check(left)
        if time.monotonic() - self._checked_s >= CHECK_EVERY_S:
            self._checked_s = time.monotonic()
            await self.portion()

    async def portion(self) -> int:
        """Check the next portion of the open cases; returns how many there were, 0 at the end of a round."""
        async with self._rt.pool.connection() as conn:
            cases = await fetch_all(conn, CaseRef, _sql.cases_to_check, {"after": self._after})
        self._after = cases[-1].case_id if cases else uuid.UUID(int=0)
        await self._check(cases)
        return len(cases)

    async def _check(self, cases: Sequence[CaseRef]) -> None:
        for case in cases:
            if not self._rt.pieces.rests.waits(str(case.case_id)):
                async with self._rt.pool.connection() as conn:
                    check = partial(check_case, self._rt, conn, case.case_id)
                    await do_alone(conn, self._rt.pieces.rests, str(case.case_id), check)


async def found_broken(rt: Runtime, conn: Connection, file: CaseFile) -> list[Broken]:
    """What of the invariant does not hold for a case, as it stands in the database."""
    engineers = [planned_engineer(act) for act in file.acts if act.kind == "dispatch"]
    people = [file.case.owner_id, *(question.to_person for question in file.questions), *engineers]
    rows = await fetch_all(conn, Colleague, _sql.contacts, {"people": people})
    contacts = {row.person_id: Contact(row.active, reachable(row.person, rt.notifiers)) for row in rows}
    return broken(file, contacts, rt.clock.now())


async def check_case(rt: Runtime, conn: Connection, case_id: uuid.UUID) -> None:
    """Check one case, and mend what is broken, in the caller's transaction."""
    await lock_case(conn, case_id)
    for found in await found_broken(rt, conn, await load_case(conn, case_id)):
        file = await load_case(conn, case_id)
        if await _mended(rt, conn, file, file.case, found):
            BROKEN.labels(found.kind).inc()
            log.warning("%s: %s", file.name, found.text)
            await note(conn, rt.clock, file.case, "rest_mended", found.text[:300], {"kind": found.kind})


async def _mended(rt: Runtime, conn: Connection, file: CaseFile, case: Case, found: Broken) -> bool:
    """Mend one breach; False when nothing could be done, or nothing need be any more."""
    if found.kind in (Kind.OWNER_LEFT, Kind.OWNER_UNREACHABLE):
        return await _new_owner(rt, conn, file, case)
    if found.kind is Kind.ENGINEER_LEFT:
        await _another_engineer(rt, conn, file, case, found)
    elif found.kind is Kind.TAKEN_OVER_WITHOUT_TIME:
        await set_timer(conn, case, BY_HAND, rt.clock.now() + timedelta(hours=file.policy.by_hand_h))
    elif found.kind in _TIME:
        await _set_time(rt, conn, file, case)
        await wake(conn, rt.clock, case)
    elif found.question is not None:
        why = found.text[:1].upper() + found.text[1:]
        await ask_another(conn, rt.clock, rt.notifiers, file, found.question, why)
    return True


async def _set_time(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> None:
    now, policy = rt.clock.now(), file.policy
    if case.state is CaseState.OPEN:
        await set_timer(conn, case, LOOK_AGAIN, now)
    elif case.state in (CaseState.COMMITTED, CaseState.IN_PROGRESS):
        window = case.plan.booking.window
        over = max(now, window.end) if window else now
        await set_timer(conn, case, OVERDUE, over + timedelta(hours=policy.overdue_h))
    elif case.state is CaseState.VERIFYING:
        await set_timer(conn, case, VERIFY, now + timedelta(hours=policy.verify_h))


async def _new_owner(rt: Runtime, conn: Connection, file: CaseFile, case: Case) -> bool:
    """Somebody else answers for the case from now on, and is told what there is to know. False: there is nobody."""
    wanted = {"tenant_id": case.tenant_id, "site_id": case.site_id}
    region = await fetch_one(conn, Region, _sql.region_of_site, wanted)
    wanted["region"] = region.region if region else ""
    candidates = await fetch_all(conn, Person, _sql.case_owner, wanted)
    able = [one for one in candidates if one.person_id != case.owner_id and reachable(one, rt.notifiers)]
    before = await person(conn, case.owner_id)
    if not able:
        return False
    owner = able[0]
    await conn.execute(_sql.set_owner, {"case_id": case.case_id, "owner_id": owner.person_id})
    text = f"{owner.name} answers for the case now, in the place of {before.name}"
    await note(conn, rt.clock, case, "owner_changed", text, {"from": before.name, "to": owner.name})
    composed = messages.hand_over(file, before.name, owner.name)
    times = sum(act.purpose == composed.purpose for act in file.acts)
    await intend_message(conn, rt.clock, rt.notifiers, case, composed, owner, sequence=times)
    for question in file.questions:
        if question.to_person == case.owner_id:
            fresh = await load_case(conn, case.case_id)
            await ask_another(conn, rt.clock, rt.notifiers, fresh, question, text)
    await wake(conn, rt.clock, await lock_case(conn, case.case_id))
    return True


async def _another_engineer(rt: Runtime, conn: Connection, file: CaseFile, case: Case, found: Broken) -> None:
    """Another is dispatched while there is time for it; else a person is asked at once."""
    window, who = case.plan.booking.window, case.plan.booking.engineer
    by_itself = case.state is CaseState.COMMITTED and case.control is Control.AUTOMATIC and case.move is Move.STAYS
    if by_itself and window and who and window.start > rt.clock.now() and not file.tenant.observe_only:
        gone = replace(case.plan.replanning, gone_engineer=who.id)
        case = case.after(CaseEvent.REPLAN, MoveEvent.NEW_PLAN)
        await wake(conn, rt.clock, replace(case, plan=replace(case.plan, replanning=gone)))
        return
    name = who.name if who else "The engineer"
    summary = f"{name or 'The engineer'} who is to do the work is not here any more"
    case = await change_case(conn, case)
    await escalate(conn, rt.clock, rt.notifiers, file, case, "engineer_left", summary, {"step": "dispatch"})
