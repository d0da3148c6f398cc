"""The programs we compare with, each in an environment of its own that is made once and kept.

Failure behaviour: what cannot be installed or started is NotMeasured with the reason; a half-made environment is made
anew the next time. Installing reaches for the package index; running reaches for nothing but loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.edge.memory import Memory, NotMeasured
from benchmarks.edge.processes import SINGLE_THREADED, tree_memory
from demo.broker import LOOPBACK, start_broker
from demo.processes import Keeper, StartFailed

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "var" / "bench-peers"
RIVER = "river>=0.22,<1"
GATEWAY = "thingsboard-gateway>=3.7,<4"
INSTALL_TIMEOUT_S = 400.0
RUN_TIMEOUT_S = 60.0
SETTLE_S = 12.0


@dataclass(frozen=True)
class River:
    """Memory after learning, and microseconds for one scored and learnt sample."""

    version: str
    memory: Memory
    sample_us: float


@dataclass(frozen=True)
class Gateway:
    """Memory of an idle gateway that is connected to its broker."""

    version: str
    memory: Memory


def measure_river() -> River:
    """Raises NotMeasured."""
    python = environment("river", RIVER)
    try:
        done = subprocess.run(
            [python, "-m", "benchmarks.edge.river_peer"],
            capture_output=True, text=True, timeout=RUN_TIMEOUT_S, cwd=ROOT, env=_own(SINGLE_THREADED), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"river took more than {RUN_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise NotMeasured(f"river failed: {_last_line(done.stderr)}")
    result: dict[str, Any] = json.loads(done.stdout)
    return River(result["version"], Memory(**result["memory"]), result["sample_us"])


def measure_gateway(keeper: Keeper, folder: Path) -> Gateway:
    """Start it against a broker of its own, wait until it is connected and has settled. Raises NotMeasured."""
    python = environment("thingsboard-gateway", GATEWAY)
    folder.mkdir(parents=True, exist_ok=True)
    broker = start_broker(keeper, folder / "broker", name="gateway-broker")
    for name, content in gateway_files(broker.port).items():
        (folder / name).write_text(content)
    variables = {**SINGLE_THREADED, "TB_GW_CONFIG_DIR": f"{folder}/", "PYTHONPATH": str(ROOT), "PIP_NO_INDEX": "1"}
    try:
        child = keeper.start(
            "gateway", [python, "-m", "benchmarks.edge.gateway_peer"], cwd=folder, env=variables,
            ready=lambda: _is_connected(keeper.child("gateway").pid, broker.port), ready_timeout_s=RUN_TIMEOUT_S,
        )  # fmt: skip
    except StartFailed as error:
        raise NotMeasured(_last_line(str(error))) from None
    time.sleep(SETTLE_S)
    used = tree_memory(child.pid)
    keeper.stop("gateway")
    broker.stop()
    return Gateway(_installed(python, "thingsboard-gateway"), used)


def environment(name: str, requirement: str, folder: Path = CACHE) -> Path:
    """The Python of an environment that has the requirement; made once, kept. Raises NotMeasured."""
    home = folder / name
    python, mark = home / "bin" / "python", home / "installed.txt"
    if mark.exists() and mark.read_text() == requirement:
        return python
    print(f"Installing {requirement} into {home} (once) ...", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands: tuple[list[str | Path], ...] = ([sys.executable, "-m", "venv", home], [*pip, requirement])
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotMeasured(f"{name} cannot be installed: {error}") from None
        if done.returncode:
            raise NotMeasured(f"{name} cannot be installed: {_last_line(done.stderr)}")
    mark.write_text(requirement)
    return python


def gateway_files(port: int) -> dict[str, str]:
    """Its configuration: a broker on loopback, nothing to read, everything optional off."""
    settings = {
        "thingsboard": {
            "host": LOOPBACK, "port": port, "remoteShell": False, "remoteConfiguration": False,
            "statistics": {"enable": False}, "deviceFiltering": {"enable": False}, "qos": 1,
            "security": {"type": "accessToken", "accessToken": "bench"},
        },
        "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100_000},
        "grpc": {"enabled": False},
        "connectors": [],
    }  # fmt: skip
    stderr = {"class": "logging.StreamHandler", "level": "INFO", "stream": "ext://sys.stderr"}
    logs = {"version": 1, "disable_existing_loggers": False, "handlers": {"console": stderr},
            "root": {"level": "INFO", "handlers": ["console"]}, "loggers": {}}  # fmt: skip
    return {"tb_gateway.json": json.dumps(settings), "logs.json": json.dumps(logs)}


def _is_connected(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(each.raddr and each.raddr.port == port and each.status == "ESTABLISHED" for each in connections)


def _installed(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _own(variables: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **variables}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
