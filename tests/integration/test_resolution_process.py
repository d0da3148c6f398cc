"""The real programs: ``fleet-server worker`` starts, judges with the real prognosis and stops; ``case`` shows it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.resolution import Servers, finding_at, stage, store_finding

from demo.processes import Keeper, free_port
from fleet_core.clock import SystemClock

pytestmark = pytest.mark.integration
PROGRAM = (sys.executable, "-c", "from fleet_server.cli import main; main()")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=30, check=False)


async def test_a_finding_without_history_is_handed_over_and_shown(dsn: str, tmp_path: Path) -> None:
    with Keeper(tmp_path / "log") as keeper:
        servers = Servers(keeper, tmp_path).start()
        config, metrics_port = tmp_path / "server.toml", free_port()
        config.write_text(
            f'[database]\ndsn = "{dsn}"\n[notifiers.email]\nport = {servers.mail_port}\nsecurity = "none"\n'
            f'sender = "f@forestall.example"\n[worker]\nmetrics_port = {metrics_port}\n'
        )
        async with stage(dsn, servers, clock=SystemClock()) as ready:
            keeper.start("worker", [*PROGRAM, "worker", "--config", str(config)], ready="worker is ready")
            async with ready.rt.pool.connection() as conn:
                await store_finding(conn, ready.clock, finding_at(ready.clock))
            raised: list[dict[str, Any]] = []
            until_s = time.monotonic() + 20
            while not raised and time.monotonic() < until_s:
                await asyncio.sleep(0.1)
                raised = await ready.rows("SELECT * FROM escalation")
            assert [row["reason"] for row in raised] == ["abstained"], keeper.child("worker").log_text()
            figures = await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{metrics_port}/metrics", trust_env=False)
            assert 'forestall_findings_judged_total{verdict="' in figures.text
            assert keeper.stop("worker") == 0

            listed = await asyncio.to_thread(_run, "case", "list", "--config", str(config), "--json")
            (case,) = json.loads(listed.stdout)
            assert (case["state"], case["escalated"], case["owner"]) == ("open", True, "Marta Lindqvist")
            shown = await asyncio.to_thread(_run, "case", "show", "FS-000001", "--config", str(config))
            assert "abstained" in shown.stdout and "FS-000001" in shown.stdout
            missing = await asyncio.to_thread(_run, "case", "show", "99", "--config", str(config))
            assert missing.returncode == 2 and "no case 99" in missing.stderr and "Traceback" not in missing.stderr
