"""Authority and claims: single use under concurrency, resumption, expiry, revocation, names held for ever."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig, BadInput, Retryable
from provisioning.authority import Authority
from provisioning.broker_acl import Node, Service, ServiceRole
from provisioning.broker_files import BrokerFiles, signal_by_pid_file
from provisioning.certificates import CRL_LIFETIME, check_request, make_request, new_key
from provisioning.claims import issue_claim, spend_claim
from provisioning.registry import Registry


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def authority(tmp_path: Path, clock: SimulatedClock) -> Authority:
    return Authority.create(tmp_path / "authority", clock)


def csr() -> bytes:
    return make_request(new_key())


def test_a_claim_earns_a_client_certificate_for_the_claimed_name(authority: Authority) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    earned = spend_claim(authority, claim.secret, csr())
    earned.certificate.verify_directly_issued_by(authority.ca)
    assert earned.node == Node("node-1", "site-a")
    assert earned.certificate.subject.rfc4514_string() == "CN=node-1,OU=site-a"
    usage = earned.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not earned.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.rights() == ([Node("node-1", "site-a")], [])


def test_what_the_request_calls_itself_is_ignored(authority: Authority) -> None:
    key = new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fleet-server")])
    request = (
        x509.CertificateSigningRequestBuilder(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    earned = spend_claim(authority, issue_claim(authority, "node-1", "site-a").secret, request)
    assert earned.certificate.subject.rfc4514_string() == "CN=node-1,OU=site-a"
    assert not earned.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_of_many_racing_keys_one_wins(authority: Authority) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    requests = [csr() for _ in range(8)]
    start = threading.Barrier(len(requests))

    def race(request: bytes) -> str:
        start.wait()
        try:
            return f"{spend_claim(authority, claim.secret, request).certificate.serial_number:x}"
        except BadInput as refusal:
            return refusal.reason

    with ThreadPoolExecutor(len(requests)) as pool:
        results = list(pool.map(race, requests))
    assert len([result for result in results if result != "claim_used"]) == 1
    assert authority.registry.counters() == {"enrolled": 1, "refused_claim_used": 7}


def test_the_same_key_receives_the_same_certificate_until_the_claim_expires(
    authority: Authority, clock: SimulatedClock
) -> None:
    key = new_key()
    claim = issue_claim(authority, "node-1", "site-a", timedelta(hours=1))
    first = spend_claim(authority, claim.secret, make_request(key))
    clock.shift(3599)
    again = spend_claim(authority, claim.secret, make_request(key))  # another signature over the same key
    assert again.repeated
    assert again.certificate == first.certificate
    clock.shift(1)
    with pytest.raises(BadInput, match="claim_expired"):
        spend_claim(authority, claim.secret, make_request(key))


def test_expired_withdrawn_and_invented_claims_are_refused_and_counted(
    authority: Authority, clock: SimulatedClock
) -> None:
    withdrawn = issue_claim(authority, "node-1", "site-a")
    expired = issue_claim(authority, "node-1", "site-a", timedelta(minutes=5))
    clock.shift(300)
    for secret, reason in ((withdrawn.secret, "unknown_claim"), (expired.secret, "claim_expired"),
                           ("invented", "unknown_claim"), ("x" * 10_000, "unknown_claim")):  # fmt: skip
        with pytest.raises(BadInput, match=reason):
            spend_claim(authority, secret, csr())
    assert authority.registry.counters() == {"refused_claim_expired": 1, "refused_unknown_claim": 3}
    assert authority.rights() == ([], [])


def test_claims_are_stored_only_as_digests(authority: Authority) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    stored = b"".join(path.read_bytes() for path in authority.directory.iterdir() if path.is_file())
    assert claim.secret.encode() not in stored


def test_re_enrolment_replaces_the_certificate(authority: Authority) -> None:
    old = spend_claim(authority, issue_claim(authority, "node-1", "site-a").secret, csr()).certificate
    new = spend_claim(authority, issue_claim(authority, "node-1", "site-a").secret, csr()).certificate
    assert [entry.serial for entry in authority.revoked()] == [old.serial_number]
    (identity,) = authority.identities()
    assert identity.serial == f"{new.serial_number:x}"


def test_names_belong_to_one_identity_for_ever(authority: Authority) -> None:
    authority.issue_service("fleet-server")
    spend_claim(authority, issue_claim(authority, "node-1", "site-a").secret, csr())
    for name, group in (
        ("fleet-server", "site-a"),
        ("Fleet-Server", "site-a"),
        ("NODE-1", "site-a"),
        ("node-1", "site-b"),
    ):
        with pytest.raises(BadInput, match="name_taken"):
            issue_claim(authority, name, group)
    with pytest.raises(BadInput, match="name_taken"):
        authority.issue_service("node-1")
    authority.revoke("node-1")
    spend_claim(authority, issue_claim(authority, "node-1", "site-b").secret, csr())  # moved, properly
    assert authority.rights()[0] == [Node("node-1", "site-b")]


def test_a_claim_does_not_outlive_a_taken_name_or_a_revocation(authority: Authority) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    authority.issue_service("node-1", ServiceRole.OBSERVER)
    with pytest.raises(BadInput, match="name_taken"):
        spend_claim(authority, claim.secret, csr())
    key = new_key()
    spent = issue_claim(authority, "node-2", "site-a")
    spend_claim(authority, spent.secret, make_request(key))
    open_claim = issue_claim(authority, "node-2", "site-a")
    assert authority.revoke("node-2") == 1
    with pytest.raises(BadInput, match="unknown_claim"):
        spend_claim(authority, open_claim.secret, csr())
    with pytest.raises(BadInput, match="revoked"):
        spend_claim(authority, spent.secret, make_request(key))
    with pytest.raises(BadInput, match="unknown_identity"):
        authority.revoke("nobody")


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=31)])
def test_times_to_live_are_bounded(authority: Authority, ttl: timedelta) -> None:
    with pytest.raises(BadInput, match="bad_ttl"):
        issue_claim(authority, "node-1", "site-a", ttl)


@given(st.binary(max_size=400))
def test_noise_is_no_request(noise: bytes) -> None:
    with pytest.raises(BadInput, match="bad_csr"):
        check_request(noise)


def test_requests_are_bounded_signed_and_strong() -> None:
    builder = x509.CertificateSigningRequestBuilder(x509.Name([]))
    for good in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        algorithm = None if isinstance(good, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        check_request(builder.sign(good, algorithm).public_bytes(Encoding.DER))
    weak = [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP224R1())]
    for key in weak:
        with pytest.raises(BadInput, match="bad_csr"):
            check_request(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    forged = bytearray(csr())
    forged[-1] ^= 1
    with pytest.raises(BadInput, match="bad_csr"):
        check_request(bytes(forged))
    with pytest.raises(BadInput, match="longer"):
        check_request(bytes(16 * 1024 + 1))


def test_the_key_file_is_private_and_may_be_encrypted(tmp_path: Path, clock: SimulatedClock) -> None:
    made = Authority.create(tmp_path / "a", clock, passphrase=b"sesame")
    key_file = made.directory / "ca.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in key_file.read_bytes()
    assert Authority(tmp_path / "a", clock, b"sesame").ca_fingerprint == made.ca_fingerprint
    for wrong in (None, b"open"):
        with pytest.raises(BadConfig, match="cannot be read"):
            Authority(tmp_path / "a", clock, wrong)
    key_file.chmod(0o640)
    with pytest.raises(BadConfig, match="chmod 600"):
        Authority(tmp_path / "a", clock, b"sesame")
    with pytest.raises(BadConfig, match="already holds"):
        Authority.create(tmp_path / "a", clock)
    with pytest.raises(BadConfig, match="fleet-provision init"):
        Authority(tmp_path / "b", clock)


def test_an_interrupted_init_can_be_repeated(tmp_path: Path, clock: SimulatedClock) -> None:
    (tmp_path / "a").mkdir()
    Registry.create(tmp_path / "a" / "authority.sqlite")
    assert Authority.create(tmp_path / "a", clock).identities() == []


def test_what_a_killed_command_left_beside_its_files_is_removed(tmp_path: Path, clock: SimulatedClock) -> None:
    """A half-written key among them, which nobody would miss and anybody might find."""
    directory, broker = tmp_path / "authority", tmp_path / "broker"
    folders = (directory, directory / "issued" / "broker", broker)
    left = [
        folder / f".{name}.17-ab12cd34.new" for folder, name in zip(folders, ("ca.key", "tls.key", "acl"), strict=True)
    ]
    Authority.create(directory, clock)
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("key")
        os.utime(path, (0, 0))
    authority = Authority(directory, clock)
    BrokerFiles(authority, broker, authority.issue_server("broker", ["localhost"])).publish()
    assert not [path for path in left if path.exists()]
    assert (directory / "ca.key").exists() and (broker / "acl").exists()


def test_a_busy_book_is_retryable(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provisioning.registry._BUSY_TIMEOUT_S", 0.05)
    with authority.registry.transaction(), pytest.raises(Retryable, match="busy"):
        authority.registry.count("x")


def test_a_failed_transaction_leaves_nothing(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = issue_claim(authority, "node-1", "site-a")
    monkeypatch.setattr("provisioning.claims.serial_text", lambda _certificate: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        spend_claim(authority, claim.secret, csr())
    assert authority.rights() == ([], [])
    monkeypatch.undo()
    assert not spend_claim(authority, claim.secret, csr()).repeated


def test_files_are_published_only_when_they_change(authority: Authority, tmp_path: Path, clock: SimulatedClock) -> None:
    reloads: list[int] = []
    own = authority.issue_server("broker", ["127.0.0.1"])
    files = BrokerFiles(authority, tmp_path / "out", own, reload=lambda: reloads.append(1))
    assert [files.publish(), files.publish()] == [True, False]
    spend_claim(authority, issue_claim(authority, "node-1", "site-a").secret, csr())
    assert [files.publish(), files.publish()] == [True, False]
    authority.revoke("node-1")
    assert [files.publish(), files.publish()] == [True, False]
    clock.shift(86400 * 2)  # the revocation list is renewed long before it goes stale
    assert [files.publish(), files.publish()] == [True, False]
    assert len(reloads) == 4
    listed = x509.load_pem_x509_crl(files.files.crl_file.read_bytes())
    assert listed.is_signature_valid(authority.ca_key.public_key())
    assert len(listed) == 1
    assert listed.next_update_utc and listed.next_update_utc - clock.now() == CRL_LIFETIME
    assert "node-1" not in files.files.acl_file.read_text()
    assert files.files.key_file.stat().st_mode & 0o777 == 0o600
    files.files.crl_file.write_text("torn")
    assert files.publish()


def test_a_shared_folder_keeps_its_group_s_access(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o2750)
    files = BrokerFiles(authority, tmp_path / "out", authority.issue_server("broker", ["127.0.0.1"]))
    files.publish()
    assert files.files.key_file.stat().st_mode & 0o777 == 0o640


def test_only_a_mosquitto_is_signalled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pid_file = tmp_path / "pid"
    reload = signal_by_pid_file(pid_file)
    reload()  # no broker: nothing to tell
    pid_file.write_text("1")
    reload()
    assert "not mosquitto" in caplog.text
    pid_file.write_text("one")
    with pytest.raises(BadConfig, match="process number"):
        reload()


def test_services_and_servers(authority: Authority) -> None:
    issued = authority.issue_service("fleet-server")
    assert issued.key_file.stat().st_mode & 0o777 == 0o600
    assert authority.rights() == ([], [Service("fleet-server", ServiceRole.SERVER)])
    server = authority.issue_server("broker", ["127.0.0.1", "::1", "localhost"])
    names = x509.load_pem_x509_certificate(server.cert_file.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["localhost"]
    assert len(names.value.get_values_for_type(x509.IPAddress)) == 2
    assert authority.revoked() == []
    authority.issue_server("broker", ["127.0.0.1"])  # renewed; the running broker still uses the old one
    assert authority.revoked() == []
    with pytest.raises(BadConfig, match="needs at least one"):
        authority.issue_server("broker", [])
    with pytest.raises(BadInput, match="bad_host"):
        authority.issue_server("broker", ["a b"])
    with pytest.raises(BadInput, match="bad_name"):
        authority.issue_server("../up", ["127.0.0.1"])
