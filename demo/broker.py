"""The demo's and the tests' broker: mosquitto when it is installed, else iotcore on loopback.

Failure behaviour: a port that somebody takes between choosing and binding is chosen again (only when the caller
left the choice to us); anything else that keeps the broker from serving is a StartFailed with the end of its log.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from demo.processes import Keeper, StartFailed, free_ports, tcp_ready
from fleet_core.errors import BadConfig
from provisioning.broker_acl import BrokerSettings, SecureFiles, render_conf

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
BrokerKind = Literal["mosquitto", "iotcore"]
PID_FILE = "mosquitto.pid"
_PORT_TRIES = 5
_SERVING: dict[BrokerKind, str] = {"mosquitto": r"mosquitto version \S+ running", "iotcore": "iotcore starts"}


@dataclass(frozen=True)
class BrokerHandle:
    """A running broker. MQTT 3.1.1 is spoken on ``port`` by both kinds; MQTT 5 on ``port_v5``."""

    kind: BrokerKind
    host: str
    port: int
    port_v5: int
    tls: bool
    name: str
    directory: Path
    keeper: Keeper

    @property
    def checks_rights(self) -> bool:
        """Whether certificates and the access list are enforced."""
        return self.tls

    def reload(self) -> None:
        """Make the broker read its access list, and its revocation list for new connections, again."""
        if self.kind == "mosquitto":
            self.keeper.signal(self.name, signal.SIGHUP)

    def stop(self) -> None:
        """End it in good order: mosquitto saves retained messages and sessions."""
        self.keeper.stop(self.name)

    def kill9(self) -> None:
        """Crash it: whatever it had not saved is gone, as in life."""
        self.keeper.kill9(self.name)

    def restart(self) -> None:
        """Start it again on the same port. Raises StartFailed."""
        self.keeper.restart(self.name)


def find_mosquitto() -> str | None:
    """The mosquitto program, which Debian keeps outside an ordinary user's PATH; None when not installed."""
    return shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def start_broker(
    keeper: Keeper,
    directory: Path,
    port: int = 0,
    *,
    secure: SecureFiles | None = None,
    kind: BrokerKind | None = None,
    name: str = "broker",
) -> BrokerHandle:
    """Start a broker on 127.0.0.1 and wait until it accepts connections; port 0 chooses a free one.

    With ``secure`` (see ``provisioning.broker_files``) clients need certificates and have only the rights listed;
    only mosquitto can do that. ``kind`` forces a broker; without it mosquitto is preferred. Raises BadConfig when
    what was asked for is not available, StartFailed when it does not come up.
    """
    program = find_mosquitto()
    chosen: BrokerKind = kind or ("mosquitto" if program or secure else "iotcore")
    if chosen == "mosquitto" and not program:
        raise BadConfig("mosquitto is not installed: apt-get install mosquitto")
    if chosen == "iotcore":
        if secure:
            raise BadConfig("the iotcore broker cannot check certificates: install mosquitto, or do without TLS")
        log.warning("the iotcore broker is used: it checks NO certificates and NO rights (loopback only)")
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(_PORT_TRIES):
        number, number_v5 = (port, free_ports(1)[0]) if port else free_ports(2)
        if chosen == "mosquitto":
            number_v5 = number
            argv = [str(program), "-c", str(_write_conf(directory, number, secure))]
        else:
            script = Path(__file__).with_name("iotcore_broker.py")
            argv = [sys.executable, "-P", str(script), "--port", str(number), "--port-v5", str(number_v5)]
        # The port alone proves nothing: another program may have taken it and be the one that answers.
        ready = (_SERVING[chosen], tcp_ready(LOOPBACK, number), tcp_ready(LOOPBACK, number_v5))
        try:
            keeper.start(name, argv, ready=ready)
        except StartFailed as error:
            if port or attempt == _PORT_TRIES - 1 or "in use" not in str(error):
                raise
            continue
        return BrokerHandle(chosen, LOOPBACK, number, number_v5, secure is not None, name, directory, keeper)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _write_conf(directory: Path, port: int, secure: SecureFiles | None) -> Path:
    data_dir = directory / "data"
    data_dir.mkdir(exist_ok=True)
    # Started as root, mosquitto would become the user "mosquitto", who may not read this directory.
    run_as = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else None
    settings = BrokerSettings(
        data_dir=data_dir, host=LOOPBACK, port=port, secure=secure, run_as=run_as, pid_file=directory / PID_FILE
    )
    conf = directory / "mosquitto.conf"
    conf.write_text(render_conf(settings))
    return conf
