"""The enrolment service's boundary, the device's reading of replies and bundles, and the command line."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.clock import SimulatedClock, SystemClock
from fleet_core.errors import BadConfig, BadInput, Retryable
from provisioning import device
from provisioning.authority import Authority
from provisioning.certificates import make_request, new_key
from provisioning.claims import issue_claim
from provisioning.cli import parse_duration
from provisioning.enrolment import BrokerAddress, RateLimiter, create_app

ENROL = "/.well-known/est/simpleenroll"


class Publisher:
    def __init__(self) -> None:
        self.calls = 0
        self.failing = False

    def __call__(self) -> None:
        self.calls += 1
        if self.failing:
            raise OSError("disk full")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority", SystemClock())


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def client(authority: Authority, publisher: Publisher) -> Iterator[TestClient]:
    app = create_app(authority, BrokerAddress("127.0.0.1", 8883), publisher, clock=SystemClock())
    with TestClient(app) as client:
        yield client


def ask(client: TestClient, secret: str, body: bytes | None = None) -> tuple[int, str]:
    """Status and reason of an enrolment."""
    body = base64.b64encode(make_request(new_key())) if body is None else body
    response = client.post(ENROL, content=body, auth=("device", secret))
    return response.status_code, "" if response.status_code == 200 else response.json()["reason"]


def test_a_publisher_that_fails_as_nobody_foresaw_ends_the_service(authority: Authority) -> None:
    ended = threading.Event()

    def broken() -> None:
        raise AttributeError("no rights")

    app = create_app(authority, BrokerAddress("127.0.0.1", 8883), broken, clock=SystemClock(), on_failure=ended.set)
    with pytest.raises(AttributeError, match="no rights"), TestClient(app):
        assert ended.wait(10)


def test_est_names_and_media_types(client: TestClient, authority: Authority, publisher: Publisher) -> None:
    reply = client.get("/.well-known/est/cacerts")
    assert reply.headers["Content-Type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert pkcs7.load_der_pkcs7_certificates(base64.b64decode(reply.content)) == [authority.ca]
    claim = issue_claim(authority, "node-1", "site-a")
    before = publisher.calls
    assert ask(client, claim.secret) == (200, "")
    assert publisher.calls > before  # the broker knew before the device was answered
    assert client.get("/v1/broker").json() == {"host": "127.0.0.1", "port": 8883}
    assert ask(client, claim.secret) == (403, "claim_used")
    assert client.get("/v1/health").json() == {"ok": True, "counters": {"enrolled": 1, "refused_claim_used": 1}}


def test_refusals_have_reasons(client: TestClient, authority: Authority) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    assert ask(client, "invented") == (403, "unknown_claim")
    assert ask(client, claim.secret, b"not base64!") == (400, "bad_body")
    assert ask(client, claim.secret, base64.b64encode(b"noise")) == (400, "bad_csr")
    assert ask(client, claim.secret, b"A" * 40_000) == (413, "too_long")
    for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !!"}, {"Authorization": "Basic eDo="}):
        response = client.post(ENROL, content=b"", headers=header)
        assert (response.status_code, response.json()["reason"]) == (401, "no_claim")
        assert "WWW-Authenticate" in response.headers
    assert ask(client, claim.secret) == (200, "")  # none of it spent the claim


def test_a_busy_book_answers_later(client: TestClient, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    monkeypatch.setattr("provisioning.registry._BUSY_TIMEOUT_S", 0.05)
    with authority.registry.transaction():
        response = client.post(ENROL, content=base64.b64encode(make_request(new_key())), auth=("d", claim.secret))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


def test_a_broker_that_cannot_be_told_does_not_cost_the_device_its_certificate(
    client: TestClient, authority: Authority, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.failing = True
    for number in range(2):
        assert ask(client, issue_claim(authority, f"node-{number}", "site-a").secret) == (200, "")
    assert not client.get("/v1/health").json()["ok"]
    assert caplog.text.count("cannot be published") == 1
    publisher.failing = False
    assert ask(client, issue_claim(authority, "node-9", "site-a").secret) == (200, "")
    assert client.get("/v1/health").json()["ok"]


def test_callers_are_slowed_down(authority: Authority) -> None:
    clock = SimulatedClock()
    limiter = RateLimiter(rate_per_s=1, burst=3)
    app = create_app(authority, BrokerAddress("127.0.0.1", 8883), lambda: None, clock=clock, limiter=limiter)
    client = TestClient(app)  # without its lifespan: a simulated clock waits for ever
    assert [ask(client, "x")[0] for _ in range(4)] == [403, 403, 403, 429]
    clock.shift(1)
    assert [ask(client, "x")[0] for _ in range(2)] == [403, 429]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 5)), max_size=60))
def test_a_bucket_never_gives_more_than_burst_and_rate(steps: list[tuple[str, float]]) -> None:
    limiter, now_s, given_out = RateLimiter(rate_per_s=2, burst=4, max_callers=100), 0.0, dict.fromkeys("abcdef", 0)
    for caller, wait_s in steps:
        now_s += wait_s
        given_out[caller] += limiter.allow(caller, now_s)
        assert given_out[caller] <= 4 + 2 * now_s + 1e-6


def test_callers_are_forgotten_in_bounded_memory() -> None:
    limiter = RateLimiter(max_callers=10)
    assert all(limiter.allow(str(number), 0.0) for number in range(1000))
    assert len(limiter._buckets) == 10


class Replies:
    """Stands in for the network under the device's HTTP client."""

    def __init__(self, replies: dict[str, bytes]) -> None:
        self.replies = replies

    def __call__(self, _service: object, _method: str, path: str, *_rest: object) -> bytes:
        return self.replies[path]


@pytest.fixture
def replies(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Replies:
    ca = base64.encodebytes(pkcs7.serialize_certificates([authority.ca], Encoding.DER))
    answers = Replies({"/.well-known/est/cacerts": ca, ENROL: ca, "/v1/broker": b'{"host": "h", "port": 1}'})
    monkeypatch.setattr(device._Service, "_ask", lambda *arguments: answers(*arguments))
    return answers


def test_a_device_trusts_no_reply(replies: Replies, authority: Authority, tmp_path: Path) -> None:
    def attempt() -> None:
        device.enrol("https://h", "claim", tmp_path / "b", authority.ca_fingerprint)

    with pytest.raises(BadInput, match="another key"):
        attempt()
    replies.replies[ENROL] = b"!!!"
    with pytest.raises(BadInput, match="bad_reply"):
        attempt()
    replies.replies[ENROL] = base64.b64encode(b"noise")
    with pytest.raises(BadInput, match="bad_reply"):
        attempt()
    replies.replies["/.well-known/est/cacerts"] = b""
    with pytest.raises(BadInput, match=r"bad_reply|wrong_ca"):
        attempt()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["agent.key"]


@pytest.mark.parametrize(
    "reply", [b"[]", b"{}", b"\xff", b'{"reason": "a b\\n", "message": "x\\u001b[31m"}', b'{"reason": 1}']
)
def test_refusals_are_read_without_trust(reply: bytes) -> None:
    reason, message = device._message_in(reply, "http_500")
    assert reason.isidentifier()
    assert message.isprintable()


def test_a_bundle_is_checked_when_read(authority: Authority, tmp_path: Path) -> None:
    from provisioning.certificates import key_to_pem, to_pem
    from provisioning.claims import spend_claim

    key = new_key()
    certificate = spend_claim(
        authority, issue_claim(authority, "node-1", "site-a").secret, make_request(key)
    ).certificate
    folder = tmp_path / "b"
    folder.mkdir()
    with pytest.raises(BadConfig, match="enrol this device first"):
        device.load_bundle(folder)
    toml = 'node_id = "node-1"\ngroup_id = "site-a"\nhost = "h"\nport = 8883\n'
    (folder / "bundle.toml").write_text(toml)
    with pytest.raises(BadConfig, match=r"ca\.crt is missing"):
        device.load_bundle(folder)
    (folder / "ca.crt").write_bytes(to_pem(authority.ca))
    (folder / "agent.crt").write_bytes(to_pem(certificate))
    (folder / "agent.key").write_bytes(key_to_pem(key))
    (folder / "agent.key").chmod(0o644)
    with pytest.raises(BadConfig, match="chmod 600"):
        device.load_bundle(folder)
    (folder / "agent.key").chmod(0o600)
    assert device.load_bundle(folder).node_id == "node-1"
    for wrong in (
        toml.replace("node-1", "node-2"),
        toml.replace("8883", '"x"'),
        "nonsense",
        toml.replace('"h"', "7"),
        "#" * 20_000,
    ):
        (folder / "bundle.toml").write_text(wrong)
        with pytest.raises(BadConfig):
            device.load_bundle(folder)
    (folder / "bundle.toml").write_text(toml)
    (folder / "agent.key").write_bytes(key_to_pem(new_key()))
    with pytest.raises(BadConfig, match="another key"):
        device.load_bundle(folder)


def test_an_unreachable_service_is_retryable(tmp_path: Path) -> None:
    with pytest.raises(Retryable):
        device.enrol("https://127.0.0.1:1", "claim", tmp_path, "00", 1.0)
    for url in ("http://h", "https://", "h:1"):
        with pytest.raises(BadConfig, match="https"):
            device.enrol(url, "claim", tmp_path, "00")


def test_the_device_side_needs_no_server_library() -> None:
    heavy = ["fastapi", "typer", "rich", "uvicorn", "psycopg", "httpx"]
    script = f"import sys, provisioning.device; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def run(tmp_path: Path, *arguments: str, passphrase: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FORESTALL_CA_PASSPHRASE": passphrase, "FORESTALL_AUTHORITY": str(tmp_path / "authority")}
    argv = [sys.executable, "-m", "provisioning.cli", *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, cwd=Path(__file__).parents[2])


def test_the_command_line_from_nothing_to_a_broker_s_files(tmp_path: Path) -> None:
    made = json.loads(run(tmp_path, "init", "--json", passphrase="sesame").stdout)
    assert len(made["ca_fingerprint"]) == 64
    refused = run(tmp_path, "list")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "set the passphrase" in refused.stderr
    for arguments in (["server-cert", "--host", "127.0.0.1"], ["service-cert", "fleet-server"]):
        assert run(tmp_path, *arguments, passphrase="sesame").returncode == 0
    claim = json.loads(run(tmp_path, "claim", "--node", "n-1", "--group", "g", "--json", passphrase="sesame").stdout)
    assert claim["ca_fingerprint"] == made["ca_fingerprint"]
    rendered = run(tmp_path, "broker-acl", "--out", str(tmp_path / "broker"), "--json", passphrase="sesame")
    assert json.loads(rendered.stdout)["restart_needed"]
    assert sorted(path.name for path in (tmp_path / "broker").iterdir()) == [
        "acl", "broker.crt", "broker.key", "ca.crl", "ca.crt", "mosquitto.conf",
    ]  # fmt: skip
    assert (
        run(
            tmp_path, "revoke", "fleet-server", "--broker-dir", str(tmp_path / "broker"), passphrase="sesame"
        ).returncode
        == 0
    )
    assert "fleet-server" not in (tmp_path / "broker" / "acl").read_text()
    listed = json.loads(run(tmp_path, "list", "--json", passphrase="sesame").stdout)
    assert {one["name"]: one["revoked_at"] is None for one in listed["identities"]} == {
        "broker": True,
        "fleet-server": False,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["claim", "--node", "a/b", "--group", "g"],
        ["revoke", "nobody"],
        ["broker-acl", "--out", "x"],
        ["nonsense"],
    ],
)
def test_mistakes_end_with_code_2_and_no_traceback(tmp_path: Path, arguments: list[str]) -> None:
    if arguments != ["list"]:
        run(tmp_path, "init")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_durations() -> None:
    assert parse_duration("90s") == timedelta(seconds=90)
    assert parse_duration("2d") == timedelta(days=2)
    for text in ("", "5", "1 h", "-1h", "1w", "99999999d"):
        with pytest.raises(BadConfig):
            parse_duration(text)


async def test_a_body_that_never_ends_is_given_up(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioning.enrolment.BODY_TIMEOUT_S", 0.05)
    from starlette.requests import Request

    from provisioning.enrolment import _read_body

    async def never() -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    with pytest.raises(BadInput, match="longer than"):
        await _read_body(Request({"type": "http"}, never))  # type: ignore[arg-type]  # a stand-in for the server
