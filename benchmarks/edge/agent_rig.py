"""A real ``edge-agent run`` with eight channels of made-up vitals, a broker and a host that acknowledges.

The agent gets its past at once as history, so that both planes of the detection have learnt before anything is
measured. Samples come once a second, every sample becomes a tick and is judged, and the detection learns from 1,440
seconds, where a device learns from 1,440 minutes. On a device sixty samples make a tick, so processor time there is
lower.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.edge.host import HOST_ID, READY
from benchmarks.edge.memory import NotMeasured
from benchmarks.edge.processes import HOUR_S, SINGLE_THREADED
from demo.broker import start_broker
from demo.processes import Child, Keeper
from edge_agent.config import load_config
from fleet_core.clock import CLOCK_VARIABLE, Clock, SystemClock
from fleet_core.telemetry import to_us

CHANNELS = 8
DEVICE = "bench-asset"
UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "forestall-edge-agent.service"
HISTORY_ROWS = 4096
EACH_SECOND = {"least_tick_s": 1.0, "learn_span_h": 0.4}
"""Detection settings: a tick a second, learnt from 1,440 of them, as the defaults learn from a day of minutes."""
LEARN_TIMEOUT_S = 90.0
POLL_S = 0.1
Detectors = Mapping[str, Mapping[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What an agent runs: seconds (domain time) between samples, rows of history, settings of its detection, detectors
    (None: the defaults)."""

    period_s: float = 1.0
    history_rows: int = HISTORY_ROWS
    detection: Mapping[str, float] = field(default_factory=lambda: dict(EACH_SECOND))
    detectors: Detectors | None = None


class AgentRun:
    """One agent process and its folder."""

    def __init__(
        self, keeper: Keeper, name: str, folder: Path, child: Child, started_at_s: float, present_us: int
    ) -> None:
        """``started_at_s`` is real time, ``present_us`` the same moment as device time: what is older is history."""
        self.folder = folder
        self._keeper = keeper
        self._name = name
        self._child = child
        self._started_at_s = started_at_s
        self._present_us = present_us

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        self._keeper.stop(self._name)

    def status(self) -> dict[str, Any] | None:
        """The status that the agent writes every 5 s; None before it has written one."""
        try:
            status: dict[str, Any] = json.loads((self.folder / "state" / "status.json").read_text())
        except FileNotFoundError:
            return None
        return status

    def wait_for(self, what: str, look: Callable[[], T | None], timeout_s: float = LEARN_TIMEOUT_S) -> T:
        """Wait for a result of ``look``. Raises NotMeasured when there is none in time, or the agent ends."""
        until_s = time.monotonic() + timeout_s
        while (found := look()) is None:
            if not self._child.running:
                raise NotMeasured(f"the agent ended: {self._child.log_text()[-400:].strip()}")
            if time.monotonic() > until_s:
                raise NotMeasured(f"no {what} within {timeout_s:g} s: {state_of(self.status())}")
            time.sleep(POLL_S)
        return found

    def wait_steady(self) -> int:
        """Until learning is over and the host has all of the past; the newest sample's time (us)."""
        return self.wait_for("end of learning", lambda: steady_since_us(self.status(), self._present_us))

    def saved_kb_per_h(self) -> float:
        """KiB that detection saves in an hour at its present size. Raises NotMeasured."""
        try:
            size = (self.folder / "state" / "detection" / f"{DEVICE}.snapshot").stat().st_size
        except FileNotFoundError:
            raise NotMeasured("detection has not saved anything") from None
        return size / 1024 * HOUR_S / load_config(self.folder / "agent.toml").save_interval_s

    def has_reached(self, time_us: int) -> int | None:
        """The newest sample's time (us) once it is at least ``time_us``."""
        status = self.status()
        newest_us = int(status["assets"][DEVICE]["last_sample_us"]) if status else 0
        return newest_us if newest_us >= time_us else None

    def start_s(self) -> float:
        """Real seconds from the process's start to the first sample its source read (no history, system clock)."""
        first_us = self.wait_for("sample in the outbox", lambda: first_sample_us(self.folder / "state"))
        return first_us / 1e6 - self._started_at_s


class Rig:
    """Broker and host, shared by agents that run one after the other. Raises StartFailed."""

    def __init__(self, keeper: Keeper, folder: Path) -> None:
        self._keeper = keeper
        self._folder = folder
        self.broker = start_broker(keeper, folder / "broker")
        argv = [sys.executable, "-m", "benchmarks.edge.host", str(self.broker.port)]
        keeper.start("host", argv, ready=READY)

    def start_agent(self, name: str, scenario: Scenario, clock: Clock | None = None) -> AgentRun:
        """Start ``edge-agent run`` in a new folder; returns at once."""
        clock = clock or SystemClock()
        folder = self._folder / name
        folder.mkdir()
        config = folder / "agent.toml"
        config.write_text(agent_toml(name, self.broker.port, scenario))
        program = Path(sys.executable).with_name("edge-agent")
        environment = {**SINGLE_THREADED, **unit_environment(UNIT.read_text()), CLOCK_VARIABLE: clock.spec()}
        started_at_s, present_us = time.time(), to_us(clock.now())
        child = self._keeper.start(name, [program, "run", "--config", config], env=environment)
        return AgentRun(self._keeper, name, folder, child, started_at_s, present_us)


def unit_environment(unit: str) -> dict[str, str]:
    """The environment that the unit on a device gives the agent."""
    lines = [line.removeprefix("Environment=") for line in unit.splitlines() if line.startswith("Environment=")]
    return dict(setting.split("=", 1) for line in lines for setting in line.split())


def agent_toml(node_id: str, port: int, scenario: Scenario) -> str:
    """The agent's configuration."""
    history_h = scenario.history_rows * scenario.period_s / 3600
    lines = [
        f'[agent]\nnode_id = "{node_id}"\ngroup_id = "bench"\nstate_dir = "state"',
        f'[uplink]\nport = {port}\nhost_id = "{HOST_ID}"',
        f'[[asset]]\ndevice_id = "{DEVICE}"\nclass = "robot"',
        '[[asset.component]]\nslot = "unit"\ntype = "motor"',
        f'[asset.source]\ntype = "synthetic"\nchannels = {CHANNELS}\nperiod_s = {scenario.period_s!r}\nseed = 7\n'
        f'component = "unit"\nhistory_h = {history_h!r}',
        "[asset.detection]\n" + "".join(f"{key} = {value!r}\n" for key, value in scenario.detection.items()),
    ]
    for name, settings in (scenario.detectors or {}).items():
        values = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        lines.append(f"[asset.detection.detectors.{name}]\n{values}")
    return "\n".join(lines) + "\n"


def steady_since_us(status: Mapping[str, Any] | None, present_us: int) -> int | None:
    """The newest sample's time (us) once history is over, every component learnt and nothing much waits in the outbox.

    Raises NotMeasured when detection meets errors: it will not learn then.
    """
    if status is None:
        return None
    asset = status["assets"][DEVICE]
    if asset["counters"].get("detection_errors"):
        raise NotMeasured(f"detection fails: {state_of(status)}")
    learnt = [component["state"] != "learning" for component in asset["components"]]
    waiting, newest_us = int(status["outbox"]["held"]), int(asset["last_sample_us"])
    return newest_us if learnt and all(learnt) and waiting < 50 and newest_us > present_us else None


def state_of(status: Mapping[str, Any] | None) -> str:
    """The status in a few words, for an error."""
    if status is None:
        return "the agent has not said anything yet"
    asset = status["assets"][DEVICE]
    return f"source {asset['source']}, {asset['counters']}, outbox {status['outbox']}, {asset['components']}"[:600]


def first_sample_us(state_dir: Path) -> int | None:
    """Device time of the oldest batch in an agent's outbox, None while there is none."""
    path = state_dir / "outbox.sqlite"
    if not path.exists():
        return None
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        found = db.execute("SELECT MIN(start_us) FROM batches").fetchone()[0]
    except sqlite3.OperationalError:  # the tables are being made
        return None
    finally:
        db.close()
    return int(found) if found else None
