"""The server of a play: the production code, step by step in this process, so that a seed always plays the same.

What a worker does side by side is done here one after the other; what comes in between is decided by the seed, inside
the calls to other systems (``Play.between``). Memory is lost at every restart: only the database is taken along.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from fleet_core.telemetry import Finding
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.resolution.runner import Runner
from fleet_server.resolution.runtime import Runtime, build_runtime
from fleet_server.resolution.timers import run_due
from fleet_server.resolution.triage import triage_finding
from tests.simulation.cases.house import House
from tests.simulation.cases.kinds import Kind, Mixture
from tests.simulation.cases.moment import Moment
from tests.simulation.cases.own import Field, Mailbox, Parts
from tests.simulation.cases.warehouse import Warehouse
from tests.support.resolution import certain, learn_nothing

MOST_ROUNDS = 40
"""Rounds of one moment after which something goes round in circles."""
_DUE = """
SELECT least((SELECT min(next_at) FROM repair_case), (SELECT min(due_at) FROM timer WHERE done_at IS NULL),
             (SELECT min(due_at) FROM escalation WHERE decided_at IS NULL)) AS at
"""


class Server:
    """One server process after the other on the same database."""

    def __init__(self, house: House, moment: Moment, mixture: Mixture, between: Any) -> None:
        self._house, self._moment, self._mixture, self._between = house, moment, mixture, between
        self.failing_after_h: dict[tuple[str, str], datetime] = {}
        """By machine and slot: when it would fail, which the prognosis tells a little too early."""
        self.rt: Runtime
        self.runner: Runner
        self._warehouses: dict[str, Warehouse] = {}
        self._mail: Mailbox | None = None

    def start(self, warehouses: dict[str, Warehouse], mail: Mailbox) -> None:
        """A new process: nothing of an earlier one is in its memory."""
        self._warehouses, self._mail = warehouses, mail
        rt = build_runtime(self._house.settings, self._house.pool, self._moment.clock)
        rt.deps = ConnectorDeps(self._house.pool, self._moment.clock, 3600.0)  # nothing here takes real time
        rt.parts = Parts(rt.parts, self._mixture, self._between)
        rt.field_service = Field(rt.field_service, self._mixture, self._between)
        rt.notifiers = {"email": mail}
        rt.prognose, rt.learn = self._prognose, learn_nothing
        rt.wms_of = lambda site: warehouses[site.site_id]
        self.rt, self.runner = rt, Runner(rt, 6)

    async def due_at(self) -> datetime | None:
        """When there is something to do again."""
        (row,) = await self._house.rows(_DUE)
        at: datetime | None = row["at"]
        return at

    async def turn(self) -> None:
        """Do what is due now, until nothing is. Raises Killed."""
        for _ in range(MOST_ROUNDS):
            worked = await run_due(self.rt) + await self._jobs()
            now = self._moment.clock.at
            due = await self._house.rows(
                "SELECT case_id FROM repair_case WHERE next_at <= %s ORDER BY next_at, number", now
            )
            for row in due:
                await self.runner.advance(row["case_id"])
            if not worked and not due:
                return
        self._moment.blame("the server goes round in circles")

    async def one_case(self) -> None:
        """Another worker takes up a case that is due."""
        now = self._moment.clock.at
        due = await self._house.rows("SELECT case_id FROM repair_case WHERE next_at <= %s ORDER BY number", now)
        if due:
            await self.runner.advance(self._moment.rng.choice(due)["case_id"])

    async def judge(self, finding: Finding) -> None:
        """As the job of a stored finding does."""
        await triage_finding(self.rt, finding.finding_id, finding.revision)

    async def _jobs(self) -> int:
        """Findings that wait to be judged; that a case is to be looked at, its row says too."""
        waiting = await self._house.rows(
            "DELETE FROM procrastinate_jobs WHERE status = 'todo' RETURNING id, task_name, args"
        )
        judged = 0
        for job in sorted(waiting, key=lambda job: int(job["id"])):
            if job["task_name"] == "triage_finding":
                await triage_finding(self.rt, job["args"]["finding_id"], job["args"]["revision"])
                judged += 1
        return judged

    async def _prognose(
        self, conn: Any, clock: Any, finding: Finding, asset: dict[str, Any], case_id: uuid.UUID, trace_id: str
    ) -> Mapping[str, Any]:
        if self._mixture.strikes(Kind.PROGNOSIS_ABSTAINS):
            empty = {"abstained": True, "abstain_code": "unlike", "reason": "nothing alike is known.",
                     "rul_p50_h": None, "rul_p90_h": None}  # fmt: skip
            return await certain(0.0, **{**empty, "rul_p10_h": None})(conn, clock, finding, asset, case_id, trace_id)
        fails_at = self.failing_after_h[asset["asset_id"], finding.component]
        left_h = max(0.5, (fails_at - self._moment.clock.at) / timedelta(hours=1))
        return await certain(left_h)(conn, clock, finding, asset, case_id, trace_id)

    async def drain(self) -> None:
        """Let go of what an interrupted call left running."""
        others = [task for task in asyncio.all_tasks() if task.get_name().startswith("Task-") and not task.done()]
        for task in others:
            if task is not asyncio.current_task() and "gather" in repr(task):
                await asyncio.wait([task])
