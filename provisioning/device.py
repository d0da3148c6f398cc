"""The device's side of enrolment: make a key, prove it, receive an identity, keep it as a bundle. No server library.

    BUNDLE/
      agent.key     the device's private key, mode 0600; made here, never sent anywhere
      agent.crt     its certificate: CN is the node, OU the group
      ca.crt        the authority's certificate, checked against the pinned fingerprint
      bundle.toml   names and the broker's address; written last, so a bundle with it is complete

The key is on disk before the request is sent. A device that crashes, or loses the reply, asks again with the same
key and the same claim, and receives the same certificate. The device sends its claim only to a server that proved
itself with a certificate of the pinned authority.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import tomllib
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from fleet_core.errors import BadConfig, BadInput, Retryable
from fleet_core.faults import fault_point
from fleet_core.files import remove_left_behind, write_atomic
from fleet_core.tls import client_context
from provisioning import certificates as x
from provisioning.files import PRIVATE_MODE, PUBLIC_MODE
from provisioning.names import check_group, check_host, check_name, check_port

MAX_REPLY_BYTES = 64 * 1024
MAX_BUNDLE_BYTES = 16 * 1024
_PEM_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Bundle:
    """A device's identity: who it is, where its broker is, and the files TLS needs (absolute paths)."""

    node_id: str
    group_id: str
    host: str
    port: int
    ca_file: Path
    cert_file: Path
    key_file: Path


def enrol(url: str, claim: str, bundle_dir: Path, ca_fingerprint: str, timeout_s: float = 30.0) -> Bundle:
    """Exchange ``claim`` for an identity and write it to ``bundle_dir``. Blocks for at most a few times ``timeout_s``.

    Calling it again with the same claim after any crash or error is safe: the enrolment resumes, or the bundle that
    is already complete is returned. ``ca_fingerprint`` is the SHA-256 the authority printed, hexadecimal, colons
    allowed.

    Raises BadConfig (the address is not https, the folder holds another identity), BadInput (the claim was refused, or
    the server is not the pinned authority's; ``reason`` says which), Retryable (the service is not reachable or busy,
    or its reply was lost).
    """
    service = _Service(url, timeout_s)
    pinned = ca_fingerprint.replace(":", "").strip().lower()
    digest = hashlib.sha256(claim.encode()).hexdigest()
    bundle_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_left_behind(bundle_dir)
    if (bundle_dir / "bundle.toml").exists():
        if _read_toml(bundle_dir / "bundle.toml").get("claim_digest") == digest:
            return load_bundle(bundle_dir)
        raise BadConfig(f"{bundle_dir} already holds an identity: enrol into another folder")
    key = _stored_key(bundle_dir / "agent.key")
    ca = service.fetch_ca(pinned)
    fault_point("device.before_request")
    certificate = service.fetch_certificate(claim, x.make_request(key), ca)
    fault_point("device.after_reply")
    node_id, group_id = _checked_names(certificate, key, ca)
    host, port = service.fetch_broker()
    write_atomic(bundle_dir / "ca.crt", x.to_pem(ca), mode=PUBLIC_MODE)
    write_atomic(bundle_dir / "agent.crt", x.to_pem(certificate), mode=PUBLIC_MODE)
    fault_point("device.before_bundle")
    text = (  # the names are checked: nothing in them needs escaping
        f'version = 1\nnode_id = "{node_id}"\ngroup_id = "{group_id}"\n'
        f'host = "{host}"\nport = {port}\nclaim_digest = "{digest}"\n'
    )
    write_atomic(bundle_dir / "bundle.toml", text.encode(), mode=PUBLIC_MODE)
    return load_bundle(bundle_dir)


def load_bundle(bundle_dir: Path) -> Bundle:
    """Read and check a bundle. Raises BadConfig, naming the file and the mend, when it is incomplete or unfit."""
    directory = bundle_dir.absolute()
    ca_file, cert_file, key_file = (directory / name for name in ("ca.crt", "agent.crt", "agent.key"))
    settings = _read_toml(directory / "bundle.toml")
    for path in (ca_file, cert_file, key_file):
        if not path.is_file():
            raise BadConfig(f"{path} is missing: enrol this device again")
    if key_file.stat().st_mode & 0o077:
        raise BadConfig(f"{key_file} can be read by others: chmod 600 {key_file}")
    try:
        node_id = check_name(settings.get("node_id"), "node_id")
        group_id = check_group(settings.get("group_id"))
        host, port = check_host(settings.get("host")), check_port(settings.get("port"))
        certificate = x509.load_pem_x509_certificate(_read(cert_file, _PEM_LIMIT_BYTES))
        ca = x509.load_pem_x509_certificate(_read(ca_file, _PEM_LIMIT_BYTES))
        named = _checked_names(certificate, _stored_key(key_file), ca)
    except (BadInput, ValueError) as error:
        raise BadConfig(f"{directory} is not a sound bundle ({error}): enrol this device again") from None
    if named != (node_id, group_id):
        raise BadConfig(f"{directory}: the certificate is for {named}, bundle.toml for {(node_id, group_id)}")
    return Bundle(node_id, group_id, host, port, ca_file, cert_file, key_file)


class _Service:
    """The enrolment service over HTTPS: bounded replies, no redirects, one time-out for each step."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise BadConfig(f"the enrolment address must be https://HOST:PORT, not {url!r}")
        self._host, self._port, self._timeout_s = parts.hostname, parts.port or 443, timeout_s
        # Until the authority is known nothing secret is sent, and its certificate is checked against the fingerprint.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def fetch_ca(self, pinned: str) -> x509.Certificate:
        """The authority's certificate. From then on the device talks only to servers which that authority certified."""
        for certificate in _certificates_in(self._ask("GET", "/.well-known/est/cacerts")):
            if x.fingerprint(certificate) == pinned:
                self._context = client_context(x.to_pem(certificate))
                return certificate
        raise BadInput("wrong_ca", f"{self._host} does not offer the authority with fingerprint {pinned}")

    def fetch_certificate(self, claim: str, request_der: bytes, ca: x509.Certificate) -> x509.Certificate:
        if self._context.verify_mode != ssl.CERT_REQUIRED:
            raise AssertionError("the claim may not be sent before the authority is known")
        headers = {
            "Authorization": "Basic " + base64.b64encode(f"device:{claim}".encode()).decode(),
            "Content-Type": "application/pkcs10",
            "Content-Transfer-Encoding": "base64",
        }
        reply = self._ask("POST", "/.well-known/est/simpleenroll", base64.encodebytes(request_der), headers)
        certificates = _certificates_in(reply)
        if len(certificates) != 1:
            raise BadInput("bad_reply", f"expected one certificate, received {len(certificates)}")
        return certificates[0]

    def fetch_broker(self) -> tuple[str, int]:
        try:
            answer = json.loads(self._ask("GET", "/v1/broker"))
            return check_host(answer["host"], "broker host"), check_port(answer["port"], "broker port")
        except (ValueError, KeyError, TypeError):
            raise BadInput("bad_reply", "the broker's address cannot be read") from None

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            reply = response.read(MAX_REPLY_BYTES + 1)
        except ssl.SSLCertVerificationError as error:
            raise BadInput("wrong_server", f"{self._host} has no valid certificate: {error.verify_message}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Retryable(f"{self._host}:{self._port} {path}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if len(reply) > MAX_REPLY_BYTES:
            raise BadInput("bad_reply", f"longer than {MAX_REPLY_BYTES} bytes")
        if response.status in (429, 502, 503, 504):
            raise Retryable(f"{self._host}: {response.status} {_message_in(reply)[1]}")
        if response.status != 200:
            raise BadInput(*_message_in(reply, f"http_{response.status}"))
        return reply


def _checked_names(certificate: x509.Certificate, key: x.PrivateKey, ca: x509.Certificate) -> tuple[str, str]:
    """Node and group of a certificate, which must be the authority's and for this device's key. Raises BadInput."""
    if x.key_digest(certificate.public_key()) != x.key_digest(key.public_key()):
        raise BadInput("bad_reply", "the certificate is for another key")
    try:
        certificate.verify_directly_issued_by(ca)
    except Exception as error:  # noqa: BLE001 - InvalidSignature, ValueError or TypeError: all mean "not by it"
        raise BadInput("bad_reply", f"the certificate was not issued by the authority: {error!r}") from None
    node_id = check_name(x.name_in(certificate, NameOID.COMMON_NAME), "node_id")
    return node_id, check_group(x.name_in(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME))


def _stored_key(path: Path) -> x.PrivateKey:
    """The key of an earlier attempt, or a new one. It is safely on disk before any request is made with it."""
    if not path.exists():
        write_atomic(path, x.key_to_pem(x.new_key()), mode=PRIVATE_MODE)
    return x.key_from_pem(_read(path, _PEM_LIMIT_BYTES))


def _certificates_in(reply: bytes) -> list[x509.Certificate]:
    try:
        return pkcs7.load_der_pkcs7_certificates(base64.b64decode(b"".join(reply.split()), validate=True))
    except ValueError as error:
        raise BadInput("bad_reply", f"no certificates in it: {error}") from None


def _message_in(reply: bytes, default_reason: str = "") -> tuple[str, str]:
    """Reason and message of a refusal, cut to one printable line, because the device logs them."""
    try:
        answer = json.loads(reply)
        reason, message = str(answer["reason"])[:40], str(answer["message"])[:300]
    except (ValueError, KeyError, TypeError):
        reason, message = default_reason, reply[:120].decode("ascii", "replace")
    return (reason if reason.isidentifier() else default_reason), "".join(
        c if c.isprintable() else "?" for c in message
    )


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_read(path, MAX_BUNDLE_BYTES).decode())
    except FileNotFoundError:
        raise BadConfig(f"{path} does not exist: enrol this device first") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} cannot be read ({error}): enrol this device again") from None


def _read(path: Path, limit_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise BadConfig(f"{path} is longer than {limit_bytes} bytes")
    return content
