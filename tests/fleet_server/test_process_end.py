"""How a process of the server ends: tasks that lose a cancellation, and a supervisor that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import psutil

from fleet_server.app import end_tasks

ORPHAN = """
import os, sys, time
from fleet_server import app
app.ORPHAN_GRACE_S = 0.2
if sys.argv[1] == "deaf":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
app._end_with_supervisor()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys, time
env = {**os.environ, "FORESTALL_SUPERVISOR": str(os.getpid())}
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=env)
time.sleep(60)
"""


async def test_a_lost_cancellation_is_given_again() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task]), 10)
    assert task.cancelled() and lost == 2


async def test_what_the_tasks_raise_is_not_raised() -> None:
    async def failing() -> None:
        raise OSError("gone")

    await end_tasks([asyncio.create_task(failing())])
    await end_tasks([])


def test_a_process_does_not_outlive_its_supervisor_even_when_it_ignores_being_asked() -> None:
    for mood in ("willing", "deaf"):
        parent = subprocess.Popen([sys.executable, "-c", PARENT, ORPHAN, mood], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert ends(child), mood
        parent.stdout.close()


def ends(pid: int, limit_s: float = 10.0) -> bool:
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False
