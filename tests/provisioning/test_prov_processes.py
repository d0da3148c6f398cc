"""The process keeper: readiness, stopping, crashing, and leaving nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import Keeper, StartFailed, free_ports, http_ready, tcp_ready
from fleet_core.errors import BadConfig

PYTHON = sys.executable
SLEEPER = [PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    PYTHON,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]
FAMILY = [
    PYTHON,
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('grandchild', child.pid, flush=True); time.sleep(600)",
]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    with Keeper(tmp_path / "log", grace_s=5) as keeper:
        yield keeper


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_gone(pid: int, timeout_s: float = 5.0) -> bool:
    until_s = time.monotonic() + timeout_s
    while alive(pid) and time.monotonic() < until_s:
        time.sleep(0.02)
    return not alive(pid)


def test_ready_by_log_and_environment(keeper: Keeper) -> None:
    program = "import os, time; print('I am', os.environ['WHO'], flush=True); time.sleep(600)"
    child = keeper.start("a", [PYTHON, "-c", program], env={"WHO": "ready"}, ready=r"I am ready")
    assert child.running
    assert child.log_text() == "I am ready\n"
    assert keeper.stop("a") == -signal.SIGTERM


def test_ready_by_tcp_and_http(keeper: Keeper) -> None:
    (port,) = free_ports(1)
    server = [PYTHON, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    assert not tcp_ready("127.0.0.1", port)()
    assert not http_ready(f"http://127.0.0.1:{port}/")()
    keeper.start("web", server, ready=http_ready(f"http://127.0.0.1:{port}/absent"))  # 404 is an answer
    assert tcp_ready("127.0.0.1", port)()


def test_an_early_end_is_told_with_the_log(keeper: Keeper) -> None:
    with pytest.raises(StartFailed, match=r"(?s)ended with 3 while starting.*no such coal"):
        keeper.start("a", [PYTHON, "-c", "print('no such coal'); raise SystemExit(3)"], ready="never")
    assert not keeper.child("a").running
    assert keeper.crashed() == {}


def test_a_missing_program_is_told(keeper: Keeper) -> None:
    with pytest.raises(StartFailed, match=r"cannot run no-such-program: "):
        keeper.start("a", ["no-such-program"], ready="never")
    with pytest.raises(StartFailed, match=r"cannot start"):
        keeper.start("b", SLEEPER, cwd=Path("/no/such/directory"))


def test_a_child_that_never_serves_is_not_left_running(keeper: Keeper) -> None:
    with pytest.raises(StartFailed, match=r"not ready after 0\.3 s"):
        keeper.start("a", SLEEPER, ready=lambda: False, ready_timeout_s=0.3)
    assert not keeper.child("a").running


def test_readiness_does_not_match_an_earlier_run(keeper: Keeper) -> None:
    keeper.start("a", SLEEPER, ready="up")
    keeper.kill9("a")
    again = keeper.restart("a")
    assert again.log_text() == "up\n"
    assert again.spec.log_file.read_text() == "up\nup\n"


def test_stubborn_child_is_killed_after_the_grace_period(keeper: Keeper) -> None:
    keeper.start("a", STUBBORN, ready="up", grace_s=0.3)
    assert keeper.stop("a") == -signal.SIGKILL


def test_kill9_and_crash_take_the_whole_group(keeper: Keeper) -> None:
    for end in (keeper.kill9, keeper.stop):
        child = keeper.start("family", FAMILY, ready=r"grandchild \d+")
        match = re.search(r"grandchild (\d+)", child.log_text())
        assert match
        end("family")
        assert wait_gone(int(match[1]))


def test_crashed_names_only_what_nobody_stopped(keeper: Keeper) -> None:
    victim = keeper.start("victim", SLEEPER, ready="up")
    keeper.start("stopped", SLEEPER, ready="up")
    keeper.stop("stopped")
    os.kill(victim.pid, signal.SIGKILL)
    victim.process.wait(5)
    assert keeper.crashed() == {"victim": -signal.SIGKILL}
    keeper.restart("victim")
    assert keeper.crashed() == {}


def test_names_are_unique_while_running(keeper: Keeper) -> None:
    keeper.start("a", SLEEPER, ready="up")
    with pytest.raises(BadConfig, match="already running"):
        keeper.start("a", SLEEPER)
    with pytest.raises(BadConfig, match=r"no process named 'b'; known: a"):
        keeper.child("b")


def test_children_survive_the_thread_that_asked_for_them(keeper: Keeper) -> None:
    asking = threading.Thread(target=keeper.start, args=("a", SLEEPER), kwargs={"ready": "up"})
    asking.start()
    asking.join()
    keeper.start("b", SLEEPER, ready="up")  # it takes longer than the signal that a dead parent's thread would send
    assert keeper.child("a").running


def test_close_stops_in_reverse_and_refuses_more(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    children = [keeper.start(name, SLEEPER, ready="up") for name in "ab"]
    keeper.close()
    keeper.close()
    assert not any(child.running for child in children)
    with pytest.raises(BadConfig, match="closed"):
        keeper.start("c", SLEEPER)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_keeper_leaves_nothing(tmp_path: Path, end: signal.Signals) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from demo.processes import Keeper
        keeper = Keeper(Path({str(tmp_path)!r}))
        family = keeper.start("family", {FAMILY!r}, ready="grandchild [0-9]+")
        stubborn = keeper.start("stubborn", {STUBBORN!r}, ready="up")
        print(family.pid, family.log_text().split()[1], stubborn.pid, keeper._guardian.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 4
        assert all(alive(pid) for pid in pids)
        parent.send_signal(end)
        parent.wait(5)
    assert all(wait_gone(pid) for pid in pids)


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(20))) == 20
