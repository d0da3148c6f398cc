"""How a process of the server ends: the reason in its log, and a supervisor that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fleet_core.errors import BadConfig, Retryable
from fleet_core.service import Ended
from fleet_server import app

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


@pytest.mark.parametrize(
    ("error", "code", "traced"),
    [
        (None, 0, False),
        (BadConfig("worker.metrics_port is wrong"), 2, False),
        (Retryable("no connection to PostgreSQL"), 1, False),
        (KeyError("case"), 1, True),
        (AttributeError("plan"), 1, True),
        (Ended("jobs ended by itself"), 1, True),
    ],
)
def test_every_end_has_its_exit_code_and_its_reason_in_the_log(
    error: Exception | None, code: int, traced: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "server.toml"
    config.write_text('[database]\ndsn = "x"\n')

    async def run() -> None:
        if error is not None:
            raise error

    assert app.serve(config, lambda _settings, _clock: run()) == code
    said = capsys.readouterr().err
    assert (str(error) in said) if error else not said
    assert ("Traceback" in said) is traced


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
