"""Sending a message that was intended, and what its acceptance means for the case.

What is sent is what is true at that moment (``truth.py``): it is composed again and written down before the channel is
called. A message whose cause has gone is withdrawn with a line in the timeline, and nobody is asked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from fleet_core.errors import Permanent
from fleet_core.faults import fault_point
from fleet_server.connectors.common import Refused
from fleet_server.notifiers.api import Message
from fleet_server.resolution import telling
from fleet_server.resolution.acts import MESSAGE, Doing, Held, perform
from fleet_server.resolution.case import Case
from fleet_server.resolution.commands import TELL_CANCELLED
from fleet_server.resolution.comparing import nothing_differs
from fleet_server.resolution.escalations import escalate, not_reached
from fleet_server.resolution.metrics import ANNOUNCED_S
from fleet_server.resolution.records import CaseFile, change_case, jsonb, lock_case, note, set_timer, settle
from fleet_server.resolution.requests import MessageRequest, read_request
from fleet_server.resolution.rows import Act, FindingBody
from fleet_server.resolution.runtime import Runtime
from fleet_server.resolution.states import ActEvent, ActState, CaseState
from fleet_server.resolution.truth import Dropped, true_now
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
TELLS_OF_FAILURE = ("alert", "failure")


async def do_send(rt: Runtime, conn: Connection, file: CaseFile, act: Act) -> None:
    """One attempt. A message nobody can be reached with becomes a question, unless it is itself one."""
    request = read_request(act, MessageRequest)
    message, channel = Message.from_json(request.message), request.channel
    asks = message.purpose == "escalation"
    true = await true_now(rt, conn, act, request)
    if isinstance(true, Dropped):
        await do_withdraw(rt, conn, file, act, true.because)
        return

    async def call(key: str) -> str:
        notifier = rt.notifiers.get(channel)
        if notifier is None:
            raise Refused("no_channel", f"the notifier {channel} is no longer configured")
        if true != message:
            rewritten = {**act.request, "message": true.to_json()}
            async with conn.transaction():
                await conn.execute(_sql.rewrite_act, {"act_id": act.act_id, "request": jsonb(rewritten)})
        try:
            reference = await notifier.send(true)
        except Refused:
            raise
        except Permanent as error:
            raise Refused("undeliverable", str(error)) from error
        fault_point("notify.after_accept")
        return reference

    async def lookup(key: str) -> str | None:
        notifier = rt.notifiers.get(channel)
        return key if notifier is not None and await notifier.lookup(key) else None

    async def on_held(conn: Connection, case: Case, reference: str) -> Held:
        await change_case(conn, case)
        shown = {"purpose": message.purpose, "channel": channel, "to": message.to_name, "reference": reference}
        text = f"{message.purpose.capitalize()} accepted for {message.to_name} ({channel})"
        await note(conn, rt.clock, case, f"message_{message.purpose}", text, shown)
        if message.purpose == "announcement" and act.sequence == 0:
            await _observe_latency(conn, case)
        if message.purpose in telling.APPOINTMENT and case.state in (CaseState.CANCELLED, CaseState.FALSE_ALARM):
            await set_timer(conn, case, TELL_CANCELLED, rt.clock.now())  # it was on its way when the case ended
        return Held({"reference": reference}, reference)

    async def on_refused(conn: Connection, case: Case, error: Refused) -> None:
        if asks:
            await change_case(conn, case)
            await not_reached(conn, rt.clock, rt.notifiers, await lock_case(conn, case.case_id), act, str(error))
            return
        if message.purpose == "withdrawal":  # who left may be gone
            await change_case(conn, case)
            return
        acts = [replace(one, state=ActState.REFUSED) if one.act_id == act.act_id else one for one in file.acts]
        if not telling.undelivered(case, acts) and message.purpose not in TELLS_OF_FAILURE:
            await change_case(conn, case)  # there is nothing to be told any more
            return
        summary = f"{message.purpose} to {message.to_name} cannot be delivered: {error}"
        detail = {"step": MESSAGE, "channel": channel}
        await escalate(conn, rt.clock, rt.notifiers, file, case, "connector_down", summary, detail)

    doing = Doing(call, lookup, on_held, on_refused, str, nothing_differs, gives_up=not asks)
    await perform(rt, conn, file, act, doing, fresh=False)


async def do_withdraw(rt: Runtime, conn: Connection, file: CaseFile, act: Act, because: str = "it is over") -> None:
    """A message that is no longer true is not sent any more. One whose answer was lost may have arrived: it counts as
    told, so that what follows from it is told too."""
    async with conn.transaction():
        case = await lock_case(conn, file.case_id)
        perhaps_told = act.state is ActState.UNKNOWN
        await settle(conn, rt.clock, act, ActEvent.ACCEPT if perhaps_told else ActEvent.RELEASE, error=act.error)
        await change_case(conn, case)
        text = f"{act.purpose.capitalize()} not sent any more: {because}" + (
            "; it may have arrived" if perhaps_told else ""
        )
        await note(conn, rt.clock, case, "message_withdrawn", text, {"purpose": act.purpose})


async def _observe_latency(conn: Connection, case: Case) -> None:
    row = await fetch_one(conn, FindingBody, _sql.finding_body, {"finding_id": case.finding_id})
    if row is not None:  # both ends are real time
        ANNOUNCED_S.observe((datetime.now(UTC) - row.recorded_at).total_seconds())
