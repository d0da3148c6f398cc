"""A real worker process whose prognosis is certain: ``python -m support.resolution_worker DSN MAIL_PORT``.

Only the prognosis is replaced (its own tests cover it); pool, jobs, sweep, connectors and notifiers are the real ones.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from demo.processes import Keeper
from fleet_server.resolution import runtime
from fleet_server.resolution.worker import run_worker

TESTS = Path(__file__).resolve().parent.parent


def start_worker(keeper: Keeper, dsn: str, mail_port: int, **env: str) -> None:
    """Start it and wait until it works."""
    argv = [sys.executable, "-m", "support.resolution_worker", dsn, str(mail_port)]
    path = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    keeper.start("worker", argv, env={"PYTHONPATH": path, **env}, ready="worker is ready")


if __name__ == "__main__":
    from support.resolution import certain, learn_nothing, settings_of

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    runtime.prognose = certain()  # type: ignore[assignment] # a stand-in with the same arguments
    runtime.learn_from_case = learn_nothing  # type: ignore[assignment] # likewise
    asyncio.run(run_worker(settings_of(sys.argv[1], int(sys.argv[2]))))
