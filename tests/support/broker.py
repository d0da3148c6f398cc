"""Fixtures for tests that need a broker. Import what a test module uses, by name::

    from support.broker import broker, keeper  # noqa: F401  (pytest finds fixtures by name)

``broker`` is the best one installed; ``any_broker`` runs the test once for each kind; ``mosquitto`` skips, with the
reason, where mosquitto is absent. These are plain; ``secure_fleet`` has TLS, client certificates and rights (needs
mosquitto). All listen on loopback.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.broker import BrokerHandle, BrokerKind, find_mosquitto, start_broker
from demo.processes import Keeper
from fleet_core.clock import SystemClock
from provisioning.authority import Authority, Issued
from provisioning.broker_files import BrokerFiles
from provisioning.certificates import key_to_pem, make_request, new_key, to_pem
from provisioning.claims import issue_claim, spend_claim
from provisioning.device import Bundle

CONNECT = bytes.fromhex("1011 0004 4d515454 04 02 003c 0005 70726f6265")  # MQTT 3.1.1, client "probe"
ACCEPTED = bytes.fromhex("20020000")
MOSQUITTO_ABSENT = "mosquitto is not installed (Debian: apt-get install mosquitto)"


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A process keeper whose children end with the test; logs lie in ``tmp_path/log``."""
    with Keeper(tmp_path / "log") as keeper:
        yield keeper


@pytest.fixture
def broker(keeper: Keeper, tmp_path: Path) -> BrokerHandle:
    """The best broker installed."""
    return start_broker(keeper, tmp_path / "broker")


@pytest.fixture
def mosquitto(keeper: Keeper, tmp_path: Path) -> BrokerHandle:
    """Mosquitto, or a skipped test."""
    if not find_mosquitto():
        pytest.skip(MOSQUITTO_ABSENT)
    return start_broker(keeper, tmp_path / "broker", kind="mosquitto")


@pytest.fixture(params=["mosquitto", "iotcore"])
def any_broker(request: pytest.FixtureRequest, keeper: Keeper, tmp_path: Path) -> BrokerHandle:
    """Each kind in turn."""
    kind: BrokerKind = request.param
    if kind == "mosquitto" and not find_mosquitto():
        pytest.skip(MOSQUITTO_ABSENT)
    return start_broker(keeper, tmp_path / "broker", kind=kind)


def connect_answer(host: str, port: int, context: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> bytes:
    """What a broker answers to a bare CONNECT: ``ACCEPTED``, another code, or nothing when it ends the link.

    Raises TimeoutError when it does neither, and SSLCertVerificationError when it is the broker that is a stranger.
    """
    with socket.create_connection((host, port), timeout_s) as plain:
        try:
            link = context.wrap_socket(plain, server_hostname=host) if context else plain
            with link:
                link.sendall(CONNECT)
                return link.recv(len(ACCEPTED))
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            return b""


@dataclass
class SecureFleet:
    """A TLS broker with its authority. ``files`` publishes what the authority decides and makes the broker read it."""

    authority: Authority
    files: BrokerFiles
    broker: BrokerHandle
    server: Issued
    directory: Path

    def node(self, node_id: str, group_id: str) -> Bundle:
        """An enrolled node, without the enrolment service in between."""
        folder = self.directory / "nodes" / node_id
        folder.mkdir(parents=True)
        claim = issue_claim(self.authority, node_id, group_id)
        key = new_key()
        certificate = spend_claim(self.authority, claim.secret, make_request(key)).certificate
        bundle = Bundle(
            node_id, group_id, self.broker.host, self.broker.port,
            ca_file=self.authority.ca_file, cert_file=folder / "agent.crt", key_file=folder / "agent.key",
        )  # fmt: skip
        bundle.key_file.write_bytes(key_to_pem(key))
        bundle.key_file.chmod(0o600)
        bundle.cert_file.write_bytes(to_pem(certificate))
        self.files.publish()
        return bundle


@pytest.fixture
def secure_fleet(keeper: Keeper, tmp_path: Path) -> SecureFleet:
    """Mosquitto with TLS, client certificates and rights, and an authority with one service, ``fleet-server``."""
    if not find_mosquitto():
        pytest.skip(MOSQUITTO_ABSENT)
    authority = Authority.create(tmp_path / "authority", SystemClock())
    server = authority.issue_service("fleet-server")
    own = authority.issue_server("broker", ["127.0.0.1", "localhost"])
    files = BrokerFiles(authority, tmp_path / "broker", own)
    files.publish()
    broker = start_broker(keeper, tmp_path / "broker", secure=files.files)
    reloading = BrokerFiles(authority, tmp_path / "broker", own, reload=broker.reload)
    return SecureFleet(authority, reloading, broker, server, tmp_path)
