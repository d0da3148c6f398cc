# ruff: noqa: F811 - pytest hands fixtures over by name
"""Identity end to end on a real broker: enrolment over HTTPS, certificates and rights enforced by mosquitto."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest
from support.broker import ACCEPTED, SecureFleet, connect_answer, keeper, secure_fleet  # noqa: F401

from demo.broker import PID_FILE
from demo.processes import Keeper, free_port, tcp_ready
from edge_agent.config import UplinkConfig
from edge_agent.doctor import Verdict, broker_check
from fleet_core.clock import SystemClock
from fleet_core.errors import BadConfig, BadInput, Retryable
from provisioning.authority import Authority
from provisioning.claims import Claim, issue_claim
from provisioning.device import Bundle, enrol, load_bundle

pytestmark = pytest.mark.integration


@asynccontextmanager
async def connect(
    fleet: SecureFleet, cert_file: Path | None, key_file: Path | None = None, **options: object
) -> AsyncIterator[aiomqtt.Client]:
    context = ssl.create_default_context(cafile=str(fleet.authority.ca_file))
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    async with aiomqtt.Client(
        fleet.broker.host, fleet.broker.port, tls_context=context, timeout=5, **options  # type: ignore[arg-type]
    ) as client:  # fmt: skip
        yield client


def as_node(fleet: SecureFleet, bundle: Bundle, **options: object):  # type: ignore[no-untyped-def]  # connect's type
    return connect(fleet, bundle.cert_file, bundle.key_file, **options)


def as_server(fleet: SecureFleet):  # type: ignore[no-untyped-def]  # connect's type
    return connect(fleet, fleet.server.cert_file, fleet.server.key_file)


async def topics_until(client: aiomqtt.Client, last: str) -> list[str]:
    """Topics received up to ``last``, which must come."""
    received: list[str] = []
    async with asyncio.timeout(10):
        async for message in client.messages:
            received.append(str(message.topic))
            if received[-1] == last:
                break
    return received


async def topics_so_far(server: aiomqtt.Client, reader: aiomqtt.Client) -> list[str]:
    """Topics received of all that the broker has answered: up to a last message by the server, for it keeps order."""
    await server.publish("spBv1.0/STATE/forestall", b"last", qos=1)
    received: list[str] = []
    async with asyncio.timeout(10):
        async for message in reader.messages:
            if message.payload == b"last":
                break
            received.append(str(message.topic))
    return received


async def is_let_in(fleet: SecureFleet, cert_file: Path | None, key_file: Path | None = None) -> bool:
    """Whether the broker accepts a connection; a refusal is an answer or an end of the link, never mere silence."""
    context = ssl.create_default_context(cafile=str(fleet.authority.ca_file))
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    answer = await asyncio.to_thread(connect_answer, fleet.broker.host, fleet.broker.port, context)
    return answer == ACCEPTED


async def test_a_node_speaks_only_for_itself(secure_fleet: SecureFleet) -> None:
    node = secure_fleet.node("node-1", "site-a")
    own = [
        "NBIRTH/node-1",
        "NDATA/node-1",
        "NDEATH/node-1",
        "DBIRTH/node-1/dev",
        "DDATA/node-1/dev",
        "DDEATH/node-1/dev",
    ]
    forged = [
        "spBv1.0/site-a/NDATA/node-2",  # a neighbour
        "spBv1.0/site-a/DDATA/node-2/dev",
        "spBv1.0/site-b/NDATA/node-1",  # another site
        "spBv1.0/site-a/NCMD/node-1",  # a command, even to itself
        "spBv1.0/site-a/DDATA/node-1/dev/deeper",
        "spBv1.0/STATE/forestall",  # the server's voice
        "elsewhere",
    ]
    async with as_server(secure_fleet) as server, as_node(secure_fleet, node) as client:
        await server.subscribe("#")
        for topic in forged:
            await client.publish(topic, b"forged", qos=1)
        for topic in own:
            await client.publish(f"spBv1.0/site-a/{topic}", b"mine", qos=1)
        assert await topics_so_far(server, server) == [f"spBv1.0/site-a/{topic}" for topic in own]


async def test_a_node_hears_only_what_is_meant_for_it(secure_fleet: SecureFleet) -> None:
    node, other = secure_fleet.node("node-1", "site-a"), secure_fleet.node("node-2", "site-a")
    meant = ["spBv1.0/site-a/NCMD/node-1", "spBv1.0/site-a/DCMD/node-1/dev", "spBv1.0/STATE/forestall"]
    async with as_server(secure_fleet) as server, as_node(secure_fleet, node) as client:
        await client.subscribe("#")
        await client.subscribe("$share/thief/spBv1.0/#")
        for topic in [*meant, "spBv1.0/site-a/NCMD/node-2", "spBv1.0/STATE/other-host", "spBv1.0/site-a/NDATA/node-1"]:
            await server.publish(topic, b"x", qos=1)
        async with as_node(secure_fleet, other) as neighbour:
            await neighbour.publish("spBv1.0/site-a/NDATA/node-2", b"private", qos=1)
        assert set(await topics_so_far(server, client)) == set(meant)


async def test_a_will_obeys_the_rights_too(secure_fleet: SecureFleet) -> None:
    node = secure_fleet.node("node-1", "site-a")
    async with as_server(secure_fleet) as server:
        await server.subscribe("#")
        own = "spBv1.0/site-a/NDEATH/node-1"
        for will in ("spBv1.0/site-a/NDEATH/node-2", own):  # the broker sees the first death before the second
            with pytest.raises(aiomqtt.MqttError):
                async with as_node(secure_fleet, node, will=aiomqtt.Will(will, b"", 1)) as client:
                    client._client._sock_close()
                    await client.publish("x")
        assert await topics_until(server, own) == [own]


async def test_no_certificate_and_a_stranger_s_are_refused(secure_fleet: SecureFleet, tmp_path: Path) -> None:
    elsewhere = Authority.create(tmp_path / "elsewhere", SystemClock())  # same name, same subjects, another key
    stranger = elsewhere.issue_service("fleet-server")
    known = secure_fleet.server
    assert await is_let_in(secure_fleet, known.cert_file, known.key_file)
    assert not await is_let_in(secure_fleet, None)
    assert not await is_let_in(secure_fleet, stranger.cert_file, stranger.key_file)


async def test_a_server_certificate_is_no_client(secure_fleet: SecureFleet) -> None:
    broker_own = secure_fleet.authority.directory / "issued" / "broker"
    assert not await is_let_in(secure_fleet, broker_own / "tls.crt", broker_own / "tls.key")


async def test_revocation_cuts_the_live_session_and_refuses_the_next(secure_fleet: SecureFleet) -> None:
    node = secure_fleet.node("node-1", "site-a")
    topic = "spBv1.0/site-a/NDATA/node-1"
    async with as_server(secure_fleet) as server:
        await server.subscribe("spBv1.0/#")
        with pytest.raises(aiomqtt.MqttError):  # mosquitto drops it, or lets it stay without rights
            async with as_node(secure_fleet, node) as client:
                await client.publish(topic, b"before", qos=1)
                assert secure_fleet.authority.revoke("node-1") == 1
                assert secure_fleet.files.publish()
                async with asyncio.timeout(10):  # until the broker has read its files anew, it lets the node in
                    while await is_let_in(secure_fleet, node.cert_file, node.key_file):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                await client.publish(topic, b"after", qos=1, timeout=2.0)
                raise aiomqtt.MqttError("it stayed connected")
        assert await topics_so_far(server, server) == [topic]
        assert not await is_let_in(secure_fleet, node.cert_file, node.key_file)
        where = UplinkConfig(
            "127.0.0.1", node.port, ca_file=node.ca_file, cert_file=node.cert_file, key_file=node.key_file
        )
        told = await asyncio.to_thread(broker_check, where)  # under TLS 1.3 the refusal follows the handshake
        assert (told.verdict, "refused" in told.message) == (Verdict.FAIL, True), told
        assert "edge-agent enrol" in told.mend
        assert not secure_fleet.files.publish()  # nothing changed: the broker is left in peace
        old = secure_fleet.directory / "nodes" / "node-1"
        old = old.rename(old.with_name("old"))
        again = secure_fleet.node("node-1", "site-a")
        async with as_node(secure_fleet, again) as client:  # repaired and enrolled anew, under its old name
            await client.publish(topic, b"back", qos=1)
        assert await topics_so_far(server, server) == [topic]
        # its name has rights again, its old certificate has not
        assert not await is_let_in(secure_fleet, old / "agent.crt", old / "agent.key")


class Service:
    """A running ``fleet-provision serve`` beside the secure broker."""

    def __init__(self, fleet: SecureFleet, keeper: Keeper) -> None:
        self.fleet, self.keeper, self.port = fleet, keeper, free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        broker = fleet.broker
        self.argv = [
            sys.executable, "-m", "provisioning.cli", "serve", "--dir", str(fleet.authority.directory),
            "--port", str(self.port), "--broker-port", str(broker.port), "--broker-dir", str(broker.directory),
            "--broker-pid-file", str(broker.directory / PID_FILE),
        ]  # fmt: skip

    def start(self, faults: str = "") -> None:
        self.keeper.start(
            "enrolment", self.argv, env={"FORESTALL_FAULTS": faults}, ready=tcp_ready("127.0.0.1", self.port)
        )

    def enrol(self, claim: Claim, folder: Path, fingerprint: str | None = None) -> Bundle:
        return enrol(self.url, claim.secret, folder, fingerprint or self.fleet.authority.ca_fingerprint, 10.0)


@pytest.fixture
def service(secure_fleet: SecureFleet, keeper: Keeper) -> Service:
    return Service(secure_fleet, keeper)


async def test_an_enrolled_device_connects_at_once(service: Service, tmp_path: Path) -> None:
    service.start()
    claim = issue_claim(service.fleet.authority, "node-7", "site-a")
    bundle = await asyncio.to_thread(service.enrol, claim, tmp_path / "bundle")
    assert (bundle.node_id, bundle.group_id, bundle.port) == ("node-7", "site-a", service.fleet.broker.port)
    assert bundle == load_bundle(tmp_path / "bundle")
    assert bundle.key_file.stat().st_mode & 0o777 == 0o600
    async with as_server(service.fleet) as server, as_node(service.fleet, bundle) as client:
        await server.subscribe("spBv1.0/#")
        await client.publish("spBv1.0/site-a/NBIRTH/node-7", b"", qos=1)
        assert await topics_so_far(server, server) == ["spBv1.0/site-a/NBIRTH/node-7"]
    assert await asyncio.to_thread(service.enrol, claim, tmp_path / "bundle") == bundle  # run again: nothing happens
    with pytest.raises(BadConfig, match="already holds an identity"):
        await asyncio.to_thread(
            service.enrol, issue_claim(service.fleet.authority, "node-8", "site-a"), tmp_path / "bundle"
        )


async def test_the_reply_is_lost_and_the_device_asks_again(service: Service, tmp_path: Path) -> None:
    service.start(faults="provisioning.enrolled=kill")
    claim = issue_claim(service.fleet.authority, "node-7", "site-a")
    with pytest.raises(Retryable):
        await asyncio.to_thread(service.enrol, claim, tmp_path / "bundle")
    # its connections break before its parent can see it dead, and a name in use is not started again
    assert service.keeper.child("enrolment").process.wait(10) == -signal.SIGKILL
    key = (tmp_path / "bundle" / "agent.key").read_bytes()
    service.start()
    bundle = await asyncio.to_thread(service.enrol, claim, tmp_path / "bundle")
    assert bundle.key_file.read_bytes() == key
    counters = service.fleet.authority.registry.counters()
    assert (counters["enrolled"], counters["repeated"]) == (1, 1)
    with pytest.raises(BadInput, match="claim_used"):
        await asyncio.to_thread(service.enrol, claim, tmp_path / "thief")
    assert service.fleet.authority.registry.counters()["refused_claim_used"] == 1


@pytest.mark.parametrize("point", ["device.before_request", "device.after_reply", "device.before_bundle"])
async def test_the_device_is_killed_and_resumes(service: Service, tmp_path: Path, point: str) -> None:
    service.start()
    claim = issue_claim(service.fleet.authority, "node-7", "site-a")
    script = (
        "import sys; from pathlib import Path; from provisioning.device import enrol;"
        "enrol(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])"
    )
    argv = [
        sys.executable,
        "-c",
        script,
        service.url,
        claim.secret,
        str(tmp_path / "b"),
        service.fleet.authority.ca_fingerprint,
    ]
    killed = await asyncio.to_thread(subprocess.run, argv, env={**os.environ, "FORESTALL_FAULTS": f"{point}=kill"})
    assert killed.returncode == -9
    with pytest.raises(BadConfig):
        load_bundle(tmp_path / "b")
    assert (await asyncio.to_thread(service.enrol, claim, tmp_path / "b")).node_id == "node-7"
    assert service.fleet.authority.registry.counters()["enrolled"] == 1


async def test_a_false_authority_never_sees_the_claim(service: Service, tmp_path: Path) -> None:
    service.start()
    claim = issue_claim(service.fleet.authority, "node-7", "site-a")
    with pytest.raises(BadInput, match="wrong_ca"):
        await asyncio.to_thread(service.enrol, claim, tmp_path / "b", "00" * 32)
    assert "enrolled" not in service.fleet.authority.registry.counters()
    with pytest.raises(BadConfig, match="https"):
        enrol("http://127.0.0.1:1", claim.secret, tmp_path / "b", "00" * 32)
    with pytest.raises(Retryable):
        enrol(f"https://127.0.0.1:{free_port()}", claim.secret, tmp_path / "b", "00" * 32)
