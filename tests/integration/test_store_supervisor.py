"""The supervisor: brings everything up on an embedded database, mends what dies, leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.world import new_folder

from fleet_server.first import write_first_files
from fleet_server.store.embedded import running_dsn

pytestmark = pytest.mark.integration

# Ingest and the sequencer stand for all four: they need nothing but the database.
_PROGRAM = """
import sys
from pathlib import Path
from fleet_core.clock import SystemClock
from fleet_server.app import start_log
from fleet_server.settings import load_settings
from fleet_server.supervisor import Supervisor
settings = load_settings(Path(sys.argv[1]))
start_log(settings)
names = tuple(sys.argv[3].split(","))
sys.exit(Supervisor(settings, SystemClock(), Path(sys.argv[1]), status_file=Path(sys.argv[2]), names=names).run())
"""


class Server:
    """A supervisor in a directory of its own."""

    def __init__(self, directory: Path, names: str = "ingest,sequencer") -> None:
        self.directory = directory
        self.status_file = directory / "status.json"
        if not (directory / "server.toml").exists():
            write_first_files(directory)
        argv = [sys.executable, "-c", _PROGRAM, str(directory / "server.toml"), str(self.status_file), names]
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)

    def status(self) -> dict[str, Any]:
        return json.loads(self.status_file.read_text()) if self.status_file.exists() else {}

    def pids(self) -> list[int]:
        status = self.status()
        pids = [child["pid"] for child in status.get("children", {}).values()] + [status.get("postgres")]
        return [pid for pid in pids if pid]

    def until(self, check: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0) -> dict[str, Any]:
        until_s = time.monotonic() + timeout_s
        while not check(self.status()):
            assert time.monotonic() < until_s, (self.status(), (self.directory / "log").read_text()[-3000:])
            time.sleep(0.05)
        return self.status()

    def is_up(self, status: dict[str, Any]) -> bool:
        return status.get("state") == "running" and all(child["pid"] for child in status["children"].values())


@pytest.fixture
def directory() -> Iterator[Path]:
    made = new_folder("run")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def server(cluster_at: Callable[[Path], None], directory: Path) -> Iterator[Server]:
    write_first_files(directory)
    cluster_at(directory / "postgres")
    server = Server(directory)
    yield server
    server.process.kill()
    server.process.wait()


def test_mends_what_dies_and_stops_in_order(server: Server) -> None:
    before = server.until(server.is_up)
    os.kill(before["children"]["ingest"]["pid"], signal.SIGKILL)
    after = server.until(lambda status: status["children"]["ingest"]["starts"] == 2)
    assert after["children"]["sequencer"] == before["children"]["sequencer"]
    os.kill(before["children"]["sequencer"]["pid"], signal.SIGKILL)
    server.until(lambda status: status["children"]["sequencer"]["starts"] == 2)
    os.kill(before["postgres"], signal.SIGKILL)
    server.until(lambda status: status["postgres"] not in (None, before["postgres"]))
    dsn = running_dsn(server.directory / "postgres")
    assert dsn is not None
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT count(*) FROM fleet.tenant").fetchone() == (0,)
    server.until(lambda _: "ingest    | " in (server.directory / "log").read_text())  # no broker is there: it says so
    pids = server.pids()
    server.process.terminate()
    assert server.process.wait(30) == 0
    assert server.status()["state"] == "stopped"
    assert not any(map(_is_alive, pids))
    log = (server.directory / "log").read_text()
    password = (server.directory / "postgres" / "password").read_text()
    assert password not in log


def test_a_killed_supervisor_leaves_no_process(server: Server) -> None:
    server.until(server.is_up)
    pids = server.pids()
    assert len(pids) == 3
    for pid in pids[:2]:
        environment = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"password" not in environment
    server.process.kill()
    until_s = time.monotonic() + 20
    while any(map(_is_alive, pids)) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not [pid for pid in pids if _is_alive(pid)]


def test_a_wrong_setting_stops_everything(directory: Path) -> None:
    server = Server(directory)
    (directory / "audit.key").write_text("not a key")
    assert server.process.wait(60) == 2
    assert "audit.signing_key_file" in (directory / "log").read_text()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
