"""The world of the demo and the end-to-end tests: separate real processes on loopback.

Broker (mosquitto with TLS and client certificates when installed), enrolment service, database and fleet server,
two customers' warehouse systems, an SMTP server that keeps what it gets, devices and agents. One keeper owns them
all: whatever happens to this process, no child and no port is left behind.

All share one clock of story time, handed over in ``FORESTALL_CLOCK``. Time-outs here are real seconds.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import string
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from demo.broker import BrokerHandle, find_mosquitto, start_broker
from demo.console import Console
from demo.mail_sink import read_mails
from demo.processes import Keeper, StartFailed, free_port, free_ports, http_ready, tcp_ready
from fleet_core.clock import CLOCK_VARIABLE, Clock, SystemClock
from provisioning.authority import Authority, Issued
from provisioning.broker_files import BrokerFiles
from provisioning.claims import issue_claim

LOOPBACK = "127.0.0.1"
SCENARIOS = Path(__file__).with_name("scenarios")
READY_JSON = re.compile(r'^\{"ready": true.*\}$', re.MULTILINE)
COMMAND_TIMEOUT_S = 180.0
SERVER_READY_S = 180.0
ROLES = ("operator", "engineer", "auditor")


@dataclass
class Stack:
    """The running world. ``server_env`` arms fault points in the server's processes (tests)."""

    keeper: Keeper
    directory: Path
    clock: Clock
    seed: int = 1
    server_env: Mapping[str, str] = field(default_factory=dict)
    prefer_broker: str = ""
    web_port: int = 0
    broker: BrokerHandle = field(init=False)
    authority: Authority = field(init=False)
    wms_urls: dict[str, str] = field(init=False, default_factory=dict)
    passwords: dict[str, str] = field(init=False, default_factory=dict)
    _enrolment_port: int = field(init=False, default=0)
    _mail_port: int = field(init=False, default=0)

    @property
    def mail_dir(self) -> Path:
        return self.directory / "mail"

    @property
    def server_config(self) -> Path:
        return self.directory / "server" / "server.toml"

    @property
    def url(self) -> str:
        """The dashboard's address."""
        return f"http://{LOOPBACK}:{self.web_port}"

    def start(self, registry: str, histories: Sequence[Path]) -> None:
        """Start everything but devices and agents. Raises StartFailed.

        ``registry`` is TOML as ``fleet-server registry import`` takes it, in which ``$WMS_URL``, ``$BROKEN_WMS_URL``
        and ``$WMS_TOKEN_FILE`` are filled in; ``histories`` fill the library.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.web_port = self.web_port or free_port()
        self._start_broker()
        with ThreadPoolExecutor(4) as pool:
            side = [
                pool.submit(self._start_enrolment),
                pool.submit(self._start_mail_sink),
                pool.submit(self._start_wms, "wms", self.seed),
                pool.submit(self._start_wms, "wms-leipzig", self.seed + 1),
            ]
            for one in side:
                one.result()
        self._start_server()
        self._fill(registry, histories)

    def console(self, role: str) -> Console:
        """A signed-in user of that role."""
        return Console(self.url, role, self.passwords[role])

    def mails(self) -> list[dict[str, Any]]:
        """The mails that the SMTP server accepted so far."""
        return read_mails(self.mail_dir)

    def wms(self, name: str, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Call a warehouse system as its owner would: book equipment, arm a fault."""
        headers = {"Authorization": f"Bearer {self._wms_token()}", **headers}
        answer = httpx.request(
            method, self.wms_urls[name] + path, json=body, headers=headers, timeout=10, trust_env=False
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def take_equipment(self, warehouse: str, equipment: str, days: int, reason: str) -> None:
        """Book a machine for the customer's other work from now on, so that no repair window is left for it."""
        now = self.clock.now()
        for day in range(0, days, 7):
            booking = {
                "equipment": equipment,
                "start": (now + timedelta(days=day)).isoformat(),
                "end": (now + timedelta(days=min(day + 7, days))).isoformat(),
                "reason": reason,
            }
            path = f"/v1/warehouses/{warehouse}/bookings"
            self.wms("wms", "POST", path, booking, **{"Idempotency-Key": f"customer-{equipment}-{day}"})

    def start_drive(self, name: str, seed: int, component_serial: str, serial: str, model: str, **options: Any) -> Path:
        """Start a simulated drive on a pseudo-terminal and return the port's path."""
        link = self.directory / "devices" / f"{name}.tty"
        link.parent.mkdir(exist_ok=True)
        argv = [
            *_program("firmware-bridge"), "simulate", "drive", "--link", str(link), "--seed", str(seed),
            "--component-serial", component_serial, "--serial", serial, "--model", model,
        ]  # fmt: skip
        for option, value in options.items():
            argv += [f"--{option.replace('_', '-')}", str(value)]
        self.keeper.start(name, argv, env=self._env(), ready=READY_JSON)
        return link

    def start_agent(self, node_id: str, site_id: str, assets: str, env: Mapping[str, str] | None = None) -> None:
        """Enrol a node (once) and start its agent on the ``[[asset]]`` tables given as TOML."""
        home = self.directory / "agents" / node_id
        home.mkdir(parents=True, exist_ok=True)
        bundle = home / "bundle"
        if not (bundle / "bundle.toml").exists():
            self._enrol(node_id, site_id, bundle)
        uplink = 'bundle = "bundle"' if self.broker.tls else f'host = "{LOOPBACK}"\nport = {self.broker.port}'
        (home / "agent.toml").write_text(
            f'[agent]\nnode_id = "{node_id}"\ngroup_id = "{site_id}"\nstate_dir = "state"\n\n'
            f"[uplink]\n{uplink}\n\n"
            f"[outbox]\nquota_mb = 64\nflush_interval_s = 0.25\ncommit_interval_ms = 20\n\n{assets}",
            encoding="utf-8",
        )
        argv = [*_program("edge-agent"), "run", "--config", str(home / "agent.toml")]
        self.keeper.start(node_id, argv, env={**self._env(), **(env or {})})

    def server_status(self) -> dict[str, Any]:
        """The supervisor's status of its processes: name -> pid, restarts."""
        return dict(json.loads(self._status_file.read_text(encoding="utf-8")))

    def fleet_server(self, *arguments: str) -> str:
        """Run ``fleet-server ARGUMENTS`` and return what it printed. Raises StartFailed with its message."""
        command, *rest = arguments
        argv = [*_program("fleet-server"), command, *rest, "--config", str(self.server_config)]
        return self._run(argv)

    @property
    def _status_file(self) -> Path:
        return self.directory / "server" / "status.json"

    def _env(self) -> dict[str, str]:
        return {CLOCK_VARIABLE: self.clock.spec(), "PYTHONUNBUFFERED": "1"}

    def _start_broker(self) -> None:
        self.authority = Authority.create(self.directory / "authority", SystemClock())
        secure = find_mosquitto() is not None and self.prefer_broker != "iotcore"
        folder = self.directory / "broker"
        if not secure:
            self.broker = start_broker(self.keeper, folder, kind="iotcore")
            return
        own = self.authority.issue_server("broker", [LOOPBACK, "localhost"])
        files = BrokerFiles(self.authority, folder, own)
        self._server_identity()
        files.publish()
        self.broker = start_broker(self.keeper, folder, secure=files.files)

    def _server_identity(self) -> Issued:
        return self.authority.issue_service("fleet-server")

    def _start_enrolment(self) -> None:
        self._enrolment_port = free_port()
        argv = [
            *_program("fleet-provision"), "serve", "--dir", str(self.authority.directory),
            "--port", str(self._enrolment_port), "--broker-port", str(self.broker.port),
        ]  # fmt: skip
        if self.broker.tls:
            pid_file = self.broker.directory / "mosquitto.pid"
            argv += ["--broker-dir", str(self.broker.directory), "--broker-pid-file", str(pid_file)]
        self.keeper.start("enrolment", argv, ready=tcp_ready(LOOPBACK, self._enrolment_port))

    def _start_mail_sink(self) -> None:
        argv = [sys.executable, "-m", "demo.mail_sink", "--dir", str(self.mail_dir)]
        self._mail_port = self._start_announced("mail", argv)["port"]

    def _start_wms(self, name: str, seed: int) -> None:
        argv = [
            sys.executable, "-m", "demo.reference_wms", "--db", str(self.directory / f"{name}.sqlite"),
            "--token-file", str(self._wms_token_file()), "--time-zone", "Europe/Amsterdam", "--seed", str(seed),
        ]  # fmt: skip
        self.wms_urls[name] = self._start_announced(name, argv)["url"]

    def _start_announced(self, name: str, argv: Sequence[str]) -> dict[str, Any]:
        child = self.keeper.start(name, argv, env=self._env(), cwd=SCENARIOS.parents[1], ready=READY_JSON)
        found = READY_JSON.search(child.log_text())
        if found is None:
            raise StartFailed(f"{name} did not say where it listens")
        return dict(json.loads(found.group()))

    def _wms_token_file(self) -> Path:
        path = self.directory / "wms.token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        return path

    def _wms_token(self) -> str:
        return self._wms_token_file().read_text(encoding="utf-8").strip()

    def _start_server(self) -> None:
        self._run([*_program("fleet-server"), "init", "--dir", str(self.server_config.parent)])
        tls = ""
        if self.broker.tls:
            identity = self._server_identity()
            tls = "".join(f'{name} = "{getattr(identity, name)}"\n' for name in ("ca_file", "cert_file", "key_file"))
        ingest_metrics, worker_metrics = free_ports(2)
        self.server_config.write_text(
            f"""clock = "{self.clock.spec()}"

[database]
embedded_dir = "{self._database_dir()}"

[broker]
host = "{LOOPBACK}"
port = {self.broker.port}
{tls}
[ingest]
metrics_port = {ingest_metrics}

[worker]
metrics_port = {worker_metrics}

[web]
port = {self.web_port}

[audit]
signing_key_file = "audit.key"
checkpoint_file = "../audit-checkpoints/checkpoints.jsonl"

[notifiers.email]
host = "{LOOPBACK}"
port = {self._mail_port}
sender = "no-reply@forestall.example"
security = "none"
""",
            encoding="utf-8",
        )
        argv = [*_program("fleet-server"), "run", "--config", str(self.server_config)]
        argv += ["--status-file", str(self._status_file)]
        self.keeper.start(
            "fleet-server", argv, env={**self._env(), **self.server_env},
            ready=http_ready(f"{self.url}/ready"), ready_timeout_s=SERVER_READY_S, grace_s=20,
        )  # fmt: skip

    def _database_dir(self) -> Path:
        """The database's folder. Started as root, the database runs under another account, which needs access to it."""
        inside = self.directory / "server" / "postgres"
        if os.geteuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in self.directory.parents):
            return inside
        name = hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
        outside = Path("/var/tmp") / f"forestall-demo-{name}"
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir(mode=0o755)  # fails when somebody else put something there meanwhile
        atexit.register(shutil.rmtree, outside, ignore_errors=True)
        return outside / "postgres"

    def _fill(self, registry: str, histories: Sequence[Path]) -> None:
        file = self.directory / "registry.toml"
        file.write_text(
            string.Template(registry).substitute(
                WMS_URL=self.wms_urls["wms"],
                BROKEN_WMS_URL=self.wms_urls["wms-leipzig"],
                WMS_TOKEN_FILE=self._wms_token_file(),
            ),
            encoding="utf-8",
        )
        self.fleet_server("registry", "import", str(file))
        with ThreadPoolExecutor(2) as pool:
            library = pool.submit(self.fleet_server, "history", "import", *map(str, histories))
            for role in ROLES:
                printed = self.fleet_server("user", "add", role, "--role", role, "--json")
                self.passwords[role] = json.loads(printed)["password"]
            library.result()

    def _enrol(self, node_id: str, site_id: str, bundle: Path) -> None:
        claim = issue_claim(self.authority, node_id, site_id)
        fingerprint = self.authority.ca_fingerprint
        argv = [*_program("edge-agent"), "enrol", "--url", f"https://{LOOPBACK}:{self._enrolment_port}"]
        argv += ["--claim", "-", "--fingerprint", fingerprint, "--bundle", str(bundle)]
        self._run(argv, claim.secret)  # by standard input: arguments can be read by every user of the machine

    def _run(self, argv: Sequence[str], given: str = "") -> str:
        env = {**os.environ, **self._env()}
        done = subprocess.run(argv, env=env, input=given, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
        if done.returncode:
            shown = " ".join(argv[:4])
            raise StartFailed(f"{shown} ... ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def scenario_text(*names: str) -> str:
    """The registry tables of the named scenarios."""
    return "".join((SCENARIOS / f"{name}.toml").read_text(encoding="utf-8") for name in names)


def _program(name: str) -> tuple[str, ...]:
    """A console script of this environment."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise StartFailed(f"{name} is not installed in this environment: run `make setup`")
    return (found,)
