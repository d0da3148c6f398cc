"""Doing one outward act so that it happens once.

An act is committed as intended before the other system is called. After a crash, or an answer that never came, it is
looked up by its key before it is tried again. Failures to reach the other system are retried with back-off up to the
policy's limit; then a person is asked, and the act stays as it is until the question is answered. An answer that cannot
be read or written down is none: nothing of it is kept, and a person is asked at once. Every other answer is compared
with what was asked (``comparing.py``): where it differs, the act is ``unwanted`` until the other system has let go of
what it holds, and counts as refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from fleet_core.errors import BadInput, OutcomeUnknown, Permanent, Retryable
from fleet_core.faults import fault_point
from fleet_server.connectors.common import Refused
from fleet_server.notifiers.api import NotYet
from fleet_server.resolution.case import Case
from fleet_server.resolution.comparing import Differences, NotAsAsked
from fleet_server.resolution.escalations import escalate
from fleet_server.resolution.metrics import ACTS
from fleet_server.resolution.plan import Retrying
from fleet_server.resolution.policy import Policy
from fleet_server.resolution.records import CaseFile, change_case, intend, lock_case, note, settle
from fleet_server.resolution.rows import Act
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActEvent, ActState, UndoingEvent, next_act_state
from fleet_server.resolution.stored import check_answer, storable
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

T = TypeVar("T")
log = logging.getLogger(__name__)
_sql = queries("resolution")
MESSAGE = "message"
"""The kind of acts that tell somebody something; all others arrange the repair."""
RETRY_CAP_S = 600.0
"""Releases and messages that a person need not decide about are retried for ever, at most this far apart (real)."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is written to an act that succeeded."""

    response: Mapping[str, object]
    external_ref: str


@dataclass(frozen=True, slots=True)
class Doing(Generic[T]):
    """How an act is done: the calls to the other system, by the act's key, and what their answers mean for the case.

    ``on_held`` and ``on_refused`` run in the transaction that settles the act, the case's row held. ``lookup`` is None
    where the act may simply be repeated and binds nobody. ``answers`` is what the answer must be, to the last field;
    ``compare`` says where it differs from what was asked. ``gives_up`` False: it is retried for ever, and no person is
    asked.
    """

    call: Callable[[str], Awaitable[T]]
    lookup: Callable[[str], Awaitable[T | None]] | None
    on_held: Callable[[Connection, Case, T], Awaitable[Held]]
    on_refused: Callable[[Connection, Case, Refused], Awaitable[None]]
    answers: type[T]
    compare: Callable[[T], Differences]
    gives_up: bool = True


async def intend_now(
    rt: Runtime, conn: Connection, file: CaseFile, kind: str, request: Mapping[str, object], purpose: str = ""
) -> Act | None:
    """Commit the intention. None when the case is to be read again: it has changed, or a person was asked since the
    request holds what cannot be written down."""
    try:
        async with conn.transaction():
            case = await lock_case(conn, file.case_id)
            if case.version != file.case.version:
                return None
            act = await intend(conn, rt.clock, case, kind, file.next_sequence(kind, purpose), request, purpose)
            await change_case(conn, case)
    except BadInput as error:
        await put_off_step(rt, conn, file, kind, unusable(error))
        return None
    fault_point("act.after_intent")
    return act


async def perform(
    rt: Runtime, conn: Connection, file: CaseFile, act: Act, doing: Doing[T], *, fresh: bool
) -> ActState | None:
    """Do an intended act, or finish one that a crash or a lost answer left open (``fresh`` False).

    Returns its new state, or None when it was put off.
    """
    key = act.idempotency_key
    try:
        result = None if fresh or doing.lookup is None else await _bounded(rt, doing.lookup(key))
        if result is None:
            if act.state is ActState.UNKNOWN:
                act = await _found_absent(rt, conn, act)
            result = await _bounded(rt, doing.call(key))
    except Refused as error:
        return await _refused(rt, conn, act, doing, error, fresh=fresh)
    except OutcomeUnknown as error:
        return await _after_lost_answer(rt, conn, file, act, doing, error)
    except (Retryable, Permanent) as error:
        await put_off(rt, conn, file, act, error, gives_up=doing.gives_up)
        return None
    fault_point("act.after_call")
    return await _taken(rt, conn, file, act, doing, result)


async def put_off(
    rt: Runtime,
    conn: Connection,
    file: CaseFile,
    act: Act,
    error: Exception,
    *,
    gives_up: bool = True,
    unknown: bool = False,
) -> None:
    """Have an act tried again later, with back-off.

    A permanent error, or the last attempt the policy allows, becomes a question to a person instead. ``unknown``: the
    call may have worked, so the act is looked up before it is tried again.
    """
    policy, attempts = file.policy, act.attempts + 1
    state = next_act_state(act.state, ActEvent.LOSE) if unknown else act.state
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        due_at = later(rt, min(policy.backoff_s(attempts), RETRY_CAP_S))
        values = {"act_id": act.act_id, "state": state, "due_at": due_at, "error": storable(str(error))[:500]}
        await conn.execute(_sql.postpone_act, values)
        ACTS.labels(act.kind, "unknown" if unknown else "put_off").inc()
        if attempts == 1:
            log.warning("%s: %s failed, trying again: %s", file.name, act.kind, error)
            await note(conn, rt.clock, case, "act_put_off", f"{act.kind}: {error}"[:300], {"kind": act.kind})
        if gives_up and (isinstance(error, Permanent) or _tried_enough(rt, policy, act, attempts, error)):
            await give_up(rt, conn, file, case, act.kind, error, attempts)
        elif case.escalated:
            await change_case(conn, case)  # what people wait for is the decision
        else:
            await change_case(conn, replace(case, waits_for=f"{act.kind}: {error}"[:300]))


def _tried_enough(rt: Runtime, policy: Policy, act: Act, attempts: int, error: Exception) -> bool:
    """A receiver that asks for a message later gets it for a day: greylisting passes by itself."""
    if isinstance(error, NotYet) and act.intended_at is not None:
        return rt.clock.now() - act.intended_at >= timedelta(hours=policy.mail_patience_h * rt.clock.scale)
    return attempts >= policy.retry_attempts


async def put_off_step(rt: Runtime, conn: Connection, file: CaseFile, step: str, error: Exception) -> None:
    """Have a step tried again later that only reads another system: it has no act, so the plan counts its attempts.

    A case that changed meanwhile is to be read again: perhaps the step is no longer needed.
    """
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        if case.version != file.case.version:
            return
        attempts = case.plan.retrying.tries.get(step, 0) + 1
        if isinstance(error, Permanent) or attempts >= file.policy.retry_attempts:
            await give_up(rt, conn, file, case, step, error, attempts)
            return
        if attempts == 1:
            log.warning("%s: %s failed, trying again: %s", file.name, step, error)
        retrying = Retrying({step: attempts}, later(rt, file.policy.backoff_s(attempts)))
        plan = replace(case.plan, retrying=retrying)
        await change_case(conn, replace(case, plan=plan, waits_for=f"{step}: {error}"[:300]))


async def give_up(
    rt: Runtime, conn: Connection, file: CaseFile, case: Case, what: str, error: Exception, attempts: int
) -> None:
    """Ask the owner, once, about a message or a step of the plan that was tried often enough (``when_given_up``)."""
    if case.escalated:
        return
    asked_about = when_given_up(case, what)
    if asked_about is None:
        await change_case(conn, case)
        return
    summary = f"{what.replace('_', ' ')}: {error} (tried {attempts} times)"[:400]
    case = await change_case(conn, replace(asked_about, plan=replace(asked_about.plan, retrying=Retrying())))
    await escalate(conn, rt.clock, rt.notifiers, file, case, "connector_down", summary, {"step": what})


def when_given_up(case: Case, what: str) -> Case | None:
    """The case about which a person is asked since ``what`` cannot be done; None when nobody need be asked. Pure.

    ``what`` is the kind of an act or the name of a step that only reads. A plan that is being made cannot be made: what
    it holds is released. A committed plan stands until it is replaced. Once the work has begun, the case has ended or a
    person took over, nothing depends on a step of the plan any more. A message is due in any state and undoes nothing.
    """
    if what == MESSAGE or case.being_moved:
        return case
    return case.after(UndoingEvent.GIVE_UP) if case.being_planned else None


def later(rt: Runtime, real_s: float) -> datetime:
    """The domain time that is ``real_s`` real seconds away: waiting for a transport is real waiting."""
    return rt.clock.now() + timedelta(seconds=real_s * rt.clock.scale)


def unusable(error: BadInput) -> Permanent:
    """What is said of an answer, or of what was made of it, that broke a rule."""
    return Permanent(f"what the other system answered cannot be used: {error}")


async def _taken(
    rt: Runtime, conn: Connection, file: CaseFile, act: Act, doing: Doing[T], result: T
) -> ActState | None:
    """Write down what was answered, if it is what was asked; a bad answer leaves no trace but the question, and the
    act is looked up again."""
    try:
        check_answer(result, doing.answers, act.kind)
        differences = doing.compare(result)
        if differences:
            return await _not_as_asked(rt, conn, act, doing, NotAsAsked(differences))
        return await _held(rt, conn, act, doing, result)
    except BadInput as error:
        unknown = doing.lookup is not None  # else it changed nothing in the other system
        await put_off(rt, conn, file, act, unusable(error), gives_up=doing.gives_up, unknown=unknown)
        return None


async def _held(rt: Runtime, conn: Connection, act: Act, doing: Doing[T], result: T) -> ActState:
    async with conn.transaction():
        case = await lock_case(conn, act.case_id)
        written = await doing.on_held(conn, case, result)
        state = await settle(
            conn, rt.clock, act, ActEvent.ACCEPT, response=written.response, external_ref=written.external_ref
        )
    ACTS.labels(act.kind, state).inc()
    fault_point("case.after_commit")
    return state


async def _not_as_asked(rt: Runtime, conn: Connection, act: Act, doing: Doing[T], error: NotAsAsked) -> ActState:
    """What the other system may hold is to be released there; for the plan it has refused."""
    event = ActEvent.REFUSE if doing.lookup is None else ActEvent.DIFFER
    async with conn.transaction():
        case = await lock_case(conn, act.case_id)
        state = await settle(conn, rt.clock, act, event, error=str(error)[:500])
        text = f"{act.kind.replace('_', ' ')} not as asked: {error}"[:300]
        await note(conn, rt.clock, case, "act_not_as_asked", text, {"kind": act.kind, "differs": error.named})
        await doing.on_refused(conn, case, error)
    ACTS.labels(act.kind, "not_as_asked").inc()
    fault_point("case.after_commit")
    return state


async def _refused(
    rt: Runtime, conn: Connection, act: Act, doing: Doing[T], error: Refused, *, fresh: bool
) -> ActState:
    """Not to be had. An earlier call that was never answered may still arrive there and be done: such an act is
    released, so that it is refused too when it comes."""
    binds = doing.lookup is not None and act.kind != MESSAGE
    event = ActEvent.DIFFER if binds and not fresh else ActEvent.REFUSE
    async with conn.transaction():
        case = await lock_case(conn, act.case_id)
        state = await settle(conn, rt.clock, act, event, error=str(error)[:500])
        await note(conn, rt.clock, case, "act_refused", f"{act.kind} refused: {error}"[:300], {"kind": act.kind})
        await doing.on_refused(conn, case, error)
    ACTS.labels(act.kind, state).inc()
    return state


async def _found_absent(rt: Runtime, conn: Connection, act: Act) -> Act:
    """A lost act was looked up and is not there: it may be tried again."""
    async with conn.transaction():
        await lock_case(conn, act.case_id)
        state = await settle(conn, rt.clock, act, ActEvent.ABSENT, error=act.error)
    return replace(act, state=state)


async def _after_lost_answer(
    rt: Runtime, conn: Connection, file: CaseFile, act: Act, doing: Doing[T], error: OutcomeUnknown
) -> ActState | None:
    """The call may have worked: look it up at once, and again before any later try."""
    found: T | None = None
    if doing.lookup is not None:
        try:
            found = await _bounded(rt, doing.lookup(act.idempotency_key))
        except (Retryable, OutcomeUnknown, Permanent) as problem:
            log.info("%s: %s could not be looked up: %s", file.name, act.kind, problem)
    if found is None:
        await put_off(rt, conn, file, act, error, gives_up=doing.gives_up, unknown=True)
        return None
    return await _taken(rt, conn, file, act, doing, found)


async def _bounded(rt: Runtime, call: Awaitable[T]) -> T:
    """A connector that hangs beyond its own timeout leaves the outcome unknown."""
    try:
        async with asyncio.timeout(2 * rt.deps.timeout_s + 1):
            return await call
    except TimeoutError:
        raise OutcomeUnknown("no answer in time") from None
