"""The uplink over TLS: the client's certificate is its identity, and a stranger's authority is refused."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.broker import connect_answer
from uplink_rig import MOSQUITTO, Broker, make_agent, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(60),
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


class Authority:
    """A test authority that signs certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        folder.mkdir()
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.write("ca", self.subject, self.key, ca=True)

    def issue(self, name: str) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.write(name, subject, ec.generate_private_key(ec.SECP256R1()), ca=False)

    def write(self, name: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool) -> None:
        now = datetime.now(UTC)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder(self.subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / f"{name}.key").write_bytes(pem)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "ours", "ours")
    authority.issue("broker")
    authority.issue("agent-1")
    return authority


@pytest.fixture
def broker(ours: Authority, tmp_path: Path):
    files = f"cafile {ours.folder}/ca.crt\ncertfile {ours.folder}/broker.crt\nkeyfile {ours.folder}/broker.key\n"
    rights = "require_certificate true\nuse_identity_as_username true\nuser root\n"
    with Broker("mosquitto", tmp_path, files + rights) as broker:
        yield broker


def tls_of(authority: Authority) -> dict[str, str]:
    folder = authority.folder
    return {"ca_file": f"{folder}/ca.crt", "cert_file": f"{folder}/agent-1.crt", "key_file": f"{folder}/agent-1.key"}


async def connects(tmp_path: Path, port: int, tls: dict[str, str], wait_s: float) -> bool:
    agent, _ = make_agent(tmp_path, port, 50.0, 10, uplink=tls)
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    with contextlib.suppress(TimeoutError):
        await until(lambda: agent._uplink.counters.connects > 0, wait_s)
    stop.set()
    await running
    return agent._uplink.counters.connects > 0


async def test_a_known_certificate_is_let_in(ours: Authority, broker: Broker, tmp_path: Path) -> None:
    assert await connects(tmp_path, broker.port, tls_of(ours), 15)


async def test_a_strange_authority_is_refused_by_both_sides(ours: Authority, broker: Broker, tmp_path: Path) -> None:
    strangers = Authority(tmp_path / "strangers", "strangers")
    strangers.issue("agent-1")
    half = tls_of(strangers) | {"ca_file": f"{ours.folder}/ca.crt"}  # trusts the broker, but is not trusted
    attempts = (("whole", tls_of(strangers)), ("half", half))
    let_in = await asyncio.gather(*(connects(tmp_path / name, broker.port, tls, 2) for name, tls in attempts))
    assert not any(let_in)


async def test_without_tls_the_broker_says_nothing(broker: Broker) -> None:
    assert await asyncio.to_thread(connect_answer, "127.0.0.1", broker.port) == b""
