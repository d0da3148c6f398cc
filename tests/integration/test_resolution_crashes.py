"""A worker process killed with SIGKILL at a named point leaves exactly one of everything, and is quick otherwise."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from support.resolution import Servers, Stage, finding_at, stage, store_finding
from support.resolution_worker import start_worker

from demo.processes import Keeper
from fleet_core.clock import SystemClock

pytestmark = pytest.mark.integration
LIMIT_S = 40.0


async def _announced(ready: Stage, keeper: Keeper) -> dict[str, Any]:
    """Wait for the one case to be committed and announced, restarting the worker when it was killed."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < LIMIT_S:
        if not keeper.child("worker").running:
            keeper.restart("worker")
        rows = await ready.rows(
            "SELECT c.* FROM repair_case AS c JOIN act USING (case_id)"
            " WHERE c.state = 'committed' AND act.purpose = 'announcement' AND act.state = 'held'"
        )
        if rows:
            return rows[0]
        await asyncio.sleep(0.05)
    raise AssertionError(keeper.child("worker").log_text()[-4000:])


PASSAGES = {
    "act.after_intent": 5,
    "act.after_call": 6,
    "case.after_commit": 5,
    "case.after_step": 6,
    "notify.after_accept": 1,
}
"""Fault point -> how often a case passes it until its announcement is accepted; ``make crash-cases`` tries each."""
IN_CI = {
    "act.after_intent": (1, 3),
    "act.after_call": (2, 3, 6),
    "case.after_commit": (1, 5),
    "case.after_step": (2, 6),
    "notify.after_accept": (1,),
}
ALL = os.environ.get("FORESTALL_CRASHES") == "all"
KILLS = [f"{point}=kill@{n}" for point, most in PASSAGES.items() for n in (range(1, most + 1) if ALL else IN_CI[point])]


def test_every_fault_point_of_a_case_is_one_at_which_it_is_killed() -> None:
    """The points are found in the code, so that none that is added is forgotten."""
    sources = (Path(__file__).resolve().parents[2] / "fleet_server" / "resolution").glob("*.py")
    found = {point for source in sources for point in re.findall(r'fault_point\("([^"]+)"\)', source.read_text())}
    assert found == PASSAGES.keys() == IN_CI.keys()


@pytest.mark.parametrize("kill", KILLS)
async def test_killed_anywhere_leaves_exactly_one_of_everything(
    dsn: str, servers: Servers, tmp_path: Path, kill: str
) -> None:
    async with stage(dsn, servers, clock=SystemClock()) as ready:
        equipment = f"EQ-{tmp_path.name}"
        await ready.rows("UPDATE asset SET equipment_ref = %s RETURNING 1", equipment)
        before = servers.wms("GET", "/_stats")["bookings"].get("booked", 0)
        with Keeper(tmp_path / "log") as keeper:
            start_worker(keeper, dsn, servers.mail_port, FORESTALL_FAULTS=kill, FORESTALL_FAULTS_DIR=str(tmp_path))
            async with ready.rt.pool.connection() as conn:
                await store_finding(conn, ready.clock, finding_at(ready.clock))
            case = await _announced(ready, keeper)
            assert (tmp_path / f"{kill.partition('=')[0]}.fired").exists()
        assert len(await ready.rows("SELECT 1 FROM repair_case")) == 1
        assert servers.wms("GET", "/_stats")["bookings"]["booked"] - before == 1
        for table in ("part_reservation", "work_order", "engineer_booking"):
            assert len(await ready.rows(f"SELECT 1 FROM {table}")) == 1, table
        stock = await ready.rows("SELECT on_hand FROM stock WHERE centre_id = 'bremen'")
        assert stock[0]["on_hand"] == 1
        assert len(servers.mails_of(case["case_id"], "announcement")) == 1
        acts = await ready.rows("SELECT kind, state FROM act WHERE kind <> 'message' ORDER BY intended_at")
        assert [(act["kind"], act["state"]) for act in acts] == [
            (kind, "held") for kind in ("entitlement", "reservation", "window", "work_order", "dispatch")
        ]


async def test_many_findings_are_each_announced_once(dsn: str, servers: Servers, tmp_path: Path) -> None:
    """24 assets, 4 a second, over the real job queue. How long each takes is printed; ``make bench-loop`` judges it."""
    count = 24
    async with stage(dsn, servers, clock=SystemClock()) as ready:
        await ready.rows("UPDATE stock SET on_hand = 100 RETURNING 1")
        await ready.rows(
            "INSERT INTO asset (asset_id, tenant_id, site_id, agent_id, name, asset_class, model, serial)"
            " SELECT 'q-' || n, tenant_id, site_id, agent_id, name, asset_class, model, serial"
            "   FROM asset, generate_series(1, %s) AS n RETURNING 1",
            count,
        )
        await ready.rows(
            "INSERT INTO component (tenant_id, asset_id, slot, component_type, serial, valid_from)"
            " SELECT tenant_id, 'q-' || n, slot, component_type, serial || n, valid_from"
            "   FROM component, generate_series(1, %s) AS n RETURNING 1",
            count,
        )
        with Keeper(tmp_path / "log") as keeper:
            start_worker(keeper, dsn, servers.mail_port)
            for number in range(1, count + 1):
                async with ready.rt.pool.connection() as conn:
                    await store_finding(conn, ready.clock, finding_at(ready.clock), f"q-{number}")
                await asyncio.sleep(0.25)
            seconds = await _latencies(ready, count)
    print(f"finding to announcement: median {seconds[count // 2]:.3f} s, p95 {seconds[int(count * 0.95)]:.3f} s")
    assert len(seconds) == count


async def _latencies(ready: Stage, count: int) -> list[float]:
    rows: list[dict[str, Any]] = []
    until_s = time.monotonic() + LIMIT_S
    while len(rows) < count and time.monotonic() < until_s:
        await asyncio.sleep(0.2)
        rows = await ready.rows(
            "SELECT extract(epoch FROM act.settled_recorded_at - finding.recorded_at) AS seconds"
            "  FROM act JOIN repair_case USING (case_id) JOIN finding USING (finding_id)"
            " WHERE act.purpose = 'announcement' AND act.state = 'held'"
        )
    return sorted(float(row["seconds"]) for row in rows)
