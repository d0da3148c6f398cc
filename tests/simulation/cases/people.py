"""The people of a play: owners and operators who answer, engineers who come; late, never, twice, or to their regret.

They use the commands that the pages use. Whoever is asked sees the question after his mail came, or on the page.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from fleet_core.errors import Permanent
from fleet_core.telemetry import to_us
from fleet_server.resolution.commands import (
    WorkReport,
    cancel_case,
    complete_work_order,
    set_observe_only,
    start_work_order,
)
from fleet_server.resolution.decisions import decide_escalation
from tests.simulation.cases.house import TENANT, House
from tests.simulation.cases.kinds import Kind, Mixture
from tests.simulation.cases.moment import Moment
from tests.simulation.cases.server import Server

SENSIBLE = ("approve", "accept_cost", "accept_out_of_warranty", "accept_late_part", "accept_late_window",
            "act_anyway", "retry", "plan_again", "close_anyway", "keep_plan", "verify_longer", "false_alarm",
            "take_over")  # fmt: skip
"""What somebody chooses who wants the repair done, the first that is offered."""
NEVER_H = 10_000.0


class People:
    """What people do, each thing once it is their turn."""

    def __init__(self, house: House, server: Server, moment: Moment, mixture: Mixture) -> None:
        self._house, self._server, self._moment, self._mixture = house, server, moment, mixture
        self._seen: set[uuid.UUID] = set()
        self._coming: set[tuple[uuid.UUID, object]] = set()

    def back_to_work(self) -> None:
        """Everybody looks at everything anew."""
        self._seen.clear()
        self._coming.clear()

    async def look(self) -> None:
        """People notice what there is to do, and do it after a while."""
        open_questions = await self._house.rows(
            "SELECT escalation_id, reason, options, number FROM escalation JOIN repair_case USING (case_id)"
            " WHERE decided_at IS NULL ORDER BY raised_at, number, reason"
        )
        for question in open_questions:
            if question["escalation_id"] not in self._seen:
                self._seen.add(question["escalation_id"])
                self._answers(question)
        orders = await self._house.rows(
            "SELECT work_order_id, state, starts_at, ends_at, engineer_id, number FROM work_order"
            " WHERE state IN ('dispatched', 'started') ORDER BY number"
        )
        for order in orders:
            if (order["work_order_id"], order["starts_at"]) not in self._coming:
                self._coming.add((order["work_order_id"], order["starts_at"]))
                self._comes(order)

    def _answers(self, question: dict[str, Any]) -> None:
        rng = self._moment.rng
        codes = [option["code"] for option in question["options"]]
        sensible = next((code for code in SENSIBLE if code in codes), codes[0])
        if self._mixture.healed:
            self._moment.plan(0.5, self._decide(question, sensible))
            return
        if self._mixture.strikes(Kind.PEOPLE_SILENT):
            return
        after_h = rng.choice((30.0, 60.0)) if self._mixture.strikes(Kind.PEOPLE_LATE) else rng.uniform(0.1, 6.0)
        chosen = rng.choice(codes) if self._mixture.strikes(Kind.PEOPLE_MIS_CLICK) else sensible
        self._moment.plan(after_h, self._decide(question, chosen))
        if self._mixture.strikes(Kind.PEOPLE_TWICE):
            self._moment.plan(after_h + 0.01, self._decide(question, rng.choice(codes)))

    def _decide(self, question: dict[str, Any], code: str) -> Callable[[], Awaitable[None]]:
        what = f"answers {question['reason']} of case {question['number']}: {code}"
        return self._command("marta", what, decide_escalation, question["escalation_id"], code, "as agreed")

    def _comes(self, order: dict[str, Any]) -> None:
        healed = self._mixture.healed
        if not healed and self._mixture.strikes(Kind.WORK_NEVER_REPORTED):
            return
        replaced = not self._mixture.strikes(Kind.NOT_REPLACED)
        report = WorkReport(
            failure_mode="bearing_spalling", replaced=replaced, new_serial=f"N-{order['number']}" if replaced else ""
        )
        begins_at = max(order["starts_at"], self._moment.clock.at)
        begin = self._command("jonas", f"begins order {order['number']}", start_work_order, order["work_order_id"])
        complete = self._command(
            "jonas", f"reports order {order['number']}{'' if replaced else ', not replaced'}",
            complete_work_order, order["work_order_id"], report,
        )  # fmt: skip

        async def done() -> None:
            now = await self._house.rows(
                "SELECT asset_id, slot, starts_at, work_order.state FROM work_order"
                " JOIN repair_case USING (case_id, asset_id) WHERE work_order_id = %s", order["work_order_id"],
            )  # fmt: skip
            if not now or now[0]["starts_at"] != order["starts_at"]:
                return  # it was moved or is gone: whoever comes, comes at the new time
            await complete()
            self._moment.plan(0.5, self._sound(now[0]["asset_id"]))
            self._moment.plan(4.0, self._sound(now[0]["asset_id"]))

        self._moment.plan_at(begins_at + timedelta(minutes=10), begin)
        self._moment.plan_at(begins_at + timedelta(minutes=90), done)
        if not healed and self._mixture.strikes(Kind.WORK_REPORTED_TWICE):
            self._moment.plan_at(begins_at + timedelta(minutes=91), complete)

    def _sound(self, asset_id: str) -> Callable[[], Awaitable[None]]:
        async def vitals() -> None:
            now = self._moment.clock.at
            times = [now - timedelta(minutes=5 * n) for n in range(5, -1, -1)]
            await self._house.rows(
                "INSERT INTO samples (series_id, t0, t1, n, bad, times_us, vals, agent_id, outbox_id, batch_no,"
                " received_at) SELECT series_id, %s, %s, 6, 0, %s, %s, 'agent-1', gen_random_uuid(), 1, %s FROM series"
                " WHERE asset_id = %s",
                times[0], times[-1], [to_us(at) for at in times], [0.06] * 6, now, asset_id,
            )  # fmt: skip

        return vitals

    async def events(self, days: float) -> None:
        """What people do of their own accord, at times of the play."""
        rng, hours = self._moment.rng, days * 24
        marta, henrik = ("marta@people.example", "henrik@people.example")
        if self._mixture.strikes(Kind.OWNER_LEAVES):
            self._moment.plan(rng.uniform(0, hours), self._leaves("marta", marta))
        if self._mixture.strikes(Kind.ENGINEER_LEAVES):
            self._moment.plan(rng.uniform(0, hours), self._leaves("jonas", "jonas@people.example"))
        if self._mixture.strikes(Kind.DIRECTOR_CHANGES):
            self._moment.plan(rng.uniform(0, hours), self._leaves("henrik", henrik))
        if self._mixture.strikes(Kind.OPERATOR_CANCELS):
            self._moment.plan(rng.uniform(0, hours), self._cancels(rng.random() < 0.3))
        if self._mixture.strikes(Kind.OBSERVE_ONLY):
            at_h = rng.uniform(0, hours)
            self._moment.plan(at_h, self._observes(True))
            self._moment.plan(at_h + rng.uniform(1, 30), self._observes(False))

    def _leaves(self, person_id: str, email: str) -> Callable[[], Awaitable[None]]:
        async def leave() -> None:
            await self._house.rows("UPDATE person SET active = false WHERE person_id = %s", person_id)
            self._moment.tell(f"{person_id} leaves")

        return leave

    def _cancels(self, false_alarm: bool) -> Callable[[], Awaitable[None]]:
        async def cancel() -> None:
            cases = await self._house.rows(
                "SELECT case_id, number FROM repair_case WHERE state NOT IN ('closed', 'cancelled', 'false_alarm')"
                " ORDER BY number"
            )
            if cases:
                case = self._moment.rng.choice(cases)
                what = f"ends case {case['number']}{' as a false alarm' if false_alarm else ''}"
                await self._command("nina", what, cancel_case, case["case_id"], "not needed", false_alarm)()

        return cancel

    def _observes(self, on: bool) -> Callable[[], Awaitable[None]]:
        return self._command("nina", f"turns observe-only {'on' if on else 'off'}", set_observe_only, TENANT, on)

    async def end_by_hand(self) -> None:
        """Whoever took a case over ends it, and observe-only is lifted: nothing waits for the machine any more."""
        await self._observes(False)()
        by_hand = await self._house.rows(
            "SELECT case_id, number FROM repair_case WHERE plan ->> 'manual' IS NOT NULL"
            " AND state NOT IN ('closed', 'cancelled', 'false_alarm') ORDER BY number"
        )
        for case in by_hand:
            await self._command(
                "nina", f"ends case {case['number']}, handled by hand", cancel_case, case["case_id"], "done"
            )()

    def _command(self, who: str, what: str, command: Any, *arguments: Any) -> Callable[[], Awaitable[None]]:
        """Somebody's command, as a page gives it: one transaction. What does not fit any more is refused."""

        async def give() -> None:
            try:
                async with self._server.rt.pool.connection() as conn:
                    await command(conn, self._moment.clock, f"user:{who}", *arguments)
            except Permanent as error:
                self._moment.tell(f"{who} {what}: refused, {error}")
            else:
                self._moment.tell(f"{who} {what}")

        return give
