"""Advancing a case: step after step until it waits, by one worker at a time.

A session-level advisory lock keeps every other worker away and vanishes with the process that held it, however it
died. No transaction is open while another system is called. What interrupts a step is found again in the rows. A case
that meets a fault of ours is left alone with it and tried again later: the other cases and the worker go on.
"""

from __future__ import annotations

import asyncio
import uuid

from fleet_core.faults import fault_point
from fleet_server.resolution import arranging, committing, cover_and_part, releasing, windows
from fleet_server.resolution.acts import later
from fleet_server.resolution.escalations import end_questions
from fleet_server.resolution.records import CaseFile, NotFound, load_case
from fleet_server.resolution.rows import Locked
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.sending import do_send, do_withdraw
from fleet_server.resolution.states import CaseState
from fleet_server.resolution.steps import Next, Step, next_step
from fleet_server.resolution.stored import storable
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
MAX_STEPS = 200
"""Steps of one case in one go; a case that needs more is looked at again later, so that it cannot hold a worker."""


class Runner:
    """Advances cases, a bounded number at a time: each uses one connection, and its connectors another."""

    def __init__(self, rt: Runtime, at_once: int) -> None:
        self._rt = rt
        self._slots = asyncio.Semaphore(at_once)

    async def advance(self, case_id: uuid.UUID) -> bool:
        """Go on with a case until it waits. False when another worker is at it or there is no such case."""
        async with self._slots, self._rt.pool.connection() as conn:
            async with conn.transaction():
                answer = await fetch_one(conn, Locked, _sql.try_lock_case, {"case_id": str(case_id)})
            if answer is None or not answer.locked:
                return False
            try:
                await self._until_waiting(conn, case_id)
            except NotFound:
                return False
            except Exception as error:
                if conn.closed:
                    raise  # the database's matter, not this case's: whoever called tries again
                await self._failed(conn, case_id, error)
            finally:
                if not conn.closed:
                    await conn.rollback()
                    await conn.execute(_sql.unlock_case, {"case_id": str(case_id)})
        return True

    async def _until_waiting(self, conn: Connection, case_id: uuid.UUID) -> None:
        for _ in range(MAX_STEPS):
            async with conn.transaction():
                file = await load_case(conn, case_id)
            todo = next_step(file, self._rt.clock.now())
            if todo.step is not Step.WAIT:
                await self._do(conn, file, todo)
                fault_point("case.after_step")
            elif await self._rest(conn, file, todo):
                self._rt.pieces.cases.succeeded(case_id)
                return

    async def _do(self, conn: Connection, file: CaseFile, todo: Next) -> None:
        rt, act = self._rt, todo.act
        match todo.step:
            case Step.END_QUESTIONS:
                await end_questions(conn, rt.clock, file)
            case Step.WITHDRAW if act is not None:
                await do_withdraw(rt, conn, file, act)
            case Step.TELL_AGAIN:
                await committing.do_tell_again(rt, conn, file)
            case Step.SEND if act is not None:
                await do_send(rt, conn, file, act)
            case Step.RELEASE if act is not None:
                await releasing.do_release(rt, conn, file, act)
            case Step.CONSUME if act is not None:
                await releasing.do_consume(rt, conn, file, act)
            case Step.UNWOUND:
                await releasing.do_unwound(rt, conn, file)
            case Step.ENTITLEMENT:
                await cover_and_part.do_entitlement(rt, conn, file, act)
            case Step.APPROVAL:
                await cover_and_part.do_approval(rt, conn, file)
            case Step.UNREADABLE:
                await cover_and_part.do_unreadable(rt, conn, file)
            case Step.PART:
                await cover_and_part.do_part(rt, conn, file, act)
            case Step.WINDOW:
                await windows.do_window(rt, conn, file, act)
            case Step.WORK_ORDER:
                await arranging.do_work_order(rt, conn, file, act)
            case Step.DISPATCH:
                await arranging.do_dispatch(rt, conn, file, act)
            case Step.COMMIT:
                await committing.do_commit(rt, conn, file)
            case Step.AMEND:
                await committing.do_amend(rt, conn, file)

    async def _rest(self, conn: Connection, file: CaseFile, todo: Next) -> bool:
        """Write down when to look again, unless the case changed meanwhile (False: look now)."""
        waits_for = file.case.waits_for
        if file.tenant.observe_only and file.case.state in (CaseState.CONFIRMED, CaseState.PLANNING):
            waits_for = "tenant is set to observe only"
        values = {
            "case_id": file.case_id,
            "version": file.case.version,
            "next_at": todo.until,
            "waits_for": waits_for,
        }
        async with conn.transaction():
            return bool((await conn.execute(_sql.rest_case, values)).rowcount)

    async def _failed(self, conn: Connection, case_id: uuid.UUID, error: Exception) -> None:
        """A fault of ours: leave the case as its rows say, and look again later rather than at once."""
        pause_s = self._rt.pieces.cases.failed(case_id, error)
        await conn.rollback()
        async with conn.transaction():
            waits_for = f"a repair of Forestall itself: {storable(str(error))}"[:300]
            values = {"next_at": later(self._rt, pause_s), "waits_for": waits_for}
            # whatever its version: a case whose plan cannot be read must not be tried again at once
            await conn.execute(_sql.postpone_case, {**values, "case_id": case_id})
